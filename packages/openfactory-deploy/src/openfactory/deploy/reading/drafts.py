"""The apps of a document, each checked by the schema, with a sentence for each problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from openfactory.deploy.app import App, UNSPlace
from openfactory.deploy.files.document import Document, KeyPath, Value, path_text
from openfactory.deploy.files.schema import EXTENSION, AppFile
from openfactory.deploy.files.values import kind_of, nearest
from openfactory.deploy.problems import Problem

__all__ = ["Draft", "drafts_of"]

#: Outermost keys that other commands read.
_OF_OTHERS = ("devices",)

_EXAMPLE = "`ofa apps init FILE.py` writes an example"

# The UUID of an app that has none, while its other keys are checked.
_NO_UUID = "an-app-without-uuid"


# Rounds of taking out wrong values: a section may lack a key without them.
_ROUNDS = 4


class Draft:
    """One app of a document, as far as its values can be used.

    Attributes:
        document: the document.
        name: key of the app below `apps`.
        keys: its keys and values as the document has them.
        settings: its keys and values; those in `broken` have their defaults.
        broken: keys of the app that have problems, such as `routing.port`.
        problems: the problems that the schema finds.
    """

    def __init__(self, document: Document, name: str, keys: Value) -> None:
        self.document = document
        self.name = name
        self.broken: frozenset[str] = frozenset()
        self.problems: list[Problem] = []
        self.settings: AppFile | None = None
        self.keys = keys
        self._check()

    def problem(self, path: KeyPath, text: str) -> Problem:
        """Return a problem of a key.

        Args:
            path: the keys below the app, with positions in the lists that the settings have.
            text: the problem and its remedy.
        """
        return self.document.problem(("apps", self.name, *_in_document(self.keys, path)), text)

    def usable(self, *names: str) -> bool:
        """Return whether there are settings, and these keys have no problems."""
        return self.settings is not None and self.broken.isdisjoint(names)

    def app(self, uns: UNSPlace | None = None, replica_places: tuple[UNSPlace, ...] = ()) -> App:
        """Return the app of the usable values."""
        assert self.settings is not None
        return App(self.name, self.document.place(("apps", self.name)), self.settings, uns, replica_places)

    def _check(self) -> None:
        try:
            self.settings = AppFile.model_validate(self.keys)
            return
        except ValidationError as error:
            details = error.errors(include_url=False)
        self.problems = [self.problem(*_in_words(one, self.keys)) for one in details]
        if not isinstance(self.keys, dict):
            return
        wrong: list[KeyPath] = []
        for _ in range(_ROUNDS):
            wrong += [_removed(tuple(_in_document(self.keys, one["loc"])), one["type"] == "missing") for one in details]
            self.broken = frozenset(map(path_text, wrong))
            try:
                self.settings = AppFile.model_validate(_without(self.keys, wrong))
                return
            except ValidationError as error:
                details = error.errors(include_url=False)


def _removed(path: KeyPath, is_missing: bool) -> KeyPath:
    """Return the path of the value to take out for an error: a whole list, and a section that lacks a key."""
    steps = tuple(takewhile(lambda step: isinstance(step, str), path))
    return steps[:-1] if is_missing and len(steps) > 1 else steps


def _without(keys: dict[Any, Value], wrong: Iterable[KeyPath]) -> dict[Any, Value]:
    """Return the keys of an app without those at some paths."""
    rest: dict[Any, Value] = _copied(keys)
    for path in wrong:
        section = rest
        for number, step in enumerate(path, 1):
            inner = section.get(step)
            if number == len(path) or not isinstance(inner, dict):
                section.pop(step, None)
                break
            section = inner
    rest.setdefault("uuid", _NO_UUID)
    return rest


def _copied(value: Value) -> Value:
    return {key: _copied(one) for key, one in value.items()} if isinstance(value, dict) else value


def drafts_of(document: Document) -> tuple[list[Draft], list[Problem]]:
    """Return the apps of a document that was read, and the problems around them."""
    whole = document.value
    if whole is None:
        is_read = not document.problems
        return [], [document.problem((), f"The file is empty. Write apps: and an app below; {_EXAMPLE}.")] * is_read
    if not isinstance(whole, dict):
        return [], [document.problem((), f"The file is {kind_of(whole)}. Write apps: and an app below; {_EXAMPLE}.")]
    problems = [
        document.problem(
            (key,),
            f"`{key}` is not a key of a file of apps.{nearest(key, ['apps'])} "
            f"Allowed are apps, and keys that begin with {EXTENSION}.",
        )
        for key in whole
        if key != "apps" and key not in _OF_OTHERS and not key.startswith(EXTENSION)
    ]
    apps = whole.get("apps")
    if "apps" not in whole:
        problems.append(document.problem((), f"`apps` is missing. Write apps: and an app below; {_EXAMPLE}."))
    elif not isinstance(apps, dict) or not apps:
        problems.append(
            document.problem(
                ("apps",), f"It is {kind_of(apps)}. Write an app: its name, and its keys below; {_EXAMPLE}."
            )
        )
    drafts = [Draft(document, name, keys) for name, keys in apps.items()] if isinstance(apps, dict) else []
    return drafts, [*problems, *(problem for draft in drafts for problem in draft.problems)]


def _in_document(keys: Value, path: KeyPath) -> Iterator[str | int]:
    """Yield a path with names where the settings have a list and the document has a mapping."""
    value = keys
    for step in path:
        if step == "[key]":  # pydantic's mark of a wrong key
            return
        if isinstance(value, dict) and isinstance(step, int):
            step = list(value)[step] if step < len(value) else step
        yield step
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None


def _in_words(details: ErrorDetails, keys: Value) -> tuple[KeyPath, str]:
    """Return the path below the app and the sentences for an error of pydantic."""
    path = tuple(details["loc"])
    names = tuple(str(step) for step in path)
    match details["type"]:
        case "missing":
            return path, f"The key is missing. Write {names[-1]}: and its value."
        case "extra_forbidden":
            return path, _unknown_key(names)
        case "value_error":
            return _nearer(path, keys, str(details.get("ctx", {}).get("error", details["msg"])))
        case "model_type" | "dict_type":
            allowed = ", ".join(_keys_at(names)) or "names and values"
            return path, f"It is {kind_of(details['input'])}. Write a mapping of {allowed}."
        case "tuple_type":
            return path, f"It is {kind_of(details['input'])}. Write a list: each item in a line of its own after '- '."
        case _:
            return path, f"{details['msg']}. Write another value."


def _nearer(path: KeyPath, keys: Value, text: str) -> tuple[KeyPath, str]:
    """Return the path of the setting of a storage or the level that a text names, or the given one."""
    value = keys
    for step in path:
        value = value[step] if isinstance(value, dict) and step in value else None
    if path[:1] in (("storage",), ("uns",)) and isinstance(value, Mapping):
        for name in value:
            if f"`{name}`" in text or f"$.{name}`" in text or f"{name} is " in text or text.startswith(f"{name}: "):
                return (*path, name), text.removeprefix(f"{name}: ")
    return path, text


def _unknown_key(names: tuple[str, ...]) -> str:
    section, key = names[:-1], names[-1]
    allowed = _keys_at(section)
    where = f"`{path_text(section)}`" if section else "an app"
    hint = nearest(key, allowed) or _elsewhere(key)
    listed = ", ".join(allowed)
    return f"`{key}` is not a key of {where}.{hint} Allowed are {listed}, and keys that begin with {EXTENSION}."


def _elsewhere(key: str) -> str:
    """Return a question with the key of this name in another section, or an empty text."""
    for path in _all_keys(AppFile):
        if path[-1] == key.lower():
            return f" Did you mean {path_text(path)}?"
    return ""


def _keys_at(names: tuple[str, ...]) -> list[str]:
    """Return the sorted keys of a section of the schema."""
    model: type[BaseModel] | None = AppFile
    for name in names:
        field = model.model_fields.get(name) if model else None
        model = _model_in(field.annotation) if field else model
    return sorted(model.model_fields) if model else []


def _all_keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        if section := _model_in(field.annotation):
            yield from _all_keys(section, (*above, name))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section in a type such as `Routing | None` or `dict[str, Secret]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
