"""An app that others have taken for ended, for example because it was frozen, owns its UUID again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.apps import ownership as module
from openfactory.assets import Asset
from openfactory.engines import Engine
from openfactory.events.event import OWNER_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.ownership import Owner, end_event, owned
from openfactory.events.receipt import Receipt

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


class Mill(OpenFactoryApp):
    @ofa_method()
    def stroke(self) -> str:
        return "done"


@pytest.fixture
def mill(start: Start, url: str) -> Any:
    mill = start(Mill, url, app_uuid="MILL")
    mill["avail"] = "AVAILABLE"
    return mill


def call_dead(engine: Engine, owner: Owner | None) -> None:
    """Write the end of the app as another process does, and more replies that the app has written before."""
    assert owner is not None
    engine.publish(end_event("MILL", owner, None, "it gave no sign of life"))
    for _ in range(200):
        engine.publish(owned(new_event("MILL", "stroke_REPLY", "{}", "OpenFactory", REPLY_TAG), owner.epoch))


def test_an_app_that_was_taken_for_ended_is_available_again(
    mill: Any, engine: Engine, watch: Watch, eventually: Eventually, log: pytest.LogCaptureFixture
) -> None:
    watched = watch("MILL")
    heard: list[object] = []
    watched.subscribe_to_attribute("avail", lambda _, message: heard.append(message["VALUE"]))
    for times in range(1, 4):
        call_dead(engine, mill.owner)
        eventually(lambda: len(heard) == 2 * times)  # noqa: B023 - it waits within the turn
    assert heard == 3 * ["UNAVAILABLE", "AVAILABLE"]
    assert watched.call("stroke", sender_uuid="HMI") == "done"
    assert "was taken over" not in log.text


def test_of_several_claims_whose_writing_takes_long_the_first_one_counts(
    mill: Any, engine: Engine, watch: Watch, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims are all of this app, so it has not lost its UUID to another one."""
    claims: list[AssetEvent] = []
    publish = engine.publish

    def publish_later(event: AssetEvent) -> Receipt:
        if event.tag != OWNER_TAG:
            return publish(event)
        claims.append(event)
        if len(claims) < 3:
            return Receipt(0, lambda *_: False, event)  # it is on its way for long
        return [publish(claim) for claim in claims][-1]

    monkeypatch.setattr(module, "_CLAIM_SECONDS", 0.1)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(engine, "publish", publish_later)
    watched = watch("MILL")
    call_dead(engine, mill.owner)
    eventually(lambda: watched.avail.value == "AVAILABLE" and len(claims) == 3)
    assert watched.owner is not None
    assert watched.owner.event("MILL").value == claims[0].value
    assert watched.call("stroke", sender_uuid="HMI") == "done"
