"""The publisher of one NATS cluster: it keeps each batch until the cluster has proven its arrival."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from openfactory.concurrency import LoopThread
from openfactory.engines.fanout.backoff import Backoff
from openfactory.engines.fanout.nats_cluster import NatsCluster
from openfactory.engines.fanout.nats_session import NatsSession, text_of
from openfactory.engines.fanout.wire import PROGRESS_SUBJECT
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

__all__ = ["Batch", "ClusterPublisher"]

_logger = logging.getLogger("openfactory.fanout")

# Bytes that may wait for their proof. While there are more, no records are read.
_WINDOW_BYTES = 2 * 1024 * 1024

# Seconds that a proof may take, and the rate in bytes a second that even a slow network has.
_ANSWER_SECONDS = 3.0
_SLOW_RATE = 256 * 1024

# Seconds between two proofs while messages flow, and while none do.
_PROOF_SECONDS = 0.02
_IDLE_SECONDS = 2.0

# Seconds after which a connection counts as stable, so that the delay between attempts begins anew.
_STABLE_SECONDS = 5.0

_REFUSED = "permissions violation for publish"


class Batch(NamedTuple):
    """Messages that are published together.

    Attributes:
        commands: the messages as commands of the NATS protocol; empty if no record belongs to the cluster.
        size: number of the messages.
        places: by partition, the offset after the last record, and the time of that record in seconds since 1970.
        read_at: monotonic time at which its records were read.
    """

    commands: bytes
    size: int
    places: Mapping[int, tuple[int, float]]
    read_at: float


class ClusterPublisher:
    """Publisher of batches, in order, to any server of a cluster.

    A batch is proven when a ping that was sent after it is answered on the same connection. A new connection gets all
    batches that are not proven, so a message may arrive twice. One thread calls the methods.

    Args:
        name: name of the cluster.
        servers: the addresses of its servers.
        credentials: login and certificate authorities.

    Attributes:
        max_payload: the largest message that the server accepts.
        published: number of the messages that are proven.
        failures: number of the messages that were sent and not proven, when a connection ended.
    """

    def __init__(self, name: str, servers: Iterable[str], credentials: Credentials) -> None:
        servers = tuple(servers)
        self.max_payload = 1024 * 1024
        self.published = 0
        self.failures = 0
        self._where = f"NATS cluster {name} ({', '.join(map(redacted, servers))})"
        self._servers = NatsCluster(servers, credentials)
        self._outage = Outage(
            _logger, meanwhile="Its records wait in Kafka. Retrying until it is back.", over=f"{self._where} is back."
        )
        self._changed = threading.Condition()  # guards the fields up to the empty line
        self._unproven: deque[Batch] = deque()
        self._proven: deque[Batch] = deque()
        self._bytes = 0
        self._written = 0  # batches among the unproven that this connection has got
        self._discarded = False
        self._urgent = False  # a thread waits for the proof
        self._session: NatsSession | None = None

        self._ended = False  # the connection was ended by this object
        self._refusal: Exception | None = None
        self._told = b""
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._loop = LoopThread(f"openfactory-nats-{name}")
        self._running = self._loop.submit(self._run())

    @property
    def trouble(self) -> str:
        """Why the cluster does not receive messages, or an empty text."""
        if self._session is not None or self._outage.reason:
            return self._outage.reason
        return f"{self._where} is not connected yet. Wait a moment."

    @property
    def has_room(self) -> bool:
        """Whether the cluster is connected and has proven enough of its batches."""
        return self._session is not None and self._bytes < _WINDOW_BYTES

    def publish(self, batch: Batch) -> None:
        """Send a batch after all others, and keep it until it is proven.

        If batches before it were dropped meanwhile, it is dropped too: its places would pass theirs.
        """
        with self._changed:
            if self._discarded:
                return
            if not batch.commands and not self._unproven:
                self._proven.append(batch)
                return
            self._unproven.append(batch)
            self._bytes += len(batch.commands)
        self._loop.loop.call_soon_threadsafe(self._write)

    def tell(self, commands: bytes) -> None:
        """Send commands; of those while the cluster is not connected, the last are sent as soon as it is."""
        self._loop.loop.call_soon_threadsafe(self._tell, commands)

    def take_proven(self) -> list[Batch]:
        """Return the batches that were proven since the last call."""
        if not self._proven:
            return []
        with self._changed:
            proven = list(self._proven)
            self._proven.clear()
            return proven

    def take_discarded(self) -> bool:
        """Return whether the publisher has dropped batches by itself since the last call."""
        with self._changed:
            discarded, self._discarded = self._discarded, False
            return discarded

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until there is room for a batch, and return whether there is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.has_room, timeout)

    def wait_for_proof(self, timeout: float) -> bool:
        """Wait until all batches are proven, and return whether they are; at once if the cluster is not connected."""
        with self._changed:
            self._urgent = True
            self._loop.loop.call_soon_threadsafe(self._wake.set)
            self._changed.wait_for(lambda: not self._unproven or self._session is None, timeout)
            self._urgent = False
            return not self._unproven

    def discard(self) -> None:
        """Drop all batches without a proof, and end the connection, so that it sends nothing of them from now on."""
        self._loop.submit(self._discard()).result(10)

    def close(self) -> None:
        """End the connection; batches that are not proven are dropped."""
        self._running.cancel()
        self._loop.close(3.0)

    # On the loop

    async def _run(self) -> None:
        while True:
            try:
                session = await self._servers.connect(self._on_error)
                connected_at = time.monotonic()
                try:
                    await session.run(self._serve(session))
                finally:
                    self._forget_session()
                    await session.close()
                    if time.monotonic() - connected_at > _STABLE_SECONDS:
                        self._backoff.reset()
            except Exception as error:  # noqa: BLE001 - each error is retried
                if self._ended:
                    self._ended = False
                    continue
                self._outage.begin(f"{self._where} is away: {text_of(error)}.")
            await asyncio.sleep(self._backoff.next_delay())

    async def _serve(self, session: NatsSession) -> None:
        """Send the batches, and prove them."""
        self._refusal = None
        await session.prove()
        self._begin_session(session)
        while True:
            self._wake.clear()
            with self._changed:
                count, urgent, size = self._written, self._urgent, self._bytes
            await session.prove(_ANSWER_SECONDS + size / _SLOW_RATE)
            if self._refusal is not None:
                raise self._refusal
            self._outage.end()  # not before: a server that refuses messages would be back again and again
            self._note_proven(session, count)
            if not (urgent or self._urgent):
                await asyncio.sleep(_PROOF_SECONDS)
            if not self._unproven:
                try:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    def _begin_session(self, session: NatsSession) -> None:
        with self._changed:
            if session.max_payload < self.max_payload and self._unproven:
                self._drop()  # they may be too large for this server
            self.max_payload = session.max_payload
            self._session = session
            self._changed.notify_all()
        session.write(self._told)
        self._told = b""
        self._write()

    def _forget_session(self) -> None:
        with self._changed:
            self.failures += sum(batch.size for batch in islice(self._unproven, self._written))
            self._session = None
            self._written = 0
            self._changed.notify_all()

    def _write(self) -> None:
        with self._changed:
            if self._session is None:
                return
            for batch in islice(self._unproven, self._written, None):
                self._session.write(batch.commands)
            self._written = len(self._unproven)
        self._wake.set()

    def _tell(self, commands: bytes) -> None:
        if self._session is not None:
            self._session.write(commands)
        else:
            self._told = commands

    def _note_proven(self, session: NatsSession, count: int) -> None:
        with self._changed:
            if self._session is not session:
                return
            for _ in range(count):
                batch = self._unproven.popleft()
                self._bytes -= len(batch.commands)
                self.published += batch.size
                self._proven.append(batch)
            self._written -= count
            self._changed.notify_all()

    def _drop(self) -> None:
        self._discarded = True
        self._unproven.clear()
        self._written = self._bytes = 0

    async def _discard(self) -> None:
        with self._changed:
            session, self._session = self._session, None
            self._drop()
        if session is not None:
            self._ended = True
            await session.close()

    def _on_error(self, error: Exception) -> None:
        text = str(error)
        if _REFUSED not in text.lower():
            return
        if PROGRESS_SUBJECT.lower() in text.lower():
            _logger.warning(
                "%s refuses the progress of the forwarder: %s. Allow its user to publish to %s.*",
                *(self._where, text_of(error), PROGRESS_SUBJECT),
            )
            return
        # The messages are lost: the records are kept until the permission is there.
        self._refusal = ConnectionError(f"{text_of(error)}. Allow the user of the forwarder to publish to >")
