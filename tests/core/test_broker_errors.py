"""Why no broker answers is explained by what librdkafka says, in whatever order it says it."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from openfactory.engines.kafka_engine.broker_errors import explain

ADDRESS = "sasl_ssl://127.0.0.1:9092/bootstrap: "


@pytest.mark.parametrize(
    ("reason", "cause", "remedy"),
    [
        ("error:0A000086:SSL routines::certificate verify failed (after 27ms)", "TLS", "CA_FILE"),
        (
            "Send failed: Broken pipe (after 3ms in state APIVERSION_QUERY)",
            "closes the connection",
            "KAFKA_SECURITY_PROTOCOL",
        ),
        ("Receive failed: Connection reset by peer", "closes the connection", "KAFKA_SECURITY_PROTOCOL"),
        ("Disconnected while requesting ApiVersion", "closes the connection", "KAFKA_SECURITY_PROTOCOL"),
        ("Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms)", "refused", "start the broker"),
    ],
)
def test_a_transport_error_is_explained(reason: str, cause: str, remedy: str) -> None:
    explanation = explain([KafkaError(KafkaError._TRANSPORT, ADDRESS + reason)])
    assert explanation is not None
    assert cause in explanation[0]
    assert remedy in explanation[1]
