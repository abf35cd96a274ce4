"""The asset router: which servers it names, and what is said when it names none."""

from __future__ import annotations

import os
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest

from openfactory.engines.fanout import AssetRouter, BadAnswerError
from openfactory.exceptions import ConfigurationError, EngineClosedError, EngineUnavailableError
from openfactory.testing import eventually
from router_stand_in import RouterStandIn


@pytest.fixture
def stand_in() -> Iterator[RouterStandIn]:
    with RouterStandIn("nats://one:4222") as router:
        yield router


@pytest.fixture
def router(stand_in: RouterStandIn) -> Iterator[AssetRouter]:
    asking = AssetRouter(stand_in.url, timeout=30)
    yield asking
    asking.close()


def test_the_server_of_the_cluster(router: AssetRouter, stand_in: RouterStandIn) -> None:
    stand_in.places["MILL"] = "nats://two:4222"
    assert router.servers_of("MILL") == ("nats://two:4222",)
    assert router.servers_of("DRILL") == ("nats://one:4222",)


def test_a_uuid_is_asked_for_as_it_is_spelled(router: AssetRouter, stand_in: RouterStandIn) -> None:
    for asset_uuid in ("Mill", "a b/c?d=é#%20"):
        router.servers_of(asset_uuid)
    assert stand_in.asked == ["Mill", "a b/c?d=é#%20"]


def test_a_slash_at_the_end_of_the_address_does_no_harm(stand_in: RouterStandIn) -> None:
    asking = AssetRouter(f"{stand_in.url}/")
    assert asking.servers_of("MILL") == ("nats://one:4222",)
    asking.close()


@pytest.mark.parametrize(
    ("answer", "servers"),
    [
        ({"nats_url": "nats://b:1, nats://a:1,,nats://b:1"}, ("nats://b:1", "nats://a:1")),
        ({"nats_url": "nats://b:1", "nats_urls": ["nats://a:1", "nats://b:1"]}, ("nats://b:1", "nats://a:1")),
        ({"nats_urls": ["nats://a:1"]}, ("nats://a:1",)),
        ({"nats_url": "nats://b:1", "nats_urls": None, "more": {}}, ("nats://b:1",)),
    ],
)
def test_all_servers_of_the_cluster(
    router: AssetRouter, stand_in: RouterStandIn, answer: dict[str, object], servers: tuple[str, ...]
) -> None:
    stand_in.places["MILL"] = answer
    assert router.servers_of("MILL") == servers


def test_the_environment_adds_the_other_servers_of_the_cluster(
    router: AssetRouter, stand_in: RouterStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_CLUSTER_C1", "nats://zero:4222, nats://one:4222 ,,nats://two:4222")
    monkeypatch.setenv("NATS_CLUSTER_C2", "nats://three:4222")
    assert router.servers_of("MILL") == ("nats://one:4222", "nats://zero:4222", "nats://two:4222")


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (500, b'{"detail": "the ring is empty"}', "500 'the ring is empty'"),
        (404, b"<html>Not Found</html>", "404 '<html>Not Found</html>'"),
        (200, b"[]", r"200 '\[\]'"),
        (200, b"", "200 ''"),
        (200, b"\xff\xfe", "200 "),
        (200, b'{"cluster_name": "C1", "nats_url": ""}', "200 "),
        (200, b'{"nats_url": null}', "200 "),
        (200, b'{"nats_url": 4222}', "200 "),
        (503, b'{"detail": "nats://app:secret@one:4222 is full"}', "503 'nats://one:4222 is full'"),
        (500, b"x" * 100_000, "500 'x{200}…'"),
    ],
)
def test_an_answer_that_is_none(
    router: AssetRouter,
    stand_in: RouterStandIn,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    shown: str,
) -> None:
    monkeypatch.setenv("NATS_CLUSTER_C1", "nats://zero:4222")  # does not hide it
    stand_in.failing["MILL"] = (status, body)
    with pytest.raises(
        BadAnswerError, match=rf"returned no NATS server for 'MILL': it answered {shown}.*nats_url\.$"
    ) as caught:
        router.servers_of("MILL")
    assert caught.value.address == stand_in.url
    assert "secret" not in str(caught.value)
    assert router.servers_of("DRILL")[0] == "nats://one:4222"


def test_a_router_that_is_down_and_comes_back(router: AssetRouter, stand_in: RouterStandIn) -> None:
    router.servers_of("MILL")
    stand_in.stop()
    with pytest.raises(
        EngineUnavailableError, match=r"at http://127\.0\.0\.1:\d+ does not answer \(.+\)\. Start"
    ) as caught:
        router.servers_of("MILL")
    assert not isinstance(caught.value, BadAnswerError)
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value, ConnectionError)
    stand_in.start()
    assert router.servers_of("MILL") == ("nats://one:4222",)


def test_a_silent_router_is_not_waited_for(stand_in: RouterStandIn) -> None:
    stand_in.silent = True
    asking = AssetRouter(stand_in.url, timeout=0.5)
    began = time.monotonic()
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        asking.servers_of("MILL")
    asking.close()
    assert 0.4 < time.monotonic() - began < 20


def test_a_server_that_speaks_no_http(stand_in: RouterStandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            connection = server.accept()[0]
            connection.sendall(b"INFO {}\r\n")
            connection.close()

        thread = threading.Thread(target=babble)
        thread.start()
        asking = AssetRouter(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=2)
        with pytest.raises(EngineUnavailableError, match="does not answer"):
            asking.servers_of("MILL")
        asking.close()
        thread.join()


@pytest.mark.parametrize("url", ["", "router:8002", "nats://router:4222", "http://", "ftp://x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ASSET_ROUTER_URL=.*\. Write http://host:port\."):
        AssetRouter(url)


def test_a_password_in_the_address_is_sent_and_not_shown() -> None:
    asking = AssetRouter("http://app:secret@127.0.0.1:1", timeout=1)
    with pytest.raises(EngineUnavailableError) as caught:
        asking.servers_of("MILL")
    assert "secret" not in f"{caught.value}{caught.value.address}{asking.url}{caught.value.__cause__}"
    asking.close()


def test_a_password_in_the_address_is_in_no_line_of_the_library(
    stand_in: RouterStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    asking = AssetRouter(stand_in.url.replace("http://", "http://app:top%2Fsecret@"), timeout=30)
    asking.servers_of("MILL")
    asking.close()
    assert stand_in.login == f"Basic {b64encode(b'app:top/secret').decode()}"
    assert "HTTP Request: GET" in caplog.text
    assert "secret" not in caplog.text


def test_a_closed_router_says_so(router: AssetRouter) -> None:
    router.servers_of("MILL")
    router.close()
    router.close()
    with pytest.raises(EngineClosedError, match="is closed"):
        router.servers_of("MILL")


def test_closing_does_not_wait_for_a_question_that_is_under_way(stand_in: RouterStandIn) -> None:
    def ask() -> None:
        with pytest.raises(EngineUnavailableError):
            asking.servers_of("MILL")

    asking = AssetRouter(stand_in.url, timeout=60)
    stand_in.silent = True
    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: stand_in.connections)
    asking.close()
    assert thread.is_alive()
    stand_in.stop()
    thread.join()


def test_many_threads_may_ask(router: AssetRouter, stand_in: RouterStandIn) -> None:
    def ask(number: int) -> None:
        answers.extend(router.servers_of(f"{number}-{count}") for count in range(20))

    answers: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [("nats://one:4222",)] * 160
    assert len(set(stand_in.asked)) == 160


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork. Run it on Linux")
def test_a_forked_child_asks_on_a_connection_of_its_own(router: AssetRouter, stand_in: RouterStandIn) -> None:
    router.servers_of("MILL")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if router.servers_of("CHILD") == ("nats://one:4222",) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert router.servers_of("MILL") == ("nats://one:4222",)
    assert stand_in.connections == 2
