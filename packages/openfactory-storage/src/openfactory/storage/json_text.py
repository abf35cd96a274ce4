"""Mistakes in a JSON text that its decoder reports only as an invalid character, such as quotes around the text."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["mistake_in"]

_BYTE_ORDER_MARK = "\ufeff"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NOT_JSON = re.compile(r"[^\x20-\x7e\t\r\n]|[\\']")


def mistake_in(text: str) -> str | None:
    """Return a mistake that is hard to see in a JSON text, with its remedy; None if the text has no such mistake.

    >>> mistake_in("'{}'")
    "it is in quotes ('), which Docker keeps when it reads an env file. Remove the quotes around it"
    """
    if text.startswith(_BYTE_ORDER_MARK):
        return "it begins with a byte order mark (U+FEFF), which is invisible. Save its file as UTF-8 without that mark"
    whole = text.strip()
    if len(whole) > 1 and whole[0] == whole[-1] and whole[0] in "'\"`":
        return (
            f"it is in quotes ({whole[0]}), which Docker keeps when it reads an env file. Remove the quotes around it"
        )
    # A string may contain any character, so only the text between the strings is searched.
    found = _NOT_JSON.search(_STRING.sub(lambda string: " " * len(string[0]), text))
    if found is None:
        return None
    character, category = found[0], unicodedata.category(found[0])
    remedy = "Remove it"
    if category == "Zs":
        remedy = "Write a space"
    elif character == "'" or category in ("Pi", "Pf", "Ps"):
        remedy = 'Write "'
    return f"it has {_described(character)} at position {found.start()}, outside of a string. {remedy} there"


def _described(character: str) -> str:
    names = {"\\": "backslash"}
    name = names.get(character) or unicodedata.name(character, "control character").lower()
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name} (U+{ord(character):04X})"
