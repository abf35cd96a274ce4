"""The asset router: which servers carry the live events of an asset."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.exceptions import ConfigurationError, EngineClosedError, EngineUnavailableError
from openfactory.settings import nats_cluster
from openfactory.settings.credentials import redacted

if TYPE_CHECKING:
    import httpx

__all__ = ["AssetRouter", "BadAnswerError"]

_REMEDY = "Start the router or correct ASSET_ROUTER_URL; without one, live events come from Kafka itself."

# How much of an answer that is no answer is shown.
_SHOWN = 200


class BadAnswerError(EngineUnavailableError):
    """A router that can be reached and does not say where an asset is; it may well do so for others."""


class AssetRouter:
    """Asks the router at a URL, from any thread; it is looked for with the first question only.

    Raises:
        ConfigurationError: it is no URL of a web server.
    """

    def __init__(self, url: str, timeout: float = 3.0) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigurationError(f"ASSET_ROUTER_URL is {redacted(url)!r}. Write http://host:port.")
        self.url = redacted(url).rstrip("/")
        self._asked_url = url.rstrip("/")
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._under_way = 0
        self._closed = False
        reset_in_forked_child(self)

    def servers_of(self, asset_uuid: str) -> tuple[str, ...]:
        """The addresses of the NATS cluster that carries an asset, those that the router names first.

        Raises:
            BadAnswerError: the router does not say.
            EngineClosedError: the router was closed.
            EngineUnavailableError: the router cannot be reached, or takes too long.
        """
        import httpx

        try:
            with self._open_client() as client:
                response = client.get(f"{self._asked_url}/asset/{quote(asset_uuid, safe='')}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineUnavailableError(
                f"The asset router at {self.url} does not answer ({_cause(error)}). {_REMEDY}", address=self.url
            ) from error
        servers = _servers_in(response.content) if response.is_success else ()
        if not servers:
            raise BadAnswerError(
                f"The asset router at {self.url} does not say where {asset_uuid!r} is: it answers "
                f"{response.status_code} {redacted(_shown(response.content))}. Look into the router's log; "
                "its answer must have a nats_url.",
                address=self.url,
            )
        return servers

    def close(self) -> None:
        """Take no more questions; the connections go with the last one that is under way, which is not waited for."""
        with self._lock:
            self._closed = True
        self._close_if_unused()

    def reset_after_fork(self) -> None:
        """Leave the connections to the process that opened them."""
        self._lock = threading.Lock()
        self._inherited = self._client  # kept, so that nothing closes what is shared
        self._client = None
        self._under_way = 0

    @contextlib.contextmanager
    def _open_client(self) -> Iterator[httpx.Client]:
        import httpx

        with self._lock:
            if self._closed:
                raise EngineClosedError(f"The asset router at {self.url} is closed. Make another.")
            if self._client is None:
                self._client = httpx.Client(timeout=self._timeout, follow_redirects=True)
            client = self._client
            self._under_way += 1
        try:
            yield client
        finally:
            with self._lock:
                self._under_way -= 1
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        """A client that is closed under a question leaves the socket of its answer open."""
        with self._lock:
            if not self._closed or self._under_way:
                return
            client, self._client = self._client, None
        if client is not None:
            client.close()


def _servers_in(content: bytes) -> tuple[str, ...]:
    """The servers that an answer names and those that the environment knows of the same cluster, each once."""
    try:
        answer: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        return ()
    listed = answer.get("nats_urls")
    named = [answer.get("nats_url"), *(listed if isinstance(listed, list) else ())]
    servers = [one.strip() for text in named if isinstance(text, str) for one in text.split(",")]
    if any(servers):
        servers += nats_cluster(str(answer.get("cluster_name")))
    return tuple(dict.fromkeys(filter(None, servers)))


def _shown(content: bytes) -> str:
    """The beginning of an answer; the explanation in it, where the router gives one."""
    text = content[: 4 * _SHOWN].decode("utf-8", "replace")
    with contextlib.suppress(msgspec.DecodeError, KeyError):
        text = str(msgspec.json.decode(content, type=dict[str, Any])["detail"])
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _cause(error: Exception) -> str:
    return redacted(str(error)) or type(error).__name__
