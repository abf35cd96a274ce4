"""Client of the asset router, which returns the NATS servers with the live events of an asset."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.location import Location
from openfactory.events.decoding import decode_json
from openfactory.exceptions import ConfigurationError, EngineClosedError, EngineUnavailableError
from openfactory.settings import nats_cluster
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    import httpx

__all__ = ["AssetRouter", "BadAnswerError"]

_REMEDY = "Start the router or correct ASSET_ROUTER_URL; if it is not set, live events come from Kafka."

# Number of characters of an invalid answer in an error.
_SHOWN_CHARACTERS = 200

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class BadAnswerError(EngineUnavailableError):
    """An answer of the asset router that has no server for the asset; other assets may not be affected."""


class AssetRouter:
    """Client of the asset router at a URL, for use from any thread; it connects with the first request.

    Args:
        url: URL of the router; a user name and password in it are used and never shown.
        timeout: seconds to wait for the connection and for data from the router.

    Attributes:
        url: URL of the router without a user name or password.

    Raises:
        ConfigurationError: the URL does not start with `http://` or `https://` and a host.
    """

    def __init__(self, url: str, timeout: float = 3.0) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigurationError(
                f"ASSET_ROUTER_URL={redacted(url)!r} is not the URL of a web server. Write http://host:port."
            )
        self.url = redacted(url).rstrip("/")
        self._login = Location.of(url).login  # apart from the URL, which httpx logs
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._requests_in_progress = 0
        self._closed = False
        reset_in_forked_child(self)

    def servers_of(self, asset_uuid: str) -> tuple[str, ...]:
        """Return the servers of the NATS cluster that carries an asset.

        The servers in the router's answer come before the servers in `NATS_CLUSTER_<NAME>`.

        Raises:
            BadAnswerError: the router's answer has no server.
            EngineClosedError: this client is closed.
            EngineUnavailableError: the router cannot be reached, or does not answer in time.
        """
        import httpx

        try:
            with self._open_client() as client:
                response = client.get(f"{self.url}/asset/{quote(asset_uuid, safe='')}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnavailableError(
                f"The asset router at {self.url} does not answer ({_cause(error)}). {_REMEDY}", address=self.url
            ) from error
        servers = _servers_in(response.content) if response.is_success else ()
        if not servers:
            raise BadAnswerError(
                f"The asset router at {self.url} returned no NATS server for {asset_uuid!r}: it answered "
                f"{response.status_code} {redacted(_shown(response.content))}. Check the router's log; "
                "its answer must have a nats_url.",
                address=self.url,
            )
        return servers

    def close(self) -> None:
        """Reject new requests, and close the connections after the requests in progress, without waiting for them."""
        with self._lock:
            self._closed = True
        self._close_if_unused()

    def reset_after_fork(self) -> None:
        """Leave the open connections to the parent process."""
        self._lock = threading.Lock()
        self._inherited = self._client  # referenced, so that the garbage collector does not close shared connections
        self._client = None
        self._requests_in_progress = 0

    @contextlib.contextmanager
    def _open_client(self) -> Generator[httpx.Client]:
        import httpx

        with self._lock:
            if self._closed:
                raise EngineClosedError(f"The asset router at {self.url} is closed. Create a new one.")
            if self._client is None:
                self._client = httpx.Client(auth=self._login, timeout=self._timeout, follow_redirects=True)
            client = self._client
            self._requests_in_progress += 1
        try:
            yield client
        finally:
            with self._lock:
                self._requests_in_progress -= 1
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        # A client that is closed during a request would leave the socket of the request open.
        with self._lock:
            if not self._closed or self._requests_in_progress:
                return
            client, self._client = self._client, None
        if client is not None:
            client.close()


def _servers_in(content: bytes) -> tuple[str, ...]:
    """Return the servers in an answer, then the servers of its cluster in the environment, without duplicates."""
    try:
        answer = decode_json(content, _decode_object)
    except msgspec.DecodeError:
        return ()
    listed = answer.get("nats_urls")
    values = [answer.get("nats_url"), *(listed if isinstance(listed, list) else ())]
    servers = [server.strip() for text in values if isinstance(text, str) for server in text.split(",")]
    if any(servers):
        servers += nats_cluster(str(answer.get("cluster_name")))
    return tuple(dict.fromkeys(filter(None, servers)))


def _shown(content: bytes) -> str:
    """Return the beginning of an answer, or of its `detail`."""
    text = content[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")
    with contextlib.suppress(msgspec.DecodeError, KeyError):
        text = str(decode_json(content, _decode_object)["detail"])
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def _cause(error: Exception) -> str:
    return redacted(str(error)) or type(error).__name__
