"""sse(): what assets say, as a stream that a browser reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from flask import Response, request

from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, SampleAttribute
from openfactory.exceptions import SubscriptionError
from openfactory.flaskapp import current_ofa_app, sse

Eventually = Callable[..., None]


class Oven(OpenFactoryFlaskApp):
    """An app that streams itself."""

    status = EventAttribute(value="cold", tag="Oven.Status")
    temperature = SampleAttribute(value="20", tag="Oven.Temperature")

    def configure_routes(self) -> None:
        @self.app.route("/events")
        def events() -> Response:
            wanted = request.args.getlist("attribute") or None
            queued = request.args.get("max_queued", 1000, int)
            return sse(current_ofa_app(), attributes=wanted, heartbeat=0.05, max_queued=queued)

        @self.app.route("/nothing")
        def nothing() -> Response:
            return sse()


@pytest.fixture
def oven() -> Iterator[Oven]:
    app = Oven(None, test_mode=True, app_uuid="OVEN")
    yield app
    app.shutdown()


@contextmanager
def stream_of(app: Oven, query: str = "") -> Generator[Iterator[str]]:
    """The messages of a stream, without heartbeats; each is the text between two empty lines."""
    response = app.test_client().get(f"/events{query}")
    assert response.status_code == 200
    with closing(response):
        yield (text for text in map(bytes.decode, response.iter_encoded()) if not text.startswith(":"))


def data_of(message: str) -> dict[str, Any]:
    assert message.startswith("data: ")
    assert message.endswith("\n\n")
    said: dict[str, Any] = json.loads(message[6:])
    return said


# What is told


def test_a_stream_tells_what_holds_then_each_change(oven: Oven) -> None:
    with stream_of(oven, "?attribute=status&attribute=temperature") as messages:
        said = [data_of(next(messages)) for _ in range(2)]
        assert [(one["id"], one["value"]) for one in said] == [("status", "cold"), ("temperature", 20.0)]
        oven.status = "hot\nand loud"
        changed = data_of(next(messages))
    timestamp = changed.pop("timestamp")
    assert changed == {
        "asset": "OVEN",
        "id": "status",
        "value": "hot\nand loud",
        "type": "Events",
        "tag": "Oven.Status",
    }
    assert timestamp == oven.status.timestamp


def test_all_attributes_are_told_if_none_is_named(oven: Oven) -> None:
    with stream_of(oven) as messages:
        names = {data_of(next(messages))["id"] for _ in oven.attributes()}
    assert names == set(oven.attributes())


def test_the_headers_keep_others_from_holding_the_stream_back(oven: Oven) -> None:
    with closing(oven.test_client().get("/events")) as response:
        assert response.mimetype == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert next(iter(response.iter_encoded())).startswith(b": ")  # before there is anything to tell


def test_a_quiet_stream_sends_heartbeats(oven: Oven) -> None:
    with closing(oven.test_client().get("/events?attribute=none-such")) as response:
        texts = response.iter_encoded()
        next(texts)
        assert [next(texts) for _ in range(3)] == [b": heartbeat\n\n"] * 3


def test_a_slow_reader_gets_the_newest_and_is_told_what_it_lost(oven: Oven, eventually: Eventually) -> None:
    with stream_of(oven, "?attribute=status&max_queued=5") as messages:
        next(messages)
        [events] = oven.open_streams._open
        for n in range(50):
            oven.status = n
        eventually(lambda: events.lost == 45)
        assert next(messages) == 'event: lost\ndata: {"lost":45}\n\n'
        assert [data_of(next(messages))["value"] for _ in range(5)] == [45, 46, 47, 48, 49]
        oven.status = "again"
        assert data_of(next(messages))["value"] == "again"  # the loss is told once


def test_a_stream_of_nothing_is_an_error_of_the_route(oven: Oven) -> None:
    oven.app.testing = True  # errors come to the test
    with pytest.raises(SubscriptionError, match="EventQueue needs an asset"):
        oven.test_client().get("/nothing")


@pytest.mark.parametrize("heartbeat", [0, -1.0])
def test_no_time_between_two_heartbeats_is_refused(oven: Oven, heartbeat: float) -> None:
    with oven.app.test_request_context(), pytest.raises(SubscriptionError, match="a number above 0"):
        sse(oven, heartbeat=heartbeat)


def test_outside_of_a_request_there_is_no_stream(oven: Oven) -> None:
    with pytest.raises(RuntimeError, match=r"Call current_ofa_app\(\) in a route"):
        sse(oven)


# Who leaves gives back what it holds


def test_a_stream_that_is_closed_holds_nothing_any_more(oven: Oven) -> None:
    listeners = oven._subscriptions._listeners
    with stream_of(oven) as messages:
        next(messages)
        assert len(oven.open_streams) == 1
        assert len(oven._subscriptions._listeners) == len(listeners) + 1
    assert len(oven.open_streams) == 0
    assert oven._subscriptions._listeners == listeners


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_who_asks_for_the_headers_alone_opens_no_stream(oven: Oven, method: str) -> None:
    response = oven.test_client().open("/events", method=method)
    assert response.status_code == 200
    assert len(oven.open_streams) == 0


def test_the_streams_end_when_the_app_stops(oven: Oven) -> None:
    with stream_of(oven, "?attribute=status") as messages, stream_of(oven, "?attribute=status") as others:
        next(messages)
        next(others)
        oven.shutdown()
        assert list(messages) == []
        assert list(others) == []
    assert len(oven.open_streams) == 0
