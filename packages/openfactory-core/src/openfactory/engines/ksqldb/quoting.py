"""Quoting of values and names for ksqlDB's SQL, so that data is never read as a part of a statement."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from openfactory.engines.ksqldb.errors import KSQLDBQueryError

__all__ = ["bind", "code_of", "identifier", "literal", "source_name", "terminated"]

# The integers that ksqlDB can parse.
_BIGINT = range(-(2**63), 2**63)

# Literals, quoted names and comments, also unterminated ones, and the placeholders outside of them.
_TOKENS = re.compile(
    r"""
    (?P<quoted>  '(?:[^']|'')*+'? | "(?:[^"]|"")*+"? | `(?:[^`]|``)*+`? )
    | (?P<comment>  --[^\r\n]*+ | /\*(?:.*?\*/|.*) )
    | (?P<parameter>  \? )
    """,
    re.VERBOSE | re.DOTALL,
)

# Characters that separate a literal from its neighbor; next to any other character it needs a space.
_SEPARATORS = frozenset(" \t\r\n(),;=<>[]")


def literal(value: Any) -> str:
    """Return a value as a literal of ksqlDB's SQL.

    >>> literal("O'BRIEN"), literal(3), literal(True), literal(None)
    ("'O''BRIEN'", '3', 'true', 'NULL')
    >>> literal({"unit": "mm"})
    "MAP('unit' := 'mm')"

    Raises:
        KSQLDBQueryError: ksqlDB has no literal for the value.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int) and value in _BIGINT:
        return int.__repr__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value).upper()
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, Mapping):
        return f"MAP({', '.join(f'{literal(key)} := {literal(item)}' for key, item in value.items())})"
    if isinstance(value, (list, tuple)):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    raise KSQLDBQueryError(
        f"{value!r:.100} cannot be written in ksqlDB's SQL. Pass text, a Boolean, a finite number of at most 64 bits, "
        "None, or lists and dictionaries of them.",
        statement="",
    )


def identifier(name: str) -> str:
    """Return the name of a stream, table or column in quotes; an unquoted name is converted to upper case, as in SQL.

    >>> identifier("assets_stream"), identifier("`lower case`")
    ('`ASSETS_STREAM`', '`lower case`')

    Raises:
        KSQLDBQueryError: the name is empty or not printable.
    """
    return "`" + source_name(name).replace("`", "``") + "`"


def source_name(name: str) -> str:
    """Return a name as the server lists it: in upper case, unless it is quoted.

    >>> source_name("assets_stream"), source_name('"mixed Case"')
    ('ASSETS_STREAM', 'mixed Case')

    Raises:
        KSQLDBQueryError: the name is empty or not printable.
    """
    stripped = name.strip()
    quote = stripped[:1]
    is_quoted = quote in ("`", '"') and len(stripped) > 1 and stripped.endswith(quote)
    listed = stripped[1:-1].replace(quote * 2, quote) if is_quoted else stripped.upper()
    if not listed or not listed.isprintable():
        raise KSQLDBQueryError(
            f"{name!r} is not the name of a stream, table or column. Write a printable name.", statement=""
        )
    return listed


def bind(sql: str, parameters: Sequence[Any] = ()) -> str:
    """Return the statement with each `?` replaced by a parameter; a `?` inside literals, names and comments stays.

    >>> bind("SELECT id FROM assets WHERE asset_uuid = ? AND value = '?'", ["O'BRIEN"])
    "SELECT id FROM assets WHERE asset_uuid = 'O''BRIEN' AND value = '?'"

    Raises:
        KSQLDBQueryError: the number of parameters is wrong, or ksqlDB cannot compare with one of them.
    """
    placeholders = [token.start() for token in _TOKENS.finditer(sql) if token["parameter"]]
    if len(placeholders) != len(parameters):
        raise KSQLDBQueryError(
            f"The query takes {len(placeholders)} parameters, but {len(parameters)} were given. Pass one for each ?.",
            statement=sql,
        )
    pieces: list[str] = []
    end = 0
    for placeholder, value in zip(placeholders, parameters, strict=True):
        pieces += sql[end:placeholder], _separated(sql, placeholder, _parameter(sql, value))
        end = placeholder + 1
    return "".join(pieces) + sql[end:]


def terminated(sql: str) -> str:
    """Return the statement with a semicolon at its end, which ksqlDB requires.

    >>> terminated("SHOW TABLES"), terminated("SHOW TABLES; ")
    ('SHOW TABLES;', 'SHOW TABLES; ')
    """
    code = _TOKENS.sub(lambda token: " " if token["comment"] else token.group(), sql).strip()
    if not code or code.endswith(";"):
        return sql
    last = [token["comment"] or "" for token in _TOKENS.finditer(sql)][-1:]
    return sql.rstrip() + ("\n;" if last and last[0].startswith("--") else ";")


def code_of(sql: str) -> str:
    """Return the statement without comments and without the content of literals and quoted names.

    The result is only for finding keywords.

    >>> code_of("SELECT 'a' FROM t -- b")
    "SELECT '' FROM t  "
    """
    return _TOKENS.sub(_emptied, sql)


def _emptied(token: re.Match[str]) -> str:
    if token["comment"]:
        return " "
    return token.group()[0] * 2 if token["quoted"] else token.group()


def _quoted(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise KSQLDBQueryError(
            f"{text!r:.100} cannot be encoded: {error.reason}. Remove unpaired surrogates.", statement=""
        ) from error
    return "'" + text.replace("'", "''") + "'"


def _parameter(sql: str, value: Any) -> str:
    if value is None:
        raise KSQLDBQueryError(
            "ksqlDB cannot compare with None in a query. Read the rows, and filter out those without a value.",
            statement=sql,
        )
    try:
        return literal(value)
    except KSQLDBQueryError as error:
        raise KSQLDBQueryError(str(error), statement=sql) from error


def _separated(sql: str, placeholder: int, text: str) -> str:
    """Return a literal with the spaces that keep it apart: `-?` with -5 would be a comment, `'a'?` a single literal."""
    before, after = sql[:placeholder][-1:], sql[placeholder + 1 : placeholder + 2]
    left = " " if before and before not in _SEPARATORS else ""
    right = " " if after and after not in _SEPARATORS else ""
    return left + text + right
