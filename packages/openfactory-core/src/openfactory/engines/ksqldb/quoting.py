"""How values and names are written into ksqlDB's SQL, so that data is never read as a part of the statement."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from openfactory.engines.ksqldb.errors import KSQLDBQueryError

__all__ = ["bind", "code_of", "identifier", "literal", "source_name", "terminated"]

# What ksqlDB takes for a whole number.
_BIGINT = range(-(2**63), 2**63)

# What is not code: literals, quoted names and comments, also those that nobody has ended.
_TOKENS = re.compile(
    r"""
    (?P<quoted>  '(?:[^']|'')*+'? | "(?:[^"]|"")*+"? | `(?:[^`]|``)*+`? )
    | (?P<comment>  --[^\r\n]*+ | /\*(?:.*?\*/|.*) )
    | (?P<parameter>  \? )
    """,
    re.VERBOSE | re.DOTALL,
)

# A literal may stand beside these as it is; beside anything else a space keeps the two apart.
_SEPARATORS = frozenset(" \t\r\n(),;=<>[]")


def literal(value: Any) -> str:
    """A value as ksqlDB reads it.

    >>> literal("O'BRIEN"), literal(3), literal(True), literal(None)
    ("'O''BRIEN'", '3', 'true', 'NULL')
    >>> literal({"unit": "mm"})
    "MAP('unit' := 'mm')"

    Raises:
        KSQLDBQueryError: ksqlDB has no such value.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and value in _BIGINT:
        return int.__repr__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value).upper()
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    if isinstance(value, Mapping):
        return f"MAP({', '.join(f'{literal(key)} := {literal(one)}' for key, one in value.items())})"
    if isinstance(value, (list, tuple)):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    raise KSQLDBQueryError(
        f"{value!r:.100} cannot be said in ksqlDB. Pass text, a Boolean, a finite number of at most 64 bits, None, "
        "or lists and dictionaries of them.",
        statement="",
    )


def identifier(name: str) -> str:
    """The name of a stream, table or column, quoted; without quotes of its own it is in upper case, as in SQL.

    >>> identifier("assets_stream"), identifier("`lower case`")
    ('`ASSETS_STREAM`', '`lower case`')

    Raises:
        KSQLDBQueryError: it is no name.
    """
    return "`" + source_name(name).replace("`", "``") + "`"


def source_name(name: str) -> str:
    """The name as the server lists it: in upper case, unless it is quoted.

    >>> source_name("assets_stream"), source_name('"mixed Case"')
    ('ASSETS_STREAM', 'mixed Case')

    Raises:
        KSQLDBQueryError: it is no name.
    """
    stripped = name.strip()
    quote = stripped[:1]
    quoted = quote in ("`", '"') and len(stripped) > 1 and stripped.endswith(quote)
    found = stripped[1:-1].replace(quote * 2, quote) if quoted else stripped.upper()
    if not found or not found.isprintable():
        raise KSQLDBQueryError(f"{name!r} is no name of a stream, table or column. Name one.", statement="")
    return found


def bind(sql: str, parameters: Sequence[Any] = ()) -> str:
    """The statement with each `?` replaced by a parameter; a `?` inside literals, names and comments stays.

    >>> bind("SELECT id FROM assets WHERE asset_uuid = ? AND value = '?'", ["O'BRIEN"])
    "SELECT id FROM assets WHERE asset_uuid = 'O''BRIEN' AND value = '?'"

    Raises:
        KSQLDBQueryError: there are more or fewer parameters, or one that ksqlDB cannot compare with.
    """
    places = [found.start() for found in _TOKENS.finditer(sql) if found["parameter"]]
    if len(places) != len(parameters):
        raise KSQLDBQueryError(
            f"The query has {len(places)} places for parameters and was given {len(parameters)}. Pass one for each ?.",
            statement=sql,
        )
    pieces: list[str] = []
    end = 0
    for place, value in zip(places, parameters, strict=True):
        pieces += sql[end:place], _apart(sql, place, _parameter(sql, value))
        end = place + 1
    return "".join(pieces) + sql[end:]


def terminated(sql: str) -> str:
    """The statement with the semicolon at its end, without which ksqlDB takes none.

    >>> terminated("SHOW TABLES"), terminated("SHOW TABLES; ")
    ('SHOW TABLES;', 'SHOW TABLES; ')
    """
    code = _TOKENS.sub(lambda found: " " if found["comment"] else found.group(), sql).strip()
    if not code or code.endswith(";"):
        return sql
    last = [found["comment"] or "" for found in _TOKENS.finditer(sql)][-1:]
    return sql.rstrip() + ("\n;" if last and last[0].startswith("--") else ";")


def code_of(sql: str) -> str:
    """The statement without what is in literals, quoted names and comments, to look for words in it.

    >>> code_of("SELECT 'a' FROM t -- b")
    "SELECT '' FROM t  "
    """
    return _TOKENS.sub(_emptied, sql)


def _emptied(found: re.Match[str]) -> str:
    if found["comment"]:
        return " "
    return found.group()[0] * 2 if found["quoted"] else found.group()


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise KSQLDBQueryError(
            f"{value!r:.100} is no text that can be sent: {error.reason}. Leave out half characters.", statement=""
        ) from error
    return "'" + value.replace("'", "''") + "'"


def _parameter(sql: str, value: Any) -> str:
    if value is None:
        raise KSQLDBQueryError(
            "ksqlDB compares nothing with None in a query. Leave the rows without a value out after reading them.",
            statement=sql,
        )
    try:
        return literal(value)
    except KSQLDBQueryError as error:
        raise KSQLDBQueryError(str(error), statement=sql) from error


def _apart(sql: str, place: int, text: str) -> str:
    """`- ?` with -5 would be a comment and `'a'?` with a text one literal, if nothing stood between."""
    before, after = sql[:place][-1:], sql[place + 1 : place + 2]
    left = " " if before and before not in _SEPARATORS else ""
    right = " " if after and after not in _SEPARATORS else ""
    return left + text + right
