"""The methods and attributes that the file of an app declares, read without running it.

A file of an app usually runs the app when it is imported, so it is parsed only. An app whose classes derive from
classes of other files is not known before it has started.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from openfactory.deploy.registered import Argument, RegisteredAsset

__all__ = ["Declared", "declared_in", "dropped"]

# Package whose base classes have no method and no attribute beside the standard ones.
_RUNTIME = "openfactory"


class Declared(msgspec.Struct, frozen=True):
    """The methods and attributes of an app.

    Attributes:
        methods: arguments of each method, by its name in commands.
        names: the declared attributes, and all texts of the file: the app may add an attribute that it names so.
    """

    methods: Mapping[str, tuple[Argument, ...]]
    names: frozenset[str]


def declared_in(file: Path) -> Declared | None:
    """Return the methods and attributes that a file declares, or None if they are not in it, or it cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    runtime = set(_runtime_names(tree))
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    apps = [node for node in classes.values() if _is_app(node, classes, runtime, frozenset())]
    if not apps:
        return None
    methods: dict[str, tuple[Argument, ...]] = {}
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for app in apps:
        for statement in _statements(app.body):
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                if (name := _method_name(statement)) is not None:
                    methods[name] = tuple(_arguments(statement))
            else:
                names.update(_assigned(statement))
    return Declared(methods, frozenset(names))


def dropped(asset: RegisteredAsset, new: Declared) -> tuple[str, ...]:
    """Return the methods, arguments and attributes of an asset that its new version does not have, as sentences."""
    found = []
    for method, arguments in sorted(asset.methods.items()):
        if method not in new.methods:
            found.append(f"method {method} is dropped{_users(asset, method)}")
            continue
        known = {argument.name for argument in arguments}
        wanted = {argument.name: argument for argument in new.methods[method]}
        gone = sorted(known - wanted.keys())
        added = sorted(name for name, argument in wanted.items() if name not in known and argument.required)
        found += [f"method {method} drops its argument {name}{_users(asset, method)}" for name in gone]
        found += [f"method {method} requires a new argument {name}{_users(asset, method)}" for name in added]
    found += [f"attribute {name} is dropped" for name in sorted(asset.attributes - new.names)]
    return tuple(found)


def _users(asset: RegisteredAsset, method: str) -> str:
    users = [user.uuid for user in asset.users if method in user.methods]
    return f", which {', '.join(users)} has commanded" if users else ""


def _runtime_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names under which the file has classes and modules of OpenFactory."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == _RUNTIME:
            yield from (name.asname or name.name for name in node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] == _RUNTIME:
                    yield name.asname or _RUNTIME


def _is_app(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], runtime: set[str], seen: frozenset[str]) -> bool:
    """Return whether all bases of a class are of OpenFactory or of the file, and one leads to an app of OpenFactory."""
    if not node.bases or node.name in seen:
        return False
    for base in node.bases:
        root = base
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name):
            return False
        if root.id not in runtime and not (
            root.id in classes and _is_app(classes[root.id], classes, runtime, seen | {node.name})
        ):
            return False
    return True


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a class, also those below `if`, `try`, `with` and loops: the class may have them."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for below in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, below, ()))
        for clause in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(clause.body)


def _method_name(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """Return the name in commands of a function that is decorated as a method, or None."""
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call) or _last_name(decorator.func) != "ofa_method":
            continue
        given = [*decorator.args[:1], *(word.value for word in decorator.keywords if word.arg == "name")]
        named = next((value.value for value in given if isinstance(value, ast.Constant)), None)
        return named if isinstance(named, str) else function.name
    return None


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Argument]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    for number, argument in enumerate(positional):
        if number > 0:  # without self
            yield Argument(argument.arg, number < required)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield Argument(argument.arg, default is None)


def _assigned(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement of a class gives to values, which may be declared attributes."""
    if isinstance(statement, ast.Assign):
        yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
