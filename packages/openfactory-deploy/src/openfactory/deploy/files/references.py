"""References to variables, hidden from YAML while it parses a file.

In `networks: [${NETWORK}]`, the braces would be a mapping. A reference with quotes, a backslash or a line break is not
hidden: YAML reads these.
"""

from __future__ import annotations

import re

__all__ = ["HiddenReferences"]

_PLAIN = r"""[^{}"'\\\r\n]"""
_REFERENCE = re.compile(rf"\$\{{(?:{_PLAIN}|\$?\{{{_PLAIN}*\}})*\}}")

# Characters for private use, which files do not contain.
_START, _END = "\ue000", "\ue001"
_MARK = re.compile(f"{_START}([0-9]+){_END}")


class HiddenReferences:
    """A text with marks in place of references to variables.

    Attributes:
        text: the text with the marks; it has the same lines.
    """

    def __init__(self, text: str) -> None:
        self._references: list[str] = []
        self.text = text if _START in text else _REFERENCE.sub(self._hidden, text)

    def restored(self, text: str) -> str:
        """Return a part of the text with its references."""
        return _MARK.sub(lambda mark: self._references[int(mark[1])], text) if self._references else text

    def _hidden(self, match: re.Match[str]) -> str:
        self._references.append(match.group())
        return f"{_START}{len(self._references) - 1}{_END}"
