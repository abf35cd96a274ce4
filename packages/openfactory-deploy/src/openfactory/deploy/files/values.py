"""Conversion of single values of an app's file, with the sentences for wrong ones.

Each function takes a value as the document has it, and raises a ValueError whose text ends with the remedy. Texts with
variables are shown as they are in the file, because a value of the environment may be secret.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable, Iterable

from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.files.sizes import bytes_of
from openfactory.deploy.files.variables import Replaced
from openfactory.events.event import check_asset_uuid
from openfactory.exceptions import InvalidEventError

__all__ = [
    "absolute_path",
    "assignment",
    "command_of",
    "constraint_of",
    "decimal",
    "duration",
    "flag",
    "image_of",
    "items_of",
    "kind_of",
    "labels_of",
    "memory",
    "nearest",
    "network_of",
    "one_of",
    "one_or_more",
    "shown",
    "text_of",
    "uuid_of",
    "whole_number",
]

_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

# What Docker takes as the name of a container, without the dot, which no UUID may have.
_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]+")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OWN_LABELS = "openfactory."  # labels by which a target knows its instances

# The grammar of the references of images: registry, path, tag and digest.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_IMAGE = re.compile(
    rf"(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9A-Fa-f]{32,})?"
)
_CONSTRAINT = re.compile(r"([^\s=!]+)\s*(==|!=|=)\s*([^\s=!](?:.*[^\s])?)")

_LEAST_MEMORY, _MOST_MEMORY = "6Mi", "1000Gi"
_LEAST_CPUS, _MOST_CPUS = 0.01, 1_000.0


def shown(value: object) -> str:
    """Return a value for a message."""
    if isinstance(value, Replaced):
        return value.source if value.is_absent else f"{value.source} (the text {str(value)!r})"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str | int | float) else kind_of(value)


def kind_of(value: object) -> str:
    """Return the kind of a value for a message."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return "a list" if isinstance(value, list | tuple) else shown(value)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a question with the nearest of several names, or an empty text if they all differ much."""
    near = difflib.get_close_matches(name.lower(), list(names), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def text_of(value: object) -> str:
    """Return a text that is not blank."""
    if isinstance(value, bool | int | float):
        raise ValueError(f"{shown(value)} is not text. Write it in quotes: '{shown(value)}'.")
    if not isinstance(value, str):
        raise ValueError(f"{_given(value)}. Write a text.")
    if not value.strip():
        raise ValueError("The text is empty. Write one.")
    return value.strip()


def whole_number(least: int, most: int) -> Callable[[object], int]:
    """Return a function for integers with bounds; a text of digits counts as a number."""

    def convert(value: object) -> int:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number and not (isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value)):
            raise ValueError(f"{_given(value)}. Write a whole number from {least} to {most}.")
        number = int(str(value))
        if not least <= number <= most:
            raise ValueError(f"{shown(value)} is out of range. Write a whole number from {least} to {most}.")
        return number

    return convert


def decimal(value: object) -> float:
    """Return a number of CPUs."""
    allowed = f"Write a number from {_LEAST_CPUS:g} to {_MOST_CPUS:g}, such as 0.5"
    try:
        number = float("nan" if isinstance(value, bool) else value)  # type: ignore[arg-type]  # what float refuses
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{_given(value)}. {allowed}.")
    if not _LEAST_CPUS <= number <= _MOST_CPUS:
        raise ValueError(f"{shown(value)} is out of range. {allowed}.")
    return number


def flag(value: object) -> bool:
    """Return a switch."""
    switch = value if isinstance(value, bool) else _FLAGS.get(str(value).lower() if isinstance(value, str) else "")
    if switch is None:
        raise ValueError(f"{_given(value)}. Write true or false.")
    return switch


def one_of(*allowed: str) -> Callable[[object], str]:
    """Return a function for a choice of words."""

    def convert(value: object) -> str:
        if isinstance(value, str) and value.strip() in allowed:
            return value.strip()
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        raise ValueError(f"{_given(value)}. Write one of {', '.join(allowed)}.{hint}")

    return convert


def uuid_of(value: object) -> str:
    """Return the UUID of an asset, which is also the name of a container."""
    uuid = text_of(value)
    if not _UUID.fullmatch(uuid):
        raise ValueError(
            f"{shown(value)} is not a UUID of an app. Write two or more letters, digits, '-' and '_', with a letter or "
            "a digit first: containers have this name."
        )
    try:
        return check_asset_uuid(uuid)
    except InvalidEventError as error:
        raise ValueError(str(error)) from error


def image_of(value: object) -> str:
    """Return the reference of an image."""
    image = text_of(value)
    if not _IMAGE.fullmatch(image):
        raise ValueError(
            f"{shown(value)} is not a reference of an image. Write it in lower case as registry/name:tag, such as "
            "ghcr.io/plant/mill:1.4."
        )
    return image


def network_of(value: object) -> str:
    """Return the name of a network."""
    network = text_of(value)
    if not _NETWORK.fullmatch(network):
        raise ValueError(f"{shown(value)} is not a name of a network. Write letters, digits, '_', '.' and '-'.")
    return network


def absolute_path(value: object) -> str:
    """Return a path of a web page."""
    path = text_of(value)
    if not path.startswith("/") or re.search(r"\s", path):
        raise ValueError(f"{shown(value)} is not a path of a page. Write it with a '/' first and without blanks.")
    return path


def memory(value: object) -> str:
    """Return a size of memory, as text."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value)
    number = bytes_of(text)
    if not bytes_of(_LEAST_MEMORY) <= number <= bytes_of(_MOST_MEMORY):
        raise ValueError(f"{shown(value)} is out of range. Write a size from {_LEAST_MEMORY} to {_MOST_MEMORY}.")
    return text


def duration(least: str, most: str) -> Callable[[object], str]:
    """Return a function for durations with bounds, as text."""

    def convert(value: object) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(f"{shown(value)} has no unit. Write one of ms, s, m and h after it: {value}s.")
        text = text_of(value)
        if not seconds_of(least) <= seconds_of(text) <= seconds_of(most):
            raise ValueError(f"{shown(value)} is out of range. Write a duration from {least} to {most}.")
        return text

    return convert


def constraint_of(value: object) -> str:
    """Return a placement constraint, with its operator between blanks."""
    match = _CONSTRAINT.fullmatch(text_of(value))
    if match is None:
        raise ValueError(f"{shown(value)} is not a constraint. Write node.role == manager or node.role != manager.")
    key, operator, wanted = match.groups()
    return f"{key} {'==' if operator == '=' else operator} {wanted}"


def items_of(value: object) -> tuple[object, ...]:
    """Return the items of a list, or the pairs of a mapping, each with its position."""
    if isinstance(value, dict):
        return tuple(value.items())
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(f"{_given(value)}. Write a list of NAME=value, or a mapping of NAME: value.")


def one_or_more(value: object) -> object:
    """Return a list; a text becomes a list with one item."""
    return (value,) if isinstance(value, str) else value


def assignment(value: object) -> str:
    """Return one variable of an environment as `NAME=value`, from such a text or from a pair of a mapping."""
    if isinstance(value, tuple):
        name, content = value[0], _scalar_text(*value)
    else:
        item = value if isinstance(value, str) else shown(value)
        name, equals, content = item.partition("=")
        if not equals:
            source = value.source if isinstance(value, Replaced) else item
            raise ValueError(f"{source!r} has no value. Write NAME=value, or NAME=${{NAME}} for that of your shell.")
    name, content = name.strip(), content.strip()
    if not name or re.search(r"[\s=]", name):
        raise ValueError("The name of the variable is empty, or has a blank or '=' in it. Write NAME=value.")
    return f"{name}={content}"


def labels_of(value: object) -> dict[str, str]:
    """Return labels by name, from a mapping or from a list of `name=value`."""
    labels: dict[str, str] = {}
    for item in items_of(value):
        name, _, content = assignment(item).partition("=")
        if name in labels:
            raise ValueError(f"The label {name} is there twice. Remove one.")
        if name.startswith(_OWN_LABELS):
            raise ValueError(f"The label {name} cannot be set here, because the deployment sets it. Take it out.")
        labels[name] = content
    return labels


def command_of(value: object) -> tuple[str, ...]:
    """Return the words of a command, from a list or from a text as a shell reads it."""
    if isinstance(value, list | tuple):
        words = tuple(_scalar_text(f"word {number}", word) for number, word in enumerate(value, 1))
    else:
        try:
            words = tuple(shlex.split(text_of(value)))
        except ValueError as error:
            if isinstance(value, str) and value.strip():
                raise ValueError(f"{shown(value)} has an open quote. Close it, or write a list of words.") from error
            raise
    if not words or not words[0].strip():
        raise ValueError("The command is empty. Write a program and its arguments.")
    return words


def _given(value: object) -> str:
    if value is None:
        return "The key has no value"
    return f"It is {kind_of(value)}" if isinstance(value, list | tuple | dict) else f"{shown(value)} is not allowed"


def _scalar_text(name: str, value: object) -> str:
    """Return a scalar as the text that it has in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    empty = f"Write {name}: '' for an empty text" if value is None else "Write a text"
    raise ValueError(f"{name} is {kind_of(value)}. {empty}.")
