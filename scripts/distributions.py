"""What the workspace consists of, read from packages/*/pyproject.toml: the standard library is enough."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "openfactory"


@dataclass(frozen=True)
class Distribution:
    """One folder of packages/, which is one distribution with a version of its own."""

    folder: Path

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        """The whole pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def project(self) -> dict[str, Any]:
        """Its [project] table."""
        table: dict[str, Any] = self.pyproject["project"]
        return table

    @property
    def name(self) -> str:
        """The name on the package index, `openfactory-core`."""
        return str(self.project["name"])

    @property
    def short_name(self) -> str:
        """The name of its folder under tests/, `core`."""
        return self.name.removeprefix(f"{NAMESPACE}-")

    @property
    def source(self) -> Path:
        """The folder that holds its part of the namespace."""
        return self.folder / "src" / NAMESPACE

    @property
    def children(self) -> list[str]:
        """The direct children of the namespace that this distribution holds."""
        return sorted(
            entry.stem
            for entry in self.source.iterdir()
            if not entry.name.startswith(("__", ".")) and (entry.suffix == ".py" or any(entry.rglob("*.py")))
        )

    @property
    def modules(self) -> dict[str, Path]:
        """The files of all its modules, by dotted name; the hook of another program cannot be imported by its name."""
        files = (path for path in sorted(self.source.rglob("*.py")) if path.stem.isidentifier())
        return {_module_name(path.relative_to(self.source.parent)): path for path in files}

    @property
    def version(self) -> str:
        """The version that a build would get, read without importing anything."""
        about = self.folder / self.pyproject["tool"]["hatch"]["version"]["path"]
        for node in ast.parse(about.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "__version__"
            ):
                return str(ast.literal_eval(node.value))
        raise LookupError(f'{about} sets no __version__. Add a line like __version__ = "0.1.0".')

    @property
    def requirements(self) -> list[str]:
        """Everything it declares: dependencies and extras, as requirement texts."""
        extras: dict[str, list[str]] = self.project.get("optional-dependencies", {})
        return [*self.project.get("dependencies", []), *(text for group in extras.values() for text in group)]


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def distributions(root: Path = ROOT) -> list[Distribution]:
    """All distributions of the workspace, by name."""
    return [Distribution(path.parent) for path in sorted(root.glob("packages/*/pyproject.toml"))]


def distribution(name: str, root: Path = ROOT) -> Distribution:
    """The one called so, by its full or its short name."""
    known = distributions(root)
    for candidate in known:
        if name in (candidate.name, candidate.short_name):
            return candidate
    names = ", ".join(candidate.name for candidate in known)
    raise LookupError(f"{name!r} is no distribution of this workspace. Use one of: {names}.")
