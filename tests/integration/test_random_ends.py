"""Owners that end at random, and what watchers hear and read of their assets, on a file and on a Kafka.

`OPENFACTORY_ENDS=200 hatch run ends` lets 200 ends happen on each, and prints the figures. `OPENFACTORY_FAULTS_SEED=7`
chooses the ends that a run with this seed has chosen, though not their moments.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from ends import EndsRun
from history import Stop
from machines import Way
from needed import needed
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from owner_history import OwnerHistory, seconds_until_known, violations_of_owners
from servers import KafkaBroker, Proxy, Toxiproxy
from servers.ports import HOST, free_port

if TYPE_CHECKING:
    from tests.integration.conftest import Start

ENDS = int(os.environ.get("OPENFACTORY_ENDS", "20"))
SEED = int(os.environ.get("OPENFACTORY_FAULTS_SEED", random.randrange(10**6)))

# The default of LIVENESS_TIMEOUT, by which the processes of a run go.
BOUND = 15.0

# The apps of each machine run in one process.
APPS = (("A",), ("B",), ("C",), ("D",), ("E1", "E2"), ("F1", "F2", "F3"), ("G",), ("H",))

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(ENDS * 60 + 900)]


def report(run: EndsRun, history: OwnerHistory) -> None:
    """Print the figures of a run, and fail if a promise is broken."""
    found = violations_of_owners(history)
    lines = [f"seed {SEED}, {sum(run.kinds.values())} ends, {len(history.ran):,} commands run"]
    lines += [f"{count:6} x {kind}" for kind, count in sorted(run.kinds.items())]
    lines += [
        f"{len(seconds):6} times until known after {kind}: median {median(seconds):.1f} s, longest {max(seconds):.1f} s"
        for kind, seconds in sorted(seconds_until_known(history).items())
    ]
    print("\n".join(["", *lines, f"{len(found):6} promises broken"]))
    if found:
        pytest.fail("\n".join(f"{kind}: {text[:1500]}" for kind, text in found[:40]), pytrace=False)


def test_every_end_of_an_owner_is_known_in_time_and_no_other_sqlite(start: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/factory.db"
    run = EndsRun(start, url, tmp_path, random.Random(SEED), APPS, bound=BOUND, ends=ENDS)
    report(run, run.run())


@pytest.fixture
def broker_and_proxy() -> Iterator[tuple[KafkaBroker, Proxy]]:
    """A broker of this test, and a proxy through which one machine alone reaches it."""
    second = free_port()
    with ExitStack() as servers:
        with needed("A Kafka beside toxiproxy"):
            proxy = servers.enter_context(Toxiproxy()).proxy(f"{HOST}:{second}")
            broker = servers.enter_context(KafkaBroker(further=(second, proxy.address)))
        yield broker, proxy


def test_every_end_of_an_owner_is_known_in_time_and_no_other_kafka(
    start: Start, broker_and_proxy: tuple[KafkaBroker, Proxy], tmp_path: Path
) -> None:
    broker, proxy = broker_and_proxy
    create_topics({"bootstrap.servers": broker.bootstrap_servers}, TOPICS, partitions=3)
    url = f"kafka://{broker.bootstrap_servers}"
    run = EndsRun(start, url, tmp_path, random.Random(SEED), APPS, bound=BOUND, ends=ENDS, proxy=proxy)
    report(run, run.run(_outages(run, broker)))


def _outages(run: EndsRun, broker: KafkaBroker) -> Way:
    """Suspend or kill the broker from time to time, for up to twice the time in which an end must be known."""
    while run.goes_on:
        yield run.chance.uniform(30.0, 90.0)
        begin, run.is_away = time.monotonic(), True
        if run.chance.random() < 0.5:
            run.kinds["broker suspended"] += 1
            broker.suspend()
            yield run.chance.uniform(5.0, 2 * BOUND)
            broker.resume()
        else:
            run.kinds["broker killed"] += 1
            broker.kill()
            yield run.chance.uniform(0.0, 2 * BOUND)
            starting = threading.Thread(target=broker.start)
            starting.start()
            while starting.is_alive():  # the ends go on meanwhile
                yield 0.1
        run.outages.append(Stop(0, begin, time.monotonic()))
        run.is_away = False
