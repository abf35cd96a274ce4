"""From the text of the `STORAGE` environment variable to a storage."""

from __future__ import annotations

import msgspec

from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import StorageConfigurationError
from openfactory.storage.named import NamedStorage
from openfactory.storage.registry import storage_from_settings

__all__ = ["storage_from_environment"]

_FORMS = (
    'Write one storage, {"type": "local", "local_path": "/srv/data", "mount_point": "/mnt/data"}, '
    'or several with names, {"data": {"type": "local", …}, "logs": {…}}.'
)


def storage_from_environment(text: str | None) -> FileBackend | None:
    """The storage that the text of `STORAGE` describes.

    One backend object gives that backend. An object of names gives a `NamedStorage`. Nothing (unset, blank,
    `null` or `{}`) gives None.

    Args:
        text: the value of the variable, or None where it is not set.

    Raises:
        StorageConfigurationError: the text can't be used.
    """
    if text is None or not text.strip():
        return None
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise StorageConfigurationError(f"STORAGE is no valid JSON: {error}. {_FORMS}") from error
    if document is None or document == {}:
        return None
    if not isinstance(document, dict):
        # Only what kind it is: there may be secrets in it.
        raise StorageConfigurationError(f"STORAGE is a JSON {_kind_of(document)}, which is no JSON object. {_FORMS}")
    # A store may be named "type", but then its value is an object and no text.
    if isinstance(document.get("type"), str):
        return storage_from_settings(document, "STORAGE")
    if strays := [name for name, settings in document.items() if not isinstance(settings, dict)]:
        raise StorageConfigurationError(
            f'STORAGE has no "type" and is no object of named storages either: {", ".join(strays)} '
            f"should hold an object. {_FORMS}"
        )
    return NamedStorage.from_config(document)


def _kind_of(document: object) -> str:
    return {list: "array", str: "string", bool: "Boolean"}.get(type(document), "number")
