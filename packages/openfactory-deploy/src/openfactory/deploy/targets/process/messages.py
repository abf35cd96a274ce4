"""The messages between commands and the supervisor, one JSON value each way."""

from __future__ import annotations

from typing import Literal

import msgspec

from openfactory.deploy.targets.process.records import Program, Record

__all__ = ["Action", "Answer", "Request"]

#: What the supervisor does.
Action = Literal["list", "start", "stop", "restart"]


class Request(msgspec.Struct, frozen=True):
    """A request to the supervisor.

    Attributes:
        action: the action; the supervisor refuses any other.
        program: the program to start.
        secrets: values of the secrets of the program, by name.
        project: project of the instance to stop or restart.
        uuid: its UUID.
        generation: number of its release.
    """

    action: Action
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
