"""Quoting for ksqlDB: whatever a value or a name holds, it stays data."""

from __future__ import annotations

import enum
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError
from openfactory.engines.ksqldb.quoting import bind, identifier, literal, source_name, terminated
from openfactory.exceptions import QueryError

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("'`\"?;-/*\\\n$"), max_size=30)

# ksqlDB's own reading of a statement, by its grammar: what ends where.
PIECE = re.compile(
    r"""(?P<text>'(?:[^']|'')*') | (?P<name>`(?:[^`]|``)*`|"(?:[^"]|"")*") | (?P<comment>--[^\r\n]*|/\*.*?\*/)
      | (?P<number>\d[\w.]*(?:E[+-]\d+)?) | (?P<word>\w+) | (?P<space>\s+) | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


def pieces(sql: str) -> list[tuple[str, str]]:
    found = [(str(piece.lastgroup), piece.group()) for piece in PIECE.finditer(sql)]
    return [(kind, text) for kind, text in found if kind not in ("space", "comment")]


def read(text: str) -> str:
    return text[1:-1].replace("''", "'")


@given(texts)
@example("O'BRIEN")
@example("x' OR asset_uuid = 'DEV-1")
@example("a -- b; \\ /* c")
@example("${u}")
def test_text_is_one_literal_that_reads_as_it_was(value: str) -> None:
    assert pieces(literal(value)) == [("text", literal(value))]
    assert read(literal(value)) == value


@given(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_as_it_was(value: float) -> None:
    assert type(value)(literal(value)) == value


class Kind(enum.StrEnum):
    MILL = "mill's"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "true"),
        (False, "false"),
        (1e300, "1E+300"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+2"), "100"),
        (Kind.MILL, "'mill''s'"),
        ({"it's": "a", "b": None}, "MAP('it''s' := 'a', 'b' := NULL)"),
        ([1, "a"], "ARRAY[1, 'a']"),
    ],
)
def test_other_values_are_said_in_the_words_of_ksqldb(value: object, text: str) -> None:
    assert literal(value) == text


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), Decimal("NaN"), 2**63, b"x", object(), {1, 2}, "\ud800", {"a": float("nan")}, [b"x"]],
)
def test_what_ksqldb_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(KSQLDBQueryError, match=r"(cannot be written in ksqlDB|cannot be encoded).*\. (Pass|Remove)"):
        literal(value)
    with pytest.raises(KSQLDBQueryError) as caught:
        bind("SELECT ?", [value])
    assert caught.value.statement == "SELECT ?"


@given(texts.filter(lambda text: text.isprintable() and text.strip() not in ("", "``", '""')))
def test_a_name_is_one_quoted_name(name: str) -> None:
    quoted = identifier(name)
    assert [kind for kind, _ in pieces(quoted)] == ["name"]
    assert quoted[1:-1].replace("``", "`") == source_name(name)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("assets_stream", "ASSETS_STREAM"),
        (" Assets ", "ASSETS"),
        ("`assets`", "assets"),
        ('"a ""b"" c"', 'a "b" c'),
        ("`a``b`", "a`b"),
        ("x; DROP STREAM y", "X; DROP STREAM Y"),
    ],
)
def test_a_name_is_in_capitals_unless_it_is_quoted(name: str, found: str) -> None:
    assert source_name(name) == found


@pytest.mark.parametrize("name", ["", "  ", "``", "a\nb", "a\0b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(KSQLDBClientException, match="is not the name of a stream"):
        identifier(name)


# --- Binding ------------------------------------------------------------------------------------

literals = texts.map(literal)
names = texts.filter(lambda text: text.isprintable() and text.strip() != "").map(identifier)
comments = texts.map(lambda text: "--" + re.sub(r"[\r\n]", "", text) + "\n") | texts.map(
    lambda text: "/*" + text.replace("*/", "").rstrip("*") + "*/"
)
words = st.sampled_from(["SELECT", "a", "=", "-", "+", ",", "(", ")", ";", " ", "\n", "7", "<>"])


@given(st.lists(st.just("?") | words | literals | names | comments, max_size=12), st.data())
def test_every_question_mark_becomes_its_value_and_nothing_else_changes(parts: list[str], data: Any) -> None:
    # A space after literals and names: two that touch are one.
    sql = "".join(part + " " if part[0] in "'`" else part for part in parts)
    places = sum(kind == "sign" and text == "?" for kind, text in pieces(sql))
    value = texts | st.integers(-(10**9), 10**9) | st.booleans()
    values = data.draw(st.lists(value, min_size=places, max_size=places))
    expected: list[tuple[str, str]] = []
    left = iter(values)
    for kind, text in pieces(sql):
        expected += pieces(literal(next(left))) if (kind, text) == ("sign", "?") else [(kind, text)]
    assert pieces(bind(sql, values)) == expected


@pytest.mark.parametrize(
    ("sql", "values", "bound"),
    [
        ("a = ?", ["x"], "a = 'x'"),
        ("a=?;", ["x"], "a='x';"),
        ("IN (?,?)", [1, 2], "IN (1,2)"),
        ("3 -?", [-5], "3 - -5"),  # two signs would begin a comment
        ("'a'?", ["b"], "'a' 'b'"),  # two quotes would be a part of one text
        ("??", ["a", "b"], "'a'  'b'"),
        ("'?' `?` \"?\" /*?*/ ? --?", ["x"], "'?' `?` \"?\" /*?*/ 'x' --?"),
        ("'it''s ?' ?", [1], "'it''s ?' 1"),
        ("? 'never ended ?", [1], "1 'never ended ?"),
        ("? /* never ended ?", [1], "1 /* never ended ?"),
        ("-- ?\r ?", [1], "-- ?\r 1"),
    ],
)
def test_a_parameter_stands_apart_from_what_is_beside_it(sql: str, values: list[object], bound: str) -> None:
    assert bind(sql, values) == bound


@pytest.mark.parametrize(("sql", "values"), [("?", []), ("", [1]), ("? ?", [1]), ("'?'", [1]), ("-- ?", [1])])
def test_there_is_one_value_for_each_place(sql: str, values: list[object]) -> None:
    with pytest.raises(QueryError, match=r"takes \d parameters, but \d were given\. Pass one for each") as caught:
        bind(sql, values)
    assert caught.value.statement == sql


def test_a_query_does_not_compare_with_nothing() -> None:
    with pytest.raises(QueryError, match="cannot compare with None"):
        bind("SELECT id FROM assets WHERE value = ?", [None])


@given(texts)
def test_a_statement_ends_in_code_and_not_in_a_comment(text: str) -> None:
    for sql in (f"SELECT {literal(text)}", f"SELECT 1 --{text.splitlines()[0] if text else ''}"):
        assert pieces(terminated(sql))[-1] == ("sign", ";")
        assert pieces(terminated(sql))[:-1] == pieces(sql)
        assert terminated(terminated(sql)) == terminated(sql)


@pytest.mark.parametrize("sql", ["", " ", "-- nothing", "/* nothing */"])
def test_nothing_stays_nothing(sql: str) -> None:
    assert terminated(sql) == sql
