"""What Prometheus reads of an app: requests, commands, and what its engine does with events."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from flask import Blueprint, Flask, Response, abort
from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

import flask_site
from openfactory.apps import OpenFactoryFlaskApp
from openfactory.exceptions import DeliveryError
from openfactory.kafka import KSQLDBClient
from openfactory.testing import AppClient
from web_promises import Told

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask.testing import FlaskClient
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

Eventually = Callable[..., None]
RunApp = Callable[..., AppClient[Any]]


class Panel(flask_site.Panel):
    """The app of the promises, with a response that waits in its middle."""

    def configure_routes(self) -> None:
        super().configure_routes()

        @self.app.route("/stream")
        def stream() -> Response:
            def words() -> Iterator[str]:
                yield "one"
                self.go_on.wait(60)
                yield "two"

            return Response(words())


def told_to(client: FlaskClient, path: str = "/metrics") -> Told:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return Told(text_string_to_metric_families(answer.text))


@pytest.fixture
def panel(run_app: RunApp) -> AppClient[Panel]:
    return run_app(Panel, app_uuid="PANEL", host="127.0.0.1", port=0)


# Requests


def test_a_route_that_raises_counts_as_500(panel: AppClient[Panel]) -> None:
    assert panel.http.get("/broken").status_code == 500
    assert told_to(panel.http)("openfactory_http_requests_total", route="/broken", status="500") == 1
    panel.app.app.config["PROPAGATE_EXCEPTIONS"] = True  # as in debug mode
    with pytest.raises(ValueError, match="out of oil"):
        panel.http.get("/broken")
    assert told_to(panel.http)("openfactory_http_requests_total", status="500") == 2


def test_a_stream_counts_when_it_begins(panel: AppClient[Panel]) -> None:
    with panel.http.get("/stream", buffered=False) as answer:
        words = answer.iter_encoded()
        assert next(iter(words)) == b"one"
        told = told_to(panel.app.test_client())
        assert told("openfactory_http_requests_total", route="/stream", status="200") == 1
        assert told("openfactory_http_request_seconds_count", route="/stream") == 1
        panel.app.go_on.set()


def test_an_answer_that_middleware_begins_late_has_its_own_status(run_app: RunApp) -> None:
    """A WSGI app may begin its answer when that is read, as a generator does."""

    def late(answer_request: WSGIApplication) -> WSGIApplication:
        def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
            yield from answer_request(environ, start_response)

        return wrapped

    panel = run_app(_with_middleware(late))
    assert panel.http.get("/parts/1").text == "part 1"
    told = told_to(panel.http)
    assert told("openfactory_http_requests_total", route="/parts/<int:number>", status="200") == 1
    assert told("openfactory_http_requests_total") == 1


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_request_that_middleware_fails_counts_once(run_app: RunApp, has_begun: bool) -> None:
    def failing(answer_request: WSGIApplication) -> WSGIApplication:
        def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if has_begun:
                answer_request(environ, start_response)
            raise ValueError("out of oil")

        return wrapped

    panel = run_app(_with_middleware(failing))
    with pytest.raises(ValueError, match="out of oil"):
        panel.http.get("/parts/1")
    told = told_to(panel.http)
    assert told("openfactory_http_requests_total") == told("openfactory_http_request_seconds_count") == 1
    assert told("openfactory_http_requests_total", status="200" if has_begun else "500") == 1


def test_a_status_that_is_no_number_counts_as_other(run_app: RunApp) -> None:
    def odd(answer_request: WSGIApplication) -> WSGIApplication:
        def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            start_response(environ["PATH_INFO"][1:], [])
            return [b"odd"]

        return wrapped

    panel = run_app(_with_middleware(odd))
    for status in ("2xx Odd", "\u0662\u0660\u0660 OK", "-1 Odd", "299 Odd"):
        assert panel.http.get(f"/{status}").text == "odd"
    told = told_to(panel.http)
    assert told.labels("openfactory_http_requests_total", "status") == {"other", "299"}
    assert told("openfactory_http_requests_total", status="other") == 3


def _with_middleware(wrap: Callable[[WSGIApplication], WSGIApplication]) -> type[Panel]:
    class Wrapped(Panel):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[assignment, method-assign]
            return app

    return Wrapped


# The engine


def test_what_the_engine_writes_is_counted(panel: AppClient[Panel]) -> None:
    def written() -> float:
        panel.app.flush()
        return told_to(panel.http)("openfactory_engine_events_total", outcome="written")

    before = written()
    assert before > 0  # what the app has said of itself
    for number in range(4):
        panel.app.status = f"busy {number}"
    assert written() == before + 4
    assert told_to(panel.http)("openfactory_engine_queued_events") == 0
    assert told_to(panel.http)("openfactory_engine_connected") == 1


def test_what_the_engine_cannot_write_is_counted(tmp_path: Path, file_url: str) -> None:
    with KSQLDBClient(file_url) as client:
        panel = Panel(client, app_uuid="PANEL")
        http = panel.test_client()
        assert told_to(http)("openfactory_engine_events_total", outcome="failed") == 0
        os.rename(tmp_path / "factory.db", tmp_path / "elsewhere.db")
        panel.status = "lost"
        with pytest.raises(DeliveryError):
            panel.flush()
        told = told_to(http)
        assert told("openfactory_engine_events_total", outcome="failed") == 1
        assert told("openfactory_engine_connected") == 0
        os.rename(tmp_path / "elsewhere.db", tmp_path / "factory.db")
        panel.shutdown()


# The app


def test_it_tells_what_its_process_takes_where_the_system_says_so(panel: AppClient[Panel]) -> None:
    told = told_to(panel.http)
    assert (told("process_resident_memory_bytes") > 0) is Path("/proc/self/stat").exists()


def test_apps_on_one_engine_count_requests_and_commands_apart() -> None:
    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        apps = [Panel(client, app_uuid=uuid) for uuid in ("ONE", "OTHER")]
        apps[0].test_client().get("/parts/1")
        apps[0].call("move", x=1, sender_uuid="TEST")
        told = [told_to(app.test_client()) for app in apps]
        assert [one("openfactory_http_requests_total") for one in told] == [1, 0]
        assert [one("openfactory_commands_total") for one in told] == [1, 0]
        for app in apps:
            app.shutdown()


def test_an_app_that_has_stopped_still_tells() -> None:
    panel = Panel(None, test_mode=True, app_uuid="PANEL")
    panel.call("move", x=1, sender_uuid="TEST")
    panel.shutdown()
    told = told_to(panel.test_client())
    assert told("openfactory_commands_total", status="succeeded") == 1
    assert told("openfactory_engine_connected") == told("openfactory_app_available") == 0


# The page


def test_openmetrics_is_told_to_who_asks_for_it(panel: AppClient[Panel]) -> None:
    panel.http.get("/parts/1")
    asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    answer = panel.http.get("/metrics", headers={"Accept": asked})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    told = Told(openmetrics_families(answer.text))  # type: ignore[no-untyped-call]
    assert told("openfactory_http_requests_total", route="/parts/<int:number>") == 1
    assert told("openfactory_app_info", asset_uuid="PANEL") == 1


def test_a_page_of_the_users_own_may_be_in_a_blueprint_or_for_posts_only(run_app: RunApp) -> None:
    class WithBlueprint(OpenFactoryFlaskApp):
        def configure_routes(self) -> None:
            pages = Blueprint("pages", __name__)
            pages.add_url_rule("/metrics", view_func=lambda: "the user's")
            self.app.register_blueprint(pages)

    class ForPosts(OpenFactoryFlaskApp):
        def configure_routes(self) -> None:
            self.app.add_url_rule("/metrics", view_func=lambda: "the user's", methods=["POST"])

    assert run_app(WithBlueprint).http.get("/metrics").text == "the user's"
    http = run_app(ForPosts).http
    assert (http.post("/metrics").text, http.get("/metrics").status_code) == ("the user's", 405)


def test_neither_a_route_for_every_path_nor_a_login_hides_it(run_app: RunApp) -> None:
    class SinglePage(OpenFactoryFlaskApp):
        def configure_routes(self) -> None:
            self.app.before_request(lambda: abort(401))
            self.app.add_url_rule("/<path:page>", view_func=lambda page: "a page")

    http = run_app(SinglePage).http
    assert http.get("/any/where").status_code == 401
    told = told_to(http)
    assert told("openfactory_http_requests_total", route="/<path:page>", status="401") == 1


# Metrics of the author


@pytest.fixture
def in_default_registry() -> Iterator[Callable[[Collector], None]]:
    """Take collectors out of the default registry at the end of the test."""
    with ExitStack() as stack:

        def remember(collector: Collector) -> None:
            stack.callback(REGISTRY.unregister, collector)

        yield remember


@pytest.fixture
def parts(in_default_registry: Callable[[Collector], None]) -> Counter:
    """A counter as an author writes it at the head of a module."""
    parts = Counter("parts_total", "Parts")
    in_default_registry(parts)
    return parts


class Mill(OpenFactoryFlaskApp):
    """An app with a gauge of its own."""

    def configure_routes(self) -> None:
        self.load = Gauge("spindle_load", "Load", registry=self.metrics_registry)


def test_a_counter_in_the_default_registry_is_shown(parts: Counter, run_app: RunApp) -> None:
    parts.inc(3)
    told = told_to(run_app(Mill).http)
    assert told("parts_total") == 3
    assert told.families["parts"].type == "counter"


def test_a_metric_in_the_registry_of_an_app_is_shown_by_that_app_alone(run_app: RunApp) -> None:
    mills = [run_app(Mill, app_uuid=uuid) for uuid in ("ONE", "OTHER")]
    for load, mill in enumerate(mills, start=1):
        mill.app.load.set(load)
    panel = run_app(Panel, app_uuid="PANEL")
    assert [told_to(mill.http)("spindle_load") for mill in mills] == [1, 2]
    assert "spindle_load" not in told_to(panel.http).families


def test_openmetrics_shows_the_authors_metrics_too(parts: Counter, run_app: RunApp) -> None:
    answer = run_app(Mill).http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    told = Told(openmetrics_families(answer.text))  # type: ignore[no-untyped-call]
    assert told("parts_total") == told("spindle_load") == 0
    assert {"parts", "spindle_load", "openfactory_app"} <= told.families.keys()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("openfactory_app_available", "openfactory_app_available"),
        ("openfactory_commands_total", "openfactory_commands_total"),
        ("openfactory_http_requests", "openfactory_http_requests_total"),
        ("openfactory_http_request_seconds_sum", "openfactory_http_request_seconds_sum"),
        ("spindle_load", "spindle_load"),
    ],
)
def test_a_name_that_is_taken_is_left_out_and_logged_once(
    in_default_registry: Callable[[Collector], None], run_app: RunApp, name: str, shown: str
) -> None:
    foreign, other = Gauge(name, "Foreign"), Gauge("other_metric", "Other")
    in_default_registry(foreign)
    in_default_registry(other)
    foreign.set(4711)
    other.set(12)
    mill = run_app(Mill, app_uuid="MILL")
    with log_of(mill.app) as log:
        for _ in range(3):
            told = told_to(mill.http)
            assert told(shown) != 4711
            assert told("other_metric") == 12
    assert log.getvalue() == f"The metric '{name}' is not shown: another metric already has its name. Rename it.\n"


def test_a_name_of_the_app_may_be_taken_in_its_own_registry_too(run_app: RunApp) -> None:
    mill = run_app(Mill, app_uuid="MILL")
    Gauge("openfactory_app_available", "Own", registry=mill.app.metrics_registry).set(4711)
    told = told_to(mill.http)
    assert told("openfactory_app_available") == 0
    assert told("openfactory_app_info", asset_uuid="MILL") == 1


def test_a_library_whose_metrics_cannot_be_read_does_not_hide_the_others(
    in_default_registry: Callable[[Collector], None], run_app: RunApp
) -> None:
    class Broken:
        def collect(self) -> list[Metric]:
            if is_broken:
                raise ValueError("out of oil")
            return []

    is_broken = False
    broken = Broken()
    REGISTRY.register(broken)
    in_default_registry(broken)
    is_broken = True
    mill = run_app(Mill, app_uuid="MILL")
    with log_of(mill.app) as log:
        assert [told_to(mill.http)("openfactory_app_info") for _ in range(3)] == [1, 1, 1]
    [line] = log.getvalue().splitlines()
    assert "cannot be read to its end: ValueError('out of oil')" in line


def test_nothing_is_logged_where_no_name_is_taken(parts: Counter, run_app: RunApp) -> None:
    mill = run_app(Mill, app_uuid="MILL")
    with log_of(mill.app) as log:
        told_to(mill.http)
    assert log.getvalue() == ""


@contextmanager
def log_of(app: OpenFactoryFlaskApp) -> Generator[io.StringIO]:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    app.logger.addHandler(handler)
    yield log
    app.logger.removeHandler(handler)
