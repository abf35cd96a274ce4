"""The output of several containers, services or pods as one sequence of lines."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from typing import Protocol

from openfactory.deploy.targets.base import LogLine, TargetError

__all__ = ["Frames", "Read", "followed_logs", "merged_logs", "seconds_before"]

#: Seconds after which new instances are looked for.
_PAUSE = 0.25


class Frames(Protocol):
    """The answer of an engine: each write of a program, with the time in front."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the writes."""

    def close(self) -> None:
        """End the answer."""


class Read(Protocol):
    """A function that reads the output of one container, service or pod."""

    def __call__(self, name: str, *, follow: bool, tail: int | None, since: str | None) -> Frames:
        """Return the output from a time on."""


def merged_logs(sources: Mapping[str, str], read: Read, tail: int | None) -> Iterator[LogLine]:
    """Yield the lines that are there, in the order of their times.

    Args:
        sources: UUIDs of assets by the names of their containers, services or pods.
        read: reads one of them.
        tail: number of last lines of each asset; None for all.
    """
    of_assets: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, uuid in sources.items():
        with suppress(TargetError):  # it is gone
            of_assets[uuid] += _lines_of(read(name, follow=False, tail=tail, since=None))
    last = []
    for uuid, lines in of_assets.items():
        ordered = sorted(lines, key=itemgetter(0))  # those of several tasks are not in order
        last += [(time, uuid, text) for time, text in (ordered if tail is None else ordered[-tail:] if tail else [])]
    for _, uuid, text in sorted(last, key=itemgetter(0)):
        yield LogLine(uuid, text)


def followed_logs(
    sources: Callable[[], Mapping[str, str]],
    run_of: Callable[[str], object],
    read: Read,
    tail: int | None,
    ended: threading.Event,
) -> Iterator[LogLine]:
    """Yield lines as they are written, also of containers that are made later, until the iterator is closed.

    Args:
        sources: returns UUIDs of assets by the names of their containers, services or pods.
        run_of: returns a value that changes when the output of one of them goes on after an end; None if it goes on at
            any time. It is asked of those alone that are new, or whose output has ended.
        read: reads one of them.
        tail: number of last lines of each to begin with; None for all.
        ended: set when the lines shall end.
    """
    lines: queue.SimpleQueue[LogLine] = queue.SimpleQueue()
    readers: dict[str, _Reader] = {}
    first = True
    try:
        while not ended.is_set():
            for name, uuid in sources().items():
                reader = readers.get(name)
                if reader is None:
                    readers[name] = _Reader(uuid, name, run_of(name), read, lines, tail if first else None)
                elif reader.has_ended and ((run := run_of(name)) is None or run != reader.run):
                    reader.go_on(run)
            first = False
            with suppress(queue.Empty):
                yield lines.get(timeout=_PAUSE)
                while True:
                    yield lines.get_nowait()
    finally:
        for reader in readers.values():
            reader.close()


def seconds_before(time: str) -> float:
    """Return a moment before a time of the engine, as number: it is less exact than the time."""
    return datetime.fromisoformat(f"{time[:26]}+00:00").timestamp() - 0.001


class _Reader:
    """A thread that reads one container, across its restarts."""

    def __init__(
        self, uuid: str, name: str, run: object, read: Read, lines: queue.SimpleQueue[LogLine], tail: int | None
    ) -> None:
        self.run = run
        self._uuid = uuid
        self._name = name
        self._read = read
        self._lines = lines
        self._tail = tail
        self._last: str | None = None
        self._frames: Frames | None = None
        self._closed = False
        self._start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def go_on(self, run: object) -> None:
        """Read the output of the next run."""
        self.run = run
        self._tail = None
        self._start()

    def close(self) -> None:
        self._closed = True
        if self._frames is not None:
            with suppress(OSError, AttributeError):  # it may end at this moment
                self._frames.close()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"openfactory-logs-{self._name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(TargetError):  # it is gone
            self._frames = self._read(self._name, follow=True, tail=self._tail, since=self._last)
            if self._closed:
                self.close()
            known = self._last or ""
            for time, text in _lines_of(self._frames):
                if time > known:
                    self._last = max(time, self._last or "")
                    self._lines.put(LogLine(self._uuid, text))


def _lines_of(frames: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield whole lines with the times of their begin; the engine cuts long ones."""
    begun, parts = "", b""
    for frame in frames:
        time, _, text = frame.partition(b" ")
        begun = begun or time.decode("ascii", "replace")
        parts += text
        if parts.endswith(b"\n"):
            yield begun, parts.rstrip(b"\r\n").decode("utf-8", "replace")
            begun, parts = "", b""
    if parts:
        yield begun, parts.decode("utf-8", "replace")
