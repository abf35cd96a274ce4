"""The example apps with web pages, as their users run them: by themselves, and the dashboard in the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

import pytest

from openfactory.assets import Asset
from openfactory.exceptions import CommandFailed
from openfactory.kafka import KSQLDBClient

Eventually = Callable[..., None]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OFA_RUN = [sys.executable, "-W", "error", "-P", "-m", "openfactory.apps.cli", "run"]
TIMEOUT = 60


class Browser:
    """Follows redirects and keeps cookies, as a browser does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor())

    def get(self, path: str = "/", **headers: str) -> str:
        return self._read(Request(self.address + path, headers=headers))

    def json(self, path: str = "/") -> Any:
        return json.loads(self.get(path))

    def send_form(self, path: str, **fields: str) -> str:
        return self._read(Request(self.address + path, urlencode(fields).encode()))

    def send_json(self, path: str, content: object) -> Any:
        headers = {"Content-Type": "application/json"}
        return json.loads(self._read(Request(self.address + path, json.dumps(content).encode(), headers)))

    def open(self, path: str) -> HTTPResponse:
        """An answer whose body is still to be read."""
        answer = self._opener.open(self.address + path, timeout=TIMEOUT)
        assert isinstance(answer, HTTPResponse)
        return answer

    def status_of(self, path: str, data: bytes | None = None) -> int:
        try:
            with closing(self._opener.open(self.address + path, data, TIMEOUT)) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code

    def _read(self, request: Request) -> str:
        with closing(self._opener.open(request, timeout=TIMEOUT)) as answer:
            return str(answer.read().decode())


class Example:
    """An app of examples/ in a process of its own."""

    def __init__(self, path: str, folder: Path, url: str, eventually: Eventually) -> None:
        self.log = folder / f"{Path(path).stem}.log"
        self._eventually = eventually
        place = {"KSQLDB_URL": url, "OPENFACTORY_HOST": "127.0.0.1", "PORT": "0"}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*OFA_RUN, EXAMPLES / path], cwd=folder, env={**os.environ, **place}, stdout=output, stderr=output
            )

    def says(self, pattern: str) -> str:
        """What it logs, as soon as it does."""
        found: list[str] = []

        def look() -> bool:
            found[:] = re.findall(pattern, self.log.read_text())
            return bool(found) or self.process.poll() is not None

        self._eventually(look, timeout=TIMEOUT)
        assert found, self.log.read_text()
        return found[0]

    def browser(self) -> Browser:
        return Browser(self.says(r"Serving on (http://127\.0\.0\.1:\d+)"))

    def stop(self) -> None:
        """Stop it as a terminal does; nothing went wrong all the while."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(TIMEOUT) == 0
        assert "Traceback" not in self.log.read_text()


Run = Callable[[str], Example]


@pytest.fixture
def run(tmp_path: Path, file_url: str, eventually: Eventually) -> Iterator[Run]:
    """Run an app of examples/: `run("sensor_gate.py")`."""
    started: list[Example] = []

    def start(path: str) -> Example:
        started.append(Example(path, tmp_path, file_url, eventually))
        return started[-1]

    yield start
    for example in started:
        example.process.kill()
        example.process.wait()


@pytest.fixture
def client(file_url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(file_url) as client:
        yield client


def test_the_sensor_gate_is_opened_over_http_and_shut_by_a_command(
    run: Run, client: KSQLDBClient, eventually: Eventually
) -> None:
    gate = run("sensor_gate.py")
    browser = gate.browser()
    assert browser.json() == {"state": "shut", "passed": 0, "weight": 0.0}
    assert "passed" in json.loads(browser.send_form("/open"))  # the answer behind the redirect
    with Asset("sensor_gate", client) as asset:
        assert "open" in [state.value for state in asset.history("state")]

        def has_let_one_pass() -> bool:
            if asset.state.value == "shut: too heavy":  # by chance, and rarely, the first ones are
                browser.send_form("/open")
            return bool(asset.passed.value)

        eventually(has_let_one_pass, timeout=TIMEOUT)
        assert browser.json("/heaviest")["heaviest"] >= 300
        assert asset.call("shut", reason="shift end", sender_uuid="TEST").startswith("shut, ")
    assert browser.json()["state"] == "shut: shift end"
    gate.stop()


def test_the_tool_crib_shows_what_is_lent_by_commands(run: Run, client: KSQLDBClient) -> None:
    crib = run("tool_crib/tool_crib.py")
    browser = crib.browser()
    with Asset("tool_crib", client) as asset:
        assert asset.call("lend", tool="depth gauge", to="<Ada>", sender_uuid="TEST") == "<Ada> has the depth gauge"
        page = browser.get("/tools/")
        assert "1 of 6 tools are lent." in page
        assert "depth gauge</a>: &lt;Ada&gt;" in page
        link = re.search(r'href="([^"]*depth[^"]*)"', page)
        assert link is not None
        with pytest.raises(CommandFailed, match="<Ada> has the depth gauge"):
            asset.call("lend", tool="depth gauge", to="Grace", sender_uuid="TEST")
        with pytest.raises(CommandFailed, match="has no hammer"):
            asset.call("take_back", tool="hammer", sender_uuid="TEST")
        assert asset.call("take_back", tool="depth gauge", sender_uuid="TEST") == "the depth gauge is back"
        assert asset.lent.value == 0
    moves = re.findall(r"<li>(.*?) <small>", browser.get(link[1]))
    assert moves == ["the depth gauge is back", "&lt;Ada&gt; has the depth gauge"]
    assert browser.status_of("/tools/hammer") == 404
    crib.process.send_signal(signal.SIGTERM)
    assert crib.process.wait(TIMEOUT) == 0


def test_the_shift_book_knows_who_writes(run: Run, client: KSQLDBClient) -> None:
    book = run("shift_book/shift_book.py")
    ada, stranger = book.browser(), book.browser()
    assert "Who are you?" in ada.get()
    assert "Ada, what must the next shift know?" in ada.send_form("/name", name=" Ada ")
    assert "<li>Ada: the coolant is low <small>" in ada.send_form("/notes", text="the coolant is low")
    assert "a lie" not in stranger.send_form("/notes", text="a lie")
    with Asset("shift_book", client) as asset:
        assert asset.note.value == "Ada: the coolant is low"
        asset.call("write", name="mill", text="tool 4 is <worn>", sender_uuid="TEST")
    newest, *others = re.findall(r"<li>(.*?) <small>", stranger.get())
    assert newest == "mill: tool 4 is &lt;worn&gt;"
    assert others == ["Ada: the coolant is low", "The book is open."]
    book.stop()


def test_the_dashboard_shows_the_mill_and_commands_it(run: Run, client: KSQLDBClient) -> None:
    mill, dashboard = run("mill.py"), run("dashboard/dashboard.py")
    mill.says("Starting the main loop")
    browser = dashboard.browser()
    said = browser.send_json("/orders/start", {"speed": "1500"})
    assert said == {"done": True, "said": "milling at 1500 turns a minute"}
    said = browser.send_json("/orders/set_speed", {"speed": "9000"})
    assert not said["done"]
    assert said["said"].endswith("the spindle turns at 1 to 2400, not at 9000")
    assert not browser.send_json("/orders/set_speed", {"speed": "fast"})["done"]
    assert not browser.send_json("/orders/stop", {"method": "start", "timeout": 1})["done"]  # no argument of a stop
    with Asset("dashboard", client) as asset:
        assert asset.last_order.value == "stop method=start timeout=1"

    with closing(browser.open("/changes")) as stream:
        seen: dict[str, Any] = {}
        # The values as they are come first; the spindle's goes on until it has reached what was ordered.
        while set(seen) != {"avail", "status", "parts", "spindle_speed", "temperature"} or seen["spindle_speed"] < 1500:
            line = stream.readline().decode()
            assert line, "the stream has ended"
            if line.startswith("data: "):
                change = json.loads(line.removeprefix("data: "))
                assert change["asset"] == "mill"
                seen[change["id"]] = change["value"]
        assert seen["status"] == "milling"

    curves = browser.json("/samples")["curves"]
    speeds = [value for _, value in curves["spindle_speed"]]
    assert speeds[-1] == 1500
    assert {0, 300, 600, 900, 1200} <= set(speeds)
    assert len(curves["temperature"]) > 5
    assert browser.send_json("/orders/stop", {})["done"]
    dashboard.stop()


def test_the_dashboard_needs_nothing_but_its_own_files_and_takes_orders_from_its_page_alone(run: Run) -> None:
    dashboard = run("dashboard/dashboard.py")
    browser = dashboard.browser()
    with closing(browser.open("/")) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        page = answer.read().decode()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) == 3
    assert [browser.status_of(address) for address in addresses] == [200, 200, 200]
    assert re.findall(r'<script(?! type="module" src=)|<style|\sstyle=|\son\w+=', page) == []

    behind_gateway = browser.get("/", **{"X-Forwarded-Prefix": "/line-1/dashboard"})
    found = re.findall(r'(?:src|href|data-changes|data-samples|data-url)="([^"]*)"', behind_gateway)
    assert len(found) == 8
    assert all(address.startswith("/line-1/dashboard/") for address in found)

    assert browser.status_of("/orders/start", b"speed=1200") == 415  # a form, as another site could send it
    with pytest.raises(HTTPError, match="400") as refused:
        browser.send_json("/orders/start", ["speed"])
    refused.value.close()
    assert browser.status_of("/orders/close", b"") == 404
    dashboard.stop()


def test_the_demo_serves_the_dashboard_until_it_ends(tmp_path: Path, eventually: Eventually) -> None:
    log = tmp_path / "demo.log"
    folder = tmp_path / "demo"
    folder.mkdir()
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [sys.executable, EXAMPLES / "factory_demo.py"],
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        opened = re.compile(r"Open (http://127\.0\.0\.1:\d+)/ in a browser\.")
        eventually(lambda: opened.search(log.read_text()) or demo.poll() is not None, timeout=TIMEOUT)
        found = opened.search(log.read_text())
        assert found is not None, log.read_text()
        browser = Browser(found[1])
        assert "<h1>mill</h1>" in browser.get()
        stream = browser.open("/changes")  # somebody watches while it ends
        with closing(stream):
            assert stream.readline().startswith(b":")
            demo.send_signal(signal.SIGINT)
            assert demo.wait(TIMEOUT) == 0, log.read_text()
        said = log.read_text()
        assert "dashboard.avail = UNAVAILABLE" in said[said.index("Open http") :]
        assert said.endswith("Stopped.\nThe factory has stopped.\n")
        assert list(folder.iterdir()) == []
        with pytest.raises(OSError, match="refused"):
            browser.get()
    finally:
        demo.kill()
        demo.wait()
