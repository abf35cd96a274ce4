"""Behind a gateway and past it at the same time: addresses and cookies follow the way by which a request came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint, Flask, Response, current_app, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionInterface
from flask.testing import FlaskClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from openfactory.apps import OpenFactoryFlaskApp

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

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


class ServerSessions(SessionInterface):
    """Sessions as extensions keep them on the server: the cookie has a key only."""

    def open_session(self, app: Flask, request: Any) -> SecureCookieSession:
        return SecureCookieSession()

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        response.set_cookie("session", "key", path=self.get_cookie_path(app))


def test_the_cookie_of_sessions_of_an_extension_is_for_the_way_too(client: Callable[..., FlaskClient]) -> None:
    class WithExtension(Visitors):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            app.session_interface = ServerSessions()
            return app

    browser = client(app_class=WithExtension)
    assert cookie_path(get(browser, "/")) == "/"
    assert cookie_path(get(browser, "/", X_Forwarded_Prefix="/my-app")) == "/my-app"


@pytest.mark.parametrize("own", [None, "/", "/fixed"])
def test_the_cookie_of_an_extension_that_keeps_a_login_is_for_the_way_too(
    client: Callable[..., FlaskClient], own: str | None
) -> None:
    class WithLogin(Visitors):
        def configure_routes(self) -> None:
            if own is not None:
                self.app.config["REMEMBER_COOKIE_PATH"] = own

            @self.app.route("/login")
            def login() -> Response:
                response = Response("hello")
                response.set_cookie("remember", "me", path=current_app.config.get("REMEMBER_COOKIE_PATH", "/"))
                return response

    browser = client(app_class=WithLogin)
    assert cookie_path(get(browser, "/login")) == (own or "/")
    assert cookie_path(get(browser, "/login", X_Forwarded_Prefix="/my-app")) == (own or "/my-app")


def test_the_configuration_stays_the_object_that_extensions_keep(client: Callable[..., FlaskClient]) -> None:
    class Keeper(Visitors):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            self.kept = app.config
            return app

    app = client(app_class=Keeper).application
    assert app.config is app.ofa_app.kept  # type: ignore[attr-defined]
    assert (app.config["SESSION_COOKIE_PATH"], app.config.get("REMEMBER_COOKIE_PATH", "/")) == (None, "/")


# Other applications


reports = Flask("reports")


@reports.get("/")
def overview() -> str:
    return f"{url_for('overview', _external=True)} for {request.remote_addr}"


def mount_reports(app: Flask) -> None:
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/reports": reports})  # type: ignore[method-assign]


class MountedFirst(Visitors):
    def create_flask_app(self) -> Flask:
        app = super().create_flask_app()
        mount_reports(app)
        return app


class MountedWithRoutes(Visitors):
    def configure_routes(self) -> None:
        mount_reports(self.app)


class MountedLate(Visitors):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        mount_reports(self.app)


@pytest.mark.parametrize("app_class", [MountedFirst, MountedWithRoutes, MountedLate])
def test_an_application_that_is_mounted_at_any_time_is_behind_the_gateway(
    client: Callable[..., FlaskClient], app_class: type[Visitors]
) -> None:
    gateway = {
        "X_Forwarded_Prefix": "/my-app",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "plant.example",
        "X_Forwarded_For": "192.0.2.7",
    }
    browser = client(app_class=app_class)
    assert get(browser, "/reports/", **gateway).text == "https://plant.example/my-app/reports/ for 192.0.2.7"


def test_wsgi_middleware_of_the_app_does_not_run_for_health_and_metrics(client: Callable[..., FlaskClient]) -> None:
    class Locked(Visitors):
        def configure_routes(self) -> None:
            def lock(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
                start_response("401 Unauthorized", [])
                return []

            self.app.wsgi_app = lock  # type: ignore[method-assign]

    browser = client(app_class=Locked)
    assert [get(browser, path).status_code for path in ("/", "/health/live", "/metrics")] == [401, 200, 200]
    metrics = get(browser, "/metrics").text
    assert 'openfactory_http_requests_total{method="GET",route="",status="401"} 1.0' in metrics


def test_a_flask_app_of_a_class_of_its_own_keeps_it(client: Callable[..., FlaskClient]) -> None:
    class Press(Flask):
        def __call__(self, environ: Any, start_response: Any) -> Any:
            environ["HTTP_X_PRESS"] = "hot"
            return super().__call__(environ, start_response)

    class OnPress(Visitors):
        def create_flask_app(self) -> Flask:
            return Press(__name__)

        def configure_routes(self) -> None:
            self.app.add_url_rule("/press", view_func=lambda: request.headers["X-Press"])

    browser = client(app_class=OnPress)
    assert get(browser, "/press").text == "hot"
    assert isinstance(browser.application, Press)
    assert repr(browser.application) == repr(Press(__name__))


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
