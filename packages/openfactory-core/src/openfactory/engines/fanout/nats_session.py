"""One connection to one NATS server; it does not reconnect."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["NatsSession", "text_of"]

# Time limits for connecting, for the answer to a ping, and for closing, in seconds.
_CONNECT_SECONDS = 4.0
_PONG_SECONDS = 3.0
_CLOSE_SECONDS = 1.0

_LOGIN_REMEDY = "Set NATS_USERNAME and NATS_PASSWORD, NATS_TOKEN or NATS_CREDENTIALS_FILE"
_TLS_REMEDY = "Set NATS_SSL_CA_FILE to the authorities that sign its certificate"


class NatsSession:
    """A connection that does not reconnect.

    nats-py can reconnect, but it cannot ask the router for the cluster again, nor prove that the subscriptions work.

    Args:
        server: the address, which may contain a user name and password.
        on_error: called with each error that nats-py reports.

    Attributes:
        lost: future that is done when the connection has ended.
        last_error: the last error that nats-py reported, or None.
    """

    def __init__(self, server: str, on_error: Callable[[Exception], None]) -> None:
        from nats.aio.client import Client

        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_error: Exception | None = None
        self._server = server
        self._tls_name: str | None = None
        self._on_error = on_error
        self._client = Client()

    async def connect(self, credentials: Credentials, tls_name: str | None = None) -> None:
        """Connect and log in.

        Args:
            credentials: login and certificate authorities.
            tls_name: the name in the server's certificate, if it differs from the name in its address.

        Raises:
            ConnectionError: the connection or the login failed.
            ConfigurationError: the credentials are invalid.
        """
        options = credentials.nats()
        if tls_name is not None:
            self._tls_name = options["tls_hostname"] = tls_name
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._client.connect(
                    [self._server],
                    name="openfactory",
                    error_cb=self._handle_error,
                    closed_cb=self._handle_end,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=2,
                    **options,
                )
        except Exception as error:  # noqa: BLE001 - a server or a certificate can fail in many ways
            cause = self.last_error or error  # nats-py raises "no servers"; only its callback gets the cause
            raise ConnectionError(f"{redacted(self._server)}: {text_of(cause)}") from cause
        self.last_error = None
        if (reading := self._client._reading_task) is not None:  # pyright: ignore[reportPrivateUsage]
            reading.add_done_callback(self._on_reading_ended)

    @property
    def max_payload(self) -> int:
        """The largest size of a message with its headers that the server accepts, in bytes."""
        return self._client.max_payload

    def write(self, commands: bytes) -> None:
        """Send commands of the NATS protocol as they are; those before a call of `prove` are proven by it.

        They wait in memory while the server does not read, so the caller bounds what it has not proven.
        """
        # Not `publish`: nats-py takes longer for one message than the rest of the asset forwarder does.
        transport = self._client._transport  # pyright: ignore[reportPrivateUsage]
        if transport is not None and not self.lost.done():
            transport.write(commands)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine for the connection, until one of them ends.

        Raises:
            Exception: the error of the coroutine, or the one that ended the connection.
        """
        running = asyncio.get_running_loop().create_task(work)
        try:
            await asyncio.wait({running, self.lost}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            raise self.why_lost()
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def subscribe(
        self, subject: str, receive: Callable[[Msg], Awaitable[None]], pending_messages: int
    ) -> Subscription:
        """Subscribe to a subject; the subscription is proven after the second `prove` from now.

        nats-py writes the first ping before commands that wait in its buffer.

        Args:
            subject: the subject.
            receive: called with each message.
            pending_messages: number of messages that may wait for `receive` before messages are dropped.
        """
        return await self._client.subscribe(subject, cb=receive, pending_msgs_limit=pending_messages)

    async def prove(self, seconds: float = _PONG_SECONDS) -> None:
        """Wait for a round trip to the server; all messages in both directions before it have then arrived.

        Args:
            seconds: the time limit.

        Raises:
            ConnectionError: the connection has ended.
            TimeoutError: the server does not answer in time.
        """
        if self._client.is_closed:
            raise ConnectionError("the connection ended")
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # Not `rtt`: it cancels the future after a timeout, and nats-py fails when the pong arrives later.
        await self._client._send_ping(pong)  # pyright: ignore[reportPrivateUsage]
        await asyncio.wait({pong}, timeout=seconds)
        if not pong.done() or pong.cancelled():
            raise TimeoutError(f"no answer within {seconds:.0f} s")

    def why_lost(self) -> Exception:
        """Return the error that ended the connection."""
        return self._client.last_error or self.last_error or ConnectionError("the connection ended")

    def other_servers(self) -> dict[str, str | None]:
        """Return the servers of the cluster that this server announces, each with the name in its certificate.

        The addresses contain the login of this server. The name is None if it is the host of the address. A server
        that is announced by its IP address has a certificate for the same name as this server.
        """
        parts = urlsplit(self._server if "://" in self._server else f"nats://{self._server}")
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        servers = {}
        for server in self._client.discovered_servers:
            host = server.hostname or ""
            is_ip = ":" in host or host.replace(".", "").isdigit()
            address = f"{server.scheme}://{login}{server.netloc}"
            servers[address] = (self._tls_name or parts.hostname) if is_ip else None
        return servers

    async def close(self) -> None:
        """Close the connection within a second."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.close()
        # nats-py has no public way to abort: a server that does not answer would leave the transport open.
        transport = self._client._transport  # pyright: ignore[reportPrivateUsage]
        writer = getattr(transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _handle_error(self, error: Exception) -> None:
        self.last_error = error
        self._on_error(error)

    async def _handle_end(self) -> None:
        self._end()

    def _on_reading_ended(self, reading: asyncio.Task[None]) -> None:
        """Handle the end of nats-py's reader, which may fail without a call of `closed_cb`."""
        if not reading.cancelled() and isinstance(error := reading.exception(), Exception):
            self.last_error = error
        self._end()

    def _end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def text_of(error: BaseException) -> str:
    """Return the text of an error without secrets, and with the remedy if the cause is known."""
    text = redacted(str(error)).removeprefix("nats: ").strip(" .")
    if not text:
        text = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if _LOGIN_REMEDY in text or _TLS_REMEDY in text:
        return text  # the remedy comes from the cause of this error
    if "authorization" in text.lower() or "authentication" in text.lower():
        return f"{text}. {_LOGIN_REMEDY}"
    return f"{text}. {_TLS_REMEDY}" if "certificate verify failed" in text.lower() else text
