"""A function of `Asset` whose name assets may have for an attribute or a method."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

__all__ = ["SharedName"]


class SharedName:
    """A decorator for a function that came after the names of assets: an asset that has the name keeps it.

    On an asset the function has any type, as the attributes and methods of assets have.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, asset: Any, owner: type) -> Any:
        name = self._function.__name__
        if asset is None:
            return self._function
        return asset[name] if name in asset else MethodType(self._function, asset)
