"""The language rules of CONTRIBUTING.md, as far as a program can check them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributions import ROOT, distributions

MODULES = {name: path for member in distributions() for name, path in member.modules.items()}
VAGUE = re.compile(r"\b([Ww]hat|[Ww]hoever|[Nn]obody|none|said)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each docstring of a module, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def other_texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each text of a module that is not a docstring, with its line; `{}` stands for a value in it."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            statement = node.body[0]
            assert isinstance(statement, ast.Expr)
            skipped.add(id(statement.value))
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node)}
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def findings(path: Path) -> list[str]:
    """The lines of a file that break a rule."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for line, text in docstrings(tree):
        first = text.splitlines()[0]
        if VAGUE.search(re.sub(r"`[^`]*`", "", first)):
            found.append(f"{path}:{line}: name the thing in {first!r}")
    for line, text in other_texts(tree):
        if re.search(r"\b(is|are) no ", text):
            found.append(f"{path}:{line}: write 'X is not a Y' or 'X does not exist' in {text[:120]!r}")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_the_rules(name: str) -> None:
    assert findings(MODULES[name]) == []


def test_the_rules_see_what_breaks_them(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""What is said."""\n'
        "def first():\n"
        '    """Whoever hears it."""\n'
        '    raise ValueError(f"{first!r} is no engine.")\n'
        "def second():\n"
        '    """Return `what` was given.\n\n    None of it is said twice.\n    """\n'
        '    raise ValueError("There " + "are no engines.")\n'
    )
    assert [finding.split(":")[1] for finding in findings(file)] == ["1", "3", "4", "10"]


def test_the_glossary_has_the_terms() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for term in ("asset", "attribute", "engine", "position", "subscription", "gap", "receipt"):
        assert f"| {term}" in text
