"""Create a storage from the value of the `STORAGE` environment variable."""

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
    """Create the storage that the value of `STORAGE` describes.

    The settings of one storage give that storage. An object of names and settings gives a `NamedStorage`. An empty
    value (unset, blank, `null` or `{}`) gives None.

    Args:
        text: value of the variable; None if it is not set.

    Raises:
        StorageConfigurationError: the value cannot be used.
        StorageUnavailableError: the server of the storage cannot be reached.
    """
    if text is None or not text.strip():
        return None
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise StorageConfigurationError(f"STORAGE is not valid JSON: {error}. {_FORMS}") from error
    if document is None or document == {}:
        return None
    if not isinstance(document, dict):
        # The error names only the JSON type, because the value may contain secrets.
        raise StorageConfigurationError(f"STORAGE is a JSON {_json_type(document)}, not a JSON object. {_FORMS}")
    # A store may have the name "type"; then its value is an object and not a string.
    if isinstance(document.get("type"), str):
        return storage_from_settings(document, "STORAGE")
    if not_objects := [name for name, settings in document.items() if not isinstance(settings, dict)]:
        raise StorageConfigurationError(
            'STORAGE has no "type" and is not an object of named storages. These of its values are not objects: '
            f"{', '.join(not_objects)}. {_FORMS}"
        )
    return NamedStorage.from_config(document)


def _json_type(document: object) -> str:
    return {list: "array", str: "string", bool: "Boolean"}.get(type(document), "number")
