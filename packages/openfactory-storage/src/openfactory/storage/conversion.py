"""Conversion of the settings of a storage, as they are in `STORAGE`, to the class of its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from openfactory.storage.errors import StorageConfigurationError

__all__ = ["converted"]

_Configuration = TypeVar("_Configuration", bound=msgspec.Struct)


def converted(
    settings: Mapping[str, Any], configuration: type[_Configuration], storage: str, usage: str
) -> _Configuration:
    """Return the settings as an object of the class of their type.

    Args:
        settings: the settings with their `type`.
        configuration: class of the type.
        storage: name of the storage in the error, such as "a local storage".
        usage: form of the settings, for the error.

    Raises:
        StorageConfigurationError: the settings cannot be used.
    """
    try:
        return msgspec.convert(dict(settings), configuration)
    except msgspec.ValidationError as error:
        raise StorageConfigurationError(f"The settings of {storage} can't be used: {error}. Write {usage}.") from error
