"""`ofa asset ls`, `inspect` and `methods`: what there is now."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from openfactory.apps.cli.options import asset_uuid_argument, json_option, url_option
from openfactory.apps.cli.output import moment, one_line, print_json, print_table
from openfactory.apps.cli.target import known_asset, opened
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import UNAVAILABLE
from openfactory.settings.credentials import redacted

__all__ = ["inspect", "list_assets", "methods"]


@click.command("ls")
@url_option
@json_option
def list_assets(url: str | None, as_json: bool) -> None:
    """List the registered assets.

    An app that has stopped is off the register; `ofa asset inspect` still shows what it said.

    \b
    --json: [{"asset_uuid", "type", "availability"}, …]
    """
    with opened(url) as client:
        types, availability = client.engine.types(), client.engine.availability()
    rows = [(uuid, types[uuid], availability.get(uuid, UNAVAILABLE)) for uuid in sorted(types)]
    if as_json:
        print_json([dict(zip(("asset_uuid", "type", "availability"), row, strict=True)) for row in rows])
    elif rows:
        print_table(("uuid", "type", "availability"), rows)
    else:
        place = redacted(client.ksqldb_url)
        click.echo(f"No asset is registered in {place}. Start an app with `ofa run FILE`.", err=True)


@click.command()
@asset_uuid_argument
@url_option
@json_option
def inspect(asset_uuid: str, url: str | None, as_json: bool) -> None:
    """Show the attributes of an asset.

    They are the last ones that it said, also when it has stopped.

    \b
    --json: {"asset_uuid", "type", "availability",
             "attributes": [{"id", "value", "type", "tag", "timestamp"}, …]}
    """
    with opened(url) as client, known_asset(client, asset_uuid) as asset:
        said = {
            "asset_uuid": asset_uuid,
            "type": asset.type,
            "availability": client.engine.availability([asset_uuid]).get(asset_uuid, UNAVAILABLE),
        }
        attributes = [asset[attribute_id] for attribute_id in sorted(asset.attributes(), key=str.lower)]
    if as_json:
        print_json(said | {"attributes": attributes})
        return
    print_table(
        ("id", "value", "type", "tag", "timestamp"),
        [(one.id, one_line(one.value), one.type, one_line(one.tag), moment(one.timestamp)) for one in attributes],
        "  ".join(said.values()),
        gives_way={"type": 7, "tag": 14},
    )


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

    An argument has a default only where it is not required. Of assets that are no apps of this version, arguments
    may have a name and a description only.
    """
    with opened(url) as client, known_asset(client, asset_uuid) as asset:
        found = _methods(asset)
    if as_json:
        print_json({"asset_uuid": asset_uuid, "methods": found})
    elif found:
        rows = [(one["name"], ", ".join(map(_argument, one["arguments"])), _description(one)) for one in found]
        print_table(("method", "arguments", "description"), rows)
    else:
        click.echo(f"{asset_uuid} has no methods.", err=True)


def _methods(asset: Asset) -> list[dict[str, Any]]:
    """The contracts in one shape, whoever wrote them."""
    found = []
    for name, contract in asset.methods().items():
        said = contract if isinstance(contract, dict) else {"description": contract or ""}
        arguments = [one for one in said.get("arguments") or [] if isinstance(one, dict) and "name" in one]
        found.append({"name": name, "description": said.get("description") or "", "arguments": arguments})
    return found


def _argument(argument: dict[str, Any]) -> str:
    """An argument as it would stand in Python: `speed: int = 100`."""
    kind = f": {argument['type']}" if "type" in argument else ""
    default = f" = {msgspec.json.encode(argument['default']).decode()}" if "default" in argument else ""
    return one_line(f"{argument['name']}{kind}{default}")


def _description(method: dict[str, Any]) -> str:
    """What a method does, and behind it what its arguments mean."""
    said = [str(method["description"]).rstrip(".")]
    said += [f"{one['name']}: {one['description']}" for one in method["arguments"] if one.get("description")]
    return one_line("; ".join(part for part in said if part))
