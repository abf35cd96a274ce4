"""Processes that are killed, stopped and lied to at random, on a file and on a Kafka, and a check of their history.

`OPENFACTORY_FAULTS_SECONDS=600 hatch run faults` injects faults for ten minutes each, and prints the figures.
`OPENFACTORY_FAULTS_WITHOUT="broker without its topic,disk full"` leaves kinds out. `OPENFACTORY_FAULTS_SEED=7` chooses
the faults that a run with this seed has chosen, though not their moments.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from factory_run import FactoryRun
from faults import faults_of_broker, faults_of_disk, faults_of_processes, inject, small_disk
from foreign_log import read_file_log, read_topic_log
from history import figures, violations
from needed import needed
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from servers import KafkaBroker, Proxy, Toxiproxy
from servers.ports import HOST, free_port

if TYPE_CHECKING:
    from tests.integration.conftest import Start

SECONDS = float(os.environ.get("OPENFACTORY_FAULTS_SECONDS", "60"))
WITHOUT = os.environ.get("OPENFACTORY_FAULTS_WITHOUT", "").split(",")
SEED = int(os.environ.get("OPENFACTORY_FAULTS_SEED", random.randrange(10**6)))

# Seconds between two writes of a process: often enough to be hit, and a log that is read within seconds at the end.
PAUSE = 0.01

PARTITIONS = 3

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(SECONDS + 900)]


def report(run: FactoryRun, injected: Counter[str]) -> None:
    """End the run, print its figures, and fail if a promise is broken."""
    history = run.end(patience=120)
    found = violations(history)
    lines = [f"seed {SEED}, {SECONDS:g} s of faults"]
    lines += [f"{count:9,} {name}" for name, count in figures(history, found).items()]
    lines += [f"{count:9,} x {kind}" for kind, count in injected.items()]
    ended = sum((Counter({f"{role.name}: {how}": n for how, n in role.ended.items()}) for role in run.roles), Counter())
    lines += [f"{count:9,} ended by itself, {how}" for how, count in ended.items()]
    print("\n".join(["", *lines]))
    if found:
        of_kind: dict[str, list[str]] = {}
        for kind, text in found:
            of_kind.setdefault(kind, []).append(f"{kind}: {text[:600]}")
        pytest.fail("\n".join(line for texts in of_kind.values() for line in texts[:20]), pytrace=False)


def test_a_factory_on_a_file_keeps_every_promise_through_faults_sqlite(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with (
        small_disk(folder, megabytes=int(64 + SECONDS / 2)) as is_small,
        FactoryRun(
            start,
            f"sqlite:///{folder}/factory.db",
            tmp_path,
            random.Random(SEED),
            partial(read_file_log, folder / "factory.db"),
            pause=PAUSE,
            writers=1,
        ) as run,
    ):
        faults = faults_of_processes(run) | (faults_of_disk(folder, run.chance) if is_small else {})
        if not is_small:
            print("Without a full disk: this user may not mount a file system.")
        report(run, inject(run, faults, SECONDS, WITHOUT))


@pytest.fixture
def broker_and_proxy() -> Iterator[tuple[KafkaBroker, Proxy]]:
    """A broker of this test, which clients reach through a proxy."""
    port = free_port()
    with ExitStack() as servers:
        with needed("A Kafka behind toxiproxy"):
            proxy = servers.enter_context(Toxiproxy()).proxy(f"{HOST}:{port}")
            broker = servers.enter_context(KafkaBroker(port=port, advertised=proxy.address))
        yield broker, proxy


def test_a_factory_on_a_broker_keeps_every_promise_through_faults_kafka(
    start: Start, broker_and_proxy: tuple[KafkaBroker, Proxy], tmp_path: Path
) -> None:
    broker, proxy = broker_and_proxy
    create_topics({"bootstrap.servers": broker.bootstrap_servers}, TOPICS, partitions=PARTITIONS)
    with FactoryRun(
        start,
        f"kafka://{broker.bootstrap_servers}",
        tmp_path,
        random.Random(SEED),
        lambda: read_topic_log(broker.bootstrap_servers, len(run.made_anew)),
        pause=PAUSE,
        writers=1,
    ) as run:
        faults = faults_of_processes(run) | faults_of_broker(run, broker, proxy, PARTITIONS)
        report(run, inject(run, faults, SECONDS, WITHOUT))
