"""The differences between two releases of an asset, in the words of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from openfactory.deploy.app import Release

__all__ = ["changes"]

# Number of characters of a value that a difference shows.
_LONGEST = 60

# Keys whose values the environment and the mounts have in their final form.
_SHOWN_BY_OTHERS = ("env_file", "environment", "secrets", "storage")


def changes(old: Release, new: Release) -> list[str]:
    """Return the differences between two releases; values of secrets are never shown."""
    found = list(_differences("", _settings(old), _settings(new)))
    found += _differences("environment.", dict(old.environment), dict(new.environment))
    gone, added = sorted(old.secrets.keys() - new.secrets.keys()), sorted(new.secrets.keys() - old.secrets.keys())
    found += [f"secrets.{name} is removed" for name in gone] + [f"secrets.{name} is new" for name in added]
    if list(map(dict, old.mounts)) != list(map(dict, new.mounts)):
        found.append("its storage is mounted in another way")
    return found or ["a secret has another value"]


def _settings(release: Release) -> dict[str, Any]:
    settings = release.app.settings.model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in settings.items() if key not in _SHOWN_BY_OTHERS}


def _differences(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(f"{prefix}{key}.", before, after)
        elif key not in old or before is None:
            yield f"{prefix}{key} is {_shown(after)} now"
        elif key not in new or after is None:
            yield f"{prefix}{key} is removed, it was {_shown(before)}"
        else:
            yield f"{prefix}{key} changes from {_shown(before)} to {_shown(after)}"


def _shown(value: Any) -> str:
    if value == "":
        return "an empty text"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
