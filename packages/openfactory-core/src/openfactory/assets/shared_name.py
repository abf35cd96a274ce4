"""A function of `Asset` whose name assets may have for an attribute or a method."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

__all__ = ["SharedName", "yields_name"]

Arguments = ParamSpec("Arguments")
Owner = TypeVar("Owner")
Result = TypeVar("Result")


class SharedName(Generic[Owner, Arguments, Result]):
    """A descriptor of a function that came after the names of assets: an asset that has the name keeps it."""

    def __init__(self, function: Callable[Concatenate[Owner, Arguments], Result]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, asset: None, owner: type) -> Callable[Concatenate[Owner, Arguments], Result]: ...
    @overload
    def __get__(self, asset: Owner, owner: type) -> Callable[Arguments, Result]: ...
    def __get__(self, asset: Any, owner: type) -> Callable[..., Any]:
        if asset is None:
            return self._function
        name = self._function.__name__
        return asset[name] if name in asset else MethodType(self._function, asset)


def yields_name(function: Callable[Concatenate[Owner, Arguments], Result]) -> SharedName[Owner, Arguments, Result]:
    """Let an attribute or a method of an asset have the name of a function of its class."""
    return SharedName(function)
