"""The standard streams of a process in which several threads start apps."""

from __future__ import annotations

import io
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from openfactory.apps import standard_streams


def test_two_threads_replace_a_stream_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `print` of one thread would crash the interpreter if the other one freed its stream."""
    made: list[Any] = []
    both = threading.Barrier(2)
    make = standard_streams._text_stream

    def make_slowly(*arguments: Any) -> Any:
        made.append(arguments)
        time.sleep(0.2)  # the other thread looks at the stream meanwhile
        return make(*arguments)

    def watch() -> None:
        both.wait(60)
        standard_streams.watch_stream("stdout")

    with (tmp_path / "out").open("wb") as file:
        stream = io.TextIOWrapper(file, encoding="utf-8")
        for name in ("stdout", "__stdout__"):
            monkeypatch.setattr(sys, name, stream)
        monkeypatch.setattr(standard_streams, "_text_stream", make_slowly)
        threads = [threading.Thread(target=watch) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(made) == 1
        print("heard", flush=True)
        monkeypatch.undo()
        stream.detach()
    assert (tmp_path / "out").read_text() == "heard\n"
