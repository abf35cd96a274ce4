"""`ofa asset set` and `ofa asset call`: writes and commands to an asset."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
import msgspec

from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.options import (
    asset_uuid_argument,
    attribute_id_argument,
    json_option,
    method_argument,
    url_option,
)
from openfactory.apps.cli.output import one_line, print_json
from openfactory.apps.cli.target import known_asset, open_factory
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute, number_in
from openfactory.events.decoding import decode_json

__all__ = ["call", "set_attribute"]


@click.command("set", context_settings={"ignore_unknown_options": True})  # -4.5 is a value
@asset_uuid_argument
@attribute_id_argument
@click.argument("text", metavar="VALUE")
@click.option("--string/--no-string", default=None, help="Write VALUE always as text, or always as JSON.")
@url_option
@json_option
def set_attribute(
    asset_uuid: str, attribute_id: str, text: str, string: bool | None, url: str | None, as_json: bool
) -> None:
    """Write an existing attribute of an asset.

    A sample takes a number or UNAVAILABLE. An attribute whose value is text gets VALUE as text. Other attributes get
    VALUE as JSON if it is a number, true, false, null, a list or an object, and as text otherwise.

    \b
    --json: {"asset_uuid", "id", "value", "type", "tag", "timestamp"}
    """
    with open_factory(url) as factory, known_asset(factory, asset_uuid) as asset:
        _check_attribute(asset, attribute_id)
        asset[attribute_id] = _value(text, asset[attribute_id], string, f"{asset_uuid}.{attribute_id}")
        asset.flush()
        written = asset[attribute_id]
    if as_json:
        print_json({"asset_uuid": asset_uuid, **asdict(written)})
    else:
        click.echo(f"{asset_uuid}.{attribute_id} = {one_line(written.value)}")


@click.command()
@asset_uuid_argument
@method_argument
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]…")
@click.option("--sender", default="ofa", show_default=True, metavar="UUID", help="The asset that sends the command.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the reply, or with --no-wait until the command is written.",
)
@click.option("--no-wait", is_flag=True, help="Send the command, and do not wait for its result.")
@url_option
@json_option
def call(
    asset_uuid: str,
    method: str,
    arguments: tuple[str, ...],
    sender: str,
    timeout: float,
    no_wait: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Call a method and print its result.

    The app converts each VALUE to the type of the argument. With --no-wait, the correlation id of the command is
    printed instead, which the app writes to its log: for a method that takes long, or a program that does not reply.

    \b
    exit status 0  the method succeeded, or with --no-wait the command is written
                1  the app rejected the command, the method failed, no reply arrived in time, or the command could
                   not be written
                3  the app replied that the method may have run, because it was stopped or killed meanwhile
    --json         {"asset_uuid", "method", "result"}, with --no-wait {"asset_uuid", "method", "correlation_id"}
    """
    values = _parse_arguments(arguments)
    if not sender:
        raise click.BadParameter("The UUID is empty. Give the UUID of an asset.", param_hint="--sender")
    with open_factory(url) as factory, known_asset(factory, asset_uuid) as asset:
        if method not in asset.methods():
            names = ", ".join(asset.methods()) or "no methods"
            raise Failure(f"{asset_uuid} has no method {method!r}. It has {names}.")
        if no_wait:
            outcome: dict[str, Any] = {"correlation_id": asset.method(method, sender, values)}
            asset.flush(timeout)
        else:
            outcome = {"result": asset.call(method, values, sender_uuid=sender, timeout=timeout)}
    result = outcome.get("result")
    if as_json:
        print_json({"asset_uuid": asset_uuid, "method": method, **outcome})
    elif no_wait:
        click.echo(f"{asset_uuid}.{method} is sent, with the correlation id {outcome['correlation_id']}.")
    elif result is None:
        click.echo(f"{asset_uuid}.{method} succeeded.")
    else:
        for line in result.splitlines() if isinstance(result, str) else [result]:
            click.echo(one_line(line))


def _check_attribute(asset: Asset, attribute_id: str) -> None:
    if attribute_id in asset.methods():
        raise Failure(
            f"{attribute_id!r} is a method of {asset.asset_uuid} and has no value. "
            f"Call it with `ofa asset call {asset.asset_uuid} {attribute_id}`."
        )
    known = asset.attributes()
    if attribute_id not in known:
        names = ", ".join(known) or "no attributes"
        raise Failure(f"{asset.asset_uuid} has no attribute {attribute_id!r}. It has {names}.")


def _value(text: str, known: AssetAttribute, string: bool | None, name: str) -> Any:
    """Convert a text to the value to write, by the current type and value of the attribute and by `--string`."""
    if string:
        return text
    if known.type == "Samples":
        return _number(text, name)
    if string is None and isinstance(known.value, str) and known.value != UNAVAILABLE:
        return text
    try:
        value = decode_json(text)
    except msgspec.DecodeError as error:
        if string is False:
            raise Failure(f"{text!r} is not JSON ({error}). Leave out --no-string to write it as text.") from error
        return text
    return text if string is None and isinstance(value, str) else value


def _number(text: str, name: str) -> Any:
    if text == UNAVAILABLE:
        return text
    number = number_in(text)
    if number is None:
        raise Failure(
            f"{name} is a sample, and {text!r} is not a number. "
            f"Give a number or {UNAVAILABLE}, or write text with --string."
        )
    return int(text) if text.strip().lstrip("+-").isdigit() else number


def _parse_arguments(arguments: tuple[str, ...]) -> dict[str, str]:
    """Return arguments of the form `NAME=VALUE` as a dictionary.

    Raises:
        UsageError: an argument has another form, or its name is given twice.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{argument!r} is not NAME=VALUE. Write {argument or 'speed'}=VALUE.")
        if name in values:
            raise click.UsageError(f"The argument {name!r} is given twice. Give it once.")
        values[name] = value
    return values
