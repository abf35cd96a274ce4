"""`ofa asset watch`: the events of an asset, one a line, as they happen."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from openfactory.apps.cli.completion import complete_attribute_id
from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.options import asset_uuid_argument, json_option, url_option
from openfactory.apps.cli.output import one_line, print_json_line
from openfactory.apps.cli.target import opened
from openfactory.assets.asset_class import Asset
from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.commands.envelope import CommandEnvelope, CommandReply
from openfactory.events.attribute import sample_value
from openfactory.events.event import COMMAND_TAG, REPLY_TAG
from openfactory.settings.credentials import redacted

__all__ = ["watch"]

# Ids are aligned up to this width.
_WIDEST_ID = 32


@click.command()
@asset_uuid_argument
@click.argument("attribute_id", metavar="[ID]", required=False, shell_complete=complete_attribute_id)
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds.")
@url_option
@json_option
def watch(
    asset_uuid: str,
    attribute_id: str | None,
    count: int | None,
    seconds: float | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Print events as they happen, until Ctrl-C.

    They are those of an asset, commands and replies among them, or of one of its attributes. With both --count and
    --seconds, it is an error if fewer events come in time.

    \b
    --json, one object a line:
    {"asset_uuid", "id", "value", "type", "tag", "timestamp"}
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    with opened(url) as client, Asset(asset_uuid, client) as asset:
        _subscribe(asset, attribute_id, heard)
        known = asset.attributes()
        click.echo(_greeting(asset_uuid, attribute_id, known, redacted(client.ksqldb_url)), err=True)
        width = min(max(map(len, known if attribute_id is None else [attribute_id]), default=0), _WIDEST_ID)
        printed = 0
        try:
            for event in _until(heard, count, seconds):
                if as_json:
                    print_json_line(event)
                else:
                    click.echo(f"{event['timestamp']}  {event['id']:{width}}  {_said(event)}")
                printed += 1
        except KeyboardInterrupt:
            return
    if count is not None and printed < count:
        raise Failure(f"{asset_uuid} had {printed} of {count} events within {seconds:g} s. Wait longer with --seconds.")


def _subscribe(asset: Asset, attribute_id: str | None, heard: queue.SimpleQueue[dict[str, Any]]) -> None:
    def hear(subject: str, message: CaseInsensitiveDict) -> None:
        value, kind = message["VALUE"], message["TYPE"]
        heard.put(
            {
                "asset_uuid": asset.asset_uuid,
                "id": subject.removeprefix(f"{asset.asset_uuid}."),
                "value": sample_value(value) if kind == "Samples" else value,
                "type": kind,
                "tag": message["TAG"],
                "timestamp": message["attributes"]["timestamp"],
            }
        )

    if attribute_id is None:
        asset.subscribe_to_messages(hear)
    else:
        asset.subscribe_to_attribute(attribute_id, hear)


def _greeting(asset_uuid: str, attribute_id: str | None, known: list[str], url: str) -> str:
    if not known:
        return f"Watching {asset_uuid}, of which {url} knows nothing yet; Ctrl-C ends it."
    if attribute_id is None:
        return f"Watching {asset_uuid} in {url}; Ctrl-C ends it."
    yet = "" if attribute_id in known else ", which it does not have yet"
    return f"Watching {asset_uuid}.{attribute_id}{yet} in {url}; Ctrl-C ends it."


def _until(
    heard: queue.SimpleQueue[dict[str, Any]], count: int | None, seconds: float | None
) -> Iterator[dict[str, Any]]:
    """The events that come, up to a number, and for a time."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while count is None or count > 0:
        try:
            yield heard.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0))
        except queue.Empty:
            return
        count = None if count is None else count - 1


def _said(event: dict[str, Any]) -> str:
    """The value for people; of a command and a reply what they mean."""
    try:
        if event["tag"] == COMMAND_TAG:
            command = CommandEnvelope.parse(event["value"])
            arguments = ", ".join(f"{name}={text}" for name, text in command.arguments.items())
            return one_line(f"command from {command.header.sender_uuid}: ({arguments})")
        if event["tag"] == REPLY_TAG:
            reply = CommandReply.parse(event["value"])
            return f"{reply.status}: {one_line(reply.result if reply.error is None else reply.error)}"
    except msgspec.MsgspecError:
        pass  # somebody wrote what is no command, and this is where they find out
    return one_line(event["value"])
