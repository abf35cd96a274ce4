"""The messages between commands and the supervisor, one JSON value each way."""

from __future__ import annotations

import msgspec

from openfactory.deploy.targets.process.records import Program, Record

__all__ = ["Answer", "Request"]


class Request(msgspec.Struct, frozen=True):
    """A request to the supervisor.

    Attributes:
        action: `list`, `start`, `stop` or `restart`.
        program: the program to start.
        secrets: values of the secrets of the program, by name.
        project: project of the instance to stop or restart.
        uuid: its UUID.
        generation: number of its release.
    """

    action: str
    program: Program | None = None
    secrets: dict[str, str] = {}
    project: str = ""
    uuid: str = ""
    generation: int = 0


class Answer(msgspec.Struct, frozen=True):
    """The answer of the supervisor.

    Attributes:
        error: text of the error with its remedy, or an empty text.
        records: all records.
    """

    error: str = ""
    records: list[Record] = []
