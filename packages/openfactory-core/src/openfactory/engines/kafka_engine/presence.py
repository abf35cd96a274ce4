"""Presence of the processes that share a Kafka cluster: each is the only member of a consumer group of its own.

The broker keeps the session of the member, and ends it when the member sends no heartbeats. A group for each process
and not one for all, because each member that comes or goes makes all members of its group join again. A member with no
partitions reads nothing.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from openfactory.concurrency.bounded import call_on_thread
from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.log_reader import new_consumer
from openfactory.engines.presence import Sight

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition

__all__ = ["GroupPresence"]

_logger = logging.getLogger("openfactory.liveness")

# Shares of the time limit: the session of a member at the broker, and the time for which a process without a session
# must stay without one, because a broker that comes back has forgotten its members for a moment.
_SESSION = 0.4
_PATIENCE = 0.25

# The shortest session in seconds.
_SHORTEST_SESSION = 1.0

# Share of the time limit within which a process must poll to stay a member.
_POLL_INTERVAL = 0.5

# Seconds to wait until the broker knows this process, and between two looks at it meanwhile.
_JOIN_SECONDS = 3.0
_POLL_SECONDS = 0.02

# Seconds for which a broker may hold back the first assignment of a group (group.initial.rebalance.delay.ms), and more.
_ASSIGNMENT_SECONDS = 10.0

_ANSWER_SECONDS = 3.0
_LEAVE_SECONDS = 0.5


class GroupPresence:
    """The consumer groups of the processes that own assets.

    Args:
        connection: the cluster.
        topic: topic of all events, whose name begins the names of the groups.
        timeout: seconds after which the end of a process must be known.
    """

    is_shared = True
    silence = "ended without a word or is frozen"

    def __init__(self, connection: BrokerConnection, topic: str, timeout: float) -> None:
        self.instance = secrets.token_hex(8)
        self.observable = True
        self.patience = timeout * _PATIENCE
        self._session = max(timeout * _SESSION, _SHORTEST_SESSION)
        self._poll_interval = timeout * _POLL_INTERVAL
        self.lag = self._session + timeout / 10
        self._connection = connection
        self._topic = topic
        self._consumer: Consumer | None = None
        self._admin: Any = None
        self._closed = False
        self._is_assigned = False
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._forked = False
        reset_in_forked_child(self)

    def join(self) -> None:
        self._start_member()
        deadline = time.monotonic() + _JOIN_SECONDS
        while self.observable and not self._closed and not self._forked and time.monotonic() < deadline:
            self._poll(_POLL_SECONDS)
            if self.look([self.instance])[self.instance] is Sight.LIVES:
                return

    def beat(self) -> None:
        self._poll(0)

    def others(self) -> Collection[str]:
        return ()

    def look(self, instances: Collection[str]) -> Mapping[str, Sight]:
        if not instances or self._forked:
            return {}
        with_members = self._groups_with_members()
        if with_members is None:
            return dict.fromkeys(instances, Sight.UNKNOWN)
        missing = Sight.SILENT
        if not any(group.startswith(self._group("")) for group in with_members):
            # Nobody lives, or this process lacks the right to see groups. If it sees its own one, it has the right.
            self._start_member()
            missing = Sight.UNKNOWN
        return {instance: Sight.LIVES if self._group(instance) in with_members else missing for instance in instances}

    peek = look

    def last_seen(self, instance: str) -> float | None:  # noqa: ARG002 - the broker does not tell
        return None

    def forget(self, instance: str) -> None:
        pass  # the broker drops a group without members

    def close(self) -> None:
        with self._lock, self._polling:  # librdkafka crashes when a consumer is closed during a call
            consumer, self._consumer, self._admin, self._closed = self._consumer, None, None, True
        if consumer is not None and not self._forked:
            with suppress(TimeoutError, RuntimeError):  # no broker answers, or the interpreter starts no more threads
                call_on_thread("openfactory-leave", consumer.close).result(_LEAVE_SECONDS)

    def reset_after_fork(self) -> None:
        """Drop the copies in a forked child: the clients and their threads belong to the parent."""
        self._forked = True
        self._lock, self._polling = threading.Lock(), threading.Lock()

    def _groups_with_members(self) -> set[str] | None:
        """Return the groups of the cluster that have members, by one request to each broker; None if not all answer.

        A description of the groups by their coordinators would need a request for each, and librdkafka ends the process
        when a coordinator is not found in time (librdkafka issue 4605).
        """
        from confluent_kafka import ConsumerGroupState, KafkaException
        from confluent_kafka.admin import AdminClient

        with self._lock:
            if self._closed:
                return None
            if self._admin is None:
                self._admin = AdminClient(self._connection.configuration())
            admin = self._admin
        while admin.poll(0):  # errors and log lines of the client
            pass
        states = {
            ConsumerGroupState.STABLE,
            ConsumerGroupState.PREPARING_REBALANCING,
            ConsumerGroupState.COMPLETING_REBALANCING,
        }
        try:
            listed = admin.list_consumer_groups(states=states, request_timeout=_ANSWER_SECONDS)
            answer = listed.result(timeout=_ANSWER_SECONDS + 1.0)
        except (KafkaException, TimeoutError):
            return None
        return None if answer.errors else {group.group_id for group in answer.valid}

    def _group(self, instance: str) -> str:
        return f"{self._topic}-owner-{instance}"

    def _serve_first_assignment(self) -> None:
        """Poll until the first assignment, which is empty: only after it does the client leave if it is not polled."""
        deadline = time.monotonic() + _ASSIGNMENT_SECONDS
        while not self._is_assigned and self.observable and not self._closed and time.monotonic() < deadline:
            self._poll(_POLL_SECONDS)

    def _on_assign(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        consumer.assign([])
        self._is_assigned = True

    def _start_member(self) -> None:
        with self._lock:
            if self._consumer is None and not (self._closed or self._forked):
                self._consumer = self._new_member()
                call_on_thread("openfactory-first-assignment", self._serve_first_assignment)

    def _new_member(self) -> Consumer:
        session = round(self._session * 1_000)
        consumer = new_consumer(
            self._connection,
            **{
                "group.id": self._group(self.instance),
                "session.timeout.ms": session,
                "heartbeat.interval.ms": session // 4,
                # A process that does not poll, because something holds the interpreter, is as good as frozen.
                "max.poll.interval.ms": max(round(self._poll_interval * 1_000), session),
            },
        )
        consumer.subscribe([self._topic], on_assign=self._on_assign)
        return consumer

    def _poll(self, seconds: float) -> None:
        """Serve the client, and notice that the broker refuses this process."""
        if self._forked:
            return
        with self._polling:
            message = None if self._consumer is None else self._consumer.poll(seconds)
        error = None if message is None else message.error()
        if error is not None and error.name() in _REFUSALS and self.observable:
            self.observable = False
            _logger.warning(
                "The broker lets this process not join the consumer group %s (%s), so nobody can notice its end. %s",
                self._group(self.instance),
                error.str(),
                _REFUSALS[error.name()].format(topic=self._topic),
            )


_GRANT = "Grant READ and DESCRIBE on the groups that begin with {topic}-owner-."
_REFUSALS = {
    "GROUP_AUTHORIZATION_FAILED": _GRANT,
    "INVALID_SESSION_TIMEOUT": "Set LIVENESS_TIMEOUT so that 0.4 of it is a session that the broker grants "
    "(group.min.session.timeout.ms to group.max.session.timeout.ms).",
}
