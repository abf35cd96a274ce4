"""The page on web apps does what it says: its blocks are run, and its live page is opened behind its nginx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from distributions import ROOT
from needed import needed
from openfactory.apps import OpenFactoryFlaskApp
from openfactory.settings import VARIABLES
from openfactory.testing import eventually
from servers import Server, free_port
from servers.fetching import program
from servers.ports import HOST, answers

Follow = Callable[..., None]
Blocks = Callable[[str], list[Any]]

PAGE = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def installs(block: Any) -> bool:
    return bool(block.section == "Install")


@pytest.mark.thorough
def test_the_installation_brings_all_that_the_page_imports(
    follow: Follow, installing: dict[str, str], blocks: Blocks, tmp_path: Path
) -> None:
    follow(PAGE, installs, **installing)
    oven = tmp_path / "oven"
    _write(blocks, oven)
    python = tmp_path / "folder" / "venv" / "bin" / "python"
    subprocess.run([python, "-c", "import oven, pytest"], cwd=oven, env={"PYTHONPATH": ""}, check=True, timeout=60)


def test_every_other_block_runs_in_the_order_of_the_page(follow: Follow) -> None:
    _needs("curl", "curl")
    port = free_port()
    page = PAGE.replace("0.0.0.0:4000", f"{HOST}:{port}").replace("localhost:4000", f"localhost:{port}")
    follow(page, lambda block: not installs(block) and block.language != "nginx", OPENFACTORY_HOST=HOST, PORT=str(port))


def test_the_live_page_is_live_behind_the_nginx_of_the_page(blocks: Blocks, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    browser_path = _needs("chromium", "chromium", "google-chrome")
    _needs("nginx", "nginx-light")
    with (
        _oven(blocks, tmp_path) as port,
        NginxOfThePage(blocks, port) as nginx,
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])) as browser,
    ):
        said: list[str] = []
        expect.set_options(timeout=60_000)
        page, other = browser.new_page(), browser.new_page()
        for window in (page, other):
            window.on("console", lambda message: said.append(message.text))
            window.on("pageerror", lambda error: said.append(str(error)))
            window.goto(f"http://localhost:{nginx.port}/oven")
            expect(window.locator("[data-attribute=status]")).to_have_text("cold")
        page.fill("input", "30")
        page.click("button")
        for window in (page, other):
            expect(window.locator("[data-attribute=status]")).to_have_text("hot")
            expect(window.locator("[data-attribute=temperature]")).to_have_text("30")
            assert window.url == f"http://localhost:{nginx.port}/oven/"
        expect(page.locator("input")).to_have_value("30")
        expect(other.locator("input")).to_have_value("180")
        [cookie] = page.context.cookies()
        assert cookie["path"] == "/oven"
        for path in ("health/live", "metrics"):  # which the page on security closes
            assert page.request.get(f"http://localhost:{nginx.port}/oven/{path}").status == 404
            assert page.request.get(f"http://localhost:{port}/{path}").status == 200
        assert said == []


def test_the_table_names_the_metrics_that_there_are() -> None:
    app = OpenFactoryFlaskApp(None, test_mode=True)
    try:
        said = app.test_client().get("/metrics").text
        outcomes = app._engine.health().counters
    finally:
        app.shutdown()
    there = set(re.findall(r"^# TYPE (openfactory_\w+)", said, re.MULTILINE))
    table = dict(re.findall(r"^\| `(openfactory_\w+)` \|[^|]*\| (.*) \|$", PAGE, re.MULTILINE))
    assert set(table) == {name for name in there if not name.endswith("_created")}
    assert set(re.findall(r"`(\w+)`", table["openfactory_engine_events_total"])) == set(outcomes)


class NginxOfThePage(Server):
    """An nginx whose server has the locations that the pages give, for an app at a port."""

    name = "nginx"

    def __init__(self, blocks: Blocks, app_port: int) -> None:
        super().__init__()
        self.port = free_port()
        [locations, *more] = [block.text for block in blocks(PAGE + SECURITY) if block.language == "nginx"]
        self._locations = locations.replace(":4000/", f":{app_port}/") + "".join(more)

    def _prepare(self) -> None:
        kept = "".join(
            f"{of}_temp_path {self.folder}/{of};" for of in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {self.folder}/nginx.pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {kept} server {{ listen {HOST}:{self.port};\n{self._locations}}} }}\n",
            encoding="utf-8",
        )

    def _command(self) -> list[str]:
        return [program("nginx", "nginx-light"), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]

    def _is_ready(self) -> bool:
        return answers(self.port)


def _write(blocks: Blocks, folder: Path) -> None:
    """Save the files of the page as they stand at its end."""
    for block in blocks(PAGE):
        if block.language not in ("console", "nginx"):
            path = folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


@contextmanager
def _oven(blocks: Blocks, folder: Path) -> Iterator[int]:
    """The app of the page, at a port."""
    _write(blocks, folder)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"APP_UUID": "oven", "KSQLDB_URL": "sqlite:///factory.db", "OPENFACTORY_HOST": HOST}
    app = subprocess.Popen([sys.executable, "oven.py"], cwd=folder, env={**environment, "PORT": str(port)})
    try:
        eventually(lambda: answers(port) or app.poll() is not None, timeout=60)
        yield port
    finally:
        app.kill()
        app.wait()


def _needs(name: str, package: str, *other_names: str) -> str:
    with needed(name):
        return program(name, package, *other_names)
