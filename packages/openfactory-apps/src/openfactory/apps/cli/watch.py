"""`ofa asset watch`: the events of an asset as they happen, each on a line."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
import msgspec

from openfactory.apps.cli.completion import complete_attribute_id
from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.options import asset_uuid_argument, json_option, url_option
from openfactory.apps.cli.output import one_line, print_json_line
from openfactory.apps.cli.target import open_factory
from openfactory.apps.stop_signals import interrupt_on_signals
from openfactory.assets import AssetEvent
from openfactory.assets.event_buffer import EventBuffer
from openfactory.commands.envelope import CommandCancel, CommandEnvelope, CommandReply
from openfactory.events.event import CANCEL_TAG, COMMAND_TAG, REPLY_TAG
from openfactory.settings.redaction import redacted

__all__ = ["watch"]

# Width of the column of ids; longer ids are not aligned.
_WIDEST_ID = 32

# Maximum number of events that wait while the output is blocked; the oldest are dropped, and the loss is logged.
_MAX_QUEUED = 100_000


@click.command()
@asset_uuid_argument
@click.argument("attribute_id", metavar="[ID]", required=False, shell_complete=complete_attribute_id)
@click.option("--count", type=click.IntRange(min=1), help="End after this number of events.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after this number of seconds.")
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

    It prints the events of an asset, including commands and replies, or only those of the attribute ID. With both
    --count and --seconds, the command fails if fewer events arrive in time.

    \b
    --json, one object per line:
    {"asset_uuid", "id", "value", "type", "tag", "timestamp"}, and "attributes" if the event has further ones
    """
    interrupt_on_signals()
    wanted = None if attribute_id is None else [attribute_id]
    with (
        open_factory(url) as factory,
        factory.asset(asset_uuid) as asset,
        EventBuffer(asset, attributes=wanted, commands=True, max_queued=_MAX_QUEUED) as events,
    ):
        known = asset.attributes()
        click.echo(_greeting(asset_uuid, attribute_id, known, redacted(factory.url)), err=True)
        width = min(max(map(len, wanted or known), default=0), _WIDEST_ID)
        printed = 0
        try:
            for event in _take(events, count, seconds):
                if as_json:
                    print_json_line(_fields(event))
                else:
                    click.echo(f"{event.timestamp}  {event.id:{width}}  {_event_text(event)}")
                printed += 1
        except KeyboardInterrupt:
            return
    if count is not None and printed < count:
        raise Failure(f"{asset_uuid} had {printed} of {count} events within {seconds:g} s. Wait longer with --seconds.")


def _greeting(asset_uuid: str, attribute_id: str | None, known: list[str], url: str) -> str:
    if not known:
        return f"Watching {asset_uuid}, which does not exist yet, in {url}; Ctrl-C ends it."
    if attribute_id is None:
        return f"Watching {asset_uuid} in {url}; Ctrl-C ends it."
    yet = "" if attribute_id in known else ", which does not exist yet,"
    return f"Watching {asset_uuid}.{attribute_id}{yet} in {url}; Ctrl-C ends it."


def _take(events: EventBuffer, count: int | None, seconds: float | None) -> Iterator[AssetEvent]:
    """Yield events as they arrive, until the count is reached or the seconds have passed."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while count is None or count > 0:
        event = events.get(None if deadline is None else max(deadline - time.monotonic(), 0))
        if event is None:
            return
        if not event.announces_method:
            yield event
            count = None if count is None else count - 1


def _fields(event: AssetEvent) -> dict[str, object]:
    return {
        "asset_uuid": event.asset_uuid,
        "id": event.id,
        "value": event.value,
        "type": event.type,
        "tag": event.tag,
        "timestamp": event.timestamp,
        **({} if event.attributes is None else {"attributes": event.attributes}),
    }


def _event_text(event: AssetEvent) -> str:
    """Return the value of an event in readable form; for a command its arguments, for a reply its result."""
    try:
        if event.tag == COMMAND_TAG:
            command = CommandEnvelope.parse(event.value)
            arguments = ", ".join(f"{name}={text}" for name, text in command.arguments.items())
            return one_line(f"command from {command.header.sender_uuid}: ({arguments})")
        if event.tag == CANCEL_TAG:
            return f"cancel of command {CommandCancel.parse(event.value).correlation_id}"
        if event.tag == REPLY_TAG:
            reply = CommandReply.parse(event.value)
            return f"{reply.status}: {one_line(reply.result if reply.error is None else reply.error)}"
    except msgspec.MsgspecError:
        pass  # print a malformed command or reply as it is
    return one_line(event.value)
