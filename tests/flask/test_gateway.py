"""Behind a gateway and past it at the same time: addresses and cookies follow the way by which a request came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask.testing import FlaskClient

from openfactory.apps import OpenFactoryFlaskApp

pytestmark = pytest.mark.smoke

PREFIX = {"X-Forwarded-Prefix": "/my-app"}

book = Blueprint("book", __name__, url_prefix="/book")


@book.route("/")
def pages() -> str:
    return url_for("book.pages")


class Visitors(OpenFactoryFlaskApp):
    """Counts the visits of each visitor."""

    def create_flask_app(self) -> Flask:
        app = super().create_flask_app()
        app.config["SECRET_KEY"] = "a test's secret"
        return app

    def configure_routes(self) -> None:
        self.app.register_blueprint(book)

        @self.app.route("/")
        def root() -> dict[str, int]:
            session["visits"] = session.get("visits", 0) + 1
            return {"visits": session["visits"]}

        @self.app.route("/leave")
        def leave() -> Any:
            session.clear()
            return redirect(url_for("root"))

        @self.app.route("/seen")
        def seen() -> dict[str, Any]:
            outside = url_for("root", _external=True)
            return {"client": request.remote_addr, "scheme": request.scheme, "root": outside}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FlaskClient]]:
    """A client as the network is: what the app sees has no prefix but what the headers say."""
    apps: list[Visitors] = []

    def make(root_path: str = "/my-app", app_class: type[Visitors] = Visitors) -> FlaskClient:
        monkeypatch.setenv("OPENFACTORY_ROOT_PATH", root_path)
        apps.append(app_class(None, test_mode=True))
        return apps[-1].test_client()

    yield make
    for app in apps:
        app.shutdown()


def get(client: FlaskClient, path: str, **headers: str) -> Any:
    # `base_url` takes the place of APPLICATION_ROOT, which the test client would add to the path.
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, base_url="http://panel.example/", headers=named)


def cookie_path(response: Any) -> str:
    [path] = [part[5:] for part in response.headers["Set-Cookie"].split("; ") if part.startswith("Path=")]
    return str(path)


def test_the_cookie_is_for_the_way_by_which_the_request_came(client: Callable[..., FlaskClient]) -> None:
    browser = client()  # as in development: host routing and prefix routing at once (defect 26)
    assert cookie_path(get(browser, "/")) == "/"
    assert cookie_path(get(browser, "/", X_Forwarded_Prefix="/my-app")) == "/my-app"
    assert cookie_path(get(browser, "/", X_Forwarded_Prefix="/other/")) == "/other"


def test_a_session_that_is_left_is_deleted_where_it_is(client: Callable[..., FlaskClient]) -> None:
    browser = client()
    get(browser, "/")
    left = get(browser, "/leave")
    assert "session=;" in left.headers["Set-Cookie"]
    assert cookie_path(left) == "/"


@pytest.mark.parametrize("root_path", ["", "/my-app"])
def test_a_session_lasts_without_a_prefix(client: Callable[..., FlaskClient], root_path: str) -> None:
    browser = client(root_path)
    assert [get(browser, "/").json["visits"] for _ in range(3)] == [1, 2, 3]


def test_a_path_that_the_user_sets_for_the_cookie_is_kept(client: Callable[..., FlaskClient]) -> None:
    class Fixed(Visitors):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            app.config["SESSION_COOKIE_PATH"] = "/fixed"
            return app

    assert cookie_path(get(client(app_class=Fixed), "/", X_Forwarded_Prefix="/my-app")) == "/fixed"


def test_sessions_of_the_users_own_kind_are_left_alone(client: Callable[..., FlaskClient]) -> None:
    class OwnSessions(SecureCookieSessionInterface):
        def get_cookie_path(self, app: Flask) -> str:
            return "/own"

    class WithOwn(Visitors):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            app.session_interface = OwnSessions()
            return app

    assert cookie_path(get(client(app_class=WithOwn), "/", X_Forwarded_Prefix="/my-app")) == "/own"


@pytest.mark.parametrize(
    ("headers", "root"),
    [
        ({}, "/"),
        ({"X_Forwarded_Prefix": "/my-app"}, "/my-app/"),
        ({"X_Forwarded_Prefix": "/my-app/"}, "/my-app/"),
        ({"X_Forwarded_Prefix": "/a, /my-app"}, "/my-app/"),
    ],
)
def test_redirects_and_blueprints_have_the_prefix_of_the_request(
    client: Callable[..., FlaskClient], headers: dict[str, str], root: str
) -> None:
    browser = client()
    assert get(browser, "/leave", **headers).headers["Location"] == root
    assert get(browser, "/book/", **headers).text == f"{root}book/"
    assert get(browser, "/book", **headers).headers["Location"].endswith(f"{root}book/")  # the slash that was left out
