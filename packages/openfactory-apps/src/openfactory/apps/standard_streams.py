"""Standard output and error whose errors do not end the program.

The disk of a log may be full, the reader of a pipe may have ended, and an encoding may lack a character. None of these
is a reason to end an app.
"""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from openfactory.concurrency.bounded import call_on_thread
from openfactory.logs.outage import Outage

__all__ = ["keep_streams_going", "open_missing_streams", "watch_stream"]

Name = Literal["stdout", "stderr"]

_logger = logging.getLogger("openfactory.apps")

# Two apps may start on two threads. If the stream of one replaced that of the other, it would be freed while a `print`
# uses it, which does not hold it, and the interpreter would crash.
_replacing = threading.Lock()


class _Output(io.FileIO):
    """The file of a standard stream, which reports errors to a function, and raises no errors.

    Attributes:
        on_error: called with the error of a failed write, whose data is lost.
        on_success: called after each other write.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.on_error: Callable[[OSError], object] = lambda _: None
        self.on_success: Callable[[], object] = lambda: None

    def write(self, data: Any) -> int:
        if not memoryview(data).nbytes:
            return 0  # click writes nothing to learn the kind of a stream, and ignores errors
        try:
            while (written := super().write(data)) is None:  # another program has made it non-blocking
                select.select([], [self], [])
        except OSError as error:
            self.on_error(error)
            return memoryview(data).nbytes
        self.on_success()
        return written


def keep_streams_going() -> None:
    """Ignore errors of standard output and error; the log tells once that output is lost."""
    open_missing_streams()
    outage = Outage(_logger, meanwhile="What is printed is lost.", over="Standard output can be written again.")

    def begin(error: OSError) -> None:
        if not outage.reason:
            # The log may write to the same stream, which is locked here.
            _on_thread(outage.begin, f"Standard output cannot be written: {error.strerror}.")

    def end() -> None:
        if outage.reason:
            _on_thread(outage.end)

    watch_stream("stdout", begin, end)
    watch_stream("stderr")


def open_missing_streams() -> None:
    """Open the null device for standard streams that are closed, as by `>&-`, and for their descriptors.

    Otherwise the next file gets such a descriptor, and what a child process prints goes into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free descriptor
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = io.FileIO(os.open(os.devnull, os.O_WRONLY), "wb", closefd=False)
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(nowhere), encoding="utf-8"))


def watch_stream(
    name: Name, on_error: Callable[[OSError], object] = lambda _: None, on_success: Callable[[], object] = lambda: None
) -> None:
    """Call functions when a write to a standard stream fails or succeeds, and escape characters that it cannot encode.

    A stream that a test tool or the program has replaced stays as it is.
    """
    with _replacing:
        stream = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        output = getattr(buffer, "raw", buffer)
        if not isinstance(output, _Output):
            if stream is not getattr(sys, f"__{name}__") or not isinstance(output, io.FileIO):
                return
            with suppress(OSError, ValueError):
                stream.flush()
            output = _Output(output.fileno())
            setattr(sys, name, _text_stream(output, stream))
        output.on_error, output.on_success = on_error, on_success


def _text_stream(output: _Output, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that writes to an output as another stream does."""
    return io.TextIOWrapper(
        output if stream.write_through else io.BufferedWriter(output),
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors in ("strict", "surrogateescape") else stream.errors,
        newline="\n" if os.linesep == "\n" else None,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _on_thread(function: Callable[..., object], *arguments: object) -> None:
    with suppress(RuntimeError):  # an exiting interpreter starts no more threads
        call_on_thread("openfactory-output", function, *arguments)
