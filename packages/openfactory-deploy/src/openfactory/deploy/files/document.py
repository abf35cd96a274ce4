"""A YAML file as plain values, with the line of each key and item.

Scalars have the values that their text shows: `8080` is a number, `1.10`, `007`, `yes` and dates are text, so that the
text of each value is the text in the file.
"""

from __future__ import annotations

import re
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from openfactory.deploy.files.references import HiddenReferences
from openfactory.deploy.files.variables import Replaced, VariableError, replaced
from openfactory.deploy.problems import Place, Problem

__all__ = ["Document", "KeyPath", "Value", "path_text", "plain_value", "read_document"]

#: The keys and positions that lead to a value.
KeyPath = tuple[str | int, ...]

#: A value of a document: a scalar, a list or a mapping.
Value = Any

_NOT_TEXT = "The file is not text, or not UTF-8. Save it as UTF-8."
_LARGEST = 1_048_576

# Bounds for aliases, which can make a short text a large document.
_MOST_VALUES = 50_000
_DEEPEST = 40

_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}" for name in ("bool", "float", "int", "merge", "null", "str", "timestamp", "value")}
_NULLS = ("", "~", "null", "Null", "NULL")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_FLOAT = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}")
_NOT_IN_TEXTS = re.compile(r"[\0\ud800-\udfff]")


class Document:
    """The values of a file.

    Attributes:
        file: path of the file.
        value: the outermost value; None if the file cannot be read or is empty.
        problems: the problems of reading.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.value: Value = None
        self.problems: list[Problem] = []
        self._lines: dict[KeyPath, int] = {}
        self._unset: dict[KeyPath, tuple[str, ...]] = {}

    def place(self, path: KeyPath) -> Place:
        """Return the line of a key or an item; of the key around it, if the file does not have it."""
        while path and path not in self._lines:
            path = path[:-1]
        return Place(self.file, self._lines.get(path, 0))

    def problem(self, path: KeyPath, text: str) -> Problem:
        """Return a problem; it names the unset variables at the path."""
        if unset := self._unset.get(path):
            names = " and ".join(unset)
            verb = "variables {} are" if len(unset) > 1 else "variable {} is"
            text += f" The {verb.format(names)} not set: set {names}, or write ${{{unset[0]}:-default}}."
        return Problem(self.place(path), path_text(path), text)

    def note(self, path: KeyPath, line: int, unset: tuple[str, ...] = ()) -> None:
        """Note the line of a value, and the unset variables in it."""
        self._lines.setdefault(path, line)
        if unset:
            self._unset[path] = unset


def path_text(path: KeyPath) -> str:
    """Return a path as text.

    >>> path_text(("apps", "mill", "networks", 0))
    'apps.mill.networks[0]'
    """
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def plain_value(text: str) -> bool | float | int | str | None:
    """Return the value of a text without quotes; a number only if it is written as Python writes it.

    >>> plain_value("8080"), plain_value("0.5"), plain_value("1.10"), plain_value("yes"), plain_value("~")
    (8080, 0.5, '1.10', 'yes', None)
    """
    if text in _NULLS:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text) and str(int(text)) == text:
        return int(text)
    if _FLOAT.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def read_document(file: Path, environ: Mapping[str, str]) -> Document:
    """Read a YAML file; its problems are in the document.

    Args:
        file: path of the file.
        environ: the variables that the texts of the file may name.
    """
    document = Document(file)
    references = HiddenReferences("")
    try:
        references = HiddenReferences(_text_of(file))
        node = yaml.compose(references.text, Loader=yaml.SafeLoader)
        if node is not None:
            document.value = _Builder(document, environ, references).value(node, ())
    except OSError as error:
        _add(document, 0, f"The file cannot be read: {error.strerror}. Check its name and its permissions.")
    except _RefusedError as error:
        _add(document, error.line, str(error))
    except yaml.reader.ReaderError as error:
        _add(document, references.text[: error.position].count("\n") + 1, _NOT_TEXT)
    except yaml.MarkedYAMLError as error:
        line, text = _mistake(error)
        _add(document, line, references.restored(text))
    except RecursionError:
        _add(document, 0, f"The values are nested too deeply. Write at most {_DEEPEST} levels.")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        _add(document, 0, f"The file is not YAML: {error}. Correct it.")
    return document


class _RefusedError(Exception):
    """Reading cannot go on."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(text)
        self.line = line


def _add(document: Document, line: int, text: str) -> None:
    document.problems.append(Problem(Place(document.file, line), "", text))


def _text_of(file: Path) -> str:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _RefusedError("This is not a regular file. Name a YAML file, or a folder of files app_*.yml.")
    if status.st_size > _LARGEST:
        raise _RefusedError(f"The file has {status.st_size:,} bytes. A file of apps has at most {_LARGEST:,}.")
    content = file.read_bytes()
    try:
        return content.decode("utf-16" if content[:2] in (BOM_UTF16_BE, BOM_UTF16_LE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError(_NOT_TEXT, content[: error.start].count(b"\n") + 1) from error


def _mistake(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    found = " ".join(filter(None, (error.context, error.problem)))
    remedy = (
        "Correct the line. A text with ': ' or ' #' in it, or with one of @ ` * & ! | > % [ { before it, has quotes"
    )
    if "'\\t'" in found:
        remedy = "Indent with blanks in place of tabs"
    elif "document" in found:
        remedy = "Write one document in a file, without '---' between apps"
    return mark.line + 1 if mark else 0, f"This is not YAML: {found}. {remedy}."


class _Builder:
    """Turns nodes of YAML into values, and notes lines and problems in the document."""

    def __init__(self, document: Document, environ: Mapping[str, str], references: HiddenReferences) -> None:
        self._document = document
        self._restored = references.restored
        self._environ = environ
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Value:
        line = node.start_mark.line + 1
        self._document.note(path, line)
        self._count(len(path), line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, f"{_TAG}seq", path)
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        self._check_tag(node, f"{_TAG}map", path)
        values = {}
        for name, (key, value) in self._pairs(node, path, 0).items():
            self._document.note((*path, name), key.start_mark.line + 1)
            values[name] = self.value(value, (*path, name))
        return values

    def _count(self, depth: int, line: int) -> None:
        self._values += 1
        if self._values > _MOST_VALUES or depth > _DEEPEST:
            raise _RefusedError(
                f"The file has more than {_MOST_VALUES:,} values or {_DEEPEST} levels, or an alias that contains "
                "itself. Take aliases out.",
                line,
            )

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Value:
        if node.tag not in _SCALARS:
            self._refuse_tag(node, path)
            return None
        source = self._restored(node.value)
        is_plain = node.style is None
        if "$" not in source:
            return plain_value(source) if is_plain and node.tag != f"{_TAG}str" else self._checked(source, path)
        try:
            text = replaced(source, self._environ, is_plain=is_plain)
        except VariableError as error:
            self._add(path, str(error))
            return Replaced("", source, unset=("",))
        self._document.note(path, node.start_mark.line + 1, text.unset)
        return self._checked(text, path)

    def _pairs(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the keys of a mapping with their nodes; those of merged mappings (`<<`) first."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            self._count(len(path) + depth, line)
            if key.tag == f"{_TAG}merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(source, yaml.MappingNode):
                        merged = self._pairs(source, path, depth + 1) | merged
                    else:
                        self._add(path, "`<<` merges mappings only. Write an alias of a mapping after it.", line)
            elif not isinstance(key, yaml.ScalarNode):
                self._add(path, "A key is a list or a mapping. Write a name before the colon.", line)
            elif first := own.get(name := self._restored(key.value)):
                again = f"`{name}` is there twice, first in line {first[0].start_mark.line + 1}. Remove one."
                self._add((*path, name), again, line)
            elif self._is_key(name, path, line):
                own[name] = (key, value)
        return merged | own

    def _is_key(self, name: str, path: KeyPath, line: int) -> bool:
        if found := _NOT_IN_TEXTS.search(name):
            self._add(path, f"A key has the character {found.group()!r}, which no program can take. Take it out.", line)
        elif "${" in name:
            self._add(
                (*path, name), "A key cannot have variables. Write the name itself, or a variable as value.", line
            )
        return not found

    def _checked(self, text: str, path: KeyPath) -> str:
        """Return a text, or a text that counts as absent if no program can take it."""
        if found := _NOT_IN_TEXTS.search(text):
            self._add(path, f"The text has the character {found.group()!r}, which no program can take. Take it out.")
            return Replaced("", "", unset=("",))
        return text

    def _check_tag(self, node: yaml.Node, tag: str, path: KeyPath) -> None:
        if node.tag != tag:
            self._refuse_tag(node, path)

    def _refuse_tag(self, node: yaml.Node, path: KeyPath) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._add(path, f"The tag {tag} has no meaning here. Leave it out.", node.start_mark.line + 1)

    def _add(self, path: KeyPath, text: str, line: int = 0) -> None:
        place = Place(self._document.file, line) if line else self._document.place(path)
        self._document.problems.append(Problem(place, path_text(path), text))
