"""HTTP connection to a ksqlDB server, with time limits and retries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.ksqldb.answers import STARTING, Failure, Repeat, failure_of
from openfactory.engines.ksqldb.errors import WAY_OUT, KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from openfactory.engines.location import Location
from openfactory.exceptions import MissingDistributionError
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    import httpx

__all__ = ["KsqlDBHttp", "Request"]

_logger = logging.getLogger("openfactory.ksqlDB")

# Time limit for opening a connection, in seconds; a reachable server needs milliseconds.
_CONNECT_SECONDS = 5.0

# The parent's clients, referenced in a forked child so that it never closes their connections.
_parent_clients: list[httpx.Client | None] = []

_Answer = TypeVar("_Answer")


class Request(NamedTuple):
    """One request.

    Attributes:
        path: path below the server's address.
        content: JSON object of a POST; without it the request is a GET.
        accept: media type of the response.
        statement: SQL of the request, for errors.
        reads: whether the request only reads, so that it may be sent again even if the server has received it.
        seconds: time limit including retries; None uses the limit of the connection.
    """

    path: str
    content: dict[str, Any] | None = None
    accept: str = "application/json"
    statement: str | None = None
    reads: bool = True
    seconds: float | None = None


class _FailedRequest(NamedTuple):
    error: KSQLDBClientException
    repeat: Repeat
    cause: Exception | None = None


class KsqlDBHttp:
    """Connection to one ksqlDB server, for use from any thread.

    Args:
        url: `http://host:8088`; a user name and password in it are used and never shown.
        max_retries: how often a failed request is sent again.
        retry_delay: pause before each retry, in seconds.
        timeout: seconds to wait for data from the server.
        max_requests_per_connection: number of requests after which a new connection is opened, so that requests are
            spread over the servers behind one address.
        credentials: user name, password and certificate authorities.

    Raises:
        ConfigurationError: the URL is not the address of a server.
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
        location = Location.of(url)
        self.url, self._login = location.server, location.login
        self.timeout = timeout
        self._max_retries = max(0, max_retries)
        self._retry_delay = retry_delay
        self._recycle_after = max(1, max_requests_per_connection)
        self._credentials = credentials or Credentials()
        self._request_numbers = count(1)
        self._outage = Outage(
            _logger, meanwhile="The request is sent again.", over=f"The ksqlDB server at {self.url} answers again."
        )
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._client: httpx.Client | None = None
        reset_in_forked_child(self)

    def reset_after_fork(self) -> None:
        """Leave the open connections to the parent process; the child opens its own."""
        _parent_clients.append(self._client)
        self._client = None
        self._lock = threading.Lock()
        closed, self._closing = self._closing.is_set(), threading.Event()
        if closed:
            self._closing.set()

    def send(self, request: Request, read: Callable[[httpx.Response], _Answer | Failure]) -> _Answer:
        """Send a request and return the result of `read`, called with the response.

        A failed request is sent again within its time limit, if that cannot run a statement twice.

        Raises:
            KSQLDBUnavailableError: the server does not answer, is not ready, or refuses the login.
            KSQLDBQueryError: the server rejects the query.
            KSQLDBClientException: the server rejects another request, or the connection is closed.
        """
        seconds = request.seconds or self.timeout + self._max_retries * self._retry_delay
        deadline = time.monotonic() + seconds
        retries = self._max_retries
        while True:
            answer = self._send_once(request, read, deadline - time.monotonic())
            if not isinstance(answer, _FailedRequest):
                self._outage.end()
                return answer
            # A sporadic error is retried once; the errors of a server that starts are retried while there is time.
            retries = min(retries, 1) if answer.repeat is Repeat.ONCE else retries
            may_repeat = answer.repeat is Repeat.ALL or (answer.repeat is not Repeat.NEVER and request.reads)
            if not may_repeat or not retries or time.monotonic() + self._retry_delay >= deadline:
                raise answer.error from answer.cause
            self._outage.begin(str(answer.error))
            retries -= 1
            self.pause(self._retry_delay)

    def pause(self, seconds: float) -> None:
        """Wait before a request is sent again.

        Raises:
            KSQLDBClientException: the connection is closed meanwhile.
        """
        if self._closing.wait(seconds):
            raise self._closed_error()

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        with self._lock:
            self._closing.set()
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _send_once(
        self, request: Request, read: Callable[[httpx.Response], _Answer | Failure], seconds: float
    ) -> _Answer | _FailedRequest:
        client = self._open_client()
        import httpx

        headers = {"Accept": request.accept}
        if next(self._request_numbers) % self._recycle_after == 0:
            # The server closes this connection after its response; to close the client would disturb other threads.
            headers["Connection"] = "close"
        timeout = httpx.Timeout(max(0.1, min(self.timeout, seconds)), connect=max(0.1, min(_CONNECT_SECONDS, seconds)))
        try:
            if request.content is None:
                response = client.get(request.path, headers=headers, timeout=timeout)
            else:
                content = msgspec.json.encode(request.content)
                headers["Content-Type"] = "application/json"
                response = client.post(request.path, content=content, headers=headers, timeout=timeout)
        except httpx.RequestError as error:
            return self._transport_failure(request, error)
        except UnicodeEncodeError as error:
            problem = f"The statement contains an unpaired surrogate and cannot be sent ({error.reason}). Remove it."
            return _FailedRequest(KSQLDBQueryError(problem, statement=request.statement or ""), Repeat.NEVER, error)
        except RuntimeError as error:
            if not self._closing.is_set():
                raise
            raise self._closed_error() from error
        answer = read(response) if response.status_code == 200 else failure_of(response.status_code, response.content)
        return self._server_failure(request, response.status_code, answer) if isinstance(answer, Failure) else answer

    def _transport_failure(self, request: Request, error: httpx.RequestError) -> _FailedRequest:
        import httpx

        sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
        cause = f"no answer within {self.timeout:g} s" if isinstance(error, httpx.TimeoutException) else str(error)
        cause = redacted(cause) or type(error).__name__
        repeat = Repeat.READS if sent else Repeat.ALL
        text = f"No ksqlDB server answers at {self.url} ({cause}). {WAY_OUT}"
        if not sent and "SSL" in cause:
            repeat = Repeat.NEVER
            text = (
                f"{self.url} does not use TLS, or its certificate cannot be verified ({cause}). Set KSQLDB_SSL_CA_FILE "
                "to the file with the server's certificate authority, or write http:// for a server without TLS."
            )
        elif sent and not request.reads:
            text = (
                f"The ksqlDB server at {self.url} did not report whether it ran the statement ({cause}). Check with "
                "streams(), tables() or query() before you repeat it."
            )
        unavailable = KSQLDBUnavailableError(text, address=self.url, statement=request.statement)
        return _FailedRequest(unavailable, repeat, error)

    def _server_failure(self, request: Request, status: int, failure: Failure) -> _FailedRequest:
        code, message, repeat = failure
        statement = request.statement
        if code == STARTING:
            text = f"The ksqlDB server at {self.url} is starting: {message}"
            return _FailedRequest(
                KSQLDBUnavailableError(text, address=self.url, statement=statement, code=code), repeat
            )
        if code is None or status in (401, 403) or repeat in (Repeat.READS, Repeat.ALL):
            text = f"The request to the ksqlDB server at {self.url} failed: {message}"
            return _FailedRequest(
                KSQLDBUnavailableError(text, address=self.url, statement=statement, code=code or status), repeat
            )
        text = f"The ksqlDB server at {self.url} rejected the request: {message}"
        if request.path == "/query-stream":
            return _FailedRequest(KSQLDBQueryError(text, statement=statement or "", code=code), repeat)
        return _FailedRequest(KSQLDBClientException(text, statement=statement, code=code), repeat)

    def _open_client(self) -> httpx.Client:
        with self._lock:
            if self._closing.is_set():
                raise self._closed_error()
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> httpx.Client:
        try:
            import httpx
        except ImportError as error:
            raise MissingDistributionError(
                f"The connection to {self.url} needs httpx, which is not installed. Install it: pip install httpx."
            ) from error

        options: dict[str, Any] = {"verify": self.url.startswith("https"), **self._credentials.ksqldb()}
        if self._login is not None:
            options["auth"] = self._login
        # The server is in the broker's network: proxies and logins in the environment are for the web.
        return httpx.Client(base_url=self.url, trust_env=False, **options)

    def _closed_error(self) -> KSQLDBClientException:
        return KSQLDBClientException(f"The connection to {self.url} is closed. Open a new one.")
