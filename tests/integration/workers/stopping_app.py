"""Apps that are in the middle of something when their stop comes: `stopping_app.py WHAT [BUDGET]`."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method, stop_signals
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

URL = setting("KSQLDB_URL") or ""
LONG = 60.0


class Idle(OpenFactoryApp):
    """Waits for nothing."""

    status = EventAttribute(value="idle", tag="App.Status")

    @ofa_method()
    def work(self, seconds: float) -> str:
        self.status = "working"
        time.sleep(seconds)
        return "done"

    @ofa_method()
    async def work_async(self, seconds: float) -> str:
        self.status = "working"
        await asyncio.sleep(seconds)
        return "done"

    def main_loop(self) -> None:
        self.busy()
        time.sleep(LONG)

    async def async_main_loop(self) -> None:
        self.busy()
        await asyncio.sleep(LONG)

    def busy(self) -> None:
        """Tell the test that the main loop is under way."""
        self.status = "busy"
        self.flush()
        print("busy", flush=True)


class CallbackBlocks(Idle):
    """A callback of another asset, and one of its own, never return."""

    def main_loop(self) -> None:
        entered = threading.Barrier(3)

        def block(subject: str, message: Any) -> None:
            entered.wait()
            time.sleep(LONG)

        other = Asset("OTHER", self.ksql)
        other.subscribe_to_messages(block)
        self.subscribe_to_attribute("status", block)
        other.add_attribute(AssetAttribute(id="note", value="x", type="Events", tag="Note"))
        self.status = "blocked"
        entered.wait()
        super().main_loop()


class InCode(Idle):
    """The main thread waits in C for a lock that nobody gives back, and Python handles no signal there."""

    def main_loop(self) -> None:
        library = ctypes.CDLL(None)
        lock = ctypes.create_string_buffer(256)
        library.pthread_mutex_lock(lock)
        self.busy()  # last thing before it: a signal in between would be handled
        library.pthread_mutex_lock(lock)


class HearsLate(Idle):
    """Another thread takes its signals, so that its own is not woken by them."""

    def main_loop(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals.STOP_SIGNALS)
        self.busy()
        while True:
            time.sleep(1.75)  # it is told long after the stop is over, and before the process has ended


class InRegularExpression(Idle):
    """The main thread computes in C, holds the interpreter's lock and looks for signals now and then."""

    def main_loop(self) -> None:
        self.busy()
        re.match(r"(a+)+$", "a" * 64 + "b")


class HookBlocks(Idle):
    """app_event_loop_stopped never returns."""

    def app_event_loop_stopped(self) -> None:
        print("in the hook", flush=True)
        time.sleep(LONG)


class HookRaises(Idle):
    """app_event_loop_stopped raises."""

    def app_event_loop_stopped(self) -> None:
        raise RuntimeError("the hook is broken")


class CatchesEverything(Idle):
    """The main loop goes on whatever is raised in it."""

    def main_loop(self) -> None:
        self.busy()
        while True:
            try:
                time.sleep(0.05)
            except:  # noqa: E722
                print("caught", flush=True)


class Crashes(Idle):
    """The main loop raises."""

    def main_loop(self) -> None:
        self.busy()
        raise ZeroDivisionError("the mill broke")

    async def async_main_loop(self) -> None:
        self.main_loop()


class WaitsToBeTold(Idle):
    """The main loop ends when the test says so, by SIGUSR1."""

    def main_loop(self) -> None:
        told = threading.Event()
        signal.signal(signal.SIGUSR1, lambda signum, frame: told.set())
        self.busy()
        told.wait(LONG)


class CrashesWhenTold(WaitsToBeTold):
    """The main loop raises when the test says so."""

    def main_loop(self) -> None:
        super().main_loop()
        raise ZeroDivisionError("the mill broke")


class CrashesInCommand(Idle):
    """The main loop raises while a command runs."""

    def main_loop(self) -> None:
        self.busy()
        assert self.wait_until("status", "working", timeout=LONG)
        raise ZeroDivisionError("the mill broke")


class Returns(Idle):
    """The main loop comes to its end."""

    def main_loop(self) -> None:
        self.busy()

    async def async_main_loop(self) -> None:
        self.busy()


class NoMainLoop(Idle):
    """Has not said what to do."""

    main_loop = OpenFactoryApp.main_loop


class LoopBlocks(Idle):
    """The coroutine blocks its event loop."""

    async def async_main_loop(self) -> None:
        self.busy()
        time.sleep(LONG)


class LoopCatchesEverything(Idle):
    """The coroutine goes on whatever is raised in it."""

    async def async_main_loop(self) -> None:
        self.busy()
        while True:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                print("caught", flush=True)


class Floods(Idle):
    """Writes to a log that nobody reads, until that blocks."""

    def main_loop(self) -> None:
        self.busy()
        while True:
            self.logger.info("x")


class Publishes(Idle):
    """Writes without a pause."""

    def main_loop(self) -> None:
        self.assigned = 0
        self.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
        self.busy()
        while True:
            self["number"] = self.assigned + 1
            self.assigned += 1

    def app_event_loop_stopped(self) -> None:
        print("assigned", self.assigned, flush=True)


class Prints(Idle):
    """Prints without a pause, in characters that not every encoding has, and counts its lines in an attribute."""

    _lines = 0

    def print_lines(self) -> None:
        self._lines += 1
        print("20 Ω", "x" * 1000)
        print("20 Ω", file=sys.stderr)
        self.status = self._lines
        time.sleep(0.01)

    def main_loop(self) -> None:
        while True:
            self.print_lines()

    async def async_main_loop(self) -> None:
        while True:
            self.print_lines()
            await asyncio.sleep(0)


class ReloadsOnHangup(Idle):
    """It reads its settings again on SIGHUP, as many servers do."""

    def main_loop(self) -> None:
        heard = threading.Event()

        def reload(signum: int, frame: Any) -> None:
            print("reloads", flush=True)
            heard.set()

        signal.signal(signal.SIGHUP, reload)
        self.busy()
        heard.wait(LONG)
        time.sleep(1.5)  # longer than it takes to stop an app whose main thread is blocked
        print("goes on", flush=True)
        time.sleep(LONG)


class IgnoresHangup(Idle):
    """It runs under nohup."""

    def main_loop(self) -> None:
        self.busy()
        while True:
            time.sleep(0.2)
            print("goes on", flush=True)


class LeavesSlowly(Idle):
    """The program ends some time after the app has stopped, and takes all signals for one stop."""

    def main_loop(self) -> None:
        def leave() -> None:
            print("leaving", flush=True)
            time.sleep(0.5)

        stop_signals._SAME_STOP_SECONDS = LONG
        atexit.register(leave)
        super().main_loop()


class NoWakeup(HookBlocks):
    """Another part of the program, such as an event loop, is told of signals."""

    def main_loop(self) -> None:
        signal.set_wakeup_fd(-1)
        self.busy()
        while True:
            time.sleep(0.05)  # no longer: a signal just before it does not end it


def app(kind: type[Idle], **options: Any) -> Idle:
    return kind(KSQLDBClient(URL), stop_timeout=float(sys.argv[2]) if len(sys.argv) > 2 else 5.0, **options)


def run(kind: type[Idle]) -> Callable[[], None]:
    return lambda: app(kind).run()


def run_async(kind: type[Idle]) -> Callable[[], None]:
    async def start() -> None:
        await app(kind).async_run()
        print("async_run returned", flush=True)

    return lambda: asyncio.run(start())


def two_apps(daemon: bool) -> Callable[[], None]:
    def start() -> None:
        built = threading.Event()

        def second() -> None:
            other = app(Idle, app_uuid="SECOND")
            built.set()
            other.run()

        first = app(Idle)
        threading.Thread(target=second, daemon=daemon).start()
        built.wait()
        first.run()

    return start


def hangup_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    app(IgnoresHangup).run()


def built_only() -> None:
    app(Idle).busy()
    time.sleep(LONG)


def ends_without_run() -> None:
    app(Idle).busy()


WHAT: dict[str, Callable[[], None]] = {
    "idle": run(Idle),
    "callback": run(CallbackBlocks),
    "c_code": run(InCode),
    "hears_late": run(HearsLate),
    "hangup_ignored": hangup_ignored,
    "hangup_reloads": run(ReloadsOnHangup),
    "leaves_slowly": run(LeavesSlowly),
    "no_wakeup": run(NoWakeup),
    "prints": run(Prints),
    "async_prints": run_async(Prints),
    "regular_expression": run(InRegularExpression),
    "hook_blocks": run(HookBlocks),
    "hook_raises": run(HookRaises),
    "catches_everything": run(CatchesEverything),
    "crash": run(Crashes),
    "crash_in_command": run(CrashesInCommand),
    "crash_when_told": run(CrashesWhenTold),
    "return_when_told": run(WaitsToBeTold),
    "return": run(Returns),
    "no_main_loop": run(NoMainLoop),
    "publishes": run(Publishes),
    "floods": run(Floods),
    "async_idle": run_async(Idle),
    "async_blocks": run_async(LoopBlocks),
    "async_catches_everything": run_async(LoopCatchesEverything),
    "async_crash": run_async(Crashes),
    "async_return": run_async(Returns),
    "two_apps": two_apps(daemon=True),
    "two_apps_no_daemon": two_apps(daemon=False),
    "built_only": built_only,
    "ends_without_run": ends_without_run,
}

if __name__ == "__main__":
    WHAT[sys.argv[1]]()
