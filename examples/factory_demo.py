"""A small factory, live: a mill, a shift leader that commands it, and a dashboard, each in its own process.

hatch run demo [--kafka | --cluster] [--seconds N] [--keep FOLDER]

Their data is in a file. With --kafka, the demo starts a Kafka and the same apps keep their data there. With --cluster,
the services of a factory of many machines run too, and the events that the demo shows come over NATS. The apps read
theirs from Kafka, because only the engine with a ksqlDB uses NATS.
The dashboard is a web page on a free port of this machine. It needs openfactory-flask.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from factory_view import Event, Lines, Picture, View
from rich.console import Console

from openfactory.assets import Asset
from openfactory.exceptions import MissingDistributionError
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient

if TYPE_CHECKING:
    from factory_cluster import Cluster

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
FILES = {name: HERE / f"{name}.py" for name in ("mill", "shift_leader")}
DASHBOARD = HERE / "dashboard" / "dashboard.py"
TICK = 0.1  # seconds
PATIENCE = 10.0  # seconds in which an app must stop
SAME_SIGNAL = 0.5  # seconds in which a signal that is repeated is the same one


class Demo:
    """The processes of the factory, and the queue of their events.

    A signal handler only records its signal. The demo handles the signal between two steps, so that no process is left.
    """

    def __init__(self, folder: Path, url: str, seconds: float | None, cluster: Cluster | None = None) -> None:
        self.folder = folder
        self.url = url
        self.cluster = cluster
        self.files = dict(FILES)
        self.pages: dict[str, str] = {}
        self.web: dict[str, str] = {}
        self.missing = missing_dashboard()
        if not self.missing:
            self.add_dashboard()
        self.apps: dict[str, subprocess.Popen[bytes]] = {}
        self.signals: list[float] = []  # when each arrived
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.seconds = seconds
        self.deadline: float | None = None

    def add_dashboard(self) -> None:
        port = free_port()
        self.files["dashboard"] = DASHBOARD
        self.pages["dashboard"] = f"http://127.0.0.1:{port}/"
        self.web = {"OPENFACTORY_HOST": "127.0.0.1", "PORT": str(port)}

    def run(self) -> int:
        """Show the factory until a signal, the end of an app or the time limit; return the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, lambda *_: self.record_signal())
        with ExitStack() as stack:
            client = stack.enter_context(KSQLDBClient(self.url))
            assets = {name: stack.enter_context(Asset(name, client)) for name in self.files}
            if self.cluster is not None:
                stack.enter_context(self.cluster.watch(assets, self.events.put))
            else:
                for asset in assets.values():
                    asset.subscribe_to_messages(self.listener(asset.asset_uuid))
            view = self.view(assets)
            stack.callback(view.close)
            stack.callback(self.end_apps)
            for name in self.files:
                self.start(name)
            while not self.is_over():
                if self.seconds is not None and self.deadline is None and all_available(assets):
                    self.deadline = time.monotonic() + self.seconds
                self.show(view)
            self.terminate()
            patient_until = time.monotonic() + PATIENCE
            while self.running() and len(self.signals) < 2 and time.monotonic() < patient_until:
                self.show(view, "Stopping.")
            self.show(view, "Stopped.")
        return self.report()

    def record_signal(self) -> None:
        """Record a signal, unless it repeats the first one: hatch passes on a Ctrl-C that the terminal has sent too."""
        now = time.monotonic()
        if not self.signals or now - self.signals[0] > SAME_SIGNAL:
            self.signals.append(now)

    def view(self, assets: dict[str, Asset]) -> View:
        if not sys.stdout.isatty():
            return Lines(assets, self.pages, self.missing)
        console = Console()
        hints = [*watch_command(self.url, console.width), *filter(None, [self.missing])]
        if self.cluster is not None:
            hints.append(f"curl {self.cluster.router_url}/asset/mill")
        return Picture(assets, self.pages, hints, console)

    def listener(self, name: str) -> Callable[[str, CaseInsensitiveDict], None]:
        def queue_event(subject: str, message: CaseInsensitiveDict) -> None:
            attribute_id = subject.removeprefix(f"{name}.")
            timestamp = message["attributes"]["timestamp"]
            self.events.put(Event(name, attribute_id, message["VALUE"], message["TYPE"], message["TAG"], timestamp))

        return queue_event

    def start(self, name: str) -> None:
        """Start an app as a user does: its file, with some environment variables."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.apps[name] = subprocess.Popen(
                [sys.executable, self.files[name]],
                env={**os.environ, **self.web, "APP_UUID": name, "KSQLDB_URL": self.url},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # only the demo receives Ctrl-C; it then stops each app once
            )

    def running(self) -> list[str]:
        return [name for name, app in self.apps.items() if app.poll() is None]

    def is_over(self) -> bool:
        in_time = self.deadline is None or time.monotonic() < self.deadline
        return bool(self.signals) or not in_time or len(self.running()) < len(self.apps)

    def show(self, view: View, note: str = "") -> None:
        """Show the events of one tick."""
        until = time.monotonic() + TICK
        while (left := until - time.monotonic()) > 0:
            try:
                view.hear(self.events.get(timeout=left))
            except queue.Empty:
                break
        view.tick(note)

    def terminate(self) -> None:
        """Ask the apps to stop."""
        for app in self.apps.values():
            app.terminate()  # does nothing to an app that has ended

    def end_apps(self) -> None:
        """End all apps, however the demo ends."""
        self.terminate()
        for app in self.apps.values():
            try:
                app.wait(0 if len(self.signals) > 1 else 1)
            except subprocess.TimeoutExpired:
                app.kill()
                app.wait()

    def report(self) -> int:
        """Print the outcome, with the last log lines of each app that failed; return the exit status."""
        # An app that receives SIGTERM before it has a handler ends by the signal itself.
        successes = (0, -signal.SIGTERM)
        failed = {name: app.returncode for name, app in self.apps.items() if app.returncode not in successes}
        for name, status in failed.items():
            lines = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
            print(f"{name} ended with status {status}. Its last lines:", *lines[-20:], sep="\n", file=sys.stderr)
        if self.cluster is not None:
            print(self.cluster.report())
        if not failed:
            print("The factory has stopped.")
        return 1 if failed else 0


def watch_command(url: str, width: int) -> list[str]:
    """Return the command that watches the mill, on two lines if it is longer than the width of the terminal."""
    prefix = ""
    if "HATCH_ENV_ACTIVE" in os.environ:
        # The README installs hatch into .venv, which is not on PATH.
        prefix = ".venv/bin/hatch run " if Path(".venv/bin/hatch").exists() else "hatch run "
    command, option = f"{prefix}ofa asset watch mill", f"--url {url}"
    line = f"{command} {option}"
    return [line] if len(line) <= width else [f"{command} \\", f"  {option}"]


def missing_dashboard() -> str:
    """Return why the dashboard cannot run and how to install it; an empty text if it can run."""
    try:
        import openfactory.apps.ofa_flask_app  # noqa: F401
    except MissingDistributionError as error:
        return f"No dashboard: {error}"
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def all_available(assets: dict[str, Asset]) -> bool:
    return all(asset.avail.value == "AVAILABLE" for asset in assets.values())


@contextmanager
def kafka(folder: Path) -> Generator[str]:
    """Run a Kafka during the demo, and return the URL of a factory on it."""
    from servers import KafkaBroker

    print("Starting a Kafka. The first start downloads it.", flush=True)
    with KafkaBroker(folder / "kafka") as broker:
        yield f"kafka://{broker.bootstrap_servers}"


@contextmanager
def cluster_on(folder: Path, url: str) -> Generator[Cluster]:
    """Run the services of a factory of many machines during the demo."""
    from factory_cluster import running_cluster

    print("Starting two NATS servers, a router, two forwarders and a keeper.", flush=True)
    with running_cluster(folder, url) as cluster:
        print(f"The events come over NATS. The router is {cluster.router_url}.", flush=True)
        yield cluster


def run_in(folder: Path, chosen: argparse.Namespace) -> int:
    """Run the demo with its files in a folder; return the exit status."""
    if not chosen.kafka and not chosen.cluster:
        return Demo(folder, f"sqlite:///{quote(str(folder))}/factory.db", chosen.seconds).run()
    sys.path.insert(0, str(SCRIPTS))
    with ExitStack() as stack:
        try:
            url = stack.enter_context(kafka(folder))
            cluster = stack.enter_context(cluster_on(folder, url)) if chosen.cluster else None
        except RuntimeError as error:  # a missing program, or the last output of a server
            print(f"The demo cannot run on a Kafka here. {error}", file=sys.stderr)
            return 1
        return Demo(folder, url, chosen.seconds, cluster).run()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Show a small factory, live, until Ctrl-C.")
    servers = parser.add_mutually_exclusive_group()
    servers.add_argument("--kafka", action="store_true", help="run the demo on a Kafka, which needs Java and Maven")
    servers.add_argument(
        "--cluster", action="store_true", help="run it on a Kafka, two NATS servers, a router, forwarders and a keeper"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="end N seconds after all apps have started")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the data and the logs of the apps there")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    try:
        if chosen.keep is not None:
            chosen.keep.mkdir(parents=True, exist_ok=True)
            return run_in(chosen.keep.resolve(), chosen)
        with tempfile.TemporaryDirectory(prefix="ofa-") as folder:
            return run_in(Path(folder), chosen)
    except KeyboardInterrupt:  # before the demo handles signals
        return 130


if __name__ == "__main__":
    sys.exit(main())
