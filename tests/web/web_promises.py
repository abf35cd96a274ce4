"""What an app with web pages promises in one process: health, metrics, gateway, start and end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from openfactory.apps import EventAttribute
from openfactory.assets import Asset
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import CommandFailed, CommandRejected, ConfigurationError
from openfactory.kafka import KSQLDBClient
from openfactory.testing import AppClient
from running_apps import Answer, Eventually, ask, until
from web_site import Framework

__all__ = ["GatewayPromises", "HealthPromises", "MetricsPromises", "RunPromises", "Told"]

RunApp = Callable[..., AppClient[Any]]
Ask = Callable[..., Answer]


class _Promises:
    framework: ClassVar[Framework]

    @pytest.fixture
    def app_class(self) -> type[Any]:
        """The class of an app without routes."""
        return self.framework.app_class

    @pytest.fixture
    def ask(self, run_app: RunApp) -> Callable[..., Ask]:
        """An app with some routes, in test mode: `ask(routes, health_path="/state")("GET", "/state")`."""

        def make(routes: Callable[[Any], object] = lambda app: None, **options: Any) -> Ask:
            namespace = {"configure_routes": routes}
            panel = run_app(type("Panel", (self.framework.app_class,), namespace), app_uuid="PANEL", **options).app
            return lambda *request, **keywords: self.framework.ask(panel, *request, **keywords)

        return make

    def metrics_of(self, app: Any, path: str = "/metrics") -> Told:
        answer = self.framework.ask(app, "GET", path)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return Told(text_string_to_metric_families(answer.text))


class Told:
    """What a page of metrics says: `told("…_total", status="200")` is the sum of what has these labels."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = {family.name: family for family in families}
        samples = [sample for family in self.families.values() for sample in family.samples]
        self._values = {(one.name, frozenset(one.labels.items())): float(one.value) for one in samples}
        assert len(self._values) == len(samples)  # each is told once

    def __call__(self, name: str, **labels: str) -> float:
        return sum(value for (of, had), value in self._values.items() if of == name and had >= labels.items())

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(had)[label] for of, had in self._values if of == name}


# Health


class HealthPromises(_Promises):
    def test_an_app_that_does_not_run_yet_is_alive_and_not_ready(self, ask: Callable[..., Ask]) -> None:
        panel = ask()
        live = panel("GET", "/health/live")
        assert (live.status, json.loads(live.text)) == (200, {"status": "alive"})
        assert live.headers["content-type"] == "application/json"
        ready = panel("GET", "/health/ready")
        assert ready.status == 503
        assert json.loads(ready.text) == {
            "status": "not ready",
            "reasons": ["The web server does not accept requests.", "PANEL is UNAVAILABLE."],
        }
        assert ready.headers["cache-control"] == "no-store"

    def test_a_running_app_is_ready_as_long_as_it_says_that_it_is_available(
        self, run_app: RunApp, eventually: Eventually, app_class: type[Any]
    ) -> None:
        panel = run_app(app_class, app_uuid="PANEL", host="127.0.0.1", port=0)
        panel.run()
        eventually(lambda: panel.http.get("/health/ready").status_code == 200)
        panel.app.avail = "UNAVAILABLE"
        ready = self.framework.ask(panel.app, "GET", "/health/ready")
        assert (ready.status, json.loads(ready.text)["reasons"]) == (503, ["PANEL is UNAVAILABLE."])
        assert self.framework.ask(panel.app, "GET", "/health/live").status == 200
        panel.app.avail = "AVAILABLE"
        assert self.framework.ask(panel.app, "GET", "/health/ready").status == 200

    def test_an_app_that_has_stopped_is_not_ready_and_says_so_without_an_error(self, app_class: type[Any]) -> None:
        panel = app_class(None, test_mode=True, app_uuid="PANEL")
        panel.shutdown()
        ready = self.framework.ask(panel, "GET", "/health/ready")
        assert ready.status == 503
        assert "The engine is closed." in json.loads(ready.text)["reasons"]

    def test_an_app_gives_its_own_health(self, app_class: type[Any]) -> None:
        panel = app_class(None, test_mode=True, app_uuid="PANEL")
        health = panel.app_health()
        assert (health.asset_uuid, health.availability, health.serving) == ("PANEL", "UNAVAILABLE", False)
        assert (health.connections, health.streams, health.waiting_commands) == (0, 0, 0)
        assert health.engine.connected
        panel.avail = "AVAILABLE"
        assert panel.app_health().reasons == ["The web server does not accept requests."]
        assert health.availability == "UNAVAILABLE"  # it is a value, and stays as it was
        panel.shutdown()

    @pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
    def test_head_is_get_without_a_body(self, ask: Callable[..., Ask], path: str) -> None:
        panel = ask()
        head, get = panel("HEAD", path), panel("GET", path)
        assert (head.status, head.text) == (get.status, "")
        assert head.headers.keys() == get.headers.keys()
        assert int(get.headers["content-length"]) == len(get.text) > 0

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/health/live", "/metrics"])
    def test_other_methods_are_the_apps(self, ask: Callable[..., Ask], path: str, method: str) -> None:
        assert ask()(method, path).status == 404
        own = ask(lambda app: self.framework.add_route(app, path, methods=["PATCH"]))
        assert own(method, path).status in (200, 405)

    @pytest.mark.parametrize("path", ["/health", "/health/", "/health/live/", "/health/lively", "/health/live/x"])
    def test_paths_beside_them_are_the_apps(self, ask: Callable[..., Ask], path: str) -> None:
        assert ask()("GET", path).status == 404

    def test_behind_a_gateway_they_are_under_its_prefix(
        self, ask: Callable[..., Ask], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENFACTORY_ROOT_PATH", "/my-app")
        panel = ask()
        assert panel("GET", "/health/live", headers={"X-Forwarded-Prefix": "/my-app"}).status == 200
        assert panel("GET", "/health/live").status == 200  # an orchestrator comes past the gateway

    def test_they_may_be_elsewhere(self, ask: Callable[..., Ask]) -> None:
        panel = ask(health_path="/-/state", metrics_path="/-/metrics")
        assert json.loads(panel("GET", "/-/state/live").text) == {"status": "alive"}
        assert [panel("GET", path).status for path in ("/-/state/ready", "/-/metrics")] == [503, 200]
        assert [panel("GET", path).status for path in ("/health/live", "/health/ready", "/metrics")] == [404] * 3

    def test_they_may_be_nowhere(self, ask: Callable[..., Ask]) -> None:
        pages = ("/health/live", "/health/ready", "/metrics")
        no_health, no_metrics = ask(health_path=None), ask(metrics_path=None)
        assert [no_health("GET", path).status for path in pages] == [404, 404, 200]
        assert [no_metrics("GET", path).status for path in pages] == [200, 503, 404]

    @pytest.mark.parametrize("option", ["health_path", "metrics_path"])
    @pytest.mark.parametrize("path", ["state", "/", "", "/state/", "//state"])
    def test_a_path_that_nothing_can_be_served_at_is_refused_before_anything_is_announced(
        self, app_class: type[Any], option: str, path: str
    ) -> None:
        uuid = f"PANEL-{uuid4().hex}"
        with KSQLDBClient(f"memory://{uuid4().hex}") as client:
            with pytest.raises(ConfigurationError, match=f"{option} is '{path}', .*None"):
                app_class(client, app_uuid=uuid, **{option: path})
            with Asset(uuid, client) as panel:
                assert panel.attributes() == []

    # The app's own routes come first

    @pytest.mark.parametrize("path", ["/health/live", "/metrics"])
    def test_a_route_of_the_users_own_is_answered(self, ask: Callable[..., Ask], path: str) -> None:
        panel = ask(lambda app: self.framework.add_route(app, path))
        assert panel("GET", path).text == "the user's"
        assert panel("GET", "/health/ready").status == 503  # only the path of the route is theirs

    def test_a_route_of_a_router_is_answered(self, ask: Callable[..., Ask]) -> None:
        panel = ask(lambda app: self.framework.add_router(app, "/health", "/live"))
        assert panel("GET", "/health/live").text == "the user's"

    def test_a_route_with_a_part_that_varies_is_answered(self, ask: Callable[..., Ask]) -> None:
        panel = ask(lambda app: self.framework.add_route(app, "/health/{word}"))
        assert panel("GET", "/health/live").text == "the user's"

    def test_a_route_beside_one_for_every_path_is_answered(self, ask: Callable[..., Ask]) -> None:
        def routes(app: Any) -> None:
            self.framework.add_route(app, "/health/live")
            self.framework.add_route(app, "/{page:path}", "a page")

        panel = ask(routes)
        assert panel("GET", "/health/live").text == "the user's"
        assert panel("GET", "/metrics").text != "a page"

    def test_one_that_takes_only_posts_is_theirs_as_a_whole(self, ask: Callable[..., Ask]) -> None:
        panel = ask(lambda app: self.framework.add_route(app, "/health/live", methods=["POST"]))
        assert panel("POST", "/health/live").text == "the user's"
        assert panel("GET", "/health/live").status == 405

    def test_one_with_a_slash_at_its_end_is_theirs_and_redirects_as_ever(self, ask: Callable[..., Ask]) -> None:
        panel = ask(lambda app: self.framework.add_route(app, "/health/live/"))
        redirect = panel("GET", "/health/live", headers={"X-Forwarded-Prefix": "/my-app"})
        assert redirect.status in (307, 308)
        assert redirect.headers["location"] == "http://panel.example/my-app/health/live/"
        assert panel("GET", "/health/live/").text == "the user's"

    @pytest.mark.parametrize("path", ["/health/live", "/metrics"])
    def test_one_that_comes_later_counts_too(self, run_app: RunApp, app_class: type[Any], path: str) -> None:
        panel = run_app(app_class).app
        assert self.framework.ask(panel, "GET", path).status == 200
        self.framework.add_route(panel, path)
        assert self.framework.ask(panel, "GET", path).text == "the user's"

    # What is meant for all of the app's pages is not meant for these

    @pytest.mark.parametrize("rule", ["/{page:path}", "/{folder}/{page}", "/{folder}/{page}/"])
    def test_a_route_for_every_path_does_not_hide_them(self, ask: Callable[..., Ask], rule: str) -> None:
        panel = ask(lambda app: self.framework.add_route(app, rule, "a page"))
        assert json.loads(panel("GET", "/health/live").text) == {"status": "alive"}
        assert panel("GET", "/any/where" + "/" * rule.endswith("/")).text == "a page"

    def test_a_login_that_the_app_asks_for_does_not_reach_them(self, ask: Callable[..., Ask]) -> None:
        def routes(app: Any) -> None:
            self.framework.add_route(app, "/", "a secret")
            self.framework.ask_for_login(app)

        panel = ask(routes)
        assert [panel("GET", path).status for path in ("/", "/health/live", "/health/ready")] == [401, 200, 503]

    def test_a_login_guards_a_page_of_the_users_own(self, ask: Callable[..., Ask]) -> None:
        def routes(app: Any) -> None:
            self.framework.add_route(app, "/health/live")
            self.framework.ask_for_login(app)

        assert ask(routes)("GET", "/health/live").status == 401


# Metrics


class MetricsPromises(_Promises):
    @pytest.fixture
    def panel(self, run_app: RunApp) -> AppClient[Any]:
        return run_app(self.framework.panel_class, app_uuid="PANEL", host="127.0.0.1", port=0)

    def test_requests_are_counted_by_method_route_and_status(self, panel: AppClient[Any]) -> None:
        ask, app = self.framework.ask, panel.app
        assert self.metrics_of(app)("openfactory_http_requests_total") == 0
        for number in range(5):
            assert ask(app, "GET", f"/parts/{number}?color=red").text == f"part {number}"
        ask(app, "HEAD", "/parts/1")
        ask(app, "PUT", "/store/bins/left")
        told = self.metrics_of(app)
        requests = "openfactory_http_requests_total"
        assert told(requests, method="GET", status="200") == 5
        assert told(requests, method="HEAD", status="200") == 1
        assert told(requests, method="PUT", status="200") == told(requests) - 6 == 1
        routes = {route.translate({60: "{", 62: "}"}).replace("int:", "") for route in told.labels(requests, "route")}
        assert routes == {"/parts/{number}", "/store/bins/{name}"}

    def test_what_has_no_route_is_counted_under_none_whatever_the_address(self, panel: AppClient[Any]) -> None:
        for address in ("/wp-admin", "/.env", "/parts"):
            assert self.framework.ask(panel.app, "GET", address).status == 404
        told = self.metrics_of(panel.app)
        assert told("openfactory_http_requests_total", method="GET", route="", status="404") == 3
        assert told.labels("openfactory_http_requests_total", "route") == {""}

    def test_methods_that_a_stranger_invents_are_one(self, panel: AppClient[Any]) -> None:
        for method in ("BREW", "PROPFIND"):
            self.framework.ask(panel.app, method, "/parts/1")
        assert self.metrics_of(panel.app).labels("openfactory_http_requests_total", "method") == {"other"}

    def test_a_route_that_raises_counts_as_500(self, panel: AppClient[Any]) -> None:
        broken = self.framework.ask(panel.app, "GET", "/broken")
        assert broken.status == 500
        assert "out of oil" not in broken.text
        assert self.metrics_of(panel.app)("openfactory_http_requests_total", route="/broken", status="500") == 1

    def test_a_body_over_the_limit_counts_as_413(self, run_app: RunApp) -> None:
        panel = run_app(self.framework.panel_class, max_request_bytes=10).app
        assert self.framework.ask(panel, "POST", "/body", b"1234567890").text == "10"
        assert self.framework.ask(panel, "POST", "/body", b"12345678901").status == 413
        told = self.metrics_of(panel)
        assert told("openfactory_http_requests_total", route="/body", status="200") == 1
        assert told("openfactory_http_requests_total", status="413") == 1

    def test_the_time_until_an_answer_begins_is_told(self, panel: AppClient[Any]) -> None:
        self.framework.ask(panel.app, "GET", "/slow")
        told = self.metrics_of(panel.app)
        seconds = "openfactory_http_request_seconds"
        assert told(f"{seconds}_sum", route="/slow") >= 0.06
        assert told(f"{seconds}_bucket", route="/slow", le="0.05") == 0
        assert told(f"{seconds}_bucket", route="/slow", le="+Inf") == 1

    def test_who_looks_after_the_app_is_not_counted(self, panel: AppClient[Any]) -> None:
        for path in ("/health/live", "/health/ready", "/metrics"):
            self.framework.ask(panel.app, "GET", path)
        assert self.metrics_of(panel.app)("openfactory_http_requests_total") == 0

    def test_connections_and_streams_that_are_open_are_told(
        self, panel: AppClient[Any], eventually: Eventually
    ) -> None:
        def now() -> tuple[float, float]:
            told = self.metrics_of(panel.app)
            return told("openfactory_http_connections"), told("openfactory_event_streams")

        assert now() == (0, 0)
        panel.run()
        eventually(lambda: panel.app.app_health().reasons == [])
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

    def test_commands_are_counted_by_their_outcome(self, panel: AppClient[Any], eventually: Eventually) -> None:
        def now(name: str, **labels: str) -> float:
            return self.metrics_of(panel.app)(name, **labels)

        panel.call("move", x=1)
        with pytest.raises(CommandFailed):
            panel.call("move", x=-1)
        with pytest.raises(CommandRejected):
            panel.call("move", x="far")
        statuses = ("succeeded", "failed", "rejected")
        assert [now("openfactory_commands_total", status=status) for status in statuses] == [1, 1, 1]
        panel.asset.method("block", sender_uuid="TEST")
        eventually(lambda: now("openfactory_commands_waiting") == 1)
        panel.app.go_on.set()
        eventually(lambda: now("openfactory_commands_waiting") == 0)

    def test_it_tells_which_app_it_is_and_whether_it_is_available(self, panel: AppClient[Any]) -> None:
        told = self.metrics_of(panel.app)
        assert told("openfactory_app_info", asset_uuid="PANEL") == 1
        assert told("openfactory_app_available") == 0
        panel.app.avail = "AVAILABLE"
        assert self.metrics_of(panel.app)("openfactory_app_available") == 1

    def test_apps_of_one_process_count_apart(self, run_app: RunApp) -> None:
        one, other = (run_app(self.framework.panel_class, app_uuid=uuid) for uuid in ("ONE", "OTHER"))
        self.framework.ask(one.app, "GET", "/parts/1")
        one.call("move", x=1)
        for client, count in ((one, 1), (other, 0)):
            told = self.metrics_of(client.app)
            assert told("openfactory_http_requests_total") == count
            assert told("openfactory_commands_total", status="succeeded") == count

    def test_openmetrics_is_told_to_who_asks_for_it(self, panel: AppClient[Any]) -> None:
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer = self.framework.ask(panel.app, "GET", "/metrics", headers={"Accept": accept})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.text.endswith("# EOF\n")

    @pytest.fixture
    def parts(self) -> Iterator[Counter]:
        """A counter as an author writes it at the head of a module."""
        with ExitStack() as stack:
            parts = Counter("parts_total", "Parts")
            stack.callback(REGISTRY.unregister, parts)
            yield parts

    def test_the_authors_metrics_are_shown(self, panel: AppClient[Any], parts: Counter) -> None:
        parts.inc(3)
        Gauge("spindle_load", "Load", registry=panel.app.metrics_registry).set(7)
        told = self.metrics_of(panel.app)
        assert (told("parts_total"), told("spindle_load")) == (3, 7)

    def test_a_metric_whose_values_have_no_form_does_not_hide_the_others(
        self, panel: AppClient[Any], parts: Counter, caplog: pytest.LogCaptureFixture
    ) -> None:
        panel.app.logger.propagate = True
        parts.inc(3)
        odd = Gauge("odd", "Odd", ("of",), registry=panel.app.metrics_registry)
        odd.labels("\ud800").set(7)
        for _ in range(2):
            told = self.metrics_of(panel.app)
            assert (told("parts_total"), told("odd")) == (3, 0)
        assert caplog.text.count("The metric 'odd' is not shown: its values cannot be encoded") == 1

    def test_a_metric_of_the_app_that_fails_does_not_hide_those_of_openfactory(
        self, panel: AppClient[Any], parts: Counter, caplog: pytest.LogCaptureFixture
    ) -> None:
        panel.app.logger.propagate = True
        parts.inc(3)
        load = Gauge("spindle_load", "Load", registry=panel.app.metrics_registry)
        load.set_function(lambda: 1 / 0)
        for _ in range(2):
            told = self.metrics_of(panel.app)
            assert (told("openfactory_app_info"), told("parts_total")) == (1, 3)
        text = "The metrics registry of the app cannot be read to its end: ZeroDivisionError"
        assert caplog.text.count(text) == 1


# Behind a gateway


class GatewayPromises(_Promises):
    @pytest.fixture
    def panel(self, run_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("OPENFACTORY_ROOT_PATH", "")
        return run_app(self.framework.panel_class).app

    @pytest.mark.parametrize(
        ("prefix", "root"), [("", "/"), ("/my-app", "/my-app/"), ("/my-app/", "/my-app/"), ("/a, /my-app", "/my-app/")]
    )
    def test_redirects_have_the_prefix_of_the_request(self, panel: Any, prefix: str, root: str) -> None:
        headers = {"X-Forwarded-Prefix": prefix} if prefix else {}
        assert self.framework.ask(panel, "GET", "/leave", headers=headers).headers["location"] == root
        slash = self.framework.ask(panel, "GET", "/slash", headers=headers)  # the slash that was left out
        assert slash.headers["location"].endswith(f"{root}slash/")

    @pytest.mark.parametrize("quote", ["", '"'])
    def test_the_last_value_of_each_header_is_what_the_gateway_says(self, panel: Any, quote: str) -> None:
        headers = {
            "X-Forwarded-For": f"{quote}203.0.113.9, 192.0.2.7",
            "X-Forwarded-Proto": f"{quote}http, https",
            "X-Forwarded-Host": f"{quote}claimed.example, factory.example",
            "X-Forwarded-Prefix": f"{quote}/claimed, /my-app",
        }
        assert json.loads(self.framework.ask(panel, "GET", "/seen", headers=headers).text) == {
            "client": "192.0.2.7",
            "scheme": "https",
            "root": "https://factory.example/my-app/",
        }

    def test_an_app_works_under_its_prefix_and_under_a_name_of_its_own(
        self, run_app: RunApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENFACTORY_ROOT_PATH", "my-app/")
        panel = run_app(self.framework.panel_class).app
        for headers in ({}, {"X-Forwarded-Prefix": "/my-app"}):
            assert json.loads(self.framework.ask(panel, "GET", "/", headers=headers).text) == {"status": "idle"}
            assert self.framework.ask(panel, "GET", "/parts/1", headers=headers).text == "part 1"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X-Forwarded-Prefix", "//evil.example"),
            ("X-Forwarded-Prefix", "/\\evil.example"),
            ("X-Forwarded-Prefix", "evil.example"),
            ("X-Forwarded-Prefix", "javascript:alert(1)"),
            ("X-Forwarded-Prefix", "https://evil.example"),
            ("X-Forwarded-Prefix", "/a; Domain=example"),
            ("X-Forwarded-Prefix", "/a/../.."),
            ("X-Forwarded-Prefix", "/a%2f%2fevil"),
            ("X-Forwarded-Prefix", "/a%0d%0aSet-Cookie: a=b"),
            ("X-Forwarded-Prefix", '/a"onclick='),
            ("X-Forwarded-Prefix", "/a'onclick="),
            ("X-Forwarded-Proto", "javascript"),
            ("X-Forwarded-Proto", "https://evil.example"),
            ("X-Forwarded-Host", "evil.example/path"),
            ("X-Forwarded-Host", "user@evil.example"),
            ("X-Forwarded-Host", "evil.example:99999"),
            ("X-Forwarded-Host", "[::1"),
            ("X-Forwarded-Host", "evil.example?a"),
            ("X-Forwarded-For", "unknown"),
            ("X-Forwarded-For", "1.2.3.4 INFO forged"),
            ("X-Forwarded-For", "fe80::1%eth0"),
        ],
    )
    def test_a_header_of_the_wrong_form_is_ignored_and_logged_once(
        self, panel: Any, caplog: pytest.LogCaptureFixture, name: str, value: str
    ) -> None:
        panel.logger.propagate = True
        direct = self.framework.ask(panel, "GET", "/seen").text
        for value_of_client in (value, f"fine.example, {value}", value):
            headers = {name: value_of_client}
            assert self.framework.ask(panel, "GET", "/seen", headers=headers).text == direct
            assert self.framework.ask(panel, "GET", "/leave", headers=headers).headers["location"] == "/"
        assert caplog.text.count(f"{name} {value!a} is ignored, here and in later requests. Let the gateway") == 1

    @pytest.mark.parametrize(
        ("headers", "seen"),
        [
            ({"X-Forwarded-For": "192.0.2.7:4711"}, {"client": "192.0.2.7"}),
            ({"X-Forwarded-For": "[2001:DB8::1]:4711"}, {"client": "2001:db8::1"}),
            ({"X-Forwarded-For": "::ffff:192.0.2.7"}, {"client": "192.0.2.7"}),
            ({"X-Forwarded-Proto": "HTTPS"}, {"scheme": "https", "root": "https://panel.example/"}),
            ({"X-Forwarded-Proto": "wss"}, {"scheme": "https", "root": "https://panel.example/"}),
            ({"X-Forwarded-Host": "[2001:db8::1]:8443"}, {"root": "http://[2001:db8::1]:8443/"}),
            ({"X-Forwarded-Host": "plant-1:8080"}, {"root": "http://plant-1:8080/"}),
            ({"X-Forwarded-Prefix": "/"}, {"root": "http://panel.example/"}),
            ({"X-Forwarded-Prefix": "/line-1/~oven/"}, {"root": "http://panel.example/line-1/~oven/"}),
        ],
    )
    def test_other_forms_of_gateways_are_understood(
        self, panel: Any, headers: dict[str, str], seen: dict[str, str]
    ) -> None:
        told = json.loads(self.framework.ask(panel, "GET", "/seen", headers=headers).text)
        assert told | seen == told


# From start to end


class RunPromises(_Promises):
    @pytest.fixture(autouse=True)
    def any_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PORT", "0")

    def test_a_class_that_overrides_main_loop_is_refused_when_it_is_built(self, app_class: type[Any]) -> None:
        with pytest.raises(TypeError, match=r"Old overrides main_loop.*Override async_main_loop instead"):
            type("Old", (app_class,), {"main_loop": lambda self: None})

    @pytest.mark.parametrize("port", ["None", "http", "-1", "65536"])
    def test_a_port_that_is_none_is_refused_before_anything_is_written(
        self, app_class: type[Any], monkeypatch: pytest.MonkeyPatch, port: str
    ) -> None:
        monkeypatch.setenv("PORT", port)
        uuid = f"PANEL-{uuid4().hex}"
        with KSQLDBClient(f"memory://{uuid4().hex}") as client, Asset(uuid, client) as panel:
            with pytest.raises(ConfigurationError, match=f"PORT='?{port}'? is not a .*number. Set a number"):
                app_class(client, app_uuid=uuid)
            assert panel.attributes() == []

    def test_an_app_with_an_operations_port_serves_it_on_its_host_and_registers_it(
        self, run_app: RunApp, eventually: Eventually, app_class: type[Any]
    ) -> None:
        options = {"host": "127.0.0.1", "port": 0, "operations_port": 0, "metrics_path": None}
        panel = run_app(app_class, app_uuid="PANEL", **options)
        panel.run()
        eventually(lambda: panel.app.app_health().reasons == [])
        operations = panel.app._operations_server
        assert operations.url == f"http://127.0.0.1:{operations.port}"
        assert panel.app._metrics_port() == operations.port
        assert ask(operations.port, "/metrics").status == 200

    def test_the_port_of_the_metrics_is_never_0(
        self, run_app: RunApp, eventually: Eventually, app_class: type[Any]
    ) -> None:
        assert run_app(app_class, port=4001, operations_port=9100).app._metrics_port() == 9100
        assert run_app(app_class, port=4001).app._metrics_port() == 4001
        panel = run_app(app_class, app_uuid="PANEL", host="127.0.0.1", port=0)
        with pytest.raises(ConfigurationError, match="register in the main loop"):
            panel.app._metrics_port()
        panel.run()
        eventually(lambda: panel.app.app_health().reasons == [])
        assert panel.app._metrics_port() == panel.app._server.port

    def test_an_app_whose_routes_fail_is_off_the_register(self, app_class: type[Any]) -> None:
        def fail(app: Any) -> None:
            raise KeyError("no such page")

        uuid = f"PANEL-{uuid4().hex}"
        with KSQLDBClient(f"memory://{uuid4().hex}") as client, Asset(uuid, client) as panel:
            with pytest.raises(KeyError, match="no such page"):
                type("Broken", (app_class,), {"configure_routes": fail})(client, app_uuid=uuid)
            panel.resync_state()
            assert panel.application_version.value == "latest"  # it had begun
            assert panel.type == "UNAVAILABLE"

    def test_the_stop_waits_for_a_request_while_other_tasks_of_the_event_loop_go_on(self) -> None:
        async def main(app: Any) -> str:
            running = asyncio.create_task(app.async_run())
            await until(lambda: app._server is not None and app._server.serving)
            held = asyncio.create_task(asyncio.to_thread(ask, app._server.port, "/hold", Connection="close"))
            await until(app.arrived.is_set)
            running.cancel()
            await until(lambda: app._server is not None and not app._server.serving)
            app.opened.set()  # by this event loop, while the stop waits for the request
            answer = await held
            with pytest.raises(asyncio.CancelledError):
                await running
            return answer.text

        with KSQLDBClient(f"memory://{uuid4().hex}") as client:
            options = {"app_uuid": f"PANEL-{uuid4().hex}", "host": "127.0.0.1", "stop_timeout": 300}
            assert asyncio.run(main(self.framework.patient_class(client, **options))) == "held"

    def test_an_asset_attribute_named_like_the_framework_app_is_not_written(self) -> None:
        uuid = f"PANEL-{uuid4().hex}"
        with KSQLDBClient(f"memory://{uuid4().hex}") as client:
            for name in ("app", "api"):
                client.engine.publish(_event(uuid, name))
            app = self.framework.panel_class(client, app_uuid=uuid)
            assert [app[name].value for name in ("app", "api")] == ["a value", "a value"]
            assert self.framework.ask(app, "GET", "/parts/1").text == "part 1"
            app.shutdown()

    def _visited(self, failure: Exception | None) -> type[Any]:
        """An app that asks itself for a page as soon as its main loop runs, then stops itself or raises."""

        async def async_main_loop(app: Any) -> None:
            app.answer = await asyncio.to_thread(_visit, app._server.port)
            if failure is not None:
                raise failure
            await asyncio.to_thread(app.shutdown)

        return type("Visited", (self.framework.panel_class,), {"async_main_loop": async_main_loop, "answer": None})

    def test_run_ends_when_the_app_is_stopped(self, eventually: Eventually) -> None:
        with KSQLDBClient(f"memory://{uuid4().hex}") as client:
            app = self._visited(None)(client, app_uuid=f"PANEL-{uuid4().hex}", host="127.0.0.1")
            with Asset(app.asset_uuid, client) as panel:
                app.run()
                assert json.loads(app.answer) == {"status": "idle"}
                eventually(lambda: panel.avail.value == "UNAVAILABLE")
                assert panel.type == "UNAVAILABLE"

    def test_run_ends_with_status_1_when_the_main_loop_raises(self, capsys: pytest.CaptureFixture[str]) -> None:
        app = self._visited(ValueError("out of oil"))(None, test_mode=True, host="127.0.0.1", app_uuid=uuid4().hex)
        with pytest.raises(SystemExit) as ended:
            app.run()
        assert ended.value.code == 1
        assert capsys.readouterr().err.count("ValueError: out of oil") == 1

    def test_async_run_hands_on_what_the_main_loop_raises(self) -> None:
        app = self._visited(ValueError("out of oil"))(None, test_mode=True, host="127.0.0.1")
        with pytest.raises(ValueError, match="out of oil"):
            asyncio.run(app.async_run())

    def test_a_host_of_another_machine_fails_the_start_and_the_app_is_off_the_register(
        self, app_class: type[Any]
    ) -> None:
        with KSQLDBClient(f"memory://{uuid4().hex}") as client:
            app = app_class(client, app_uuid=f"PANEL-{uuid4().hex}", host="192.0.2.1")
            with pytest.raises(ConfigurationError, match=r"Port 0 of '192\.0\.2\.1' cannot be opened.*set PORT"):
                asyncio.run(app.async_run())
            assert client.engine.types([app.asset_uuid]) == {}

    @pytest.mark.parametrize("wanted", [True, False])
    def test_requests_are_logged_unless_that_is_switched_off(
        self, capsys: pytest.CaptureFixture[str], wanted: bool
    ) -> None:
        options = {"test_mode": True, "host": "127.0.0.1", "app_uuid": uuid4().hex, "log_http_requests": wanted}
        app = self._visited(None)(None, **options)
        app.run()
        logged = [text for text in capsys.readouterr().err.splitlines() if "GET /" in text]
        assert len(logged) == wanted
        assert all(text.startswith(f"[{app.asset_uuid.upper()}] (") for text in logged)
        assert all(text.endswith('INFO 127.0.0.1 "GET /?x=%1b HTTP/1.1" 200 -') for text in logged)

    def test_the_log_of_requests_may_be_switched_while_the_app_runs(
        self, run_app: RunApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        panel = run_app(self.framework.panel_class).app
        panel.logger.propagate = True
        for number, wanted in enumerate((True, False, True)):
            panel.log_http_requests = wanted
            self.framework.ask(panel, "GET", f"/parts/{number}")
        lines = [line.partition('"')[2] for line in caplog.messages if '"' in line]
        assert lines == [f'GET /parts/{number} HTTP/1.1" 200 -' for number in (0, 2)]

    @pytest.mark.parametrize("name", ["log_http_requests", "metrics_registry", "open_streams", "app_health"])
    def test_an_attribute_does_not_take_a_name_of_the_web_app(self, app_class: type[Any], name: str) -> None:
        with pytest.raises(TypeError, match=rf"Panel\.{name} has a name that OpenFactory itself uses"):
            type("Panel", (app_class,), {name: EventAttribute(value="full", tag="Test")})

    def test_polled_pages_are_logged_only_when_they_fail_or_change(
        self, run_app: RunApp, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        panel = run_app(self.framework.panel_class, app_uuid="PANEL", host="127.0.0.1", port=0)
        panel.app.logger.propagate = True
        panel.run()
        eventually(lambda: panel.app.app_health().reasons == [])
        headers = {"X-Forwarded-Prefix": "/my-app"}
        for path in ("/health/live", "/health/ready", "/metrics") * 3:
            assert self.framework.ask(panel.app, "GET", path, headers=headers).status == 200
        assert "GET" not in caplog.text
        statuses = []
        for avail in ("UNAVAILABLE", "UNAVAILABLE", "AVAILABLE", "AVAILABLE"):
            panel.app.avail = avail
            statuses.append(self.framework.ask(panel.app, "GET", "/health/ready").status)
        self.framework.ask(panel.app, "GET", "/parts/1")
        assert statuses == [503, 503, 200, 200]
        logged = [line.partition('"')[2] for line in caplog.messages if '"' in line]
        ready = 'GET /health/ready HTTP/1.1" {} -'
        assert logged == [ready.format(503), ready.format(503), ready.format(200), 'GET /parts/1 HTTP/1.1" 200 -']

    def test_the_host_of_every_address_is_reached_by_both_families(
        self, run_app: RunApp, eventually: Eventually
    ) -> None:
        panel = run_app(self.framework.panel_class, host="::", port=0)
        panel.run()
        eventually(lambda: panel.app.app_health().reasons == [])
        port = panel.app._server.port
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), timeout=30) as connection:
                connection.sendall(b"GET /seen HTTP/1.1\r\nHost: panel.example\r\nConnection: close\r\n\r\n")
                body = connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
            assert json.loads(body)["client"] == address

    def test_each_request_is_told_of_its_own_failed_writes(self, run_app: RunApp) -> None:
        """A thread serves many requests, and a request need not ask how its writes ended."""
        book = run_app(self.framework.panel_class, app_uuid="BOOK").app
        kinds = ("bad", "silent", "good", "bad")
        statuses = [self.framework.ask(book, "GET", f"/write/{kind}").status for kind in kinds]
        assert statuses == [500, 200, 200, 500]


def _event(asset_uuid: str, id: str) -> AssetEvent:
    return AssetEvent(asset_uuid, id, "a value", "Events", "A.Tag", current_timestamp())


def _visit(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /?x=%1b HTTP/1.1\r\nHost: panel.example\r\nConnection: close\r\n\r\n")
        return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
