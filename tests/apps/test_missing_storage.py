"""An app that uses `app.storage` without STORAGE: the error names STORAGE, wherever the code of the app runs."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.exceptions import CommandFailed

Start = Callable[..., Any]

SENTENCE = "app.storage is None, because STORAGE is not set."

USES: dict[str, Callable[[OpenFactoryApp], Any]] = {
    "get": lambda app: app.storage.get("recipes").root,
    "item": lambda app: app.storage["recipes"],
    "in": lambda app: "recipes" in app.storage,
    "names": lambda app: list(app.storage),
    "open": lambda app: app.storage.open("today.csv"),
}


@pytest.mark.parametrize("use", USES)
def test_a_constructor_that_uses_it(use: str) -> None:
    class Press(OpenFactoryApp):
        def __init__(self, client: Any, **keywords: Any) -> None:
            super().__init__(client, **keywords)
            USES[use](self)

    with pytest.raises((AttributeError, TypeError)) as caught:
        Press(None, test_mode=True)
    assert SENTENCE in "".join(traceback.format_exception(caught.value))


def test_a_main_loop_that_uses_it(start: Start, log: pytest.LogCaptureFixture) -> None:
    class Press(OpenFactoryApp):
        def main_loop(self) -> None:
            self.storage.get("recipes")

        async def async_main_loop(self) -> None:
            self.storage.get("recipes")

    with pytest.raises(SystemExit):
        start(Press).run()
    assert SENTENCE in log.text
    log.clear()
    with pytest.raises(AttributeError):
        asyncio.run(start(Press).async_run())
    assert SENTENCE in log.text


def test_a_method_that_uses_it(start: Start) -> None:
    class Press(OpenFactoryApp):
        @ofa_method()
        def load(self) -> None:
            self.storage.get("recipes")

    with pytest.raises(CommandFailed, match=r"no attribute 'get'.*\n*app\.storage is None, because STORAGE is not set"):
        start(Press).call("load", sender_uuid="HMI")


OTHERS: list[Callable[[], Any]] = [
    lambda: None.get("x"),  # type: ignore[attr-defined]
    lambda: dict[str, int]()["storage"],
    lambda: object().storage,  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("use", OTHERS)
def test_other_errors_stay_as_they_are(start: Start, use: Callable[[], Any]) -> None:
    class Press(OpenFactoryApp):
        @ofa_method()
        def load(self) -> None:
            use()

    with pytest.raises(CommandFailed) as caught:
        start(Press).call("load", sender_uuid="HMI")
    assert "STORAGE" not in str(caught.value)
