"""Checks every import of the distributions against packages/LAYERS.toml.

    python3 scripts/layer_law.py       prints what breaks the law, and fails if anything does

It reads the files and imports none of them. It sees import statements and `import_module("…")` with a
literal name; the engine registry's dotted paths are meant to be out of its sight, since what they name is
chosen at run time.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from distributions import NAMESPACE, ROOT, distributions

TABLE = ROOT / "packages" / "LAYERS.toml"


class When(IntEnum):
    """When an import happens. What may happen earlier may also happen later."""

    IMPORT = 0
    DEFERRED = 1
    TYPING = 2


@dataclass(frozen=True)
class Import:
    """One imported module, as it stands in a file."""

    target: str
    when: When
    line: int


@dataclass(frozen=True)
class Violation:
    """An edge that the table does not have."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Layer:
    """One entry of the table."""

    name: str
    modules: tuple[str, ...]
    imports: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    typing: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    deferred_libraries: tuple[str, ...] = ()
    no_stdlib: tuple[str, ...] = ()

    def layers_at(self, when: When) -> tuple[str, ...]:
        """The layers it may import at such a moment."""
        steps = (self.imports, self.deferred, self.typing)
        return (self.name, *(name for step in steps[: when + 1] for name in step))

    def libraries_at(self, when: When) -> tuple[str, ...]:
        """The libraries it may import at such a moment."""
        return self.libraries if when is When.IMPORT else (*self.libraries, *self.deferred_libraries)


class Law:
    """The table, ready to be asked."""

    def __init__(self, table: Path = TABLE) -> None:
        document = tomllib.loads(table.read_text(encoding="utf-8"))
        self.distribution_of: dict[str, str] = document.get("libraries", {})
        self.layers = {
            name: Layer(name, **{key: tuple(value) for key, value in entry.items()})
            for name, entry in document["layers"].items()
        }
        self._owners: dict[str, Layer] = {}
        for layer in self.layers.values():
            for module in layer.modules:
                if module in self._owners:
                    raise ValueError(f"{table.name} gives {module} to two layers. Leave it in one.")
                self._owners[module] = layer
            for named in (*layer.imports, *layer.deferred, *layer.typing):
                if named not in self.layers:
                    raise ValueError(f"{table.name}: layer {layer.name} names an unknown layer, {named}.")
        try:
            TopologicalSorter({name: layer.imports for name, layer in self.layers.items()}).prepare()
        except CycleError as error:
            circle = " → ".join(error.args[1])
            raise ValueError(f"{table.name}: the layers import each other in a circle: {circle}.") from error

    def layer_of(self, module: str) -> Layer | None:
        """The layer of a module: the longest name in the table that covers it."""
        if facade := self._owners.get(f"{module}.__init__"):
            return facade
        parts = module.split(".")
        covering = (self._owners.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
        return next((layer for layer in covering if layer), None)


def modules_below(sources: Sequence[Path]) -> dict[str, Path]:
    """Dotted names and files of all modules in these `src` folders."""
    found = {}
    for source in sources:
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class _ImportCollector(ast.NodeVisitor):
    """Gathers the imports of one file, each with the moment at which it happens."""

    def __init__(self, package: str, known: dict[str, Path]) -> None:
        self.package = package
        self.known = known
        self.when = When.IMPORT
        self.found: list[Import] = []

    def _add(self, target: str, node: ast.stmt | ast.expr) -> None:
        self.found.append(Import(target, self.when, node.lineno))

    def _visit_at(self, when: When, nodes: Sequence[ast.AST]) -> None:
        before, self.when = self.when, max(self.when, when)
        for node in nodes:
            self.visit(node)
        self.when = before

    def _absolute(self, name: str, level: int) -> str:
        if level == 0:
            return name
        base = self.package.split(".")[: -(level - 1) or None]
        return ".".join([*base, name] if name else base)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._absolute(node.module or "", node.level)
        for alias in node.names:
            # `from package import module` is an edge to the module; anything else is one to the package.
            inside = f"{base}.{alias.name}"
            self._add(inside if inside in self.known or base == NAMESPACE else base, node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            text = str(node.args[0].value)
            level = len(text) - len(text.lstrip("."))
            self._add(self._absolute(text[level:], level), node)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
        if name == "TYPE_CHECKING":
            self._visit_at(When.TYPING, node.body)
            self._visit_at(self.when, node.orelse)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_at(self.when, [*node.decorator_list, node.args])
        self._visit_at(When.DEFERRED, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name that ast calls

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_at(When.DEFERRED, [node.body])


def imports_of(module: str, path: Path, known: dict[str, Path]) -> list[Import]:
    """Every import of one file."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    collector = _ImportCollector(package, known)
    collector.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return collector.found


def check(sources: Sequence[Path], law: Law) -> Iterator[Violation]:
    """Every edge of these `src` folders that the law does not have."""
    known = modules_below(sources)
    for module, path in known.items():
        layer = law.layer_of(module)
        if layer is None:
            yield Violation(path, 1, f"{module} stands in no layer. Add it to packages/LAYERS.toml.")
            continue
        for found in imports_of(module, path, known):
            if complaint := _complaint(layer, found, law):
                yield Violation(path, found.line, f"{module} (layer {layer.name}) {complaint}")


def _complaint(layer: Layer, found: Import, law: Law) -> str | None:
    top = found.target.partition(".")[0]
    moment = {
        When.IMPORT: "when it is imported",
        When.DEFERRED: "in a function",
        When.TYPING: "under TYPE_CHECKING",
    }
    if top == NAMESPACE:
        target = law.layer_of(found.target)
        if target is None:
            return f"imports {found.target}, which stands in no layer. Add it to packages/LAYERS.toml."
        if target.name in layer.layers_at(found.when):
            return None
        allowed = ", ".join(sorted(set(layer.layers_at(found.when)))) or "none"
        return (
            f"imports {found.target} (layer {target.name}) {moment[found.when]}; allowed there: {allowed}. "
            f"Turn the dependency round, or change packages/LAYERS.toml in the same commit and say why."
        )
    if top in sys.stdlib_module_names:
        if top in layer.no_stdlib:
            return f"imports {found.target}, which this layer stays away from. Move what needs it up a layer."
        return None
    if top in layer.libraries_at(found.when):
        return None
    allowed = ", ".join(sorted(set(layer.libraries_at(found.when)))) or "none"
    return f"imports the library {top} {moment[found.when]}; allowed there: {allowed}."


def main() -> int:
    """Check the workspace."""
    violations = list(check([member.source.parent for member in distributions()], Law()))
    for violation in violations:
        print(violation)
    print(f"{len(violations)} imports break the layer law.")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
