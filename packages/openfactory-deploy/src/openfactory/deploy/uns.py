"""The unified namespace of a factory: the levels, and the place of each asset.

```yaml
namespace_structure:             # each item is one level
  - inc: Demofactory             # a text: the same value for each asset
  - area: [Machining, Assembly]  # a list: one of these values, or left out
  - station: ANY                 # any value, or left out
  - asset: ANY
  - attribute: ANY
uns_template: inc/area/station/asset/attribute
```
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from openfactory.deploy.app import UNSPlace
from openfactory.deploy.files.document import Document, KeyPath, Value, read_document
from openfactory.deploy.files.folders import local_path
from openfactory.deploy.files.values import kind_of, nearest, text_of
from openfactory.deploy.problems import InvalidFilesError, Place, Problem

__all__ = ["Level", "UNSSchema"]

_STRUCTURE, _TEMPLATE = "namespace_structure", "uns_template"
_ANY, _ASSET, _ATTRIBUTE = "ANY", "asset", "attribute"


class Level(msgspec.Struct, frozen=True):
    """One level of the namespace.

    Attributes:
        name: name of the level.
        constant: the value of each asset, or None.
        allowed: the values to choose from; None for any value.
    """

    name: str
    constant: str | None = None
    allowed: tuple[str, ...] | None = None


class UNSSchema(msgspec.Struct, frozen=True):
    """The levels of a namespace, and those that an id consists of.

    Attributes:
        levels: the levels, from the top.
        template: the names of the levels in an id, with `attribute` at its end.
        separator: the character between two values of an id.
    """

    levels: tuple[Level, ...]
    template: tuple[str, ...]
    separator: str

    @classmethod
    def from_file(cls, path: str | Path, environ: Mapping[str, str] | None = None) -> UNSSchema:
        """Read the file of a namespace.

        Args:
            path: path of the file.
            environ: the variables that the file may name.

        Raises:
            ConfigurationError: the path is the address of a file elsewhere.
            InvalidFilesError: the file cannot be used; it has all problems.
        """
        document = read_document(local_path(str(path)), environ or {})
        problems = list(document.problems)
        if not problems:
            levels, problems = _levels_in(document)
            template, separator, wrong = _template_in(document, levels)
            problems += wrong
            if not problems:
                return cls(tuple(levels), template, separator)
        raise InvalidFilesError(problems)

    def place_of(self, uuid: str, values: Mapping[str, str], place: Place) -> UNSPlace:
        """Return the place of an asset.

        Args:
            uuid: UUID of the asset; the value of the level `asset` by default.
            values: values by level.
            place: line of the values, for problems.

        Raises:
            InvalidFilesError: the values do not fit the levels.
        """
        problems = [Problem(place, level, text) for level, text in self.problems_of(uuid, values)]
        if problems:
            raise InvalidFilesError(problems)
        return self._place(uuid, values)

    def problems_of(self, uuid: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the levels whose value cannot be used, each with the problem and its remedy."""
        by_name = {level.name: level for level in self.levels if level.name != _ATTRIBUTE}
        for name, value in values.items():
            if name not in by_name:
                hint = nearest(name, by_name)
                yield name, f"`{name}` is not a level of an asset.{hint} Allowed are {', '.join(by_name)}."
            elif text := self._wrong(by_name[name], value):
                yield name, text
        if _ASSET not in values and self.separator in uuid:
            yield _ASSET, f"The UUID {uuid} has the separator {self.separator!r}. Write another value for asset."
        yield from self._gaps(values)

    def _wrong(self, level: Level, value: str) -> str:
        if level.constant is not None:
            return "" if value == level.constant else f"It is {value!r}. Write {level.constant}, or leave it out."
        if level.allowed is not None and value not in level.allowed:
            return f"It is {value!r}. Write one of {', '.join(level.allowed)}.{nearest(value, level.allowed)}"
        if self.separator in value:
            return f"It is {value!r}, with the separator {self.separator!r}. Write it without {self.separator!r}."
        return ""

    def _gaps(self, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the levels that are given although one above them is not, and those below the asset."""
        names = [level.name for level in self.levels if level.constant is None and level.name != _ATTRIBUTE]
        end = names.index(_ASSET)
        missing = next((name for name in names[:end] if name not in values), None)
        for number, name in enumerate(names):
            if name in values and number > end:
                yield name, "The level is below the asset. Leave it out."
            elif name in values and missing and names.index(missing) < number < end:
                yield name, f"The level {missing} above it has no value. Write {missing}: too, or leave {name} out."

    def _place(self, uuid: str, values: Mapping[str, str]) -> UNSPlace:
        given = {_ASSET: uuid, **values}
        levels = {
            level.name: given.get(level.name, "") if level.constant is None else level.constant
            for level in self.levels
            if level.name in given or level.constant is not None
        }
        parts = [levels[name] for name in self.template[:-1] if name in levels]
        return UNSPlace(levels, self.separator.join(parts))


def _levels_in(document: Document) -> tuple[list[Level], list[Problem]]:
    """Return the levels of a file, as far as they can be used, and the problems."""
    whole = document.value
    if not isinstance(whole, dict):
        text = f"The file is {kind_of(whole)}. Write {_STRUCTURE}: with a list of levels, and {_TEMPLATE}:."
        return [], [document.problem((), text)]
    known = (_STRUCTURE, _TEMPLATE)
    problems = [
        document.problem((key,), f"`{key}` is not known.{nearest(key, known)} Allowed are {' and '.join(known)}.")
        for key in whole
        if key not in known and not key.startswith("x-")
    ]
    structure = whole.get(_STRUCTURE)
    if not isinstance(structure, list) or not structure:
        text = f"It is {kind_of(structure)}. Write a list of levels, such as - inc: Demofactory and - asset: ANY."
        return [], [*problems, document.problem((_STRUCTURE,), text)]
    levels: list[Level] = []
    for number, item in enumerate(structure):
        try:
            level = _level_of(item)
            if level.name in [one.name for one in levels]:
                raise ValueError(f"The level {level.name} is there twice. Remove one.")
            levels.append(level)
        except ValueError as error:
            problems.append(document.problem((_STRUCTURE, number), str(error)))
    if not problems and _ASSET not in [level.name for level in levels]:
        text = f"The level {_ASSET} is missing. Write - {_ASSET}: {_ANY} in the line before attribute."
        problems.append(document.problem((_STRUCTURE,), text))
    return levels, problems


def _level_of(item: Value) -> Level:
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"It is {kind_of(item)}. Write one level with one value, such as - area: {_ANY}.")
    [(name, value)] = item.items()
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"{name!r} is not a name of a level. Write letters, digits and '_'.")
    if isinstance(value, list):
        allowed = tuple(_level_text(name, one) for one in value)
        if not allowed:
            raise ValueError(f"The list of {name} is empty. Write values, or {_ANY}.")
        return Level(name, allowed=allowed)
    text = _level_text(name, value)
    if text == _ANY:
        return Level(name)
    if name == _ASSET:
        raise ValueError(f"Each asset would have the value {text}. Write {_ASSET}: {_ANY}.")
    return Level(name, constant=text)


def _level_text(name: str, value: Value) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return text_of(str(value) if is_number else value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _template_in(document: Document, levels: list[Level]) -> tuple[tuple[str, ...], str, list[Problem]]:
    """Return the names in the template, its separator, and the problems."""
    path: KeyPath = (_TEMPLATE,)
    template = document.value.get(_TEMPLATE) if isinstance(document.value, dict) else None
    example = "inc/asset/attribute"
    if not isinstance(template, str) or not template.strip():
        text = f"It is {kind_of(template)}. Write the levels of an id with a separator, such as {example}."
        return (), "", [document.problem(path, text)]
    found = re.search(r"\W", template.strip())
    separator = found.group() if found else "/"
    names = template.strip().split(separator)
    order = [level.name for level in levels]
    texts = [
        f"{name!r} is not a level of {_STRUCTURE}.{nearest(name, order)} Write one of {', '.join(order)}."
        for name in names
        if name not in order
    ]
    if not texts and names != sorted(set(names), key=order.index):
        texts.append(f"The levels are not in the order of {_STRUCTURE}, or one is there twice. Write that order.")
    if names[-1] != _ATTRIBUTE:
        texts.append(f"The template does not end in {_ATTRIBUTE}. Write it last, such as {example}.")
    if _ASSET not in names:
        texts.append(f"The template does not have {_ASSET}: all assets would be in one place. Write {_ASSET} into it.")
    problems = [document.problem(path, text) for text in texts]
    for number, level in enumerate(levels):
        for value in (*filter(None, [level.constant]), *(level.allowed or ())):
            if separator in value:
                text = f"The value {value!r} of {level.name} has the separator {separator!r} in it. Write another."
                problems.append(document.problem((_STRUCTURE, number), text))
    return tuple(names), separator, problems
