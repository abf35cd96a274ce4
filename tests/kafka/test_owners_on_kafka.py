"""One process at a time runs an app, and its end is known: apps that share a Kafka, also beside a ksqlDB and NATS."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, and not marked as such
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset
from owner_promises import TIMEOUT, Eventually, FrozenAppPromise, OwnerFixtures, OwnerPromises, Start
from servers import KafkaBroker, free_port


class TestKafka(OwnerPromises):
    @pytest.fixture
    def place_environment(self, kafka_url: str) -> dict[str, str]:
        return {"KSQLDB_URL": kafka_url}

    def test_a_process_whose_interpreter_is_held_counts_as_frozen(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        """The thread of the client that sends heartbeats goes on, as no other thread does."""
        start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        time.sleep(TIMEOUT / 5)  # a hold before the app has polled for its first assignment is not noticed
        press.method("hold_the_interpreter", "HMI")
        eventually(lambda: press.avail.value == "UNAVAILABLE", timeout=50)  # before it goes on after 60 s


@pytest.mark.thorough  # the same promises as on a Kafka alone; the way over NATS has tests of its own in each run
class TestKsqlDBAndNATS(OwnerPromises):
    @pytest.fixture(params=[False, True], ids=["log", "nats"])
    def place_environment(self, request: pytest.FixtureRequest, kafka_broker: KafkaBroker) -> Iterator[dict[str, str]]:
        nats_url = request.getfixturevalue("nats_server").url if request.param else None
        with ExitStack() as stack:
            yield stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers, nats_url)).environment


class TestExistingSystem(FrozenAppPromise):
    """The topics of the existing system, whose records have the times of their writers."""

    @pytest.fixture
    def place_environment(self, kafka_broker: KafkaBroker) -> Iterator[dict[str, str]]:
        with KsqlDBFactory(kafka_broker.bootstrap_servers, existing=True) as factory:
            yield factory.environment


class TestBrokerAway(OwnerFixtures):
    """A broker that the test may freeze and kill."""

    @pytest.fixture
    def place_environment(self, own_kafka_broker: KafkaBroker) -> dict[str, str]:
        return {"KSQLDB_URL": f"kafka://{own_kafka_broker.bootstrap_servers}"}

    def test_nobody_has_ended_because_the_broker_was_away(
        self, start: Start, press: Asset, heard: list[Any], own_kafka_broker: KafkaBroker, eventually: Eventually
    ) -> None:
        app = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        own_kafka_broker.suspend()
        time.sleep(2 * TIMEOUT)
        own_kafka_broker.resume()
        assert press.call("stroke", token="frozen", sender_uuid="HMI", timeout=60) == app.pid
        own_kafka_broker.kill()
        own_kafka_broker.start()
        assert press.call("stroke", token="killed", sender_uuid="HMI", timeout=60) == app.pid
        time.sleep(TIMEOUT)
        assert heard == ["UNAVAILABLE", "AVAILABLE"]
        app.kill()
        eventually(lambda: heard == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE"])


@pytest.mark.thorough  # with a broker of its own
class TestNoRightsForGroups(OwnerFixtures):
    """A broker whose user may use the topics, and no consumer groups."""

    @pytest.fixture
    def broker(self) -> Iterator[KafkaBroker]:
        rules = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        with KafkaBroker(properties=rules, secured={"sasl_plaintext": free_port()}) as broker:
            operations = (
                AclOperation.READ,
                AclOperation.WRITE,
                AclOperation.DESCRIBE,
                AclOperation.CREATE,
                AclOperation.DESCRIBE_CONFIGS,
            )
            rights = [
                AclBinding(
                    ResourceType.TOPIC,
                    "*",
                    ResourcePatternType.LITERAL,
                    f"User:{broker.username}",
                    "*",
                    operation,
                    AclPermissionType.ALLOW,
                )
                for operation in operations
            ]
            admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
            for granted in admin.create_acls(rights).values():
                granted.result(60)
            yield broker

    @pytest.fixture
    def place_environment(self, broker: KafkaBroker) -> dict[str, str]:
        return {
            "KSQLDB_URL": f"kafka://{broker.address('sasl_plaintext')}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": broker.username,
            "KAFKA_SASL_PASSWORD": broker.password,
        }

    def test_an_app_that_nobody_can_see_is_not_taken_for_ended_and_says_so(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        app = start()
        app.until("Grant READ and DESCRIBE on the groups that begin with ofa_assets-owner-")
        eventually(lambda: press.owner is not None and not press.owner.observable)
        eventually(lambda: press.avail.value == "AVAILABLE")
        time.sleep(TIMEOUT)
        assert heard == ["UNAVAILABLE", "AVAILABLE"]
        assert "The log cannot be read" not in app.said
        assert app.stop() == 0

    def test_a_watcher_that_may_see_no_groups_takes_nobody_for_ended(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually, broker: KafkaBroker
    ) -> None:
        login = {name: "" for name in os.environ if name.startswith("KAFKA_")}
        app = start(**login | {"KSQLDB_URL": f"kafka://{broker.bootstrap_servers}"})
        eventually(lambda: press.avail.value == "AVAILABLE")
        assert press.owner is not None
        assert press.owner.observable
        time.sleep(2 * TIMEOUT)
        assert heard == ["UNAVAILABLE", "AVAILABLE"]
        assert app.stop() == 0
