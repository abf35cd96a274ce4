"""A test event: the check that a log takes events and returns them."""

from __future__ import annotations

from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.delivery import Delivery
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition
from openfactory.events.message import encode_message
from openfactory.events.trial import new_test_event
from openfactory.settings.credentials import Credentials

__all__ = ["try_event"]


def try_event(bootstrap_servers: str, credentials: Credentials, topic: str, timeout: float) -> bool:
    """Write an event to a log and read it; return whether it was read as it was written.

    The event stays in the log as any event does. A transaction that is aborted would show it to most readers too: only
    some wait for its end.

    Args:
        bootstrap_servers: addresses of the brokers.
        credentials: login for the brokers.
        topic: the log.
        timeout: seconds to wait for the acknowledgement.

    Raises:
        DeliveryError, DeliveryTimeout: the event was not written.
        EngineUnavailableError: the event cannot be read.
    """
    event = new_test_event()
    message = encode_message(event)
    connection = BrokerConnection(bootstrap_servers, credentials)
    delivery = Delivery(connection)
    try:
        delivery.publish(topic, event.asset_uuid, message, event).wait(timeout)
        [(place, end)] = delivery.furthest.items()
    finally:
        delivery.abandon()
    reader = LogReader(connection)
    try:
        return [record.value() for _, record in reader.read(Partition(*place), end - 1, end)] == [message]
    finally:
        reader.close()
