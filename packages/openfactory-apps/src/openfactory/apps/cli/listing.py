"""`ofa asset ls`: the assets of a factory, and how recent their values are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from openfactory.apps.cli.options import json_option, url_option
from openfactory.apps.cli.output import print_json, print_table, short_timestamp
from openfactory.apps.cli.target import open_factory
from openfactory.engines.presence import Sight, Sighting
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import OWNER_ID
from openfactory.events.timestamp import instant_of
from openfactory.events.trial import TEST_ASSET
from openfactory.settings.redaction import redacted

__all__ = ["age_text", "list_assets", "owner_columns"]

_AVAILABILITY = ("avail", "agent_avail")

# An age is printed in the first unit of which it has fewer than this number.
_UNITS = ((120, 1, "s"), (120, 60, "min"), (48, 3_600, "h"), (float("inf"), 86_400, "d"))


@click.command("ls")
@click.option("--all", "with_ended", is_flag=True, help="List also assets that are not registered any more.")
@url_option
@json_option
def list_assets(with_ended: bool, url: str | None, as_json: bool) -> None:
    """List the registered assets.

    SINCE is the time of the last availability, and AGE the time since the newest value. OWNER is the process that runs
    the app, and SEEN the time since its last sign of life. A stopped app is not registered; --all lists it with its
    last availability and how it has ended, and `ofa asset inspect` shows its last values.

    \b
    --json: [{"asset_uuid", "type", "registered", "availability", "since",
              "newest", "age", "owner"}, …]
    with "newest" as a timestamp, "age" in seconds, null for unknown, and
    "owner": {"pid", "host", "since", "state", "seen", "ended"} or null
    with "state" as lives, silent, ended or unknown, and "seen" in seconds
    """
    with open_factory(url) as factory:
        types = factory.assets()
        availability = factory.availability(types.keys())
        last = factory.last_events(None if with_ended else types.keys())
        claimed = [asset_uuid for asset_uuid, events in last.items() if any(event.id == OWNER_ID for event in events)]
        owners = factory.owners(claimed) if claimed else {}
    now = time.time()
    rows = [
        _columns(asset_uuid, types.get(asset_uuid), availability.get(asset_uuid), last.get(asset_uuid, ()), now)
        | {"owner": owner_columns(owners.get(asset_uuid), now)}
        for asset_uuid in sorted({*types, *_with_values(last)})
    ]
    if as_json:
        print_json(rows)
    elif rows:
        _print(rows, with_ended=with_ended)
    else:
        click.echo(f"No asset is registered in {redacted(factory.url)}. Start an app with `ofa run FILE`.", err=True)


def _columns(
    asset_uuid: str, asset_type: str | None, availability: str | None, events: Sequence[AssetEvent], now: float
) -> dict[str, Any]:
    """Return the columns of an asset, by their names in JSON.

    Args:
        asset_uuid: UUID of the asset.
        asset_type: type of a registered asset, or None.
        availability: availability of a registered asset, or None.
        events: last event of each attribute.
        now: seconds since 1970.
    """
    avail = next((event for event in reversed(events) if event.id in _AVAILABILITY), None)
    newest = next((event.timestamp for event in reversed(events) if _is_value(event)), None)
    instant = None if newest is None else instant_of(newest)
    return {
        "asset_uuid": asset_uuid,
        "type": asset_type,
        "registered": asset_type is not None,
        "availability": availability or (str(avail.value) if avail is not None and not asset_type else UNAVAILABLE),
        "since": None if avail is None else avail.timestamp,
        "newest": newest,
        "age": None if instant is None else round(max(now - instant / 1e9, 0), 3),
    }


def owner_columns(sighting: Sighting | None, now: float) -> dict[str, Any] | None:
    """Return the facts of an owner by their names in JSON; None for an asset that no app has claimed.

    Args:
        sighting: the owner and the state of its process, or None.
        now: seconds since 1970.
    """
    if sighting is None:
        return None
    owner, seen = sighting.owner, sighting.last_seen
    if seen is None and sighting.sight is Sight.LIVES:
        seen = now
    return {
        "pid": owner.pid,
        "host": owner.host,
        "since": owner.started,
        "state": sighting.sight.value,
        "seen": None if seen is None else round(max(now - seen, 0), 3),
        "ended": owner.ended,
    }


def _with_values(last: Mapping[str, Sequence[AssetEvent]]) -> Iterator[str]:
    """Yield the assets that have published a value, and not those that have only received a command."""
    for asset_uuid, events in last.items():
        if asset_uuid != TEST_ASSET and any(map(_is_value, events)):
            yield asset_uuid


def _is_value(event: AssetEvent) -> bool:
    return event.is_attribute and event.type != "OpenFactory"  # of the register


def _print(rows: Sequence[Mapping[str, Any]], *, with_ended: bool) -> None:
    headers = ["uuid", "type", *["registered"] * with_ended, "availability", "since", "age", "owner", "seen"]
    headers += ["ended"] * with_ended
    table = [
        [
            row["asset_uuid"],
            row["type"] or "",
            *["yes" if row["registered"] else "no"] * with_ended,
            row["availability"],
            short_timestamp(row["since"] or ""),
            age_text(row["age"]),
            *_owner_texts(row["owner"]),
            *[(row["owner"] or {}).get("ended") or ""] * with_ended,
        ]
        for row in rows
    ]
    print_table(headers, table)


def _owner_texts(owner: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the process of an owner and the time since its last sign, for a table."""
    if owner is None or owner["ended"] is not None:
        return "", ""
    state = "" if owner["state"] == "lives" else f"{owner['state']} "
    return f"{owner['pid']} on {owner['host']}", f"{state}{age_text(owner['seen'])}".strip()


def age_text(seconds: float | None) -> str:
    """Return an age in one unit.

    >>> age_text(3.2), age_text(7_300), age_text(None)
    ('3 s', '2 h', '')
    """
    if seconds is None:
        return ""
    unit, name = next((unit, name) for most, unit, name in _UNITS if seconds < most * unit)
    return f"{int(seconds // unit)} {name}"
