"""What a ksqlDB server answers, and what it means: rows, errors, and which of them pass by themselves."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

__all__ = ["Failure", "Repeat", "failure_of", "read_entities", "read_object", "read_rows", "sources_of"]

# Of a server that is stopping or has just started; the same codes stand for errors that stay.
_PASSING = (
    "isn't queryable",
    "is not available yet",
    "KafkaStreams is not running",
    "Cannot determine which host contains the required partitions",
)

# Codes of a server that has not begun with what it was asked: busy with a command, starting, too many queries.
_NOT_BEGUN = frozenset({50301, 50302, 42900})

_SHOWN_CHARACTERS = 500

_REMEDIES = {
    400: "Correct the statement; tables() and streams() name what there is.",
    401: "Set KSQLDB_USERNAME and KSQLDB_PASSWORD to a user that the server knows.",
    403: "Ask for the right to do so, or set KSQLDB_USERNAME and KSQLDB_PASSWORD to a user that has it.",
    301: "Write the address to which it redirects.",
    302: "Write the address to which it redirects.",
    307: "Write the address to which it redirects.",
    308: "Write the address to which it redirects.",
    404: "Check the address: it is none of a ksqlDB server, or the server does not know this.",
    405: "Check the address: what answers there is no ksqlDB server.",
    406: "Check the address: what answers there is no ksqlDB server.",
    428: "Use a format such as JSON, or give the server what it says is missing.",
    429: "Ask less often, or raise ksql.query.pull.max.qps on the server.",
    500: "Look into the server's log for the reason.",
    503: "Wait until the server has started.",
}


class Repeat(Enum):
    """Whether what failed may be asked again."""

    NEVER = auto()
    ONCE = auto()
    READS = auto()
    ALL = auto()


class Failure(NamedTuple):
    """An error as the server says it.

    Attributes:
        code: ksqlDB's own number, or None where something else answered.
        message: one line, with the remedy.
        repeat: whether it may be asked again.
    """

    code: int | None
    message: str
    repeat: Repeat


_NOT_KSQLDB = Failure(
    None, "what it answers is not what ksqlDB does. Check the address, and what stands in between.", Repeat.ONCE
)


def failure_of(status: int, body: bytes) -> Failure:
    """What an answer says that is no 200; errors come without a Content-Type, as HTML, or with nothing at all."""
    said = _decoded(body)
    if isinstance(said, dict) and "error_code" in said:
        return _failure(status, said)
    text = body.decode(errors="replace").strip()
    shown = f"it answered {status}" + (f" and {_one_line(text)}" if text else "")
    repeat = Repeat.READS if status in (429, 502, 503, 504) else Repeat.ONCE if status == 500 else Repeat.NEVER
    return Failure(None, f"{shown}. {_remedy(status)}", repeat)


def read_rows(body: bytes) -> list[dict[str, Any]] | Failure:
    """The rows of a query, or the error that stands among them although the answer is a 200.

    The first line is an object with the names of the columns, and each later one an array; an object among them is
    an error. An answer that somebody has cut off can look complete: ksqlDB marks no end.
    """
    try:
        lines = msgspec.json.Decoder().decode_lines(body)
    except (msgspec.DecodeError, UnicodeError):
        lines = [_decoded(line) for line in body.split(b"\n") if line.strip()]
    header = lines[0] if lines else None
    if isinstance(header, dict) and "error_code" in header:
        return _failure(500, header)
    if not isinstance(header, dict) or not isinstance(columns := header.get("columnNames"), list):
        return _NOT_KSQLDB
    rows: list[dict[str, Any]] = []
    for line in lines[1:]:
        if isinstance(line, list) and len(line) == len(columns):
            rows.append(dict(zip(columns, line, strict=True)))
        elif isinstance(line, dict) and "error_code" in line:
            return _failure(500, line)
        else:
            return Failure(None, f"it sent a row that is none, {_one_line(str(line))}. Ask again.", Repeat.ONCE)
    return rows


def read_entities(body: bytes) -> list[dict[str, Any]] | Failure:
    """What statements were answered: an object for each that has something to say."""
    said = _decoded(body)
    if isinstance(said, list) and all(isinstance(entity, dict) for entity in said):
        return said
    return _NOT_KSQLDB


def read_object(body: bytes) -> dict[str, Any] | Failure:
    """What the server says of itself or of a command."""
    said = _decoded(body)
    return said if isinstance(said, dict) else _NOT_KSQLDB


def sources_of(entities: list[dict[str, Any]]) -> dict[str, str]:
    """The topic of each stream or table that a SHOW lists."""
    return {
        str(source["name"]): str(source["topic"])
        for entity in entities
        for source in (*entity.get("streams", ()), *entity.get("tables", ()))
    }


def _failure(status: int, said: dict[str, Any]) -> Failure:
    message = str(said.get("message") or "no reason given")
    code = said["error_code"] if isinstance(said["error_code"], int) else None
    shown = _one_line(message)
    stop = "" if shown.endswith((".", "!", "?")) else "."
    return Failure(code, f"{shown}{stop} {_remedy(status)}", _repeat(code, status, message))


def _repeat(code: int | None, status: int, message: str) -> Repeat:
    if code in _NOT_BEGUN:
        return Repeat.ALL
    if status in (429, 503) or (status == 400 and any(part in message for part in _PASSING)):
        return Repeat.READS
    return Repeat.ONCE if status == 500 else Repeat.NEVER


def _remedy(status: int) -> str:
    return _REMEDIES.get(status, "Look into the server's log for the reason.")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"


def _decoded(body: bytes) -> Any:
    """JSON, or None where it is none; half of a surrogate pair, which no text can hold, becomes U+FFFD."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        pass
    try:
        return _whole(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(one) for key, one in value.items()}
    return value
