"""A watch over a log: whether its topics are still those that were read, and whether a broker answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple

from openfactory.engines.kafka_engine.broker_errors import configuration_error
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.exceptions import EngineUnavailableError

__all__ = ["Identity", "LogWatch", "TopicIdentity"]

_logger = logging.getLogger("openfactory.kafka")

# Seconds between two questions, also during an outage, and until an answer is late.
_INTERVAL_SECONDS = 5.0
_OUTAGE_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_FIRST_ANSWER_SECONDS = 10.0


class TopicIdentity(NamedTuple):
    """Identity of a topic: a topic that is deleted and made anew has another id."""

    id: str
    partitions: int


#: The identities of the topics of a log, by name; a topic that does not exist is not included.
Identity = Mapping[str, TopicIdentity]

#: The pending descriptions of the topics, by name.
Question = Mapping[str, Future[Any]]


class LogWatch:
    """Asks a broker again and again for the identity of some topics, on a thread of its own.

    Each answer ends an outage of the connection, and each missing answer begins one. So an engine that neither writes
    nor reads knows whether it could.

    Args:
        connection: the cluster.
        topics: names of the topics.
    """

    def __init__(self, connection: BrokerConnection, topics: Iterable[str]) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        self._connection = connection
        self._topics = list(topics)
        self._kafka_exception = KafkaException
        try:
            self._admin: Any = AdminClient(connection.configuration())
        except KafkaException as error:
            raise configuration_error(connection.bootstrap_servers, error) from error
        self._wake = threading.Event()
        self._looked = threading.Condition()
        self._looks = 0  # questions that were asked, and after them those that were answered or failed
        self._ended_looks = 0
        self._closed = False
        self._end: Future[None] = Future()  # done when the watch is closed
        self._known: Identity = {}
        self._on_change: Callable[[Identity], object] = dict
        self._thread: threading.Thread | None = None

    def ask(self) -> Question:
        """Ask for the identity; `answer` waits for it. The first answer takes longer, because the client connects."""
        from confluent_kafka import TopicCollection

        seconds = _ANSWER_SECONDS if self._connection.on_doubt else _FIRST_ANSWER_SECONDS
        question: Question = self._admin.describe_topics(TopicCollection(self._topics), request_timeout=seconds)
        return question

    def answer(self, question: Question) -> Identity | None:
        """Return the answer to a question, or None if the watch is closed meanwhile.

        Raises:
            EngineUnavailableError: no broker answers.
        """
        pending = set(question.values())
        while pending and not self._closed:
            pending = wait({*pending, self._end}, return_when=FIRST_COMPLETED).not_done - {self._end}
        return None if self._closed else self._identity(question)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the offsets that a consumer group has committed in a topic, by partition.

        It is empty if the group has committed none, if this user may not see it, or if the watch is closed meanwhile.
        """
        from confluent_kafka import ConsumerGroupTopicPartitions

        admin = self._admin
        if self._closed or admin is None:
            return {}
        request = [ConsumerGroupTopicPartitions(group)]
        answer = admin.list_consumer_group_offsets(request, request_timeout=_ANSWER_SECONDS)[group]
        wait((answer, self._end), return_when=FIRST_COMPLETED)
        try:
            places = answer.result().topic_partitions if answer.done() else ()
        except self._kafka_exception:
            return {}
        return {place.partition: place.offset for place in places if place.topic == topic and place.offset >= 0}

    def start(self, known: Identity, on_change: Callable[[Identity], object]) -> None:
        """Call `on_change` with each identity that differs from the one before, on the thread of the watch."""
        self._known, self._on_change = known, on_change
        self._thread = threading.Thread(target=self._run, name="openfactory-log-watch", daemon=True)
        self._thread.start()

    def look(self, timeout: float = 0.0) -> None:
        """Ask now, and wait until the answer is handled.

        Args:
            timeout: seconds to wait.
        """
        with self._looked:
            wanted = self._looks + 1
            self._wake.set()
            self._looked.wait_for(lambda: self._ended_looks >= wanted or self._closed, timeout)

    def close(self) -> None:
        """End the thread, ask no more, and free the client with its threads and sockets; closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._end.set_result(None)
        self._wake.set()
        with self._looked:
            self._looked.notify_all()
        if self._thread is None:
            self._admin = None
        elif self._thread is not threading.current_thread():
            self._thread.join(0.5)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(_OUTAGE_SECONDS if self._connection.outage.reason else _INTERVAL_SECONDS)
            if not self._closed:
                self._wake.clear()
                self._look()
        self._admin = None  # the client has no method that closes it

    def _look(self) -> None:
        with self._looked:
            self._looks += 1
        try:
            self._note(self.answer(self.ask()))
        except EngineUnavailableError:
            self._connection.on_timeout()
        except Exception:
            _logger.exception("The identity of the log could not be checked. It is checked again.")
        with self._looked:
            self._ended_looks = self._looks
            self._looked.notify_all()

    def _note(self, identity: Identity | None) -> None:
        if identity is None:
            return
        self._connection.on_answer()
        identity = {**self._known, **identity}  # a deleted topic counts when it is made anew
        if identity != self._known:
            self._on_change(identity)
            self._known = identity

    def _identity(self, question: Question) -> Identity:
        while self._admin.poll(0):  # errors and log lines of the client
            pass
        identity: dict[str, TopicIdentity] = {}
        for topic, answer in question.items():
            try:
                description = answer.result()
            except self._kafka_exception as error:
                if error.args[0].name().startswith("_"):  # an error of the client: no broker has answered
                    raise self._connection.unavailable(error.args[0].str()) from error
            else:
                identity[topic] = TopicIdentity(str(description.topic_id), len(description.partitions))
        self._connection.on_doubt = self._wake.set  # before the first answer it is an error
        return identity
