"""Checks of an app's class when it is defined: names that the runtime uses, ids, and functions that nothing awaits."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from openfactory.apps.attributes import AttributeField, declared_attributes
from openfactory.apps.identity import standard_attributes
from openfactory.apps.methods import MethodContract, UnknownAnnotationError, is_published, published_methods
from openfactory.commands.contract import contract_attribute_id
from openfactory.commands.envelope import command_attribute_id, reply_attribute_id

__all__ = [
    "check_app",
    "check_app_class",
    "check_data",
    "check_data_of_class",
    "check_main_loop_result",
    "checked_methods",
    "reserved_names",
]

# Private data that an async callback may set while the constructors still run.
_REPLACED = ("_loop", "_loop_thread")

# Private data that each class has for itself.
_OF_EACH_CLASS = ("_abc_impl", "_is_protocol", "_is_runtime_protocol", "_names", "_reserved")


def reserved_names(runtime_class: type) -> dict[str, Any]:
    """Return the names that the runtime uses on an app: the members of the class, and None for each annotated datum.

    The public functions of `Asset` and `close` stay free, because a valve closes and a pump flushes: the runtime never
    calls these by name.
    """
    annotated = (name for base in runtime_class.__mro__ for name in inspect.get_annotations(base))
    reserved: dict[str, Any] = dict.fromkeys(name for name in annotated if not name.startswith("_"))
    reserved |= {
        name: member
        for base in reversed(runtime_class.__mro__)
        for name, member in vars(base).items()
        if (name.startswith("_") and name not in _OF_EACH_CLASS)
        or (inspect.isfunction(member) and base is runtime_class)
    }
    return {name: reserved[name] for name in sorted(reserved) if not name.startswith("__") and name != "close"}


def check_app_class(app_class: type, reserved: Mapping[str, Any]) -> None:
    """Check a class when it is defined, as far as the types in its annotations are defined by then.

    Args:
        reserved: names that the runtime uses, by `reserved_names`.

    Raises:
        TypeError: the class uses a reserved name for something else, the runtime calls one of its functions and would
            not await it, two of its ids are the same, or text cannot be converted to the type of an argument.
    """
    for name, of_runtime in reserved.items():
        member = inspect.getattr_static(app_class, name, None)
        if member is not of_runtime:
            _check_member(f"{app_class.__name__}.{name}", member, of_runtime)
    with suppress(UnknownAnnotationError):  # the type may follow in its module; the constructor checks again
        checked_methods(app_class)


def check_data(app: object, data: Mapping[str, Any]) -> None:
    """Check that an app still has its private data: its class and OpenFactory may have chosen one name.

    Raises:
        TypeError: the data has changed.
    """
    for name, value in data.items():
        if name.startswith("_") and name not in _REPLACED and vars(app).get(name) is not value:
            raise _taken(f"{type(app).__name__}.{name}")


def check_data_of_class(app: object, names: Iterable[str], reserved: Mapping[str, Any]) -> None:
    """Check that no class of an app has private data under the name of OpenFactory's, which would hide it.

    Args:
        names: names of the data that OpenFactory has set on the app.
        reserved: names that the runtime uses, by `reserved_names`.

    Raises:
        TypeError: a class has such data.
    """
    for name in names:
        member = inspect.getattr_static(type(app), name, None)
        if name.startswith("_") and member is not None and member is not reserved.get(name):
            raise _taken(f"{type(app).__name__}.{name}")


def check_app(app: object, reserved: Mapping[str, Any]) -> None:
    """Check that no constructor has replaced a function that the runtime calls by a value.

    Raises:
        TypeError: a constructor has replaced one.
    """
    for name in vars(app).keys() & reserved:
        if inspect.isfunction(reserved[name]) and not callable(vars(app)[name]):
            raise _taken(f"{type(app).__name__}.{name}")


def check_main_loop_result(result: object) -> None:
    """Check that a main loop has run, and has not returned a coroutine or a generator instead.

    Raises:
        TypeError: its body has not run.
    """
    if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"main_loop returned an object of type {type(result).__name__}, and its body has not run. "
            "Name it async_main_loop and run the app with async_run(), or make it a plain function."
        )


def checked_methods(app_class: type) -> dict[str, MethodContract]:
    """Return the methods that other assets may call, by their name in commands.

    Raises:
        TypeError: two methods have the same name in commands, or a method has the id of an attribute.
        UnknownAnnotationError: the type of an argument is not defined yet.
    """
    methods = published_methods(app_class)
    attributes = {*declared_attributes(app_class), *(attribute.id for attribute in standard_attributes())}
    for name, contract in methods.items():
        for taken in (name, command_attribute_id(name), reply_attribute_id(name), contract_attribute_id(name)):
            if taken in attributes or (taken != name and taken in methods):
                raise TypeError(
                    f"{app_class.__name__}.{contract.attribute} needs the id {taken!r}, which another attribute or "
                    "method of the app has. Choose another name, or pass one: @ofa_method(name=…)."
                )
    return methods


def _check_member(name: str, member: Any, of_runtime: Any) -> None:
    is_private = name.rpartition(".")[2].startswith("_")
    if is_private or isinstance(member, AttributeField) or is_published(member):
        raise _taken(name)
    if of_runtime is None:  # data, which the constructor sets
        if inspect.isfunction(member):
            raise _taken(name)
    elif not callable(member) and not isinstance(member, classmethod):
        raise _taken(name)
    elif _runs_later(member) and not _runs_later(of_runtime):
        remedy = "Make it a plain function."
        if name.endswith(".main_loop"):
            remedy = "Name it async_main_loop and run the app with async_run(), or make it a plain function."
        raise TypeError(f"{name} is async or a generator, and OpenFactory calls it without awaiting it. {remedy}")


def _taken(name: str) -> TypeError:
    return TypeError(f"{name} has a name that OpenFactory itself uses on an app. Choose another name.")


def _runs_later(function: Any) -> bool:
    """Return whether a call of the function runs nothing of its body."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(function) for is_kind in kinds)
