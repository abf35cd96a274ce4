"""Responses of a ksqlDB server: rows, errors, and whether a failed request may be sent again."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

from openfactory.events.decoding import decode_json

__all__ = [
    "STARTING",
    "Failure",
    "Repeat",
    "columns_of",
    "failure_of",
    "read_entities",
    "read_object",
    "read_rows",
    "sources_of",
]

# Messages of a server that is stopping or has just started. Its error codes are also those of permanent errors.
_TRANSIENT_MESSAGES = (
    "isn't queryable",
    "is not available yet",
    "KafkaStreams is not running",
    "Cannot determine which host contains the required partitions",
)

# Error codes of a server that has not started the request: it runs another command, is starting, or is overloaded.
_BUSY = 50301
STARTING = 50302
_NOT_STARTED = frozenset({_BUSY, STARTING, 42900})

_REMEDIES_OF_503 = {
    _BUSY: "Repeat the request when it has run its earlier statements.",
    STARTING: "Wait until it has started, which takes half a minute.",
}

_SHOWN_CHARACTERS = 500

_REMEDIES = {
    400: "Correct the statement; tables() and streams() list the existing names.",
    401: "Set KSQLDB_USERNAME and KSQLDB_PASSWORD to a user that the server knows.",
    403: "Ask for the permission, or set KSQLDB_USERNAME and KSQLDB_PASSWORD to a user that has it.",
    301: "Use the address to which it redirects.",
    302: "Use the address to which it redirects.",
    307: "Use the address to which it redirects.",
    308: "Use the address to which it redirects.",
    404: "Check the address: it does not belong to a ksqlDB server, or the server does not know the path.",
    405: "Check the address: it does not belong to a ksqlDB server.",
    406: "Check the address: it does not belong to a ksqlDB server.",
    428: "Use a format such as JSON, or configure the service that the server reports as missing.",
    429: "Send fewer requests, or raise ksql.query.pull.max.qps on the server.",
    500: "Check the server's log for the reason.",
    503: "Wait until the server has started.",
}


class Repeat(Enum):
    """Rule that decides whether a failed request may be sent again.

    Attributes:
        NEVER: the request would fail again.
        ONCE: a request that only reads may be sent one more time.
        READS: a request that only reads may be sent again.
        ALL: each request may be sent again, because the server has not started it.
    """

    NEVER = auto()
    ONCE = auto()
    READS = auto()
    ALL = auto()


class Failure(NamedTuple):
    """An error that the server reports.

    Attributes:
        code: ksqlDB's error code, or None if the response does not come from ksqlDB.
        message: one line, with the remedy.
        repeat: whether the request may be sent again.
    """

    code: int | None
    message: str
    repeat: Repeat


_NOT_KSQLDB = Failure(
    None, "the response does not come from ksqlDB. Check the address, and any proxy in between.", Repeat.ONCE
)


def failure_of(status: int, body: bytes) -> Failure:
    """Return the error in a response whose status is not 200.

    Its body may be JSON without a Content-Type, HTML, or empty.
    """
    fields = _decode(body)
    if isinstance(fields, dict) and "error_code" in fields:
        return _failure(status, fields)
    text = body.decode(errors="replace").strip()
    shown = f"HTTP status {status}" + (f" ({_one_line(text)})" if text else "")
    repeat = Repeat.READS if status in (429, 502, 503, 504) else Repeat.ONCE if status == 500 else Repeat.NEVER
    return Failure(None, f"{shown}. {_remedy(status)}", repeat)


def read_rows(body: bytes) -> list[dict[str, Any]] | Failure:
    """Return the rows of a query, or the error among them; the status of the response is 200 either way.

    The first line is an object with the names of the columns. Each later line is an array, or an object that reports an
    error. A truncated response can look complete, because ksqlDB does not mark the end.
    """
    try:
        lines = decode_json(body, msgspec.json.Decoder().decode_lines)
    except msgspec.DecodeError:
        lines = [_decode(line) for line in body.split(b"\n") if line.strip()]
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
            message = f"a row does not match the columns: {_one_line(str(line))}. Repeat the query."
            return Failure(None, message, Repeat.ONCE)
    return rows


def read_entities(body: bytes) -> list[dict[str, Any]] | Failure:
    """Return the objects with the results of the statements of a request; not each statement has a result."""
    entities = _decode(body)
    if isinstance(entities, list) and all(isinstance(entity, dict) for entity in entities):
        return entities
    return _NOT_KSQLDB


def read_object(body: bytes) -> dict[str, Any] | Failure:
    """Return the object in which the server describes itself or the status of a command."""
    fields = _decode(body)
    return fields if isinstance(fields, dict) else _NOT_KSQLDB


def sources_of(entities: list[dict[str, Any]]) -> dict[str, str]:
    """Return the topic of each stream or table that a SHOW lists."""
    return {
        str(source["name"]): str(source["topic"])
        for entity in entities
        for source in (*entity.get("streams", ()), *entity.get("tables", ()))
    }


def columns_of(entities: list[dict[str, Any]]) -> dict[str, str]:
    """Return the type of each column that a DESCRIBE lists; of a map or a list, without that of its items.

    Raises:
        LookupError: the result is not that of a DESCRIBE.
    """
    fields = entities[0]["sourceDescription"]["fields"]
    return {str(field["name"]): str(field["schema"]["type"]) for field in fields}


def _failure(status: int, fields: dict[str, Any]) -> Failure:
    message = str(fields.get("message") or "no reason given")
    code = fields["error_code"] if isinstance(fields["error_code"], int) else None
    shown = _one_line(message)
    stop = "" if shown.endswith((".", "!", "?")) else "."
    remedy = _REMEDIES_OF_503.get(code or 0) or _remedy(status)
    return Failure(code, f"{shown}{stop} {remedy}", _repeat(code, status, message))


def _repeat(code: int | None, status: int, message: str) -> Repeat:
    if code in _NOT_STARTED:
        return Repeat.ALL
    if status in (429, 503) or (status == 400 and any(part in message for part in _TRANSIENT_MESSAGES)):
        return Repeat.READS
    return Repeat.ONCE if status == 500 else Repeat.NEVER


def _remedy(status: int) -> str:
    return _REMEDIES.get(status, _REMEDIES[500])


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"


def _decode(body: bytes) -> Any:
    """Return the decoded JSON, or None if it is invalid; an unpaired surrogate becomes U+FFFD."""
    try:
        return decode_json(body)
    except msgspec.DecodeError:
        pass
    try:
        return _replace_surrogates(decode_json(body, json.loads))
    except msgspec.DecodeError:
        return None


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_replace_surrogates(key): _replace_surrogates(item) for key, item in value.items()}
    return value
