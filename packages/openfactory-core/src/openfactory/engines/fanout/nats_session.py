"""One connection to one NATS server, from its first byte to its last; it never comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["NatsSession", "text_of"]

# How long a server may take to be connected to, to answer a ping, and to be taken leave of, in seconds.
_CONNECT_SECONDS = 4.0
_ANSWER_SECONDS = 3.0
_CLOSE_SECONDS = 1.0

_LOGIN_REMEDY = "Set NATS_USERNAME and NATS_PASSWORD, NATS_TOKEN or NATS_CREDENTIALS_FILE"
_TLS_REMEDY = "Set NATS_SSL_CA_FILE to the authorities that sign its certificate"


class NatsSession:
    """A connection that ends for good when it ends.

    nats-py could connect again by itself, but not ask the router where to, nor prove that its subscriptions are good.

    Attributes:
        lost: is done when the connection has ended.
        last_error: the last thing that went wrong.
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
            tls_name: the name in the server's certificate, where that is not the one in its address.

        Raises:
            ConnectionError: it was not possible.
            ConfigurationError: the credentials cannot be used.
        """
        options = credentials.nats()
        if tls_name is not None:
            self._tls_name = options["tls_hostname"] = tls_name
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._client.connect(
                    [self._server],
                    name="openfactory",
                    error_cb=self._hear_error,
                    closed_cb=self._hear_end,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=2,
                    **options,
                )
        except Exception as error:  # noqa: BLE001 - a server and a certificate can fail in many ways
            cause = self.last_error or error  # nats-py raises "no servers", and tells why by its callback
            raise ConnectionError(f"{redacted(self._server)}: {text_of(cause)}") from cause
        self.last_error = None

    async def subscribe(
        self, subject: str, receive: Callable[[Msg], Awaitable[None]], pending_messages: int
    ) -> Subscription:
        """Listen to a subject; it is sure to be heard after the second `prove` from now.

        The first ping goes ahead of commands that wait to be written, which is how nats-py does it.
        """
        return await self._client.subscribe(subject, cb=receive, pending_msgs_limit=pending_messages)

    async def prove(self) -> None:
        """A round trip to the server: whatever it had for us before has come.

        Raises:
            TimeoutError: it does not answer.
        """
        if self._client.is_closed:
            raise ConnectionError("the connection ended")
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self._client._send_ping(pong)
        # Not `rtt`, which cancels the pong when time is up or its caller goes: nats-py fails on it when it comes.
        await asyncio.wait({pong}, timeout=_ANSWER_SECONDS)
        if not pong.done() or pong.cancelled():
            raise TimeoutError(f"no answer for {_ANSWER_SECONDS:g} s")

    def why_lost(self) -> Exception:
        """What ended the connection."""
        return self._client.last_error or self.last_error or ConnectionError("the connection ended")

    def other_servers(self) -> dict[str, str | None]:
        """The servers of the cluster that this one tells of, each with the name in its certificate.

        They are logged in to like this one. One that is told by its number shows the certificate of a name.
        """
        parts = urlsplit(self._server if "://" in self._server else f"nats://{self._server}")
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        told = {}
        for one in self._client.discovered_servers:
            host = one.hostname or ""
            is_number = ":" in host or host.replace(".", "").isdigit()
            told[f"{one.scheme}://{login}{one.netloc}"] = (self._tls_name or parts.hostname) if is_number else None
        return told

    async def close(self) -> None:
        """End it, within a second."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.close()
        writer = getattr(self._client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()  # what a server that says nothing would leave open

    async def _hear_error(self, error: Exception) -> None:
        self.last_error = error
        self._on_error(error)

    async def _hear_end(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def text_of(error: BaseException) -> str:
    """What an error says, without secrets, and with the remedy where the reason is known."""
    text = redacted(str(error)).removeprefix("nats: ").strip(" .")
    if not text:
        text = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if _LOGIN_REMEDY in text or _TLS_REMEDY in text:
        return text  # it was said of the error that this one is made of
    if "authorization" in text.lower() or "authentication" in text.lower():
        return f"{text}. {_LOGIN_REMEDY}"
    return f"{text}. {_TLS_REMEDY}" if "certificate verify failed" in text.lower() else text
