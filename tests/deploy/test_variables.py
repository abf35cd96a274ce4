"""Variables in the texts of a file."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from openfactory.deploy.files.document import read_document
from openfactory.deploy.files.variables import VariableError, replaced

ENVIRON = {"TAG": "1.4", "EMPTY": "", "ODD": "a: b # c", "NESTED": "${TAG}"}
TABLE = {
    "plain": "plain",
    "${TAG}": "1.4",
    "mill:${TAG}-x": "mill:1.4-x",
    "${TAG}${TAG}": "1.41.4",
    "${NO}": "",
    "${EMPTY}": "",
    "${TAG:-latest}": "1.4",
    "${NO:-latest}": "latest",
    "${EMPTY:-latest}": "latest",
    "${NO:-}": "",
    "${NO:-a:-b}": "a:-b",
    "${NO:-${TAG}}": "1.4",
    "${NO:-${EMPTY:-${TAG:-x}}}": "1.4",
    "${NO:-{}}": "{}",
    "${TAG:?required}": "1.4",
    "${TAG:?${NO:?not even asked for}}": "1.4",
    "$$": "$",
    "$${TAG}": "${TAG}",
    "$$$$": "$$",
    "$$${TAG}": "$1.4",
    "$TAG": "$TAG",
    "5 $": "5 $",
    "${NO:-$$}": "$",
    "${ODD}": "a: b # c",
    "${NESTED}": "${TAG}",
    "{{.Task.Slot}}": "{{.Task.Slot}}",
}


@pytest.mark.parametrize("text", TABLE)
def test_a_text_with_variables(text: str) -> None:
    assert str(replaced(text, ENVIRON)) == TABLE[text]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("${NO:?the version}", "The variable NO is not set: the version. Set NO."),
        ("${EMPTY:?}", "The variable EMPTY is not set: it is required. Set EMPTY."),
        ("${NO:?see ${TAG}}", "The variable NO is not set: see 1.4. Set NO."),
        ("${", "Write ${NAME}"),
        ("${}", "Write ${NAME}"),
        ("${NO", "Write ${NAME}"),
        ("${1A}", "Write ${NAME}"),
        ("${NO-x}", "Write ${NAME}"),
        ("${NO?x}", "Write ${NAME}"),
        ("${NO:+x}", "Write ${NAME}"),
        ("${NO:-x", "The reference to NO has no closing brace."),
        ("${NO:-" * 11 + "}" * 11, "Write ${NAME}"),
        ("${NO:-" * 5_000 + "}" * 5_000, "Write ${NAME}"),
    ],
)
def test_a_wrong_reference(text: str, remedy: str) -> None:
    with pytest.raises(VariableError) as raised:
        replaced(text, ENVIRON)
    assert remedy in str(raised.value)


def test_unset_variables_are_known_by_name() -> None:
    assert replaced("${A}${B:-x}${EMPTY}${A}${TAG}", ENVIRON).unset == ("A", "EMPTY")
    assert replaced("${TAG:-${A}}", ENVIRON).unset == ()
    assert replaced("${A}", ENVIRON).is_absent
    assert not replaced("${A}x", ENVIRON).is_absent
    assert not replaced("${A:-}", ENVIRON).is_absent


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def shape(value: Any) -> Any:
    """A value with the place of each scalar only."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else None


@given(value=TEXTS | st.sampled_from(["a: b", "[x, y]", "{a: 1}", "x # y", "- a\n- b", "*a", "&a b", "---", "!!set"]))
def test_no_value_changes_the_structure(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    file = tmp_path_factory.mktemp("structure") / "app_x.yml"
    file.write_text(
        "a: ${X}\nb: '${X}'\nc: \"${X}\"\nd: [1, ${X}, x]\ne: {f: pre ${X}}\ng: |\n  one\n  ${X}\nh: ${X:-y}\n",
        encoding="utf-8",
    )
    document = read_document(file, {"X": value})
    assert document.problems == []
    assert shape(document.value) == shape(yaml.safe_load(file.read_text(encoding="utf-8").replace("${X}", "x")))
    assert document.value["a"] == document.value["b"] == document.value["c"] == document.value["d"][1] == value
    assert document.value["g"] == f"one\n{value}\n"
    assert document.value["h"] == (value or "y")


@given(text=TEXTS)
def test_a_text_with_doubled_dollars_is_itself(text: str) -> None:
    assert replaced(text.replace("$", "$$"), {}) == text
