"""Consumers for code written for OpenFactory: they read the messages of one asset as members of a consumer group.

Who wants to watch an asset needs none of them: `Asset.subscribe_to_messages` works on every engine, and misses nothing
of what happens while it watches. A group remembers instead how far it has read, and shares the work of its members.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import msgspec

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.engines.kafka_engine.broker_admin import BrokerAdmin
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.kafka.ksql import KSQLDBClient, KSQLDBClientException
from openfactory.settings import setting
from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["KafkaAssetConsumer", "KafkaAssetUNSConsumer", "OnMessage", "delete_consumer_group"]

_logger = logging.getLogger("openfactory.kafka")

#: Called with the key of a message and the message.
OnMessage = Callable[[str, CaseInsensitiveDict], object]

# How soon `stop()` is noticed, in seconds.
_POLL_SECONDS = 0.1

# How long leaving a group may take, in seconds.
_LEAVE_SECONDS = 5.0

# How long a broker may take to delete a group, in seconds.
_ADMIN_SECONDS = 10.0


class KafkaAssetConsumer:
    """Hears the messages of one asset as a member of a consumer group.

    A group that has never read a message begins at the end of the log. Later it goes on where it was, and a message
    whose handling was cut off comes once more. Of several members of a group, one hears a message.

    A message that is no JSON object or has no value, and one that `on_message` fails on, is logged with its topic,
    partition and offset, and the next one comes. So is a broker that goes away, until it is back.

    Args:
        consumer_group_id: the name of the group.
        on_message: called with the asset's UUID and the message, whose keys (ID, VALUE, TAG, TYPE, attributes) are
            read in any case.
        ksqlClient: names the place of the data; it must be a Kafka.
        bootstrap_servers: the broker beside a ksqlDB server, else what the client has, else KAFKA_BROKER.

    Raises:
        ConfigurationError: there is no Kafka, no such stream, or no broker is named.
        EngineUnavailableError: it cannot be reached.
    """

    #: The stream that is read.
    KSQL_STREAM: ClassVar[str] = "ASSETS_STREAM"

    # Who hears the same without a consumer group.
    _ON_EVERY_ENGINE: ClassVar[str] = "Asset"

    def __init__(
        self,
        asset_uuid: str,
        consumer_group_id: str,
        on_message: OnMessage,
        ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
        bootstrap_servers: str | None = None,
    ) -> None:
        self.key = asset_uuid
        self.consumer_group_id = consumer_group_id
        self.on_message = on_message
        self.topic = self._topic(ksqlClient)
        self._connection = BrokerConnection(
            _broker(ksqlClient, bootstrap_servers), ksqlClient.credentials or Credentials.from_environment()
        )
        self._stopped = threading.Event()
        self._said = ""

    def consume(self) -> None:
        """Hear messages until `stop()` is called; the calling thread is the one that hears them."""
        from confluent_kafka import Consumer

        key = self.key.encode()
        consumer = Consumer(
            self._connection.configuration(
                **{
                    "group.id": self.consumer_group_id,
                    "auto.offset.reset": "latest",
                    "enable.auto.commit": True,
                    "enable.auto.offset.store": False,  # it is, once a message has been handled
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
                    self._say_once(error.str())
                    continue
                self._connection.on_answer()
                self._said = ""
                if message.key() == key:
                    self._handle(message)
                _store(consumer, message)
        finally:
            self._leave(consumer)

    def stop(self) -> None:
        """End `consume()`, from any thread; what is being handled is finished first."""
        self._stopped.set()

    def filter_messages(self, value: CaseInsensitiveDict) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a message shall be heard; a subclass says which."""
        return True

    def _handle(self, message: Message) -> None:
        """Hand a message of the asset on."""
        value = message.value()
        try:
            decoded = None if value is None else msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self._skip(message, f"it is no JSON, {error}")
            return
        if not isinstance(decoded, dict):
            self._skip(message, "it has no value" if value is None else "it is no JSON object")
            return
        said = CaseInsensitiveDict(decoded)
        try:
            if self.filter_messages(said):
                self.on_message(self.key, said)
        except Exception:
            _logger.exception("%s was not handled; the next message comes all the same.", _place(message))

    def _leave(self, consumer: Consumer) -> None:
        """Leave the group; without a broker librdkafka would wait most of a minute to say how far it has read."""
        leaving = threading.Thread(target=consumer.close, name="openfactory-leaving", daemon=True)
        leaving.start()
        leaving.join(_LEAVE_SECONDS)
        if leaving.is_alive():
            _logger.warning(
                "The group %s could not be left, since no broker answers. What it has heard last may come once more.",
                self.consumer_group_id,
            )

    def _skip(self, message: Message, reason: str) -> None:
        _logger.warning("%s is skipped: %s. Its key is %s.", _place(message), reason, self.key)

    def _say_once(self, reason: str) -> None:
        """A broker that is away says so again and again."""
        if reason != self._said:
            self._said = reason
            _logger.warning(
                "%s cannot be read by the group %s (%s). It is tried again until it can; `ofa doctor` tells more.",
                self.topic,
                self.consumer_group_id,
                reason,
            )

    def _topic(self, client: KSQLDBClient) -> str:
        try:
            return client.get_kafka_topic(self.KSQL_STREAM)
        except KSQLDBClientException as error:
            if not isinstance(error.__cause__, ConfigurationError):
                raise
            raise ConfigurationError(
                f"{redacted(client.ksqldb_url)} has no {self.KSQL_STREAM} that a consumer group could read. Use "
                f"{self._ON_EVERY_ENGINE}({self.key!r}, client).subscribe_to_messages(callback), which needs none."
            ) from error


class KafkaAssetUNSConsumer(KafkaAssetConsumer):
    """Hears the messages of whatever asset stands at a place of the unified namespace, as a member of a consumer group.

    It reads a stream that a ksqlDB server makes, so there must be one. All else is as with `KafkaAssetConsumer`.

    Args:
        asset_uns_id: the place.
        consumer_group_id: the name of the group.
        on_message: called with the place and the message, which has the key ASSET_UUID too.
        ksqlClient: names the ksqlDB server.
        bootstrap_servers: the broker beside it, else what the client has, else KAFKA_BROKER.

    Raises:
        ConfigurationError: there is no ksqlDB server, or no broker is named.
        EngineUnavailableError: it cannot be reached.
    """

    KSQL_STREAM: ClassVar[str] = "ASSETS_STREAM_UNS"
    _ON_EVERY_ENGINE: ClassVar[str] = "AssetUNS"

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
    """Have a broker forget a consumer group and how far it has read.

    Args:
        bootstrap_servers: the broker, else KAFKA_BROKER.
        credentials: user name, secrets and certificates, else those of the environment.

    Returns:
        whether it is forgotten, or was never known; why it is not, is logged.

    Raises:
        ConfigurationError: no broker is named.
    """
    from confluent_kafka import KafkaError, KafkaException

    servers = bootstrap_servers or _named_broker()
    security = (credentials or Credentials.from_environment()).kafka()
    admin = BrokerAdmin({"bootstrap.servers": servers, **security})
    try:
        admin.metadata(_ADMIN_SECONDS)
        asked = admin.client.delete_consumer_groups([consumer_group_id], request_timeout=_ADMIN_SECONDS)
        asked[consumer_group_id].result(_ADMIN_SECONDS)
    except (EngineUnavailableError, KafkaException, TimeoutError) as error:
        reason = error.args[0] if isinstance(error, KafkaException) else None
        if reason is not None and reason.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return True
        remedy = ""
        if reason is not None and reason.code() == KafkaError.NON_EMPTY_GROUP:
            remedy = " Stop its members first."
        said = str(error) if reason is None else f"{reason.str()}.{remedy}"
        _logger.error("The consumer group %s at %s was not deleted: %s", consumer_group_id, servers, said)
        return False
    return True


def _broker(client: KSQLDBClient, bootstrap_servers: str | None) -> str:
    """The broker that is read from: the one of a kafka:// URL, else the one that is named beside it."""
    parts = urlsplit(client.ksqldb_url)
    if parts.scheme.lower() == "kafka":
        return parts.netloc
    return bootstrap_servers or client.bootstrap_servers or _named_broker()


def _named_broker() -> str:
    broker = setting("KAFKA_BROKER")
    if not broker:
        raise ConfigurationError("No Kafka broker is named. Pass bootstrap_servers='host:9092', or set KAFKA_BROKER.")
    return broker


def _store(consumer: Consumer, message: Message) -> None:
    """The message counts as read; whoever has its partition by now reads it again, if that is somebody else."""
    from confluent_kafka import KafkaException

    try:
        consumer.store_offsets(message)
    except KafkaException as error:
        _logger.info("%s was handled after its partition had gone to another member: %s", _place(message), error)


def _place(message: Message) -> str:
    return f"The message at {message.topic()}, partition {message.partition()}, offset {message.offset()},"
