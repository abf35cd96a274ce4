"""Texts of exported files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

__all__ = ["yaml_text"]


class _Dumper(yaml.SafeDumper):
    """A dumper that writes equal parts out, because people read and edit the file."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as the library calls it
        return True


def yaml_text(documents: Sequence[Mapping[str, Any]], comment: Iterable[str]) -> str:
    """Return documents as YAML, below a comment."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment)
    text = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
    )
    return f"{head}{text}"
