"""Variables in the texts of a file: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, and `$$` for one `$`.

They are replaced in texts that YAML has already parsed, so that no value changes the structure of the file. An empty
variable counts as unset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["Replaced", "VariableError", "replaced"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|:\?|\})")

# Number of defaults within defaults.
_DEEPEST = 10

_FORMS = "Write ${NAME}, ${NAME:-default} or ${NAME:?message}, and $$ for one $"


class VariableError(ValueError):
    """A reference to a variable is malformed, or its variable is required and not set.

    The text ends with the remedy.
    """


class Replaced(str):
    """A text in which variables are replaced.

    Attributes:
        source: the text as it is in the file, to be shown in place of values that may be secret.
        is_plain: the text has no quotes in the file.
        unset: names of the variables without a value and without a default.
    """

    __slots__ = ("is_plain", "source", "unset")

    source: str
    is_plain: bool
    unset: tuple[str, ...]

    def __new__(cls, text: str, source: str, *, is_plain: bool = False, unset: tuple[str, ...] = ()) -> Replaced:
        """Create the text with its attributes."""
        self = super().__new__(cls, text)
        self.source, self.is_plain, self.unset = source, is_plain, unset
        return self

    @property
    def is_absent(self) -> bool:
        """Whether only unset variables stand in the file; the key then counts as left out."""
        return not self and bool(self.unset)


def replaced(text: str, environ: Mapping[str, str], *, is_plain: bool = False) -> Replaced:
    """Return a text with the values of its variables.

    >>> replaced("plant/mill:${TAG:-latest} costs 5 $$", {})
    'plant/mill:latest costs 5 $'

    Args:
        text: the text of a scalar.
        environ: the variables.
        is_plain: the text has no quotes in the file.

    Raises:
        VariableError: a reference is malformed, or its variable is required and not set.
    """
    scan = _Scan(text, environ)
    result = scan.run()
    return Replaced(result, text, is_plain=is_plain, unset=tuple(dict.fromkeys(scan.unset)))


class _Scan:
    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self.unset: list[str] = []
        self._text = text
        self._environ = environ
        self._position = 0
        self._ignored = 0  # number of defaults around this place that are not used

    def run(self, depth: int = 0) -> str:
        """Return the text up to its end, or up to the brace that ends a default."""
        parts = []
        while self._position < len(self._text):
            if depth and self._text[self._position] == "}":
                break
            if self._text.startswith("$$", self._position):
                parts.append("$")
                self._position += 2
            elif self._text.startswith("${", self._position):
                parts.append(self._reference(depth))
            else:
                parts.append(self._text[self._position])
                self._position += 1
        return "".join(parts)

    def _reference(self, depth: int) -> str:
        match = _REFERENCE.match(self._text, self._position)
        if match is None or depth == _DEEPEST:
            raise VariableError(f"{self._text[self._position :]!r} is not a reference to a variable. {_FORMS}.")
        name, operator = match.groups()
        self._position = match.end()
        value = self._environ.get(name) or ""
        if operator == "}":
            if not value and not self._ignored:
                self.unset.append(name)
            return value
        self._ignored += bool(value)
        alternative = self.run(depth + 1)
        self._ignored -= bool(value)
        if self._position == len(self._text):
            raise VariableError(f"The reference to {name} has no closing brace. {_FORMS}.")
        self._position += 1
        if value or self._ignored or operator == ":-":
            return value or alternative
        raise VariableError(f"The variable {name} is not set: {alternative or 'it is required'}. Set {name}.")
