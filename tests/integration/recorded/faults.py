"""Faults that a run injects at random. Several may be there at a time, each with another victim."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from factory_run import FactoryRun, Role
from foreign_log import read_topic_log
from history import Stop
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.exceptions import OpenFactoryError
from servers import KafkaBroker, Proxy

__all__ = ["Fault", "faults_of_broker", "faults_of_disk", "faults_of_processes", "inject", "small_disk"]

#: A fault begins, yields the seconds for which it lasts, and is mended by the rest of the function. It may then yield
#: the seconds in which its victim, the first word of its name, has no other fault.
Fault = Callable[[], Generator[float]]

_CLOCK_JUMPS = (-86_400.0, -3_600.0, -10.0, -1.0, 0.0, 0.0, 1.0, 10.0, 3_600.0, 86_400.0)


def inject(run: FactoryRun, faults: Mapping[str, Fault], seconds: float, without: Collection[str]) -> Counter[str]:
    """Inject faults for some seconds, and start again all that has ended; return the number of each kind."""
    kinds = [kind for kind in faults if kind not in without]
    injected = Counter(dict.fromkeys(kinds, 0))
    lasting: dict[str, tuple[float, Generator[float]]] = {}
    run.app.worker.until("running")
    now = due = time.monotonic()
    end = now + seconds
    while (now := time.monotonic()) < end:
        for victim, (until, fault) in list(lasting.items()):
            if now < until:
                continue
            if (more := next(fault, None)) is None:
                del lasting[victim]
            else:
                lasting[victim] = time.monotonic() + more, fault
        for role in run.roles:
            role.revive()
        kind = run.chance.choice(kinds)
        victim = kind.split()[0]
        if now >= due and victim not in lasting:
            fault = faults[kind]()
            lasting[victim] = now + next(fault), fault
            injected[kind] += 1
            due = time.monotonic() + run.chance.expovariate(1 / 0.8)
        time.sleep(0.02)
    for _, fault in lasting.values():
        list(fault)
    return injected


def faults_of_processes(run: FactoryRun) -> dict[str, Fault]:
    """A kill, a stop and a clock that is wrong, each of any process; commands that arrive twice."""
    chance = run.chance

    def killed(roles: list[Role]) -> Fault:
        def kill() -> Generator[float]:
            chance.choice(roles).worker.kill()
            yield 0.0

        return kill

    def suspended() -> Generator[float]:
        worker = chance.choice(run.roles).worker
        begin = time.monotonic()
        worker.process.send_signal(signal.SIGSTOP)
        yield chance.choice((chance.uniform(0.05, 0.5), chance.uniform(0.5, 8.0)))
        worker.process.send_signal(signal.SIGCONT)
        run.stops.append(Stop(worker.pid, begin, time.monotonic()))

    def clock_jumped() -> Generator[float]:
        chance.choice(run.roles).set_clock(chance.choice(_CLOCK_JUMPS))
        yield 0.0

    def delivered_again() -> Generator[float]:
        with suppress(OpenFactoryError):
            run.deliver_again()
        yield 0.0

    return {
        "app killed": killed([run.app]),
        "caller or writer killed": killed(run.sources),
        "watcher killed": killed(run.watchers),
        "process suspended": suspended,
        "clock jumped": clock_jumped,
        "commands delivered again": delivered_again,
    }


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small file system at a folder; False where this process may not, and the folder is as it was."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def faults_of_disk(folder: Path, chance: random.Random) -> dict[str, Fault]:
    """A small disk that is full for a while."""

    def full() -> Generator[float]:
        ballast = folder / "ballast"
        with open(ballast, "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        yield chance.uniform(0.2, 5.0)
        ballast.unlink()

    return {"disk full": full}


def faults_of_broker(run: FactoryRun, broker: KafkaBroker, proxy: Proxy, partitions: int) -> dict[str, Fault]:
    """A broker that is killed, stands still or cannot be reached, and a topic that is deleted and made anew.

    One of them at a time, with time between them in which the processes come to themselves.
    """
    chance = run.chance

    def recovery() -> float:
        return chance.uniform(1.0, 6.0)

    def away(begin: Callable[[], object], end: Callable[[], object], least: float, most: float) -> Fault:
        def fault() -> Generator[float]:
            begin()
            yield chance.uniform(least, most)
            end()
            yield recovery()

        return fault

    def made_anew() -> Generator[float]:
        run.earlier_logs += read_topic_log(broker.bootstrap_servers, len(run.made_anew))
        servers: dict[str, Any] = {"bootstrap.servers": broker.bootstrap_servers}
        admin = AdminClient(servers)
        [deleted] = admin.delete_topics(["ofa_assets"]).values()
        deleted.result(60)
        yield chance.choice((0.0, 0.5, 3.0))
        while "ofa_assets" not in admin.list_topics(timeout=30).topics:
            with suppress(OpenFactoryError):  # it is still being deleted
                create_topics(servers, TOPICS, partitions=partitions)
        run.made_anew.append(time.monotonic())
        run.commands.clear()  # the app cannot know any more which of them it has run
        yield recovery()

    return {
        "broker killed": away(broker.kill, broker.start, 0.0, 4.0),
        "broker suspended": away(broker.suspend, broker.resume, 0.1, 8.0),
        "broker cut off": away(proxy.cut, proxy.restore, 0.05, 5.0),
        "broker silent": away(proxy.silence, proxy.restore, 0.05, 5.0),
        "broker without its topic": made_anew,
    }
