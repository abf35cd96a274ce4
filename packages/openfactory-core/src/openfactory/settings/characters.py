"""Characters that do not belong to a setting: the quotes of an env file, and characters that cannot be seen."""

from __future__ import annotations

import unicodedata

__all__ = ["fault_in"]

_QUOTES = ("''", '""', "``", "\u201c\u201d", "\u2018\u2019", "\u201e\u201c", "\u201a\u2018", "\u00ab\u00bb")

# The names of their own that Unicode gives to these are not those that people know.
_NAMES = {"\ufeff": "byte order mark", "\r": "carriage return", "\n": "line feed", "\t": "tab"}

# They separate and join letters in some scripts.
_OF_SCRIPTS = "\u200c\u200d"


def fault_in(text: str) -> str:
    """Return the fault of a setting that contains quotes or invisible characters, and its remedy; else an empty text.

    >>> fault_in("'sqlite:///factory.db'")
    'is in quotes. Take the quotes out: `docker run --env-file` and some other tools keep them.'
    >>> fault_in("kafka://plant:9092\\u00a0")
    'contains a no-break space (U+00A0) at position 19. Take it out: it cannot be told from a space.'
    >>> fault_in("kafka://plant:9092")
    ''
    """
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        return "is in quotes. Take the quotes out: `docker run --env-file` and some other tools keep them."
    if text.isprintable():
        return ""  # as nearly every text, at once
    for position, char in enumerate(text, 1):
        category = unicodedata.category(char)
        if category in ("Cc", "Cf", "Zl", "Zp", "Zs") and char != " " and char not in _OF_SCRIPTS:
            seen = "cannot be told from a space" if category == "Zs" else "cannot be seen"
            name = _NAMES.get(char) or unicodedata.name(char, "control character").lower()
            return f"contains a {name} (U+{ord(char):04X}) at position {position}. Take it out: it {seen}."
    return ""
