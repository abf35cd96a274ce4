"""What Prometheus reads of an app: requests, commands, and what its engine does with events."""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from flask import Blueprint, Flask, Response, abort, request
from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, ofa_method
from openfactory.exceptions import CommandFailed, CommandRejected, DeliveryError
from openfactory.flaskapp import sse
from openfactory.kafka import KSQLDBClient
from openfactory.testing import AppClient

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask.testing import FlaskClient
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

Eventually = Callable[..., None]
RunApp = Callable[..., AppClient[Any]]

SLOW_SECONDS = 0.06


class Panel(OpenFactoryFlaskApp):
    """An app with routes and commands of all outcomes."""

    status = EventAttribute(value="idle", tag="App.Status")

    def configure_routes(self) -> None:
        self.go_on = threading.Event()
        store = Blueprint("store", __name__, url_prefix="/store")

        @store.route("/bins/<name>", methods=["GET", "PUT"])
        def bin(name: str) -> str:
            return name

        @self.app.route("/parts/<int:number>")
        def part(number: int) -> str:
            return f"part {number}"

        @self.app.route("/body", methods=["POST"])
        def body() -> str:
            return str(len(request.get_data()))

        @self.app.route("/broken")
        def broken() -> str:
            raise ValueError("out of oil")

        @self.app.route("/slow")
        def slow() -> str:
            time.sleep(SLOW_SECONDS)
            return "at last"

        @self.app.route("/stream")
        def stream() -> Response:
            def words() -> Iterator[str]:
                yield "one"
                self.go_on.wait(60)
                yield "two"

            return Response(words())

        @self.app.route("/live")
        def live() -> Response:
            return sse(self)

        self.app.register_blueprint(store)

    @ofa_method()
    def move(self, x: float) -> float:
        if x < 0:
            raise ValueError("too far")
        return x

    @ofa_method()
    def block(self) -> None:
        self.go_on.wait(60)

    def app_event_loop_stopped(self) -> None:
        self.go_on.set()


class Told:
    """What a page of metrics says: `told("…_total", status="200")` is the sum of what has these labels."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = {family.name: family for family in families}
        samples = [sample for family in self.families.values() for sample in family.samples]
        self._values = {(one.name, frozenset(one.labels.items())): float(one.value) for one in samples}
        assert len(self._values) == len(samples)  # each is told once

    def __call__(self, name: str, **labels: str) -> float:
        return sum(self._values[key] for key in self._keys(name, labels))

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(had)[label] for _, had in self._keys(name, {})}

    def _keys(self, name: str, labels: dict[str, str]) -> list[tuple[str, frozenset[tuple[str, str]]]]:
        return [(of, had) for of, had in self._values if of == name and had >= labels.items()]


def told_to(client: FlaskClient, path: str = "/metrics") -> Told:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return Told(text_string_to_metric_families(answer.text))


@pytest.fixture
def panel(run_app: RunApp) -> AppClient[Panel]:
    return run_app(Panel, app_uuid="PANEL", host="127.0.0.1", port=0)


# Requests


def test_requests_are_counted_by_method_route_and_status(panel: AppClient[Panel]) -> None:
    assert told_to(panel.http)("openfactory_http_requests_total") == 0
    for number in range(5):
        assert panel.http.get(f"/parts/{number}?color=red").status_code == 200
    panel.http.head("/parts/1")
    panel.http.put("/store/bins/left")
    told = told_to(panel.http)
    requests = "openfactory_http_requests_total"
    assert told(requests, method="GET", route="/parts/<int:number>", status="200") == 5
    assert told(requests, method="HEAD", route="/parts/<int:number>", status="200") == 1
    assert told(requests, method="PUT", route="/store/bins/<name>", status="200") == 1
    assert told(requests) == 7
    assert told.families["openfactory_http_requests"].type == "counter"


def test_what_has_no_route_is_counted_under_none_whatever_the_address(panel: AppClient[Panel]) -> None:
    for address in ("/wp-admin", "/.env", "/parts/many"):
        assert panel.http.get(address).status_code == 404
    assert panel.http.delete("/parts/1").status_code == 405
    told = told_to(panel.http)
    assert told("openfactory_http_requests_total", method="GET", route="", status="404") == 3
    assert told("openfactory_http_requests_total", method="DELETE", route="", status="405") == 1
    assert told.labels("openfactory_http_requests_total", "route") == {""}


def test_methods_that_a_stranger_invents_are_one(panel: AppClient[Panel]) -> None:
    for method in ("BREW", "PROPFIND", "get"):
        panel.http.open("/parts/1", method=method)
    told = told_to(panel.http)
    assert told.labels("openfactory_http_requests_total", "method") <= {"other", "GET"}
    assert told("openfactory_http_requests_total", method="other") >= 2


def test_a_route_that_raises_counts_as_500(panel: AppClient[Panel]) -> None:
    assert panel.http.get("/broken").status_code == 500
    assert told_to(panel.http)("openfactory_http_requests_total", route="/broken", status="500") == 1
    panel.app.app.config["PROPAGATE_EXCEPTIONS"] = True  # as in debug mode
    with pytest.raises(ValueError, match="out of oil"):
        panel.http.get("/broken")
    assert told_to(panel.http)("openfactory_http_requests_total", status="500") == 2


def test_a_body_over_the_limit_counts_as_413(run_app: RunApp) -> None:
    panel = run_app(Panel, max_request_bytes=10)
    assert panel.http.post("/body", data=b"1234567890").text == "10"
    assert panel.http.post("/body", data=b"12345678901").status_code == 413
    told = told_to(panel.http)
    assert told("openfactory_http_requests_total", route="/body", status="200") == 1
    assert told("openfactory_http_requests_total", route="/body", status="413") == 1


def test_the_time_until_an_answer_begins_is_told(panel: AppClient[Panel]) -> None:
    for _ in range(3):
        panel.http.get("/parts/1")
    panel.http.get("/slow")
    told = told_to(panel.http)
    seconds = "openfactory_http_request_seconds"
    assert told.families[seconds].type == "histogram"
    assert told(f"{seconds}_count", method="GET", route="/parts/<int:number>") == 3
    assert told(f"{seconds}_bucket", route="/parts/<int:number>", le="+Inf") == 3
    assert told(f"{seconds}_sum", route="/slow") >= SLOW_SECONDS
    assert told(f"{seconds}_bucket", route="/slow", le="0.05") == 0
    assert told(f"{seconds}_bucket", route="/slow", le="+Inf") == 1


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


def _with_middleware(wrap: Callable[[WSGIApplication], WSGIApplication]) -> type[Panel]:
    class Wrapped(Panel):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[assignment, method-assign]
            return app

    return Wrapped


def test_who_looks_after_the_app_is_not_counted(panel: AppClient[Panel]) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        panel.http.get(path)
    assert told_to(panel.http)("openfactory_http_requests_total") == 0


def test_connections_and_streams_that_are_open_are_told(panel: AppClient[Panel], eventually: Eventually) -> None:
    def now() -> tuple[float, float]:
        told = told_to(panel.http)
        return told("openfactory_http_connections"), told("openfactory_event_streams")

    assert now() == (0, 0)
    panel.run()
    panel.wait_until("avail", "AVAILABLE", timeout=60)
    eventually(lambda: panel.http.get("/health/ready").status_code == 200)
    assert panel.app._server is not None
    port = panel.app._server.port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
        eventually(lambda: now() == (1, 0))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as reader:
            reader.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert reader.recv(1)
            eventually(lambda: now() == (2, 1))
        eventually(lambda: now() == (1, 0))
        assert silent.fileno() >= 0
    eventually(lambda: now() == (0, 0))


# Commands


def test_commands_are_counted_by_their_outcome(panel: AppClient[Panel], eventually: Eventually) -> None:
    def now(name: str, **labels: str) -> float:
        return told_to(panel.http)(name, **labels)

    statuses = ("succeeded", "failed", "rejected")
    assert [now("openfactory_commands_total", status=status) for status in statuses] == [0, 0, 0]
    for x in range(3):
        panel.call("move", x=x)
    for _ in range(2):
        with pytest.raises(CommandFailed):
            panel.call("move", x=-1)
    with pytest.raises(CommandRejected):
        panel.call("move", x="far")
    assert [now("openfactory_commands_total", status=status) for status in statuses] == [3, 2, 1]

    for _ in range(2):
        panel.asset.method("block", sender_uuid="TEST")
    eventually(lambda: now("openfactory_commands_waiting") == 2)
    panel.app.go_on.set()
    eventually(lambda: now("openfactory_commands_waiting") == 0)
    assert now("openfactory_commands_total", status="succeeded") == 5


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


def test_it_tells_which_app_it_is_and_whether_it_is_available(panel: AppClient[Panel]) -> None:
    told = told_to(panel.http)
    assert told("openfactory_app_info", asset_uuid="PANEL") == 1
    assert told("openfactory_app_available") == 0
    panel.app.avail = "AVAILABLE"
    assert told_to(panel.http)("openfactory_app_available") == 1


def test_it_tells_what_its_process_takes_where_the_system_says_so(panel: AppClient[Panel]) -> None:
    told = told_to(panel.http)
    assert (told("process_resident_memory_bytes") > 0) is Path("/proc/self/stat").exists()


def test_apps_of_one_process_count_apart(run_app: RunApp) -> None:
    one, other = run_app(Panel, app_uuid="ONE"), run_app(Panel, app_uuid="OTHER")
    one.http.get("/parts/1")
    one.call("move", x=1)
    for client, count in ((one, 1), (other, 0)):
        told = told_to(client.http)
        assert told("openfactory_http_requests_total") == count
        assert told("openfactory_commands_total", status="succeeded") == count
        assert told.labels("openfactory_app_info", "asset_uuid") == {client.app.asset_uuid}


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


def test_head_is_get_without_a_body(panel: AppClient[Panel]) -> None:
    head = panel.http.head("/metrics")
    assert (head.status_code, head.data) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0
    assert head.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_the_apps(panel: AppClient[Panel], method: str) -> None:
    assert panel.http.open("/metrics", method=method).status_code == 404


def test_it_may_be_elsewhere_or_nowhere(run_app: RunApp) -> None:
    elsewhere = run_app(Panel, metrics_path="/-/metrics").http
    assert told_to(elsewhere, "/-/metrics")("openfactory_http_requests_total") == 0
    assert elsewhere.get("/metrics").status_code == 404
    nowhere = run_app(Panel, metrics_path=None).http
    assert nowhere.get("/metrics").status_code == 404
    assert nowhere.get("/parts/1").text == "part 1"
    assert nowhere.get("/health/live").status_code == 200


def test_a_page_of_the_users_own_comes_first_whenever_it_is_added(panel: AppClient[Panel]) -> None:
    assert told_to(panel.http)("openfactory_http_requests_total") == 0
    panel.app.app.add_url_rule("/metrics", view_func=lambda: "the user's")
    assert panel.http.get("/metrics").text == "the user's"


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
    assert log.getvalue().count("cannot be read: ValueError('out of oil')") == log.getvalue().count("\n") == 1


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
