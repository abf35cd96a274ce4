"""Apps as processes, a real gateway before them, and a real browser before that."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import pytest

from needed import needed
from openfactory.deploy.gateway import routes
from openfactory.settings import VARIABLES
from openfactory.testing import eventually
from servers import Gateway, NginxServer, Route, TraefikServer, free_port
from servers.fetching import program
from servers.ports import HOST

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

#: Where requests come from: not from the address of the gateway, which is what an app sees where nobody tells it.
CLIENT = "127.0.0.2"

#: What an app of these tests takes as the body of a request.
MAX_REQUEST_BYTES = 4 * 1024 * 1024

PANEL = Path(__file__).parent / "panel" / "main.py"


class DeployedTraefik(TraefikServer):
    """A Traefik with the routes that `ofa apps` gives it."""

    name = "deployed-traefik"

    def _routes(self) -> dict[str, dict[str, Any]]:
        said: dict[str, dict[str, Any]] = {"routers": {}, "services": {}, "middlewares": {}}
        for number, route in enumerate(self.routes, 1):
            deployed = routes.Route(f"ofa-{number}", route.hosts, route.prefix)
            balancer = routes.load_balancer([f"http://{HOST}:{route.port}"])
            for kind, named in routes.http_configuration(deployed, balancer, retries=False).items():
                said[kind] |= named
        return said


GATEWAYS = [
    NginxServer,
    pytest.param(DeployedTraefik, marks=pytest.mark.thorough),
    pytest.param(TraefikServer, marks=pytest.mark.thorough),
]


class AppProcess:
    """An app in a process of its own, on a port that it keeps from start to start."""

    def __init__(self, file: Path, folder: Path, *, said: str = "Serving on ", **environment: str) -> None:
        self.port = free_port()
        self._file = file
        self._said = said  # as soon as it runs
        self._log = folder / f"{environment['APP_UUID']}.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in VARIABLES},
            "KSQLDB_URL": f"sqlite:///{folder}/factory.db",
            "OPENFACTORY_HOST": HOST,
            "PORT": str(self.port),
            "MAX_REQUEST_BYTES": str(MAX_REQUEST_BYTES),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def start(self) -> None:
        with self._log.open("wb") as log:
            command = [sys.executable, "-W", "error", str(self._file)]
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        eventually(lambda: self._said in self.log or process.poll() is not None, timeout=60)
        assert process.poll() is None, self.log

    def stop(self) -> None:
        """Ask it to stop; it does so well."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(60) == 0, self.log
        self._process = None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def running(app: AppProcess) -> Iterator[AppProcess]:
    with closing(app):
        app.start()
        yield app


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    text: str
    headers: http.client.HTTPMessage

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Entrance(NamedTuple):
    """One of the ways to an app: a host name of the gateway, and a prefix that ends there."""

    gateway: Gateway
    host: str
    prefix: str = ""

    @property
    def url(self) -> str:
        """The address of the app's root page."""
        return f"http://{self.host}:{self.gateway.port}{self.prefix}/"

    @property
    def tls_url(self) -> str:
        return f"https://{self.host}:{self.gateway.tls_port}{self.prefix}/"

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        body: bytes | Iterable[bytes] | None = None,
        *,
        tls: bool = False,
        **headers: str,
    ) -> Answer:
        """The answer to one request for a path of the app; `X_Forwarded_For="…"` is the header X-Forwarded-For."""
        url = (self.tls_url if tls else self.url).removesuffix("/") + path
        return self.ask_url(url, method, body, **headers)

    def follow(self, path: str, location: str) -> Answer:
        """Where a browser goes that was sent to `location` by a page of the app."""
        return self.ask_url(urljoin(self.url.removesuffix("/") + path, location))

    def ask_url(
        self, url: str, method: str = "GET", body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> Answer:
        """The answer to one request for an address of the gateway."""
        parts = urlsplit(url)
        with closing(self.connect(tls=parts.scheme == "https")) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            chunked = body is not None and not isinstance(body, bytes)
            if chunked:
                named["Transfer-Encoding"] = "chunked"
            with suppress(BrokenPipeError, ConnectionResetError):  # an upload that is refused may be cut short
                connection.request(method, target, body, {"Host": parts.netloc, **named}, encode_chunked=chunked)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), response.headers)

    def connect(self, *, tls: bool = False) -> http.client.HTTPConnection:
        """A connection to the gateway."""
        source = (CLIENT, 0)
        if not tls:
            return http.client.HTTPConnection(HOST, self.gateway.port, timeout=60, source_address=source)
        context = ssl.create_default_context(cafile=self.gateway.certificates.ca_file)
        return http.client.HTTPSConnection(
            HOST, self.gateway.tls_port, timeout=60, source_address=source, context=context
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apps")


@pytest.fixture
def new_app() -> type[AppProcess]:
    """Makes an app of any program."""
    return AppProcess


@pytest.fixture(scope="module")
def dev_app(folder: Path) -> Iterator[AppProcess]:
    """An app as it is deployed for development: it has a host and, at the same time, a prefix that it is told of."""
    with running(AppProcess(PANEL, folder, APP_UUID="MY-APP", OPENFACTORY_ROOT_PATH="/my-app")) as app:
        yield app


@pytest.fixture(scope="module")
def production_app(folder: Path) -> Iterator[AppProcess]:
    """An app as it is deployed in earnest: it has a host."""
    with running(AppProcess(PANEL, folder, APP_UUID="LONE-APP")) as app:
        yield app


@pytest.fixture(scope="module")
def stopped_app(folder: Path) -> Iterator[AppProcess]:
    """An app that the gateway knows, and that a test starts."""
    with closing(AppProcess(PANEL, folder, APP_UUID="NIGHT-APP", OPENFACTORY_ROOT_PATH="/night-app")) as app:
        yield app


@pytest.fixture(scope="module", params=GATEWAYS, ids=lambda kind: kind.name)
def gateway_kind(request: pytest.FixtureRequest) -> type[Gateway]:
    """Which gateway it is; a machine that lacks it skips the test."""
    kind: type[Gateway] = request.param
    with needed(kind.name), kind([]):
        pass
    return kind


@pytest.fixture(scope="module")
def gateway(
    gateway_kind: type[Gateway], dev_app: AppProcess, production_app: AppProcess, stopped_app: AppProcess
) -> Iterator[Gateway]:
    ways = [
        Route(dev_app.port, ("my-app.factory.test", "panel.factory.test"), "/my-app"),
        Route(production_app.port, ("lone-app.factory.test",)),
        Route(stopped_app.port, ("night-app.factory.test",), "/night-app"),
    ]
    with gateway_kind(ways) as gateway:
        yield gateway


@pytest.fixture
def new_entrance() -> type[Entrance]:
    """Makes an entrance of any gateway."""
    return Entrance


@pytest.fixture
def by_prefix(gateway: Gateway) -> Entrance:
    return Entrance(gateway, "localhost", "/my-app")


@pytest.fixture
def by_host(gateway: Gateway) -> Entrance:
    """To the same app as `by_prefix`."""
    return Entrance(gateway, "my-app.factory.test")


@pytest.fixture(params=["prefix", "host", "alias", "host alone"])
def entrance(request: pytest.FixtureRequest, gateway: Gateway, by_prefix: Entrance, by_host: Entrance) -> Entrance:
    """Every way in: the prefix, the host beside it, that host's alias, and the host of an app without a prefix."""
    return {
        "prefix": by_prefix,
        "host": by_host,
        "alias": Entrance(gateway, "panel.factory.test"),
        "host alone": Entrance(gateway, "lone-app.factory.test"),
    }[request.param]


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    """A browser for the tests of a file. Not for all tests: while it runs, no other event loop can in this thread."""
    from playwright.sync_api import sync_playwright

    with needed("A browser"):
        path = program("chromium", "chromium", "google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            timeout=90_000,
            env={**os.environ, "HOME": str(folder)},  # it leaves its files there
            args=["--no-proxy-server", f"--host-resolver-rules=MAP *.factory.test {HOST}"],
        )
        with closing(browser):
            yield browser


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A fresh page, with no cookies. A test fails that leaves `complaints`."""
    with closing(browser.new_context()) as context:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda message: complaints.extend(_said(message)))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: complaints.extend(_failed(request)))
        page.on("response", lambda answer: complaints.extend(_refused(answer)))
        yield page
    assert complaints == []


@pytest.fixture
def complaints() -> list[str]:
    """What the browser had to say of a page: messages of the console, errors, requests that failed."""
    return []


def _said(message: ConsoleMessage) -> list[str]:
    # Of a page that names no icon, JSON for one, the browser asks for one all the same.
    return [] if message.location["url"].endswith("/favicon.ico") else [f"{message.type}: {message.text}"]


def _failed(request: Request) -> list[str]:
    # One that ends with its page has not failed: an event stream never ends otherwise.
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url}: {request.failure}"]


def _refused(answer: Response) -> list[str]:
    return [f"{answer.url}: {answer.status}"] if answer.status >= 400 else []
