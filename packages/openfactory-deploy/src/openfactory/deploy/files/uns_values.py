"""The values of an app for the levels of the unified namespace."""

from __future__ import annotations

from openfactory.deploy.files.values import kind_of, text_of
from openfactory.deploy.files.variables import Replaced

__all__ = ["level_values"]


def level_values(value: object) -> dict[str, str]:
    """Return the values by level, as text; a level with an unset variable is left out."""
    if not isinstance(value, dict):
        raise ValueError(f"It is {kind_of(value)}. Write a mapping of levels and values, such as area: Machining.")
    levels = {}
    for level, content in value.items():
        if isinstance(content, Replaced) and content.is_absent:
            continue
        try:
            levels[level] = text_of(str(content) if isinstance(content, int | float) else content)
        except ValueError as error:
            raise ValueError(f"{level}: {error}") from error
    return levels
