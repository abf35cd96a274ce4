"""`ofa asset inspect` and `methods`: the current state of an asset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from openfactory.apps.cli.listing import owner_columns
from openfactory.apps.cli.options import asset_uuid_argument, json_option, url_option
from openfactory.apps.cli.output import one_line, print_json, print_table, short_timestamp
from openfactory.apps.cli.target import known_asset, open_factory
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import UNAVAILABLE

__all__ = ["inspect", "methods"]


@click.command()
@asset_uuid_argument
@url_option
@json_option
def inspect(asset_uuid: str, url: str | None, as_json: bool) -> None:
    """Show the attributes of an asset, and the process that runs its app.

    A stopped app is shown with its last values and how it has ended.

    \b
    --json: {"asset_uuid", "type", "availability", "owner",
             "attributes": [{"id", "value", "type", "tag", "timestamp"}, …]}
    with "owner" as in `ofa asset ls --json`
    """
    with open_factory(url) as factory, known_asset(factory, asset_uuid) as asset:
        summary = {
            "asset_uuid": asset_uuid,
            "type": asset.type,
            "availability": factory.availability([asset_uuid]).get(asset_uuid, UNAVAILABLE),
        }
        owner = owner_columns(factory.owners([asset_uuid]).get(asset_uuid), time.time())
        attributes = [asset[attribute_id] for attribute_id in sorted(asset.attributes(), key=str.lower)]
    if as_json:
        print_json(summary | {"owner": owner, "attributes": attributes})
        return
    print_table(
        ("id", "value", "type", "tag", "timestamp"),
        [(a.id, one_line(a.value), a.type, a.tag, short_timestamp(a.timestamp)) for a in attributes],
        "  ".join((*summary.values(), *_owner_text(owner))),
    )


def _owner_text(owner: Mapping[str, Any] | None) -> list[str]:
    if owner is None:
        return []
    if owner["ended"] is not None:
        return [f"ended: {owner['ended']}"]
    seen = f", {owner['state']}" if owner["state"] != "lives" else ""
    return [f"process {owner['pid']} on host {owner['host']} since {short_timestamp(owner['since'])}{seen}"]


@click.command()
@asset_uuid_argument
@url_option
@json_option
def methods(asset_uuid: str, url: str | None, as_json: bool) -> None:
    """Show the methods of an asset.

    Call them with `ofa asset call`.

    \b
    --json: {"asset_uuid", "methods": [{"name", "description", "arguments":
                [{"name", "description", "type", "required", "default"}, …]}, …]}

    A required argument has no default. Arguments of assets that are not apps of this version may have a name and a
    description only.
    """
    with open_factory(url) as factory, known_asset(factory, asset_uuid) as asset:
        found = _methods(asset)
    if as_json:
        print_json({"asset_uuid": asset_uuid, "methods": found})
    elif found:
        rows = [
            (method["name"], ", ".join(map(_argument_text, method["arguments"])), _description(method))
            for method in found
        ]
        print_table(("method", "arguments", "description"), rows)
    else:
        click.echo(f"{asset_uuid} has no methods.", err=True)


def _methods(asset: Asset) -> list[dict[str, Any]]:
    """Return the contracts of the methods in the same form, whichever program published them."""
    found = []
    for name, contract in asset.methods().items():
        fields = contract if isinstance(contract, dict) else {"description": contract or ""}
        arguments = [
            argument for argument in fields.get("arguments") or [] if isinstance(argument, dict) and "name" in argument
        ]
        found.append({"name": name, "description": fields.get("description") or "", "arguments": arguments})
    return found


def _argument_text(argument: dict[str, Any]) -> str:
    """Return an argument in the notation of Python: `speed: int = 100`."""
    kind = f": {argument['type']}" if "type" in argument else ""
    default = f" = {msgspec.json.encode(argument['default']).decode()}" if "default" in argument else ""
    return f"{argument['name']}{kind}{default}"


def _description(method: dict[str, Any]) -> str:
    """Return the description of a method, followed by those of its arguments."""
    parts = [str(method["description"]).rstrip(".")]
    parts += [
        f"{argument['name']}: {argument['description']}"
        for argument in method["arguments"]
        if argument.get("description")
    ]
    return "; ".join(part for part in parts if part)
