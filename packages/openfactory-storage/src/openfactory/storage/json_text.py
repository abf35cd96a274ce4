"""Mistakes in a JSON text that its decoder reports as an invalid character: quotes around it, and invisible characters."""

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
    remedy = 'Write "' if found[0] == "'" or unicodedata.category(found[0]) in ("Pi", "Pf", "Ps") else "Remove it"
    if unicodedata.category(found[0]) == "Zs":
        remedy = "Write a space"
    name = unicodedata.name(found[0], "control character").lower()
    return f"it has a {name} (U+{ord(found[0]):04X}) at position {found.start()}, outside of a string. {remedy} there"
