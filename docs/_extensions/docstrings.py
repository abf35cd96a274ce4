"""Between our docstrings and what autodoc expects."""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

_CODE = re.compile(r"(?<![`:\w])`([^`]+)`(?![`_])")


def double_backticks(*event: Any) -> None:
    """Code is `code` there, the way people read it in an editor; reST writes it with two backticks."""
    lines: list[str] = event[-1]
    lines[:] = [_CODE.sub(r"``\1``", line) for line in lines]


def constructor_signature(*event: Any) -> tuple[str, str | None] | None:
    """A class is called as its constructor says, also where a metaclass stands before it."""
    _, what, _, item, _, signature, returned = event
    if what != "class" or not signature or not signature.startswith("(*args"):
        return None
    parameters = list(inspect.signature(item.__init__).parameters.values())[1:]
    return stringify_signature(inspect.Signature(parameters), unqualified_typehints=True), returned


def setup(app: Sphinx) -> dict[str, bool]:
    # Before napoleon, which would take the colon in `{"status": "ok"}` for the end of a type.
    app.connect("autodoc-process-docstring", double_backticks, priority=400)
    app.connect("autodoc-process-signature", constructor_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
