"""The factory that the Kafka benchmarks run on, and the processes that are measured in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from openfactory.engines.kafka_engine.topics import TOPICS, create_topics

__all__ = ["Place", "Program", "new_place", "program"]

_END_SECONDS = 30


class Place(NamedTuple):
    """Topics of one factory, under a prefix of their own."""

    bootstrap_servers: str
    prefix: str

    @property
    def url(self) -> str:
        """What our engine is opened by."""
        return f"kafka://{self.bootstrap_servers}?prefix={self.prefix}"

    @property
    def topic(self) -> str:
        """Where the events are."""
        return f"{self.prefix}ofa_assets"


def new_place(bootstrap_servers: str, prefix: str, partitions: int = 1) -> Place:
    """Make the topics of a factory, with the settings that users get."""
    create_topics({"bootstrap.servers": bootstrap_servers}, TOPICS, prefix=prefix, partitions=partitions)
    return Place(bootstrap_servers, prefix)


class Program:
    """A process of a file with programs."""

    def __init__(self, kind: str, process: subprocess.Popen[str]) -> None:
        self._kind = kind
        self._process = process
        self.answer()  # it is ready

    def round(self) -> Any:
        """Have it do a round, and give back what it measured."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """The next thing that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process {self._kind!r} ended before its answer; its error stands above.")
        return json.loads(line)


@contextmanager
def program(
    kind: str, *arguments: object, environment: Mapping[str, str] | None = None, file: str = "kafka_programs.py"
) -> Generator[Program]:
    """Start a process of one of the files with programs, and end it."""
    command = [sys.executable, str(Path(__file__).with_name(file)), kind, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment and dict(environment)
    )
    try:
        yield Program(kind, process)
    finally:
        try:
            process.communicate(timeout=_END_SECONDS)  # it ends when its standard input does
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
