"""Create a storage, or list its mounts, from the value of the `STORAGE` environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import StorageConfigurationError
from openfactory.storage.json_text import mistake_in
from openfactory.storage.named import NamedStorage
from openfactory.storage.registry import mount_spec_from_settings, storage_from_settings

__all__ = ["mount_specs_from_environment", "storage_from_environment"]

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
    settings = _settings_in(text)
    if settings is None:
        return None
    if _is_one_storage(settings):
        return storage_from_settings(settings, "STORAGE")
    return NamedStorage.from_config(settings)


def mount_specs_from_environment(text: str | None) -> list[dict[str, Any]]:
    """Return the mounts that a container needs for the value of `STORAGE`, each in the form of the Docker API.

    The settings give the answer: no storage is opened, so its folder need not exist on this machine. A store that needs
    no mount is left out.

    Args:
        text: value of the variable; None if it is not set.

    Raises:
        StorageConfigurationError: the value cannot be used.
    """
    settings = _settings_in(text)
    if settings is None:
        return []
    if _is_one_storage(settings):
        specs = [mount_spec_from_settings(settings, "STORAGE")]
    else:
        specs = list(NamedStorage.mount_specs_from_config(settings).values())
    return [spec for spec in specs if spec is not None]


def _settings_in(text: str | None) -> dict[str, Any] | None:
    """Return the settings of a storage, or an object of names and settings; None for an empty value."""
    if text is None or not text.strip():
        return None
    try:
        document = msgspec.json.decode(text)
        _refuse_doubled_names(text)
    except StorageConfigurationError:
        raise
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StorageConfigurationError(f"STORAGE is not valid JSON: {mistake_in(text) or error}. {_FORMS}") from error
    if document is None or document == {}:
        return None
    if not isinstance(document, dict):
        # The error names only the JSON type, because the value may contain secrets.
        mistake = mistake_in(text)
        reason = f"not a JSON object: {mistake}" if mistake else "not a JSON object"
        raise StorageConfigurationError(f"STORAGE is a JSON {_json_type(document)}, {reason}. {_FORMS}")
    if _is_one_storage(document):
        return document
    if not_objects := [name for name, settings in document.items() if not isinstance(settings, dict)]:
        raise StorageConfigurationError(
            'STORAGE has no "type" and is not an object of named storages. These of its values are not objects: '
            f"{', '.join(not_objects)}. {_FORMS}"
        )
    return document


def _refuse_doubled_names(text: str) -> None:
    """Raise an error if an object has a name twice, because a decoder keeps only the last value."""
    doubled: list[str] = []

    def note_doubled(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        doubled.extend(sorted({name for name in names if names.count(name) > 1}))

    json.loads(text, object_pairs_hook=note_doubled)
    if doubled:
        raise StorageConfigurationError(
            f"STORAGE has the name {doubled[0]!r} twice in one object. Give each store a name of its own, and each "
            "field one value."
        )


def _is_one_storage(settings: Mapping[str, Any]) -> bool:
    # A store may have the name "type"; then its value is an object and not a string.
    return isinstance(settings.get("type"), str)


def _json_type(document: object) -> str:
    names: dict[type, str] = {list: "array", str: "string", bool: "Boolean"}
    return names.get(type(document), "number")
