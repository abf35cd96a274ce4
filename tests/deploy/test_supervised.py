"""A process that does not end when it is killed, as one that waits for a file server, is told and blocks nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from openfactory.concurrency.process_identity import start_of
from openfactory.deploy.targets.process import supervised
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.records import Program, Record
from openfactory.deploy.targets.process.supervised import Supervised


@pytest.mark.parametrize("way", ["stop", "restart"])
def test_a_process_that_cannot_be_killed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(supervised, "signal_group", lambda pid, number: None)
    monkeypatch.setattr(supervised, "_KILLED", 0.2)
    program = Program("hall", "MILL", "MILL", "", 1, "sleep", ["/bin/sleep", "600"], str(tmp_path), {}, grace=0.1)
    record = Record(program)
    layout = Layout(tmp_path / ".openfactory")
    layout.create()

    async def run() -> None:
        app = Supervised(record, layout, lambda: None, set, lambda _: False)
        app.start(take_over=False)
        pid = record.pid or 0
        try:
            with pytest.raises(TimeoutError, match=rf"process {pid} was killed, and does not end.*stop the app again"):
                await {"stop": app.stop, "restart": app.restart}[way]()
            assert (record.pid, record.state) == (pid, "running")
        finally:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: start_of(pid) is None or not record.has_process())
        await app.stop()  # its end is seen now
        assert (record.pid, record.state) == (None, "exited")

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
