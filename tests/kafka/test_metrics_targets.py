"""An app with metrics is a target of the factory's metrics registry, in the form that the registry reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.apps import OpenFactoryApp
from openfactory.events.registration import Registration
from openfactory.exceptions import OFAException
from openfactory.kafka import KSQLDBClient
from servers import KafkaBroker
from workers.bare_log import read_topic

Eventually = Callable[..., None]


def test_an_app_is_a_target_of_the_metrics_registry(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    with (
        KsqlDBFactory(kafka_broker.bootstrap_servers) as factory,
        KSQLDBClient(factory.entered(monkeypatch)) as client,
    ):
        topic = f"{factory.prefix}metrics_targets_topic"
        factory.ksqldb.tables["METRICS_TARGETS_SOURCE"] = topic
        with OpenFactoryApp(client, app_uuid="Meter") as app:
            with pytest.raises(OFAException, match="does not have a metrics registry"):
                app.register_prometheus_metrics(4000)
            client.engine.register(Registration("REGISTRY", "Prometheus.Registry"))
            eventually(lambda: "REGISTRY" in client.engine.types())
            app.register_prometheus_metrics(4000, "/own")
        [record] = read_topic(kafka_broker.bootstrap_servers, topic)
    assert (record.key, record.said) == (b"Meter", {"HOST": "meter", "PORT": "4000", "PATH": "/own"})
