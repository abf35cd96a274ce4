"""`ofa asset set` and `ofa asset call`: writes and commands to an asset."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import click
import msgspec

from openfactory.apps.cli.failure import Failure, OutputFailure
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

# Kinds of values other than numbers and text, as messages name them.
_KINDS: dict[type, str] = {bool: "true or false", list: "a list in JSON", dict: "an object in JSON"}

_LEADING_ZEROS = re.compile(r"\s*[+-]?0[0-9]")


@click.command("set", context_settings={"ignore_unknown_options": True})  # -4.5 is a value
@asset_uuid_argument
@attribute_id_argument
@click.argument("text", metavar="VALUE")
@click.option("--text/--as-json", "as_text", default=None, help="Write VALUE as text or JSON, whatever the kind is.")
@url_option
@json_option
def set_attribute(
    asset_uuid: str, attribute_id: str, text: str, as_text: bool | None, url: str | None, as_json: bool
) -> None:
    """Write an existing attribute of an asset.

    The attribute keeps its kind: a sample and a number take a number; true or false, a list and an object take the
    same in JSON; text takes any VALUE. Another VALUE is refused. UNAVAILABLE fits each kind.

    If the attribute has no value yet, VALUE is written as JSON if it is a number, true, false, null, a list or an
    object, and as text otherwise.

    \b
    --json: {"asset_uuid", "id", "value", "type", "tag", "timestamp"}
    """
    with open_factory(url) as factory, known_asset(factory, asset_uuid) as asset:
        _check_attribute(asset, attribute_id)
        asset[attribute_id] = _value(text, asset[attribute_id], as_text, f"{asset_uuid}.{attribute_id}")
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
    help="Seconds to wait for the reply. The app does not begin the method later, with --no-wait neither.",
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

    The app converts each VALUE to the type of the argument. Ctrl-C cancels the command. With --no-wait, the correlation
    id of the command is printed instead, which the app writes to its log: for a method that takes long, or a program
    that does not reply.

    \b
    exit status 0  the method succeeded, or with --no-wait the command is written
                1  the app rejected the command, took it up too late or was told to cancel it, the method failed, no
                   reply arrived in time, or the command could not be written
                3  the app replied that the method may have run, because it was stopped or killed meanwhile
                4  the method succeeded, but its result could not be printed; standard error has it
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
            outcome: dict[str, Any] = {"correlation_id": asset.method(method, sender, values, timeout=timeout)}
            asset.flush(timeout)
        else:
            outcome = {"result": asset.call(method, values, sender_uuid=sender, timeout=timeout)}
    try:
        _print_outcome(asset_uuid, method, outcome, as_json)
    except OutputFailure as failure:
        raise OutputFailure(failure.error, one_line(outcome)) from failure


def _print_outcome(asset_uuid: str, method: str, outcome: dict[str, Any], as_json: bool) -> None:
    result = outcome.get("result")
    if as_json:
        print_json({"asset_uuid": asset_uuid, "method": method, **outcome})
    elif "correlation_id" in outcome:
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


def _value(text: str, known: AssetAttribute, as_text: bool | None, name: str) -> Any:
    """Convert a text to the value to write, which has the kind of the attribute unless an option says otherwise.

    Raises:
        Failure: the text has another kind.
    """
    if as_text:
        return text
    if as_text is False:
        try:
            return decode_json(text)
        except msgspec.DecodeError as error:
            raise Failure(f"{text!r} is not JSON ({error}). Leave out --as-json to write it as text.") from error
    value = known.value
    if text == UNAVAILABLE:
        return text
    if known.type == "Samples":
        return _number(text, f"{name} is a sample", text_fits=False)
    if value is None or value == UNAVAILABLE:
        return _of_any_kind(text, name)
    if isinstance(value, str):
        return text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(text, f"{name} is a number")
    return _of_kind(text, type(value), name)


def _of_kind(text: str, kind: type, name: str) -> Any:
    shown = _KINDS[kind]
    try:
        value = decode_json(text)
    except msgspec.DecodeError:
        value = None
    if not isinstance(value, kind):
        raise Failure(
            f"{name} is {shown}, and {text!r} is not. Give {shown} or {UNAVAILABLE}, "
            "or change the kind of the attribute with --text or --as-json."
        )
    return value


def _of_any_kind(text: str, name: str) -> Any:
    try:
        value = decode_json(text)
    except msgspec.DecodeError:
        if number_in(text) is not None:
            number = _number(text, f"{name} has no value yet")
            raise Failure(
                f"{name} has no value yet, and {text!r} may be a number or text. "
                f"Give {one_line(number)}, or write text with --text."
            ) from None
        return text
    return text if isinstance(value, str) else value


def _number(text: str, subject: str, *, text_fits: bool = True) -> int | float:
    """Return the number that a text is. In a sample it stays a number, also if it is written as text.

    Raises:
        Failure: the text is not a number, or has leading zeros as an identifier may have.
    """
    number = number_in(text)
    if number is None:
        raise Failure(
            f"{subject}, and {text!r} is not a number. Give a number or {UNAVAILABLE}, or write text with --text."
        )
    value = int(text) if text.strip().lstrip("+-").isdigit() else number
    if _LEADING_ZEROS.match(text):
        or_text = ", or write text with --text" if text_fits else ""
        raise Failure(f"{subject}, and {text!r} has leading zeros, as text may have. Give {one_line(value)}{or_text}.")
    return value


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
