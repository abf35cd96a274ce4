"""The gateway of the process target: real apps, a real Traefik, and requests while an app is replaced."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from websockets.sync.client import connect

from needed import needed
from openfactory.deploy.app import Release
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.targets.base import Instance, Project, TargetError
from openfactory.deploy.targets.process import ProcessTarget
from releases_for_tests import releases_on
from servers import free_port
from servers.pinned import traefik
from servers.ports import HOST, answers

Eventually = Callable[..., None]

PANEL = """
import os
from openfactory.apps import OpenFactoryFlaskApp

class Panel(OpenFactoryFlaskApp):
    def configure_routes(self):
        @self.app.route("/")
        def version():
            return os.environ["VERSION"]

        @self.app.route("/sum", methods=["POST"])
        def added():
            return os.environ["VERSION"]

if __name__ == "__main__":
    Panel(None).run()
"""

ECHOES = """
from fastapi import WebSocket
from openfactory.apps import EventAttribute, OpenFactoryFastAPIApp
from openfactory.fastapiapp import sse

class Echoes(OpenFactoryFastAPIApp):
    heard = EventAttribute(value="nothing", tag="Echoes.Heard")

    def configure_routes(self):
        @self.api.websocket("/echo")
        async def echo(socket: WebSocket):
            await socket.accept()
            async for text in socket.iter_text():
                self.heard = text
                await socket.send_text(f"{socket.url.path} {text}")

        @self.api.get("/events")
        async def events():
            return sse(self, attributes=["heard"])

if __name__ == "__main__":
    Echoes(None).run()
"""


@pytest.fixture(autouse=True)
def installed_traefik(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traefik is on the PATH, and has a port of this test."""
    with needed("Traefik"):
        program = traefik()
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{free_port()}")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ProcessTarget]:
    (tmp_path / "panel.py").write_text(PANEL, encoding="utf-8")
    with closing(ProcessTarget(Project("hall-2", tmp_path))) as target:
        yield target
        for instance in target.instances():
            target.stop(instance)


def release(target: ProcessTarget, version: str, generation: int = 1, uuid: str = "PANEL", **keys: Any) -> Release:
    settings = {"uuid": uuid, "file": "panel.py", "routing": {"expose": True, "port": free_port()}, **keys}
    factory = FactoryEnvironment({"KSQLDB_URL": target.default_url, "OPENFACTORY_HOST": HOST}, {})
    [found] = releases_on(target, factory, **settings, environment=(f"VERSION={version}",))
    return msgspec.structs.replace(found, generation=generation)


def is_ready(instance: Instance) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{instance.address}/health/ready", timeout=10) as answer:
        return bool(answer.status == 200)
    return False


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def start(target: ProcessTarget, eventually: Eventually, release: Release) -> Instance:
    started: Instance = target.start(release)
    eventually(lambda: is_ready(started))
    return started


def test_a_page_has_a_route_while_its_app_runs(target: ProcessTarget, eventually: Eventually) -> None:
    first, second = release(target, "1"), release(target, "1", uuid="OTHER_1")
    running = start(target, eventually, first)
    start(target, eventually, second)
    urls = target.apply_routes([first, second])
    port = urlsplit(urls["PANEL"]).port
    assert urls == {"PANEL": f"http://localhost:{port}/panel/", "OTHER_1": f"http://localhost:{port}/other-1/"}
    assert [text_of(url) for url in urls.values()] == ["1", "1"]
    assert [instance.uuid for instance in target.instances()] == ["OTHER_1", "PANEL"]
    assert {line.uuid for line in target.logs()} == {"OTHER_1", "PANEL"}
    target.stop(running)
    assert target.apply_routes([second]) == {"OTHER_1": urls["OTHER_1"]}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        text_of(urls["PANEL"])
    for instance in target.instances():
        target.stop(instance)
    assert port is not None
    eventually(lambda: not answers(port))


def test_no_request_fails_while_a_new_version_takes_over(target: ProcessTarget, eventually: Eventually) -> None:
    old = release(target, "old")
    running = start(target, eventually, old)
    url = target.apply_routes([old])["PANEL"]
    requests = Requests(url)
    with closing(requests):
        eventually(lambda: requests.answers["old"] > 50)
        new = release(target, "new", 2)

        def wait_until_up(started: Instance) -> None:
            eventually(lambda: is_ready(started))
            assert target.apply_routes([new]) == {"PANEL": url}

        target.replace(running, new, wait_until_up)
        before = requests.answers["new"]
        eventually(lambda: requests.answers["new"] > before + 50)
    print(requests.answers, f"longest {max(requests.seconds):.2f} s")
    assert set(requests.answers) == {"old", "new"}
    assert [instance.generation for instance in target.instances()] == [2]


def test_the_old_version_is_served_throughout_if_the_new_one_ends(
    target: ProcessTarget, eventually: Eventually
) -> None:
    old = release(target, "old")
    running = start(target, eventually, old)
    url = target.apply_routes([old])["PANEL"]
    (target.project.folder / "broken.py").write_text(
        "import time\ntime.sleep(1)\nraise SystemExit(3)\n", encoding="utf-8"
    )
    new = release(target, "new", 2, file="broken.py", restart="no")

    def wait_until_up(started: Instance) -> None:
        eventually(lambda: [each.exit_status for each in target.instances() if each.generation == 2] == [3])
        raise TargetError("it has ended")

    with closing(Requests(url)) as requests:
        eventually(lambda: requests.answers["old"] > 50)
        with pytest.raises(TargetError, match="it has ended"):
            target.replace(running, new, wait_until_up)
        target.apply_routes([old])
        before = requests.answers["old"]
        eventually(lambda: requests.answers["old"] > before + 50)
    assert set(requests.answers) == {"old"}


def test_sockets_and_streams_work_under_prefix_and_host_at_once(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENFACTORY_BASE_DOMAIN", "factory.test")
    monkeypatch.setenv("OPENFACTORY_ENV", "dev")
    (tmp_path / "echoes.py").write_text(ECHOES, encoding="utf-8")
    with closing(ProcessTarget(Project("hall-2", tmp_path))) as target:
        app = release(target, "1", uuid="ECHOES", file="echoes.py")
        running = start(target, eventually, app)
        port = urlsplit(target.apply_routes([app])["ECHOES"]).port
        try:
            for host, prefix in (("localhost", "/echoes"), ("echoes.factory.test", "")):
                with (
                    closing(http.client.HTTPConnection(HOST, port, timeout=60)) as connection,
                    connect(f"ws://{host}:{port}{prefix}/echo", sock=socket.create_connection((HOST, port or 0))) as ws,
                ):
                    connection.request("GET", f"{prefix}/events", headers={"Host": f"{host}:{port}"})
                    lines = iter(connection.getresponse().readline, b"")
                    for text in ("one", f"two of {host}"):
                        ws.send(text)
                        assert ws.recv(60) == f"/echoes/echo {text}"  # FastAPI has the prefix in each path
                        assert any(f'"value":"{text}"'.encode() in line for line in lines)
        finally:
            target.stop(running)


def test_the_gateway_is_started_again_when_it_was_killed(target: ProcessTarget, eventually: Eventually) -> None:
    first = release(target, "1")
    start(target, eventually, first)
    url = target.apply_routes([first])["PANEL"]
    records = json.loads((target.project.folder / ".openfactory" / "state.json").read_text())
    [pid] = [record["pid"] for record in records if record["program"]["uuid"] == "hall-2/gateway"]
    os.kill(pid, signal.SIGKILL)

    def is_served() -> bool:
        with suppress(OSError):
            return text_of(url) == "1"
        return False

    eventually(is_served)


def test_another_port_in_the_settings_moves_the_gateway(
    target: ProcessTarget, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release(target, "1")
    start(target, eventually, first)
    before = target.apply_routes([first])["PANEL"]
    port = free_port()
    monkeypatch.setenv("OPENFACTORY_GATEWAY", f"{HOST}:{port}")
    assert target.apply_routes([first])["PANEL"] == f"http://localhost:{port}/panel/"
    assert text_of(f"http://localhost:{port}/panel/") == "1"
    with pytest.raises(OSError, match="refused"):
        text_of(before)


def test_without_traefik_each_app_has_its_own_address(
    target: ProcessTarget, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("openfactory.deploy.targets.process.traefik.shutil.which", lambda name: None)
    first = release(target, "1")
    running = start(target, eventually, first)
    for _ in range(2):
        assert target.apply_routes([first]) == {"PANEL": running.address}
    assert [record.message for record in caplog.records if "Traefik is not installed" in record.message] == [
        caplog.records[0].message
    ]


class Requests:
    """Requests one after the other, by several clients; half of them have a body.

    Attributes:
        answers: number of answers by text, or by the status or error of a request that failed.
        seconds: time that each request took.
    """

    def __init__(self, url: str) -> None:
        self.answers: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._url = urlsplit(url)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in ("GET", "POST", "GET", "POST")]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, method: str) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self.answers[self._answer(method)] += 1
            self.seconds.append(time.monotonic() - began)

    def _answer(self, method: str) -> str:
        path = self._url.path + ("sum" if method == "POST" else "")
        try:
            with closing(http.client.HTTPConnection(HOST, self._url.port, timeout=60)) as connection:
                connection.request(method, path, b"1" if method == "POST" else None, {"Host": self._url.netloc})
                answer = connection.getresponse()
                text = answer.read().decode()
                return text if answer.status == 200 else f"{answer.status} {text[:40]}"
        except OSError as error:
            return repr(error)
