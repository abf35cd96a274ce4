"""What somebody sees who opens an app in a browser: pages that work, stay live, and know who asked before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from tests.gateway.conftest import AppProcess, Entrance

expect.set_options(timeout=60_000)


def test_a_page_is_styled_live_and_can_be_used(entrance: Entrance, page: Page) -> None:
    entrance.ask("/status/idle", "POST")
    page.goto(entrance.url)
    assert page.locator("h1").evaluate("heading => getComputedStyle(heading).color") == "rgb(1, 2, 3)"
    expect(page.locator("#now")).to_have_text("idle")

    # Another client changes the status, and the page hears of it as it happens.
    for value in ("one", "two", "three"):
        entrance.ask(f"/status/{value}", "POST")
        expect(page.locator("#now")).to_have_text(value)
    expect(page.locator("#then")).to_have_text("idle")

    page.get_by_role("button", name="Press").click()
    page.wait_for_url(entrance.url)
    expect(page.locator("#then")).to_have_text("pressed")
    expect(page.locator("#now")).to_have_text("pressed")

    page.get_by_role("link", name="Parts").click()
    page.wait_for_url(f"{entrance.url}parts/")


def visits(page: Page, url: str) -> int:
    """What the app counts that opens this address."""
    answer = page.goto(url)
    assert answer is not None
    counted: int = json.loads(answer.text())["visits"]
    return counted


def test_a_session_lasts(entrance: Entrance, page: Page) -> None:
    assert [visits(page, f"{entrance.url}visits") for _ in range(3)] == [1, 2, 3]


def test_each_way_in_has_its_session_and_none_disturbs_another(
    by_prefix: Entrance, by_host: Entrance, dev_app: AppProcess, page: Page
) -> None:
    direct = f"http://localhost:{dev_app.port}/"  # a browser sends its cookie to the prefix too: cookies know no port
    ways = [by_prefix.url, by_host.url, direct]
    for count in (1, 2, 3):
        assert [visits(page, f"{way}visits") for way in ways] == [count] * 3
    assert [visits(page, f"{way}visits") for way in reversed(ways)] == [4] * 3
    cookies = {(cookie["domain"], cookie["path"]) for cookie in page.context.cookies()}
    assert cookies == {("localhost", "/my-app"), ("my-app.factory.test", "/"), ("localhost", "/")}
