"""The names, the routes and the labels of apps with web pages."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.deploy.gateway.labels import gateway_labels
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.names import normalised_name
from releases_for_tests import releases, settings

PANEL: dict[str, Any] = {"uuid": "My_App", "image": "i", "routing": {"expose": True, "port": 4000}}


@pytest.mark.parametrize(
    ("text", "name"),
    [("My_App_123", "my-app-123"), ("A.B c", "a-b-c"), ("Ünïcode", "n-code"), ("___", ""), ("a--b-", "a-b"), ("", "")],
)
def test_a_name_is_normalised(text: str, name: str) -> None:
    assert normalised_name(text) == name


@given(st.text())
def test_a_normalised_name_is_a_label_or_empty(text: str) -> None:
    name = normalised_name(text)
    assert re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)?", name)
    assert normalised_name(name) == name


def test_the_labels_in_production_are_for_the_host_names() -> None:
    [release] = releases(**PANEL | {"routing": {"expose": True, "port": 4000, "hostname": "panel"}})
    assert gateway_labels(release, Addresses("factory.test")) == {
        "traefik.enable": "true",
        "traefik.http.routers.ofa-my-app.rule": "Host(`my-app.factory.test`) || Host(`panel.factory.test`)",
        "traefik.http.routers.ofa-my-app.service": "ofa-my-app",
        "traefik.http.routers.ofa-my-app.entrypoints": "web",
        "traefik.http.routers.ofa-my-app.middlewares": "ofa-my-app-retry",
        "traefik.http.middlewares.ofa-my-app-retry.retry.attempts": "100",
        "traefik.http.middlewares.ofa-my-app-retry.retry.initialinterval": "50ms",
        "traefik.http.services.ofa-my-app.loadbalancer.server.port": "4000",
    }


def test_the_labels_for_development_are_for_a_prefix_too() -> None:
    [release] = releases(**PANEL)
    labels = gateway_labels(release, Addresses("factory.test", has_prefixes=True))
    assert labels["traefik.http.routers.ofa-my-app.rule"] == "Host(`my-app.factory.test`)"
    added = {name.removeprefix("traefik.http."): text for name, text in labels.items() if ".ofa-my-app-" in name}
    assert added == {
        "routers.ofa-my-app-external.rule": "Host(`localhost`) && (Path(`/my-app`) || PathPrefix(`/my-app/`))",
        "routers.ofa-my-app-external.service": "ofa-my-app",
        "routers.ofa-my-app-external.entrypoints": "web",
        "routers.ofa-my-app-external.middlewares": "ofa-my-app-slash,ofa-my-app-strip,ofa-my-app-retry",
        "middlewares.ofa-my-app-retry.retry.attempts": "100",
        "middlewares.ofa-my-app-retry.retry.initialinterval": "50ms",
        "middlewares.ofa-my-app-slash.redirectregex.regex": r"^(https?://[^/]+/my-app)(\?.*)?$",
        "middlewares.ofa-my-app-slash.redirectregex.replacement": "${1}/${2}",
        "middlewares.ofa-my-app-strip.stripprefix.prefixes": "/my-app",
    }


def test_without_a_domain_there_is_a_prefix_alone() -> None:
    [release] = releases(**PANEL)
    labels = gateway_labels(release, Addresses())
    assert [name for name in labels if name.endswith(".rule")] == ["traefik.http.routers.ofa-my-app-external.rule"]


@pytest.mark.parametrize("routing", [None, {"port": 4000}, {"expose": False, "port": 4000}, {"expose": True}])
def test_a_page_that_is_not_exposed_has_no_labels(routing: dict[str, object] | None) -> None:
    [release] = releases(uuid="a1", image="i", routing=routing)
    assert gateway_labels(release, Addresses("factory.test", has_prefixes=True)) == {}


def test_a_host_name_that_equals_the_uuid_is_there_once() -> None:
    route = Addresses("factory.test").route(
        settings(**PANEL | {"routing": {"expose": True, "port": 1, "hostname": "my app"}})
    )
    assert route is not None
    assert route.hosts == ("my-app.factory.test",)


def test_replicas_share_a_route_and_a_browser_stays_with_one() -> None:
    first, second = releases(**PANEL, deploy={"replicas": 2})
    addresses = Addresses("factory.test", has_prefixes=True)
    assert (first.uuid, second.uuid) == ("My_App-1", "My_App-2")
    assert gateway_labels(first, addresses) == gateway_labels(second, addresses)
    cookie = "traefik.http.services.ofa-my-app.loadbalancer.sticky.cookie.name"
    assert gateway_labels(first, addresses)[cookie] == "ofa-my-app"


@pytest.mark.parametrize(
    ("addresses", "port", "url"),
    [
        (Addresses("factory.test"), 80, "http://my-app.factory.test/"),
        (Addresses("factory.test"), 8080, "http://my-app.factory.test:8080/"),
        (Addresses("factory.test", has_prefixes=True), 80, "http://localhost/my-app/"),
        (Addresses(), 8080, "http://localhost:8080/my-app/"),
    ],
)
def test_the_url_of_an_app_can_be_opened(addresses: Addresses, port: int, url: str) -> None:
    route = addresses.route(settings(**PANEL))
    assert route is not None
    assert route.url(port) == url


def test_the_settings_give_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Addresses.from_settings() == Addresses("", has_prefixes=False)
    monkeypatch.setenv("OPENFACTORY_BASE_DOMAIN", ".Factory.test.")
    monkeypatch.setenv("OPENFACTORY_ENV", "dev")
    assert Addresses.from_settings() == Addresses("factory.test", has_prefixes=True)
