"""Consumers that read the messages of one asset as members of a Kafka consumer group.

To watch an asset, use `Asset.subscribe_to_messages` instead: it works on every engine and delivers every event while it
is subscribed. A consumer group, in contrast, keeps its position in the log and divides the messages among its members.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import msgspec

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.location import ResolvedServers, Servers
from openfactory.events.attribute import sample_value
from openfactory.events.decoding import decode_json
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.kafka.ksql import KSQLDBClient, KSQLDBClientException
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["KafkaAssetConsumer", "KafkaAssetUNSConsumer", "OnMessage", "delete_consumer_group"]

_logger = logging.getLogger("openfactory.kafka")

#: Callback of a consumer; its arguments are the key of a message and the message.
OnMessage = Callable[[str, CaseInsensitiveDict], object]

# Seconds until `stop()` takes effect.
_POLL_SECONDS = 0.1

# Seconds to wait until the consumer has left its group.
_LEAVE_SECONDS = 5.0

# Seconds to wait until the broker has deleted a group.
_ADMIN_SECONDS = 10.0


class KafkaAssetConsumer:
    """Reads the messages of one asset as a member of a consumer group.

    A new group starts at the end of the log. After that, a group continues at its last offset, and a message whose
    handling was interrupted is delivered again. Each message goes to one member of the group.

    A message that is not a JSON object, has no value, or makes `on_message` raise an error is logged with its topic,
    partition and offset, and the consumer continues with the next message. When the broker becomes unavailable, the
    consumer logs it and waits until the broker answers again.

    Args:
        asset_uuid: UUID of the asset.
        consumer_group_id: name of the consumer group.
        on_message: called with the UUID of the asset and the message, whose keys (ID, VALUE, TAG, TYPE, attributes)
            are found in any case.
        ksqlClient: client whose URL names a Kafka broker or a ksqlDB server.
        bootstrap_servers: address of the broker of a ksqlDB server; by default from the client or KAFKA_BROKER.

    Raises:
        ConfigurationError: the client does not use Kafka, the stream does not exist, or no broker is named.
        EngineUnavailableError: the broker or the ksqlDB server cannot be reached.
    """

    #: Name of the stream that the consumer reads.
    KSQL_STREAM: ClassVar[str] = "ASSETS_STREAM"

    # The class that receives the same messages without a consumer group, for an error text.
    _ALTERNATIVE: ClassVar[str] = "Asset"

    def __init__(
        self,
        asset_uuid: str,
        consumer_group_id: str,
        on_message: OnMessage,
        ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
        bootstrap_servers: str | None = None,
    ) -> None:
        from openfactory.engines.kafka_engine.connection import BrokerConnection  # most programs have no consumer

        self.key = asset_uuid
        self.consumer_group_id = consumer_group_id
        self.on_message = on_message
        self.topic = self._topic(ksqlClient)
        servers = Servers.of(ksqlClient, bootstrap_servers).resolve(ksqlClient.ksqldb_url)
        self._connection = BrokerConnection(_broker(servers), servers.credentials)
        self._stopped = threading.Event()
        self._outage = Outage(
            _logger,
            meanwhile="Reading is retried. Run `ofa doctor` for details.",
            over=f"{self.topic} can be read by the group {consumer_group_id} again.",
        )

    def consume(self) -> None:
        """Read messages in the calling thread until `stop()` is called."""
        from confluent_kafka import Consumer

        key = self.key.encode()
        consumer = Consumer(
            self._connection.configuration(
                **{
                    "group.id": self.consumer_group_id,
                    "auto.offset.reset": "latest",
                    "enable.auto.commit": True,
                    "enable.auto.offset.store": False,  # stored once a message has been handled
                }
            )
        )
        try:
            consumer.subscribe([self.topic])
            while not self._stopped.is_set():
                message = consumer.poll(_POLL_SECONDS)
                if message is None:
                    continue
                if (error := message.error()) is not None:
                    self._outage.begin(
                        f"{self.topic} cannot be read by the group {self.consumer_group_id} ({error.str()})."
                    )
                    continue
                self._connection.on_answer()
                self._outage.end()
                if message.key() == key:
                    self._handle(message)
                _store_offset(consumer, message)
        finally:
            self._leave(consumer)

    def stop(self) -> None:
        """End `consume()` after the current message; may be called from any thread."""
        self._stopped.set()

    def filter_messages(self, value: CaseInsensitiveDict) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether to pass a message to `on_message`; a subclass may override it."""
        return True

    def _handle(self, message: Message) -> None:
        value = message.value()
        try:
            decoded = None if value is None else decode_json(value)
        except msgspec.DecodeError as error:
            self._skip(message, f"it is not JSON, {error}")
            return
        if not isinstance(decoded, dict):
            self._skip(message, "it has no value" if value is None else "it is not a JSON object")
            return
        properties = CaseInsensitiveDict(decoded)
        if str(properties.get("TYPE")).lower() == "samples" and "VALUE" in properties:
            properties["VALUE"] = sample_value(properties["VALUE"])
        try:
            if self.filter_messages(properties):
                self.on_message(self.key, properties)
        except Exception:
            _logger.exception("%s was not handled. The consumer goes on with the next message.", _description(message))

    def _leave(self, consumer: Consumer) -> None:
        """Leave the group on another thread: without a broker, librdkafka waits most of a minute to commit offsets."""
        leaving = call_on_thread("openfactory-leaving", consumer.close)
        try:
            leaving.result(_LEAVE_SECONDS)
        except TimeoutError:
            _logger.warning(
                "The consumer could not leave the group %s, because no broker answers. "
                "The last messages may be delivered again.",
                self.consumer_group_id,
            )

    def _skip(self, message: Message, reason: str) -> None:
        _logger.warning("%s is skipped: %s. Its key is %s.", _description(message), reason, self.key)

    def _topic(self, client: KSQLDBClient) -> str:
        try:
            return client.get_kafka_topic(self.KSQL_STREAM)
        except KSQLDBClientException as error:
            if not isinstance(error.__cause__, ConfigurationError):
                raise
            raise ConfigurationError(
                f"{redacted(client.ksqldb_url)} has no stream {self.KSQL_STREAM} for a consumer group. Use "
                f"{self._ALTERNATIVE}({self.key!r}, client).subscribe_to_messages(callback), which needs no group."
            ) from error


class KafkaAssetUNSConsumer(KafkaAssetConsumer):
    """Reads the messages of the asset at a place of the unified namespace, as a member of a consumer group.

    It reads a stream of a ksqlDB server, so it needs such a server. Otherwise it works like `KafkaAssetConsumer`.

    Args:
        asset_uns_id: the place.
        consumer_group_id: name of the consumer group.
        on_message: called with the place and the message, which also has the key ASSET_UUID.
        ksqlClient: client whose URL names the ksqlDB server.
        bootstrap_servers: address of the broker of the server; by default from the client or KAFKA_BROKER.

    Raises:
        ConfigurationError: the client does not use a ksqlDB server, or no broker is named.
        EngineUnavailableError: the server or the broker cannot be reached.
    """

    KSQL_STREAM: ClassVar[str] = "ASSETS_STREAM_UNS"
    _ALTERNATIVE: ClassVar[str] = "AssetUNS"

    def __init__(
        self,
        asset_uns_id: str,
        consumer_group_id: str,
        on_message: OnMessage,
        ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
        bootstrap_servers: str | None = None,
    ) -> None:
        super().__init__(asset_uns_id, consumer_group_id, on_message, ksqlClient, bootstrap_servers)


def delete_consumer_group(
    consumer_group_id: str, bootstrap_servers: str | None = None, *, credentials: Credentials | None = None
) -> bool:
    """Delete a consumer group and its offsets from a broker.

    Args:
        consumer_group_id: name of the consumer group.
        bootstrap_servers: address of the broker; KAFKA_BROKER by default.
        credentials: user name, secrets and certificates; from the environment by default.

    Returns:
        True if the group was deleted or did not exist. False if it was not deleted; the reason is logged.

    Raises:
        ConfigurationError: no broker is named.
    """
    from confluent_kafka import KafkaError, KafkaException

    from openfactory.engines.kafka_engine.broker_admin import BrokerAdmin

    resolved = Servers(bootstrap_servers, credentials=credentials).resolve()
    servers = _broker(resolved)
    admin = BrokerAdmin({"bootstrap.servers": servers, **resolved.credentials.kafka()})
    try:
        admin.metadata(_ADMIN_SECONDS)
        futures = admin.client.delete_consumer_groups([consumer_group_id], request_timeout=_ADMIN_SECONDS)
        futures[consumer_group_id].result(_ADMIN_SECONDS)
    except (EngineUnavailableError, KafkaException, TimeoutError) as error:
        reason = error.args[0] if isinstance(error, KafkaException) else None
        if reason is not None and reason.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return True
        remedy = ""
        if reason is not None and reason.code() == KafkaError.NON_EMPTY_GROUP:
            remedy = " Stop its members first."
        text = str(error) if reason is None else f"{reason.str()}.{remedy}"
        _logger.error("The consumer group %s at %s was not deleted: %s", consumer_group_id, servers, text)
        return False
    return True


def _broker(servers: ResolvedServers) -> str:
    if not servers.bootstrap_servers:
        raise ConfigurationError("No Kafka broker is named. Pass bootstrap_servers='host:9092', or set KAFKA_BROKER.")
    return servers.bootstrap_servers


def _store_offset(consumer: Consumer, message: Message) -> None:
    """Mark a message as read; if its partition has moved to another member, that member reads it again."""
    from confluent_kafka import KafkaException

    try:
        consumer.store_offsets(message)
    except KafkaException as error:
        _logger.info("%s was handled after its partition had moved to another member: %s", _description(message), error)


def _description(message: Message) -> str:
    return f"The message at {message.topic()}, partition {message.partition()}, offset {message.offset()},"
