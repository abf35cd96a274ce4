"""The storages of an app, checked by the rules of openfactory-storage without opening one."""

from __future__ import annotations

import re
from typing import Any

from openfactory.deploy.files.document import plain_value
from openfactory.deploy.files.values import kind_of, shown
from openfactory.deploy.files.variables import Replaced

__all__ = ["storage_name_of", "storage_of", "storages_of"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")

# Types that answer from their settings alone. A type of another distribution may open its storage for an answer.
_ANSWERING = ("fsspec", "local", "nfs")


def storages_of(value: object) -> object:
    """Return the storages by name; that of old files, one storage without a name, is refused."""
    if not isinstance(value, dict):
        raise ValueError(f"It is {kind_of(value)}. Write names, and the settings of a storage below each.")
    if isinstance(value.get("type"), str):
        raise ValueError("The storage has no name. Write a name, such as data, and the settings below it.")
    return value


def storage_name_of(value: object) -> str:
    """Return the name of a storage or of a secret."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} cannot be a name here. Write letters, digits, '_' and '-'.")
    return value


def storage_of(value: object) -> dict[str, Any]:
    """Return the settings of one storage, after the check of its type."""
    from openfactory.storage import StorageConfigurationError, UnknownStorageTypeError, known_storage_types
    from openfactory.storage.registry import mount_spec_from_settings

    if not isinstance(value, dict):
        raise ValueError(f"It is {kind_of(value)}. Write the settings of the storage: type, and those of the type.")
    settings: dict[str, Any] = _natural(value)
    kind = settings.get("type")
    if kind is not None and not isinstance(kind, str):
        raise ValueError(f"The type is {shown(kind)}. Write one of {', '.join(known_storage_types())}.")
    if kind in known_storage_types() and kind not in _ANSWERING:
        return settings
    try:
        mount_spec_from_settings(settings, "The storage")
    except UnknownStorageTypeError as error:
        raise ValueError(f"The type {kind!r} does not exist. Write one of {', '.join(error.known)}.") from error
    except StorageConfigurationError as error:
        raise ValueError(str(error)) from error
    return settings


def _natural(value: Any) -> Any:
    """Return a value with the types that its texts with variables would have without them; absent ones are left out."""
    if isinstance(value, dict):
        return {name: _natural(item) for name, item in value.items() if not _is_absent(item)}
    if isinstance(value, list | tuple):
        return [_natural(item) for item in value if not _is_absent(item)]
    if isinstance(value, Replaced):
        return plain_value(str(value)) if value.is_plain else str(value)
    return value


def _is_absent(value: Any) -> bool:
    return isinstance(value, Replaced) and value.is_absent
