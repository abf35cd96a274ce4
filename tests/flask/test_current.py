"""current_ofa_app(): the app behind a route, with its type."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import assert_type

import pytest
from flask import Blueprint, Flask, current_app
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

import openfactory.flaskapp.current
from openfactory.apps import EventAttribute, OpenFactoryFlaskApp
from openfactory.flaskapp import current_ofa_app

pages = Blueprint("pages", __name__)


@pages.route("/turns")
def turns() -> dict[str, int]:
    panel = assert_type(current_ofa_app(Panel), Panel)  # mypy, which reads the tests too, fails where it is another
    panel.turns = assert_type(panel.turns, int) + 1
    return {"turns": panel.turns}


class Panel(OpenFactoryFlaskApp):
    status = EventAttribute(value="idle", tag="App.Status")

    def configure_routes(self) -> None:
        self.turns = 0
        self.app.register_blueprint(pages)

        @self.app.route("/")
        def root() -> list[str]:
            app = assert_type(current_ofa_app(), OpenFactoryFlaskApp)
            assert app is self is current_ofa_app(Panel) is current_app.ofa_app  # type: ignore[attr-defined]
            return [app.asset_uuid, str(current_ofa_app(Panel).status.value)]

        @self.app.route("/wrong")
        def wrong() -> str:
            return current_ofa_app(Mill).asset_uuid


class Mill(OpenFactoryFlaskApp):
    pass


class LargePanel(Panel):
    pass


@pytest.fixture
def panel() -> Iterator[Panel]:
    panel = Panel(None, test_mode=True, app_uuid="PANEL")
    yield panel
    panel.shutdown()


def test_a_route_gets_the_app_that_serves_it(panel: Panel) -> None:
    assert panel.test_client().get("/").json == ["PANEL", "idle"]


def test_a_blueprint_gets_the_app_and_what_is_its_own(panel: Panel) -> None:
    client = panel.test_client()
    assert [client.get("/turns").json for _ in range(2)] == [{"turns": 1}, {"turns": 2}]
    assert panel.turns == 2


def test_each_of_two_apps_gets_itself_from_one_blueprint(panel: Panel) -> None:
    large = LargePanel(None, test_mode=True, app_uuid="LARGE")
    assert large.test_client().get("/turns").json == {"turns": 1}
    assert large.test_client().get("/").json == ["LARGE", "idle"]  # a subclass is a Panel too
    assert panel.test_client().get("/").json == ["PANEL", "idle"]
    assert panel.turns == 0
    large.shutdown()


def test_there_is_one_within_an_app_context_too(panel: Panel) -> None:
    with panel.app.app_context():
        assert current_ofa_app(Panel) is panel


def test_there_is_none_while_the_flask_app_is_made() -> None:
    class Early(OpenFactoryFlaskApp):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            with app.app_context(), pytest.raises(RuntimeError, match="does not belong to an OpenFactoryFlaskApp"):
                current_ofa_app()
            return app

        def configure_routes(self) -> None:
            with self.app.app_context():
                assert current_ofa_app() is self

    Early(None, test_mode=True).shutdown()


def test_outside_of_requests_it_says_where_to_call_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        current_ofa_app()
    assert str(caught.value) == (
        "No Flask app is active. Call current_ofa_app() in a route, or in a block `with app.app.app_context():`."
    )


def test_the_flask_app_of_somebody_else_has_none(panel: Panel) -> None:
    foreign = Flask("shop")
    foreign.config["PROPAGATE_EXCEPTIONS"] = True
    foreign.register_blueprint(pages)
    panel.app.wsgi_app = DispatcherMiddleware(panel.app.wsgi_app, {"/shop": foreign})  # type: ignore[method-assign]
    client = Client(panel.app)
    assert client.get("/turns").json == {"turns": 1}
    with pytest.raises(RuntimeError) as caught:
        client.get("/shop/turns")
    assert str(caught.value) == (
        "The Flask app 'shop' does not belong to an OpenFactoryFlaskApp. Create it in create_flask_app()."
    )


def test_an_app_of_another_class_is_refused_by_both_names(panel: Panel) -> None:
    panel.app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(TypeError) as caught:
        panel.test_client().get("/wrong")
    assert str(caught.value) == "The app of this request, Panel('PANEL'), is not a Mill. Call current_ofa_app(Panel)."


def test_the_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(openfactory.flaskapp.current).attempted > 0
