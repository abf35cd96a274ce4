"""The dashboard of the examples behind a gateway: it is live, it commands, and it comes back when it was cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.sync_api import Page, expect

from distributions import ROOT
from servers import Gateway, Route

if TYPE_CHECKING:
    from tests.gateway.conftest import AppProcess

EXAMPLES = ROOT / "examples"
ARTEFACTS = ROOT / ".artefacts"

expect.set_options(timeout=60_000)


class Dashboard(NamedTuple):
    """The dashboard, running; its mill, which is not; and the gateway, by which a browser finds it."""

    app: AppProcess
    mill: AppProcess
    gateway: Gateway

    @property
    def url(self) -> str:
        return f"http://localhost:{self.gateway.port}/dashboard/"


@pytest.fixture
def dashboard(tmp_path: Path, new_app: type[AppProcess], gateway_kind: type[Gateway]) -> Iterator[Dashboard]:
    mill = new_app(EXAMPLES / "mill.py", tmp_path, said="", APP_UUID="mill")
    app = new_app(EXAMPLES / "dashboard" / "dashboard.py", tmp_path, APP_UUID="DASHBOARD", MILL_UUID="mill")
    with closing(mill), closing(app), gateway_kind([Route(app.port, prefix="/dashboard")]) as gateway:
        app.start()
        yield Dashboard(app, mill, gateway)


def test_it_is_live_and_commands(dashboard: Dashboard, page: Page) -> None:
    dashboard.mill.start()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(dashboard.url)
    expect(page.locator("#connection")).to_have_text("live")
    status, temperature = (page.locator(f"[data-attribute={name}]").first for name in ("status", "temperature"))
    expect(status).to_have_text("idle")

    page.get_by_role("button", name="Start").click()
    expect(status).to_have_text("milling")
    for _ in range(3):
        expect(temperature).not_to_have_text(temperature.inner_text())
    drawn = points(page)
    page.wait_for_function("least => document.getElementById('plot').dataset.points >= least", arg=drawn + 50)
    assert is_drawn(page)

    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"dashboard-{dashboard.gateway.name}.png", full_page=True)


@pytest.mark.parametrize("width", [1280, 360])
def test_it_has_room_for_a_mill_that_is_not_there_yet(dashboard: Dashboard, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(dashboard.url)
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#availability")).to_have_text("UNAVAILABLE")
    assert page.evaluate("document.documentElement.scrollWidth") == width

    dashboard.mill.start()
    expect(page.locator("#availability")).to_have_text("AVAILABLE")
    expect(page.locator("[data-attribute=status]").first).to_have_text("idle")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_it_says_when_it_is_cut_off_and_is_live_again_by_itself(
    dashboard: Dashboard, page: Page, complaints: list[str]
) -> None:
    connection, status = page.locator("#connection"), page.locator("[data-attribute=status]").first
    dashboard.mill.start()
    page.goto(dashboard.url)
    expect(connection).to_have_text("live")
    expect(status).to_have_text("idle")
    assert complaints == []

    dashboard.app.stop()
    expect(connection).to_have_text("connecting again")
    dashboard.app.start()
    expect(connection).to_have_text("live")
    page.get_by_role("button", name="Start").click()
    expect(status).to_have_text("milling")

    dashboard.gateway.kill()
    expect(connection).to_have_text("connecting again")
    dashboard.gateway.start()
    expect(connection).to_have_text("live")
    page.get_by_role("button", name="Stop").click()
    expect(status).to_have_text("idle")
    complaints.clear()  # of the attempts meanwhile


def points(page: Page) -> int:
    """How many samples the plot has drawn."""
    return int(page.locator("#plot").get_attribute("data-points") or 0)


def is_drawn(page: Page) -> bool:
    """Whether the canvas shows more than one colour."""
    colours = page.locator("#plot").evaluate(
        """canvas => {
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(pixels.buffer)).size;
        }"""
    )
    return int(colours) > 10
