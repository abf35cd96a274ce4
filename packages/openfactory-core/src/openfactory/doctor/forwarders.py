"""Check of the asset forwarders: whether the records of the log reach each NATS cluster."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.engines.base import ASSETS_TOPIC
from openfactory.engines.fanout.nats_session import NatsSession
from openfactory.engines.fanout.wire import PROGRESS_SUBJECT, Progress
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.log_reader import LogReader
from openfactory.engines.kafka_engine.log_watch import LogWatch
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.exceptions import OpenFactoryError
from openfactory.settings import setting
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["examine_forwarders"]

# A forwarder of OpenFactory tells its progress once a second.
_LISTEN_SECONDS = 3.0

_PENDING_MESSAGES = 1_000

_REMEDY = "Start `ofa fanout forwarder` with the NATS_CLUSTER_… variables of the router, or read its log."

_decode = msgspec.json.Decoder(Progress).decode


class _Heard:
    """Messages on a cluster.

    Args:
        topic: name of the topic of the factory.

    Attributes:
        progress: by partition, the last progress of its forwarder.
        first: by partition, the first progress of its forwarder.
        flows: whether messages of assets have arrived.
        connected: whether a server was connected.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.progress: dict[int, Progress] = {}
        self.first: dict[int, Progress] = {}
        self.flows = False
        self.connected = False

    def is_complete(self, partitions: int) -> bool:
        """Return whether the forwarders of all partitions have reached the end."""
        return len(self.progress) >= partitions and not self.stuck()

    def stuck(self) -> list[int]:
        """Return the partitions in which the forwarder is behind, and has not moved."""
        return [
            number
            for number, last in self.progress.items()
            if last.position < self.first[number].end and last.position == self.first[number].position
        ]

    async def receive(self, message: Msg) -> None:
        """Take a message of a forwarder."""
        with contextlib.suppress(ValueError, msgspec.DecodeError):
            if message.subject.startswith(f"{PROGRESS_SUBJECT}."):
                number, progress = int(message.subject.rpartition(".")[2]), _decode(message.data)
                if progress.topic == self._topic:
                    self.first.setdefault(number, progress)
                    self.progress[number] = progress
            elif not message.subject.startswith("_"):
                self.flows = True


class _Offsets(NamedTuple):
    """By partition, the offsets that the group of another forwarder has committed, and the ends before that."""

    committed: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def behind(self) -> dict[int, int]:
        """By partition, the number of records that were not forwarded."""
        return {number: max(self.ends[number] - offset, 0) for number, offset in self.committed.items()}


def examine_forwarders(factory: Factory, prefix: str, clusters: Sequence[tuple[str, ...]]) -> Iterator[Finding]:
    """Listen for the forwarders of each cluster.

    Args:
        prefix: stands before the names of all topics.
        clusters: the servers of each cluster.
    """
    topic = prefix + ASSETS_TOPIC
    try:
        connection = BrokerConnection(factory.bootstrap_servers or "", factory.credentials)
        reader, watch = LogReader(connection), LogWatch(connection, [topic])
    except OpenFactoryError as error:
        yield unchecked("forwarder", _error_text(error))
        return
    with contextlib.closing(reader), contextlib.closing(watch):
        try:
            before = _offsets(reader, watch, topic)
            if not before.ends:
                yield unchecked("forwarder", f"The topic {topic} does not exist. Create it first.")
                return
            heard = asyncio.run(_listen_to_all(factory, topic, clusters, len(before.ends)))
            after = before if all(one.progress for one in heard) else _offsets(reader, watch, topic)
        except OpenFactoryError as error:
            yield unchecked("forwarder", _error_text(error))
            return
    for servers, one in zip(clusters, heard, strict=True):
        yield _judge(", ".join(map(redacted, servers)), one, before, after)


def _error_text(error: OpenFactoryError) -> str:
    """Return the text of a finding for a broker that does not answer."""
    return f"The ends of the log are not known. {error}"


def _offsets(reader: LogReader, watch: LogWatch, topic: str) -> _Offsets:
    ends = reader.ends(Partition(topic, number) for number in range(reader.cluster().topics.get(topic, 0)))
    return _Offsets(
        watch.committed(setting("KAFKA_GROUP") or "", topic), {place.number: end for place, end in ends.items()}
    )


async def _listen_to_all(
    factory: Factory, topic: str, clusters: Sequence[tuple[str, ...]], partitions: int
) -> list[_Heard]:
    return await asyncio.gather(*(_listen(factory, topic, servers, partitions) for servers in clusters))


async def _listen(factory: Factory, topic: str, servers: tuple[str, ...], partitions: int) -> _Heard:
    """Listen to a cluster until the progress in each partition was heard, for a few seconds at most."""
    heard = _Heard(topic)
    for server in servers:
        session = NatsSession(server, lambda _: None)
        try:
            await session.connect(factory.credentials)
            heard.connected = True
            for subject in (f"{PROGRESS_SUBJECT}.*", "*.>"):
                await session.subscribe(subject, heard.receive, _PENDING_MESSAGES)
            end = time.monotonic() + _LISTEN_SECONDS
            while time.monotonic() < end and not heard.is_complete(partitions):
                await asyncio.sleep(0.05)
        except (ConnectionError, OpenFactoryError):
            continue  # the check of the servers names the reason
        finally:
            await session.close()
        break
    return heard


def _judge(cluster: str, heard: _Heard, before: _Offsets, after: _Offsets) -> Finding:
    if not heard.connected:
        return unchecked("forwarder", f"No server of {cluster} can be used.")
    if heard.progress:
        return _judge_progress(cluster, heard, before.ends)
    if before.committed:
        behind, now_behind = before.behind, after.behind
        stuck = [
            str(number)
            for number, lag in behind.items()
            if lag and now_behind.get(number) and after.committed.get(number) == before.committed[number]
        ]
        group = setting("KAFKA_GROUP")
        if stuck:
            return failed(
                "forwarder",
                f"The group {group} of the forwarder to {cluster} stands still in partition {', '.join(stuck)}. "
                "Restart the forwarder, or read its log.",
            )
        return fine(
            "forwarder",
            f"{cluster}: another forwarder, which does not tell its progress; its group {group} is at most "
            f"{max(now_behind.values(), default=0)} records behind",
        )
    if heard.flows:
        return fine("forwarder", f"{cluster}: another forwarder, which does not tell its progress; messages arrive")
    return failed("forwarder", f"No forwarder to {cluster} was heard in {_LISTEN_SECONDS:g} s. {_REMEDY}")


def _judge_progress(cluster: str, heard: _Heard, ends: Mapping[int, int]) -> Finding:
    for numbers, found in (
        ([number for number in ends if number not in heard.progress], "tells its progress"),
        (heard.stuck(), "moves"),
    ):
        if numbers:
            partitions = ", ".join(map(str, numbers))
            return failed("forwarder", f"No forwarder to {cluster} {found} in partition {partitions}. {_REMEDY}")
    behind = max(one.end - one.position for one in heard.progress.values())
    text = f"{cluster}: {len(heard.progress)} partitions are forwarded, at most {behind} records behind"
    return fine("forwarder", text)
