"""HTTP to one ksqlDB server: what is sent, how long it is waited for, and what is asked again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.ksqldb.answers import Failure, Repeat, failure_of
from openfactory.engines.ksqldb.errors import WAY_OUT, KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from openfactory.exceptions import ConfigurationError, MissingDistributionError
from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    import httpx

__all__ = ["KsqlDBHttp", "Request"]

_logger = logging.getLogger("openfactory.ksqlDB")

# How long a connection may take to be made, in seconds; to a server that is there it takes milliseconds.
_CONNECT_SECONDS = 5.0

# Never closed in a forked child.
_of_parent: list[httpx.Client | None] = []

_Answer = TypeVar("_Answer")


class Request(NamedTuple):
    """One request.

    Attributes:
        path: below the server's address.
        content: what is posted; without it the request is a GET.
        accept: the form of the answer.
        statement: the SQL in it, for errors.
        reads: whether it only reads, so that it may be sent again although it may have arrived.
        seconds: how long it may take in all; None is as long as the connection allows.
    """

    path: str
    content: dict[str, Any] | None = None
    accept: str = "application/json"
    statement: str | None = None
    reads: bool = True
    seconds: float | None = None


class _Trouble(NamedTuple):
    error: KSQLDBClientException
    repeat: Repeat
    cause: Exception | None = None


class KsqlDBHttp:
    """Sends requests to one server, from any thread, and tells what they are answered.

    Args:
        url: `http://host:8088`; a user name and password in it are used and never shown.
        max_retries: how often a request is sent again.
        retry_delay: the pause before that, in seconds.
        timeout: how long a server may keep silent, in seconds.
        max_requests_per_connection: after so many requests a connection is made anew, so that they spread over the
            servers behind one address.
        credentials: user name, password and authorities.

    Raises:
        ConfigurationError: the URL is no address of a server.
    """

    def __init__(
        self,
        url: str,
        *,
        max_retries: int = 3,
        retry_delay: float = 2.0,
        timeout: float = 10.0,
        max_requests_per_connection: int = 1000,
        credentials: Credentials | None = None,
    ) -> None:
        self.url, self._login = _address(url)
        self.timeout = timeout
        self._max_retries = max(0, max_retries)
        self._retry_delay = retry_delay
        self._recycle_after = max(1, max_requests_per_connection)
        self._credentials = credentials or Credentials()
        self._numbers = count(1)
        self._in_trouble = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._client: httpx.Client | None = None
        reset_in_forked_child(self)

    def reset_after_fork(self) -> None:
        """The child makes connections of its own; it lets those of the parent be, which goes on with them."""
        _of_parent.append(self._client)
        self._client = None
        self._lock = threading.Lock()
        closed, self._closing = self._closing.is_set(), threading.Event()
        if closed:
            self._closing.set()

    def send(self, request: Request, read: Callable[[httpx.Response], _Answer | Failure]) -> _Answer:
        """What `read` makes of the answer; what may be asked again is, for a bounded time.

        Raises:
            KSQLDBUnavailableError: nobody answers, not yet, or not us.
            KSQLDBQueryError: a query that the server refuses.
            KSQLDBClientException: something else that it refuses, or the connection is closed.
        """
        seconds = request.seconds or self.timeout + self._max_retries * self._retry_delay
        deadline = time.monotonic() + seconds
        retries = self._max_retries
        while True:
            answer = self._ask(request, read, deadline - time.monotonic())
            if not isinstance(answer, _Trouble):
                self._say_that_it_is_over()
                return answer
            # What happens once in a while is asked again once; what a server in its start says, while there is time.
            retries = min(retries, 1) if answer.repeat is Repeat.ONCE else retries
            may_repeat = answer.repeat is Repeat.ALL or (answer.repeat is not Repeat.NEVER and request.reads)
            if not may_repeat or not retries or time.monotonic() + self._retry_delay >= deadline:
                raise answer.error from answer.cause
            self._say_once(answer.error)
            retries -= 1
            self.pause(self._retry_delay)

    def pause(self, seconds: float) -> None:
        """Wait before something is asked again.

        Raises:
            KSQLDBClientException: the connection is closed meanwhile.
        """
        if self._closing.wait(seconds):
            raise self._closed()

    def close(self) -> None:
        """Let go of the connections; doing it twice does nothing."""
        with self._lock:
            self._closing.set()
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(
        self, request: Request, read: Callable[[httpx.Response], _Answer | Failure], seconds: float
    ) -> _Answer | _Trouble:
        client = self._opened()
        import httpx

        headers = {"Accept": request.accept}
        if next(self._numbers) % self._recycle_after == 0:
            headers["Connection"] = "close"  # no other thread may be in the middle of it, as if we closed it
        timeout = httpx.Timeout(max(0.1, min(self.timeout, seconds)), connect=max(0.1, min(_CONNECT_SECONDS, seconds)))
        try:
            if request.content is None:
                response = client.get(request.path, headers=headers, timeout=timeout)
            else:
                content = msgspec.json.encode(request.content)
                headers["Content-Type"] = "application/json"
                response = client.post(request.path, content=content, headers=headers, timeout=timeout)
        except httpx.RequestError as error:
            return self._no_answer(request, error)
        except UnicodeEncodeError as error:
            problem = f"The statement holds half a character ({error.reason}), which cannot be sent. Leave it out."
            return _Trouble(KSQLDBQueryError(problem, statement=request.statement or ""), Repeat.NEVER, error)
        except RuntimeError as error:
            if not self._closing.is_set():
                raise
            raise self._closed() from error
        answer = read(response) if response.status_code == 200 else failure_of(response.status_code, response.content)
        return self._refused(request, response.status_code, answer) if isinstance(answer, Failure) else answer

    def _no_answer(self, request: Request, error: httpx.RequestError) -> _Trouble:
        import httpx

        sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
        cause = f"no answer within {self.timeout:g} s" if isinstance(error, httpx.TimeoutException) else str(error)
        cause = redacted(cause) or type(error).__name__
        repeat = Repeat.READS if sent else Repeat.ALL
        text = f"No ksqlDB server answers at {self.url} ({cause}). {WAY_OUT}"
        if not sent and "SSL" in cause:
            repeat = Repeat.NEVER
            text = (
                f"{self.url} cannot be trusted, or speaks no TLS ({cause}). Set KSQLDB_SSL_CA_FILE to the file with "
                "the server's authority, or write http:// where there is no TLS."
            )
        elif sent and not request.reads:
            text = (
                f"The ksqlDB server at {self.url} did not say whether it ran the statement ({cause}). Look what is "
                "there with streams(), tables() or query() before you repeat it."
            )
        unavailable = KSQLDBUnavailableError(text, address=self.url, statement=request.statement)
        return _Trouble(unavailable, repeat, error)

    def _refused(self, request: Request, status: int, failure: Failure) -> _Trouble:
        code, message, repeat = failure
        statement = request.statement
        if code is None or status in (401, 403) or repeat in (Repeat.READS, Repeat.ALL):
            text = f"The ksqlDB server at {self.url} gives no answer: {message}"
            return _Trouble(
                KSQLDBUnavailableError(text, address=self.url, statement=statement, code=code or status), repeat
            )
        text = f"The ksqlDB server at {self.url} refuses it: {message}"
        if request.path == "/query-stream":
            return _Trouble(KSQLDBQueryError(text, statement=statement or "", code=code), repeat)
        return _Trouble(KSQLDBClientException(text, statement=statement, code=code), repeat)

    def _opened(self) -> httpx.Client:
        with self._lock:
            if self._closing.is_set():
                raise self._closed()
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> httpx.Client:
        try:
            import httpx
        except ImportError as error:
            raise MissingDistributionError(
                f"{self.url} is reached by the library httpx, which is not there. Install it: pip install httpx."
            ) from error

        options: dict[str, Any] = {"verify": self.url.startswith("https"), **self._credentials.ksqldb()}
        if self._login is not None:
            options["auth"] = self._login
        # The server stands beside the broker: proxies and log-ins of the environment are for the web.
        return httpx.Client(base_url=self.url, trust_env=False, **options)

    def _say_once(self, error: KSQLDBClientException) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            _logger.warning("%s It is asked again.", error)

    def _say_that_it_is_over(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            _logger.info("The ksqlDB server at %s answers again.", self.url)

    def _closed(self) -> KSQLDBClientException:
        return KSQLDBClientException(f"The connection to {self.url} is closed. Make a new one.")


def _address(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without what is secret or not for the server, and the user name and password in it."""
    parts = urlsplit(url)
    shown = redacted(url)
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{shown} is no address of a ksqlDB server. Write http://host:8088.")
    try:
        port = parts.port or 8088
    except ValueError:
        # Not from that error: where a password is not quoted, it holds a part of it.
        raise ConfigurationError(f"{shown} has no proper port. Write http://host:8088.") from None
    if not parts.hostname:
        raise ConfigurationError(f"{shown} names no host. Write http://host:8088.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    login = None
    if parts.username or parts.password:
        login = unquote(parts.username or ""), unquote(parts.password or "")
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}", login
