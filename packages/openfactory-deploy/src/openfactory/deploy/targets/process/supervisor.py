"""The supervisor: the process that runs the apps of a folder, and answers the commands.

It detaches itself from the terminal, and ends with the last app. SIGTERM ends it with its apps; the next command starts
them again. When it is killed, the apps go on, and the next command starts another supervisor, which takes them over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import msgspec

from openfactory.concurrency.file_lock import FileLock
from openfactory.deploy.own_files import remove_unfinished
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.log_files import rotate
from openfactory.deploy.targets.process.messages import Answer, Request
from openfactory.deploy.targets.process.processes import strays
from openfactory.deploy.targets.process.records import Record, read_records, write_records
from openfactory.deploy.targets.process.socket_path import short_path
from openfactory.deploy.targets.process.supervised import Supervised

__all__ = ["main"]

_logger = logging.getLogger("openfactory.deploy")

# Seconds between two looks at the sizes of the logs.
_LOG_LOOK = 1.0

# Answer to a command of another version.
_UNKNOWN = "The supervisor does not know the request ({}). Stop the apps with the version that has started them."

# Seconds that a supervisor without apps waits for its first request.
_FIRST_REQUEST = 10.0


class Supervisor:
    """The apps of a folder.

    Args:
        layout: files of the folder.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._apps: dict[tuple[str, int], Supervised] = {}
        self._open = 0
        self._end = asyncio.Event()
        self._is_told = False

    async def run(self, listener: socket.socket) -> None:
        """Run until the last app is gone, or until SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._be_told)
        self._take_over()
        if not self._apps:
            loop.call_later(_FIRST_REQUEST, self._end_if_idle)
        server = await asyncio.start_unix_server(self._answer, sock=listener)
        logs = asyncio.create_task(self._rotate_logs())
        await self._end.wait()
        self._layout.socket.unlink(missing_ok=True)
        server.close()
        logs.cancel()
        if self._is_told:
            ends = await asyncio.gather(*(app.suspend() for app in self._apps.values()), return_exceptions=True)
            for error in filter(None, ends):  # the next supervisor takes the process over
                _logger.warning("An app has not ended: %s", error)
            self._save()
        else:
            self._layout.records.unlink(missing_ok=True)

    def _be_told(self) -> None:
        self._is_told = True
        self._end.set()

    def _take_over(self) -> None:
        """Take over the apps of a supervisor that was killed."""
        records = self._read_records()
        for record in records:
            self._apps[record.key] = self._supervised(record)
        running = {record.pid for record in records if record.pid is not None and record.has_process()}
        for pid in strays(self._layout.logs.resolve(), running):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        apps = list(self._apps.values())
        for app in apps:
            app.resume()
        self._stops = [asyncio.create_task(self._stop(app)) for app in apps if app.record.stopping]

    def _read_records(self) -> list[Record]:
        """Return the records of an earlier supervisor; a damaged file is put aside, and its apps are not known."""
        remove_unfinished(self._layout.folder)
        try:
            return read_records(self._layout.records)
        except msgspec.MsgspecError as error:
            self._layout.records.replace(self._layout.damaged_records)
            self._layout.remove_all_secrets()
            _logger.warning(
                "%s is damaged (%s). Its apps are not known any more, and end. Its content is in %s.",
                self._layout.records, error, self._layout.damaged_records.name,
            )  # fmt: skip
            return []

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._end.is_set():  # the command asks the next supervisor
            writer.close()
            return
        self._open += 1
        try:
            request = msgspec.json.decode(await reader.read(), type=Request)
            answer = Answer(await self._handled(request), [app.record for app in self._apps.values()])
            writer.write(msgspec.json.encode(answer))
            await writer.drain()
        except msgspec.MsgspecError as error:
            writer.write(msgspec.json.encode(Answer(_UNKNOWN.format(error))))
        except ConnectionError:
            pass  # the command was interrupted
        except Exception as error:  # noqa: BLE001 - a defect of one request must not end the supervisor
            traceback.print_exc()
            writer.write(msgspec.json.encode(Answer(f"The supervisor failed: {error!r}. See its log beside the apps.")))
        finally:
            writer.close()
            self._open -= 1
            self._end_if_idle()

    async def _handled(self, request: Request) -> str:
        """Fulfil a request, and return the text of an error, or an empty text."""
        if request.action == "list":
            return ""
        if request.action == "start":
            return self._start(request)
        app = self._apps.get((request.uuid, request.generation))
        if app is None or app.record.program.project != request.project:
            text = f"{request.uuid} (generation {request.generation}) does not run. Start it first."
            return "" if request.action == "stop" else text
        if request.action == "stop":
            return await self._stop(app)
        return await self._restart(app)

    def _start(self, request: Request) -> str:
        program = request.program
        if program is None:
            return "The request to start has no program."
        record = Record(program)
        if (there := self._apps.get(record.key)) is not None:
            return (
                f"{program.uuid} is there already (generation {program.generation}, {there.record.state}). Stop it "
                "first, or start a release of another generation."
            )
        others = [app for app in self._apps.values() if app.record.program.uuid == program.uuid]
        if any(app.record.program.project != program.project for app in others):
            return (
                f"{program.uuid} belongs to the project {others[0].record.program.project}, which is not "
                f"{program.project}. Use another UUID, or remove it from that project."
            )
        app = self._supervised(record)
        owner = (-1 if program.uid is None else program.uid, -1 if program.gid is None else program.gid)
        try:
            if request.secrets:
                self._layout.write_secrets(program.uuid, program.generation, request.secrets, owner)
            self._apps[record.key] = app
            app.start(take_over=any(other.record.pid is not None for other in others))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._remove(app)
            return f"{program.uuid} cannot be started: {program.title}: {error}. Correct its file, or what it needs."
        return ""

    async def _stop(self, app: Supervised) -> str:
        app.record.stopping = True
        self._save()
        try:
            await app.stop()
        except TimeoutError as error:
            return f"{app.record.program.uuid} cannot be stopped: {error}"
        self._remove(app)
        self._end_if_idle()
        return ""

    async def _restart(self, app: Supervised) -> str:
        try:
            if not await app.restart():
                return f"{app.record.program.uuid} was stopped by another command. Start it again."
        except TimeoutError as error:
            return f"{app.record.program.uuid} cannot be restarted: {error}"
        except (OSError, subprocess.SubprocessError) as error:
            return f"{app.record.program.uuid} cannot be started again: {error}. Correct its file, or what it needs."
        return ""

    def _remove(self, app: Supervised) -> None:
        """Remove an app that has ended, with all that was made for it."""
        program = app.record.program
        self._apps.pop(app.record.key, None)
        self._layout.remove_secrets(program.uuid, program.generation)
        if all(other.record.program.uuid != program.uuid for other in self._apps.values()):
            self._layout.remove_log(program.uuid)
        self._save()

    def _supervised(self, record: Record) -> Supervised:
        return Supervised(record, self._layout, self._save, self._reserved, self._superseded)

    def _superseded(self, record: Record) -> bool:
        newer = (app.record for app in self._apps.values() if app.record.program.uuid == record.program.uuid)
        return any(other.pid is not None and other.key > record.key for other in newer)

    def _reserved(self) -> set[int]:
        return {port for app in self._apps.values() for port in app.ports}

    def _save(self) -> None:
        try:
            write_records(self._layout.records, (app.record for app in self._apps.values()))
        except OSError:
            traceback.print_exc()  # the disk may be full; the apps go on

    def _end_if_idle(self) -> None:
        if not self._apps and not self._open:
            self._end.set()

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_LOOK)
            for app in self._apps.values():
                with suppress(OSError):
                    rotate(self._layout.log(app.record.program.uuid), app.record.program.log_bytes)


def main(folder: str) -> None:
    """Start the supervisor of a folder unless it has one, and return when commands can reach it."""
    layout = Layout(Path(folder))
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        os.read(ready, 1)  # or the end of the other process
        return
    os.close(ready)
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o022)
    lock = FileLock(layout.lock)
    if lock.acquire(timeout=0):
        listener = socket.socket(socket.AF_UNIX)
        layout.socket.unlink(missing_ok=True)
        before = os.umask(0o077)
        with short_path(layout.socket) as path:
            listener.bind(path)
        os.umask(before)
        listener.listen(128)
        os.write(told, b"1")
        os.close(told)
        asyncio.run(Supervisor(layout).run(listener))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
