"""Names for the segments of a key that a path cannot contain: empty segments, `.` and `..`, and those with a backslash.

Other programs may store `a//b.csv` or `a/../b.csv` in S3 or an archive. In a path, a similar character of full width
stands for each character that has another meaning there: U+FF0F for an empty segment, U+FF0E for a dot and U+FF3C for a
backslash. So each key has a path, and each path has one key. U+201B before such a character means the
character itself.
"""

from __future__ import annotations

import re

__all__ = ["key_of", "name_of"]

_QUOTE = "\u201b"
_BACKSLASH = "\uff3c"
_SEGMENTS = {"": "\uff0f", ".": "\uff0e", "..": "\uff0e\uff0e"}
_NAMES = {name: segment for segment, name in _SEGMENTS.items()}


def name_of(segment: str) -> str:
    """Return the name of a segment of a key in a path of the storage.

    >>> name_of("today.csv"), key_of(name_of("..")) == ".."
    ('today.csv', True)
    """
    if segment in _SEGMENTS:
        return _SEGMENTS[segment]
    if segment.lstrip(_QUOTE) in _NAMES:
        return _QUOTE + segment
    if "\\" in segment or _BACKSLASH in segment:
        return re.sub(f"[{_QUOTE}{_BACKSLASH}]", rf"{_QUOTE}\g<0>", segment).replace("\\", _BACKSLASH)
    return segment


def key_of(path: str) -> str:
    """Return the key that a path of the storage stands for."""
    return "/".join(map(_segment_of, path.split("/")))


def _segment_of(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    if name.lstrip(_QUOTE) in _NAMES:
        return name[1:]
    if _BACKSLASH in name:
        return re.sub(f"{_QUOTE}(.)|{_BACKSLASH}", lambda found: found[1] or "\\", name)
    return name
