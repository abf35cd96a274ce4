"""What a client of the gateway gets, by every way in: what it would get from the app itself, at the right addresses."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from tests.gateway.conftest import AppProcess, Entrance

Eventually = Callable[..., None]

LIMIT = 4 * 1024 * 1024


def test_a_page_and_all_that_it_links_to_are_there(entrance: Entrance) -> None:
    home = entrance.ask()
    assert (home.status, home.headers.get_content_type()) == (200, "text/html")
    links = re.findall(r'(?:href|src)="(/[^"]*)"', home.text)
    assert links == [f"{entrance.prefix}{path}" for path in ("/static/panel.css", "/static/panel.js", "/parts/")]
    assert [entrance.follow("/", link).status for link in links] == [200, 200, 200]


def test_the_prefix_without_a_slash_is_the_root_page(by_prefix: Entrance) -> None:
    url = by_prefix.url.removesuffix("/")
    answer = by_prefix.ask_url(url)
    if location := answer.headers["Location"]:
        assert location == by_prefix.url
        answer = by_prefix.ask_url(location)
    assert answer.text == by_prefix.ask().text


def test_redirects_stay_behind_the_prefix(entrance: Entrance) -> None:
    answer = entrance.ask("/status/low", "POST")
    assert (answer.status, answer.headers["Location"]) == (303, f"{entrance.prefix}/")
    assert "low" in entrance.follow("/status/low", answer.headers["Location"]).text


def test_an_external_address_is_the_one_that_the_client_used(entrance: Entrance) -> None:
    assert entrance.ask("/elsewhere").headers["Location"] == f"{entrance.url}parts/"
    assert entrance.ask("/elsewhere", tls=True).headers["Location"] == f"{entrance.tls_url}parts/"


def test_a_slash_that_is_missing_is_added_behind_the_prefix(entrance: Entrance) -> None:
    answer = entrance.ask("/parts?page=2")
    assert answer.status == 308
    assert answer.headers["Location"] == f"{entrance.url}parts/?page=2"


def test_a_blueprint_knows_its_place(entrance: Entrance) -> None:
    answer = entrance.ask("/parts/")
    assert answer.json == {"first": f"{entrance.prefix}/parts/1", "home": f"{entrance.prefix}/"}
    assert entrance.follow("/parts/", answer.json["first"]).json == {"number": 1}


def test_a_static_file_is_sent_once(entrance: Entrance) -> None:
    first = entrance.ask("/static/panel.css")
    assert (first.status, first.headers.get_content_type()) == (200, "text/css")
    again = entrance.ask("/static/panel.css", If_None_Match=first.headers["ETag"])
    assert (again.status, again.text) == (304, "")
    part = entrance.ask("/static/panel.css", Range="bytes=0-1")
    assert (part.status, part.text) == (206, "h1")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_arrives_with_its_body_and_its_query(entrance: Entrance, method: str) -> None:
    answer = entrance.ask("/echo?part=4%261&name=%C3%BC", method, "grün".encode())
    assert answer.status == 200
    assert answer.json == {"method": method, "body": "grün", "query": {"part": "4&1", "name": "ü"}}


def test_a_head_is_a_get_without_its_body(entrance: Entrance) -> None:
    got, head = entrance.ask("/parts/"), entrance.ask("/parts/", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.text))


def test_the_methods_of_a_route_are_told_and_others_refused(entrance: Entrance) -> None:
    allowed = entrance.ask("/parts/", "OPTIONS")
    assert (allowed.status, set(allowed.headers["Allow"].split(", "))) == (200, {"GET", "HEAD", "OPTIONS"})
    assert entrance.ask("/parts/", "DELETE").status == 405


@pytest.mark.parametrize("name", ["Fräse 1", "a+b", "50%", "a?b#c"])
def test_a_name_in_a_path_arrives_as_it_is(entrance: Entrance, name: str) -> None:
    assert entrance.ask(f"/named/{quote(name)}").text == name


def test_what_is_not_there_is_the_apps_to_say(entrance: Entrance) -> None:
    answer = entrance.ask("/nosuch")
    assert (answer.status, answer.headers.get_content_type()) == (404, "text/html")
    assert "nginx" not in answer.text


# --- Uploads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
def test_an_upload_up_to_the_limit_is_taken(by_prefix: Entrance, chunked: bool) -> None:
    assert by_prefix.ask("/upload", "POST", upload(LIMIT, chunked=chunked)).json == {"bytes": LIMIT}


@pytest.mark.parametrize("excess", [1, 4 * LIMIT])
@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
def test_a_larger_upload_is_refused_and_said_so(by_prefix: Entrance, chunked: bool, excess: int) -> None:
    assert by_prefix.ask("/upload", "POST", upload(LIMIT + excess, chunked=chunked)).status == 413
    assert by_prefix.ask().status == 200


def upload(size: int, *, chunked: bool) -> bytes | Iterator[bytes]:
    return (bytes(min(65_536, size - at)) for at in range(0, size, 65_536)) if chunked else bytes(size)


# --- Who asks, and how ----------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_request_is_seen_as_the_client_sent_it(entrance: Entrance, tls: bool) -> None:
    url = entrance.tls_url if tls else entrance.url
    assert entrance.ask("/seen", tls=tls).json == {
        "client": "127.0.0.2",
        "scheme": "https" if tls else "http",
        "host": url.split("/")[2],
        "prefix": entrance.prefix,
        "path": "/seen",
        "home": url,
    }


def test_what_a_client_claims_ends_at_the_gateway(entrance: Entrance) -> None:
    claimed = entrance.ask(
        "/seen",
        X_Forwarded_For="203.0.113.9",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.test",
        X_Forwarded_Prefix="/evil",
    )
    assert claimed.json == entrance.ask("/seen").json


# --- Sessions -------------------------------------------------------------------------------------


def test_a_session_cookie_is_for_the_way_by_which_the_request_came(entrance: Entrance) -> None:
    cookie, *attributes = entrance.ask("/visits").headers["Set-Cookie"].split("; ")
    assert [value for value in attributes if value.startswith("Path=")] == [f"Path={entrance.prefix or '/'}"]
    assert entrance.ask("/visits", Cookie=cookie).json == {"visits": 2}


# --- For operations -------------------------------------------------------------------------------


def test_health_and_metrics_are_behind_the_prefix_too(entrance: Entrance) -> None:
    assert entrance.ask("/health/live").status == 200
    ready = entrance.ask("/health/ready")
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    assert entrance.ask("/health/ready", "HEAD").text == ""

    before = counted(entrance, "openfactory_http_requests_total", method="GET", route="/parts/<int:number>")
    assert entrance.ask("/parts/7").status == 200
    after = counted(entrance, "openfactory_http_requests_total", method="GET", route="/parts/<int:number>")
    assert after == before + 1


def counted(entrance: Entrance, name: str, **labels: str) -> float:
    """The sum of what /metrics says under a name, of the lines with these labels."""
    lines = [line for line in entrance.ask("/metrics").text.splitlines() if re.match(rf"{name}[ {{]", line)]
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(line.split()[-1]) for line in lines if all(part in line for part in wanted))


# --- Streams --------------------------------------------------------------------------------------


class Stream:
    """A stream of server-sent events, read line by line."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response

    def event(self) -> dict[str, Any]:
        """The data of the next message; a stream that has ended is an error."""
        while line := self.response.readline():
            if line.startswith(b"data: "):
                data: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                return data
        raise EOFError("The stream has ended.")

    def until(self, value: str) -> dict[str, Any]:
        """The next message with this value."""
        while (data := self.event())["value"] != value:
            pass
        return data


@contextmanager
def events(entrance: Entrance, *, tls: bool = False) -> Iterator[Stream]:
    with closing(entrance.connect(tls=tls)) as connection:
        host = (entrance.tls_url if tls else entrance.url).split("/")[2]
        connection.request("GET", f"{entrance.prefix}/events", headers={"Host": host})
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield Stream(response)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_events_arrive_one_by_one_as_they_happen(entrance: Entrance, tls: bool) -> None:
    # Each is awaited before the next is made. An nginx that was not told to hand them on at once keeps them in the
    # buffer of its TLS connection, and the reader gives up long before heartbeats have filled that.
    assert entrance.ask("/status/waiting", "POST").status == 303
    with events(entrance, tls=tls) as stream:
        stream.until("waiting")
        for value in ("first", "second", "third"):
            assert entrance.ask(f"/status/{value}", "POST").status == 303
            said = stream.until(value)
            assert (said["id"], said["type"], said["tag"]) == ("status", "Events", "Panel.Status")


def test_a_reader_that_leaves_is_forgotten(entrance: Entrance, eventually: Eventually) -> None:
    def streams() -> float:
        return counted(entrance, "openfactory_event_streams")

    eventually(lambda: streams() == 0, timeout=60)
    with events(entrance) as stream:
        stream.event()
        assert streams() == 1
    eventually(lambda: streams() == 0, timeout=60)


# --- Apps that come and go ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["prefix", "host"])
def test_an_app_that_is_away_is_a_502_and_served_again_when_it_is_back(
    by_prefix: Entrance, by_host: Entrance, stopped_app: AppProcess, way: str
) -> None:
    if way == "prefix":
        entrance = by_prefix._replace(prefix="/night-app")
    else:
        entrance = by_host._replace(host="night-app.factory.test")
    assert entrance.ask().status == 502
    for _ in range(2):
        stopped_app.start()
        assert entrance.ask("/health/ready").status == 200
        with events(entrance) as stream:
            stream.event()
            stopped_app.stop()  # an open stream does not hold it
            with pytest.raises(EOFError):
                stream.until("never")
        assert "cut off" not in stopped_app.log
        assert entrance.ask().status == 502
    assert by_prefix.ask().status == 200
