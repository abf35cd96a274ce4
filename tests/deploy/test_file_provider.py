"""A real Traefik with the files that a deployment writes for apps which are plain processes."""

from __future__ import annotations

import http.client
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from needed import needed
from openfactory.deploy.gateway.file_provider import RouteFiles
from openfactory.deploy.gateway.routes import Addresses, Route
from openfactory.deploy.targets.base import TargetError
from openfactory.deploy.targets.process.traefik import Traefik
from openfactory.storage.atomic_replace import unfinished_name
from releases_for_tests import settings
from servers import free_port
from servers.pinned import traefik
from servers.ports import HOST

Eventually = Callable[..., None]


def route(uuid: str, replicas: int = 1) -> Route:
    found = Addresses("factory.test", has_prefixes=True).route(
        settings(uuid=uuid, routing={"expose": True, "port": 1}, deploy={"replicas": replicas})
    )
    assert found is not None
    return found


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with its name, the path, and the headers that tell of a gateway, by the names that a CGI program sees."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        headers = {name.replace("_", "-").replace(".", "-").title(): value for name, value in self.headers.items()}
        told = {name: value for name, value in headers.items() if name.startswith("X-Forwarded")}
        body = json.dumps({"name": self.server.name, "path": self.path, "told": told}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


class EchoServer(http.server.ThreadingHTTPServer):
    """Answers the requests that have arrived before it closes, as an app does."""

    timeout = 0
    has_requests = True

    def server_close(self) -> None:
        while self.has_requests:
            self.handle_request()
        super().server_close()

    def handle_timeout(self) -> None:
        self.has_requests = False


@contextmanager
def echo(name: str, port: int = 0) -> Iterator[str]:
    """A server that is no app; its URL."""
    with EchoServer((HOST, port), Echo) as server:
        server.name = name  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.location = response.headers["Location"]
        self.cookie = response.headers["Set-Cookie"]
        self.text = response.read().decode()

    @property
    def name(self) -> str:
        return str(json.loads(self.text)["name"]) if self.status == 200 else str(self.status)


def ask(gateway: Traefik, host: str, path: str, **headers: str) -> Answer:
    with closing(http.client.HTTPConnection(HOST, gateway.port, timeout=60)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", f"{host}:{gateway.port}")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return Answer(connection.getresponse())


@pytest.fixture
def program() -> str:
    with needed("Traefik"):
        return str(traefik())


@pytest.fixture
def gateway(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traefik]:
    """A gateway that runs, without routes."""
    monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{free_port()}")
    gateway = Traefik(tmp_path / "gateway", program)
    gateway.prepare()
    with (tmp_path / "traefik.log").open("wb") as log:
        process = subprocess.Popen(gateway.command, stdout=log, stderr=log)
    try:
        gateway.wait_until_taken({})
        yield gateway
    finally:
        process.terminate()
        process.wait(60)


def put(gateway: Traefik, routes: dict[Route, list[str]]) -> None:
    gateway.routes.apply(routes)
    gateway.wait_until_taken(routes)


def test_routes_appear_and_vanish(gateway: Traefik) -> None:
    with echo("one") as one, echo("two") as two:
        put(gateway, {route("one"): [one], route("two"): [two]})
        for name in ("one", "two"):
            assert ask(gateway, f"{name}.factory.test", "/x").name == name
            assert ask(gateway, "localhost", f"/{name}/x").name == name
        put(gateway, {route("two"): [two]})
        assert ask(gateway, "one.factory.test", "/").status == 404
        assert ask(gateway, "localhost", "/one/").status == 404
        assert ask(gateway, "localhost", "/two/").name == "two"


def test_a_prefix_is_removed_and_takes_no_other_path(gateway: Traefik) -> None:
    with echo("app") as url:
        put(gateway, {route("my-app"): [url]})
        answer = json.loads(ask(gateway, "localhost", "/my-app/x/?y=1").text)
        assert answer["path"] == "/x/?y=1"
        assert answer["told"]["X-Forwarded-Prefix"] == "/my-app"
        by_host = json.loads(ask(gateway, "my-app.factory.test", "/my-app/x").text)
        assert by_host["path"] == "/my-app/x"
        assert "X-Forwarded-Prefix" not in by_host["told"]
        for path in ("/my-app-2/x", "/my-appendix", "/", "/other"):
            assert ask(gateway, "localhost", path).status == 404


@pytest.mark.parametrize("query", ["", "?a=1&b=%2F"])
def test_a_prefix_without_its_slash_is_redirected(gateway: Traefik, query: str) -> None:
    with echo("app") as url:
        put(gateway, {route("my-app"): [url]})
        answer = ask(gateway, "localhost", f"/my-app{query}")
        assert (answer.status, answer.location) == (302, f"http://localhost:{gateway.port}/my-app/{query}")


def test_a_client_cannot_name_a_prefix(gateway: Traefik) -> None:
    with echo("app") as url:
        put(gateway, {route("my-app"): [url]})
        for name in ("X-Forwarded-Prefix", "X_Forwarded_Prefix", "X.Forwarded.Prefix"):
            told = json.loads(ask(gateway, "localhost", "/my-app/", **{name: "/evil"}).text)["told"]
            assert told["X-Forwarded-Prefix"] == "/my-app"


def test_a_browser_stays_with_one_replica(gateway: Traefik) -> None:
    with echo("one") as one, echo("two") as two:
        put(gateway, {route("app", replicas=2): [one, two]})
        answers = [ask(gateway, "app.factory.test", "/") for _ in range(10)]
        assert {answer.name for answer in answers} == {"one", "two"}
        for first in answers[:2]:
            cookie = first.cookie.partition(";")[0]
            again = {ask(gateway, "app.factory.test", "/", Cookie=cookie).name for _ in range(6)}
            assert again == {first.name}


def test_no_request_fails_while_an_app_is_replaced(gateway: Traefik, eventually: Eventually) -> None:
    app = route("app")
    names: list[str] = []
    ended = threading.Event()

    def client() -> None:
        while not ended.is_set():
            names.append(ask(gateway, "localhost", "/app/").name)

    def further_answers() -> None:
        begun = len(names)
        eventually(lambda: len(names) > begun + 20)

    def end_clients() -> None:
        ended.set()
        for thread in clients:
            thread.join()

    new_port = free_port()
    new_url = f"http://{HOST}:{new_port}"
    clients = [threading.Thread(target=client) for _ in range(3)]
    with ExitStack() as new, ExitStack() as old:
        old_url = old.enter_context(echo("old"))
        put(gateway, {app: [old_url]})
        new.callback(end_clients)
        for thread in clients:
            thread.start()
        further_answers()
        put(gateway, {app: [old_url, new_url]})  # which does not listen yet
        further_answers()
        old.close()  # it has lost its UUID, and the new one is not ready yet
        time.sleep(0.5)
        new.enter_context(echo("new", new_port))
        new.callback(end_clients)  # before the server ends
        eventually(lambda: "new" in names)
        put(gateway, {app: [new_url]})
        further_answers()
    assert set(names) == {"old", "new"}


def test_it_keeps_its_port_until_the_setting_changes(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [free_port(), free_port()]
    monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{ports[0]}")
    gateway = Traefik(tmp_path, program)
    gateway.prepare()
    assert gateway.port == ports[0]
    monkeypatch.delenv("OPENFACTORY_GATEWAY")
    gateway.prepare()
    assert gateway.port == ports[0]
    monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{ports[1]}")
    gateway.prepare()
    assert gateway.port == ports[1]


def test_a_port_in_use_is_told_only_if_the_settings_name_it(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with echo("other") as url:
        port = int(url.rpartition(":")[2])
        monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{port}")
        with pytest.raises(TargetError, match=f"Port {port} for the gateway is in use"):
            Traefik(tmp_path, program).prepare()
        monkeypatch.delenv("OPENFACTORY_GATEWAY")
        gateway = Traefik(tmp_path, program)
        gateway.prepare()
        assert gateway.port != port


@pytest.mark.parametrize("address", ["8080", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:0", "127.0.0.1:65536"])
def test_an_address_that_is_not_one_is_refused(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("OPENFACTORY_GATEWAY", address)
    with pytest.raises(TargetError, match="is not an address"):
        Traefik(tmp_path, program).prepare()


def test_files_are_replaced_whole_and_left_alone_if_nothing_changes(tmp_path: Path) -> None:
    files = RouteFiles(tmp_path / "routes")
    files.apply({route("one"): ["http://127.0.0.1:1"], route("two"): []})
    [path] = files.folder.iterdir()
    assert path.name == "ofa-one.yaml"
    written = path.stat().st_ino
    files.apply({route("one"): ["http://127.0.0.1:1"]})
    assert path.stat().st_ino == written
    files.apply({route("one"): ["http://127.0.0.1:2"]})
    assert path.stat().st_ino != written
    files.apply({})
    assert list(files.folder.iterdir()) == []


DAMAGED = [b"", b'{"http": {"serv', b'{"http": {}}', b"[]", b"\xff\x00", b'{"entryPoints": {"web": {"address": 5}}}']


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_route_counts_as_not_written_and_is_written_anew(tmp_path: Path, content: bytes) -> None:
    files = RouteFiles(tmp_path / "routes")
    routes = {route("one"): ["http://127.0.0.1:1"]}
    files.apply(routes)
    [path] = files.folder.iterdir()
    path.write_bytes(content)
    assert files.servers(route("one")) == []
    files.apply(routes)
    assert files.servers(route("one")) == ["http://127.0.0.1:1"]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_settings_are_written_anew(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{free_port()}")
    gateway = Traefik(tmp_path, program)
    gateway.prepare()
    port = gateway.port
    (tmp_path / "traefik.yaml").write_bytes(content)
    assert (gateway.has_settings, gateway.has_port) == (False, False)
    assert gateway.prepare()
    assert (gateway.has_settings, gateway.port) == (True, port)


def test_a_part_that_a_killed_command_has_left_is_removed(tmp_path: Path) -> None:
    files = RouteFiles(tmp_path / "routes")
    files.folder.mkdir()
    (files.folder / unfinished_name("")).write_bytes(b"{")
    files.apply({})
    assert list(files.folder.iterdir()) == []
