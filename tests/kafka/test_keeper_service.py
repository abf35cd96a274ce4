"""`ofa fanout keeper`: keepers as processes, which share the partitions and take over from each other."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app_processes import AppProcess
from kept import Kept, by_state, by_whole_log, history, written
from openfactory.engines.kafka_engine.topics import STATE_TOPIC, TOPICS, create_topics
from openfactory.fanout.keeper import StateKeeperApp
from openfactory.testing import eventually
from running_apps import ask
from servers import KafkaBroker

pytestmark = pytest.mark.timeout(180)

SESSION_SECONDS = "3"
PARTITIONS = 4


class Keeper(AppProcess):
    """A keeper as an operator starts it, with its pages."""

    @property
    def port(self) -> int:
        self.until("Serving health and metrics on ")
        found = re.search(r"Serving health and metrics on http://127\.0\.0\.1:(\d+)", self.said)
        assert found
        return int(found[1])

    def is_ready(self) -> bool:
        return ask(self.port, "/health/ready").status == 200

    def lag(self) -> dict[int, float]:
        """By partition of this keeper, the records that the state lacks, as its metrics have them."""
        found = re.findall(r'openfactory_keeper_lag_records\{partition="(\d+)"\} (\S+)', self.metrics())
        return {int(partition): float(count) for partition, count in found}

    def metrics(self) -> str:
        return ask(self.port, "/metrics").text


StartKeeper = Callable[..., Keeper]


@pytest.fixture
def start_keeper(tmp_path: Path) -> Iterator[StartKeeper]:
    keepers: list[Keeper] = []

    def start(**environment: str) -> Keeper:
        worker = Path(__file__).parent / "workers" / "short_sessions.py"
        settings = {"OPENFACTORY_HOST": "127.0.0.1", "OPERATIONS_PORT": "0", **environment}
        command = [sys.executable, "-W", "error", str(worker), SESSION_SECONDS, "fanout", "keeper"]
        keepers.append(Keeper(tmp_path, command, settings))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.kill()


def test_two_keepers_share_the_log_and_one_goes_on_when_the_other_is_killed(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, start_keeper: StartKeeper
) -> None:
    servers = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(servers, [*TOPICS[:2], STATE_TOPIC], prefix=topic_prefix, partitions=PARTITIONS)
    kept, chance = Kept(kafka_broker, topic_prefix), random.Random(7)
    # In the two ways in which a factory names its Kafka.
    first = start_keeper(KSQLDB_URL=kafka_url)
    second = start_keeper(
        KSQLDB_URL=f"http://127.0.0.1:9?prefix={topic_prefix}", KAFKA_BROKER=kafka_broker.bootstrap_servers
    )
    eventually(lambda: len(first.lag()) == len(second.lag()) == PARTITIONS / 2, timeout=60)
    assert first.lag().keys() | second.lag().keys() == set(range(PARTITIONS))
    written(kafka_broker, topic_prefix, history(chance, 300))
    kept.wait()
    eventually(lambda: {*first.lag().values(), *second.lag().values()} == {0}, timeout=60)
    assert first.is_ready()
    assert re.search(r'openfactory_keeper_records_total\{outcome="read"\} [1-9]', first.metrics() + second.metrics())
    assert "openfactory_engine_keeper_lag_records " in first.metrics()  # of all partitions, as in each app

    first.kill()
    written(kafka_broker, topic_prefix, history(chance, 300))
    kept.wait()
    assert len(second.lag()) == PARTITIONS
    assert second.stop() == 0
    assert "Received SIGTERM, stopping." in second.said
    assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []


def test_a_keeper_that_has_a_problem_is_not_ready(kafka_url: str) -> None:
    app = StateKeeperApp(kafka_url, app_uuid="KEEPER")
    try:
        app["avail"] = "AVAILABLE"
        assert app._health().problems == []
        app._keeper._outage.begin("The state keeper has stopped: it may not write.")
        page = app._operations_pages()["/health/ready"]("")
        assert page.status == 503
        assert b"The state keeper has stopped: it may not write." in page.body
        assert b"openfactory_keeper_working 0.0" in app._operations_pages()["/metrics"]("").body
        app._keeper._outage.end()
        assert b"openfactory_keeper_working 1.0" in app._operations_pages()["/metrics"]("").body
        assert app._health().problems == []
    finally:
        app.shutdown()


def test_an_error_of_the_keeper_ends_the_service(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = StateKeeperApp(kafka_url, app_uuid="KEEPER")
    with app:
        monkeypatch.setattr(app._keeper, "run", lambda: int("no number"))
        with pytest.raises(ValueError, match="no number"):
            app.main_loop()
