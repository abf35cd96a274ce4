"""The live feed from NATS: what is heard, what is proven, and what happens when a server goes away."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.engines.fanout.nats_hub import Headers
from openfactory.exceptions import ConfigurationError, EngineClosedError
from openfactory.settings.credentials import Credentials
from openfactory.testing import eventually
from router_stand_in import RouterStandIn
from servers import NatsServer, nats_cluster

Cut = tuple[frozenset[str], float]


class Hearing:
    """A feed and all that it said."""

    def __init__(self, router_url: str, **options: Any) -> None:
        self.messages: list[tuple[str, str, bytes]] = []
        self.lives: list[frozenset[str]] = []
        self.cuts: list[Cut] = []
        self.order: list[str] = []
        self.threads: set[str] = set()
        self.when_live: Callable[[frozenset[str]], None] = lambda assets: None
        self.raises = False
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.router = AssetRouter(router_url, timeout=0.5)
        self.feed = NatsFeed(self.router, on_message=self.hear, on_live=self.hear_live, on_cut=self.hear_cut, **options)

    def hear(self, asset_uuid: str, attribute_id: str, payload: bytes, headers: Headers) -> None:
        self.threads.add(threading.current_thread().name)
        self.order.append("message")
        self.messages.append((asset_uuid, attribute_id, payload))
        self.may_go_on.wait(30)
        if self.raises:
            raise ValueError("on purpose")

    def hear_live(self, assets: frozenset[str]) -> None:
        self.order.append("live")
        self.lives.append(assets)
        self.when_live(assets)
        if self.raises:
            raise ValueError("on purpose")

    def hear_cut(self, assets: frozenset[str], good_at: float) -> None:
        self.order.append("cut")
        self.cuts.append((assets, good_at))

    def listen(self, *asset_uuids: str) -> None:
        """Subscribe, and wait until all are live."""
        for asset_uuid in asset_uuids:
            self.feed.subscribe(asset_uuid)
        eventually(lambda: all(map(self.feed.is_live, asset_uuids)))

    def close(self) -> None:
        self.feed.close()
        self.router.close()


def say(url: str, *messages: tuple[str, bytes], login: str = "{}") -> None:
    """Publish on NATS, and come back when the server has taken all of it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        lines = [f"CONNECT {login}\r\n".encode()]
        lines += [b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(data), data) for subject, data in messages]
        connection.sendall(b"".join(lines) + b"PING\r\n")
        answer = b""
        while b"PONG" not in answer:
            received = connection.recv(65536)
            assert received, answer
            answer += received
        assert b"-ERR" not in answer, answer


@pytest.fixture
def asset() -> str:
    """The UUID of an asset that no other test speaks of."""
    return f"MILL-{uuid4().hex[:8].upper()}"


@pytest.fixture
def router() -> Iterator[RouterStandIn]:
    with RouterStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def hearing(router: RouterStandIn) -> Iterator[Callable[..., Hearing]]:
    """Makes feeds that ask the router of the test, and closes them."""
    made: list[Hearing] = []

    def make(**options: Any) -> Hearing:
        made.append(Hearing(router.url, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    gc.collect()  # what was left open warns now


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment,method-assign]
    logger = logging.getLogger("openfactory.engines.fanout")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.setLevel(level)
    logger.removeHandler(handler)


def texts(records: list[logging.LogRecord], level: int) -> list[str]:
    return [record.getMessage() for record in records if record.levelno == level]


# What is heard.


def test_messages_come_with_the_id_and_the_payload(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    heard = hearing()
    heard.listen(asset)
    assert heard.lives == [{asset}]
    say(
        nats_server.url,
        (f"{asset}.speed", b'{"VALUE": 1}'),
        (f"{asset}.axis.x.position", b""),
        (f"{asset}2.speed", b"another asset"),
        (f"{asset}.é", b"\xff"),
    )
    eventually(lambda: len(heard.messages) == 3)
    assert heard.messages == [
        (asset, "speed", b'{"VALUE": 1}'),
        (asset, "axis.x.position", b""),
        (asset, "é", b"\xff"),
    ]
    assert heard.threads == {"openfactory-loop-nats"}
    assert heard.feed.trouble() == ""


def test_subjects_as_spelled_and_in_upper_case(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    heard = hearing()
    mixed = asset.capitalize()
    heard.listen(mixed)
    say(nats_server.url, (f"{mixed}.a", b"1"), (f"{asset}.b", b"2"), (f"{asset.lower()}.c", b"3"), (f"{mixed}.d", b"4"))
    eventually(lambda: len(heard.messages) == 3)
    assert {message[:2] for message in heard.messages} == {(mixed, "a"), (mixed, "b"), (mixed, "d")}
    assert router.asked == [mixed]


def test_nothing_said_after_on_live_is_missed(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    heard = hearing()
    heard.when_live = lambda assets: say(nats_server.url, *((f"{one}.x", b"1") for one in assets))
    for number in range(30):
        heard.feed.subscribe(f"{asset}-{number}")
    eventually(lambda: len(heard.messages) == 30)


def test_live_means_that_the_server_has_answered_after_the_subscription(
    hearing: Callable[..., Hearing], router: RouterStandIn, asset: str
) -> None:
    lines: list[bytes] = []
    when_live: list[list[bytes]] = []

    def serve(listener: socket.socket) -> None:
        connection = listener.accept()[0]
        with connection, connection.makefile("rb") as received:
            connection.sendall(b'INFO {"server_id":"x","version":"2.9.0","max_payload":1000000}\r\n')
            for line in received:
                lines.append(line)
                if line == b"PING\r\n":
                    connection.sendall(b"PONG\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,), daemon=True)
        serving.start()
        router.nats_url = f"nats://127.0.0.1:{listener.getsockname()[1]}"
        heard = hearing()
        heard.when_live = lambda assets: when_live.append([*lines])
        heard.listen(asset)
        heard.close()
        serving.join(60)
    assert when_live[0].index(f"SUB {asset}.>  2\r\n".encode()) < len(when_live[0]) - 1
    assert when_live[0][-1] == b"PING\r\n"


def test_an_asset_that_was_left_is_heard_no_more_and_may_be_taken_up_again(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    heard = hearing()
    other = f"{asset}-2"
    heard.listen(asset, other)
    heard.feed.subscribe(asset)  # twice is once
    heard.feed.unsubscribe(asset)
    heard.feed.unsubscribe(asset)
    heard.feed.unsubscribe("nobody")
    eventually(lambda: not heard.feed.is_live(asset))
    say(nats_server.url, (f"{asset}.x", b"1"), (f"{other}.x", b"2"))
    eventually(lambda: heard.messages)
    assert heard.messages == [(other, "x", b"2")]
    heard.feed.unsubscribe(other)
    heard.listen(asset)
    say(nats_server.url, (f"{asset}.x", b"3"))
    eventually(lambda: len(heard.messages) == 2)
    assert heard.messages[1:] == [(asset, "x", b"3")]
    assert heard.cuts == []


def test_a_callback_that_raises_is_logged_and_the_next_message_comes(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    nats_server: NatsServer,
    asset: str,
    logged: list[logging.LogRecord],
) -> None:
    router.nats_url = nats_server.url
    heard = hearing()
    heard.raises = True
    heard.listen(asset)
    say(nats_server.url, (f"{asset}.x", b"1"), (f"{asset}.y", b"2"))
    eventually(lambda: len(heard.messages) == 2)
    eventually(lambda: len(texts(logged, logging.ERROR)) == 3)
    said = texts(logged, logging.ERROR)
    assert f"on_message failed for {asset}.x" in said[1]
    assert f"on_message failed for {asset}.y" in said[2]


def test_a_thousand_assets_share_one_connection_and_one_thread(
    hearing: Callable[..., Hearing], router: RouterStandIn, own_nats_server: NatsServer
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    before = set(threading.enumerate())
    assets = [f"MILL-{number}" for number in range(1000)]
    heard.listen("MILL-0")
    assert own_nats_server.connections() == 1
    heard.listen(*assets)
    assert own_nats_server.connections() == 1
    eventually(lambda: not [one for one in threading.enumerate() if one.name == "openfactory-router"])
    mine = {one.name for one in set(threading.enumerate()) - before if "router-stand-in" not in one.name}
    assert {name for name in mine if "process_request" not in name} == {"openfactory-loop-nats"}
    say(own_nats_server.url, *((f"{one}.x", b"1") for one in assets))
    eventually(lambda: len(heard.messages) == 1000)


def test_assets_on_two_clusters_have_a_connection_each(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    own_nats_server: NatsServer,
    nats_server: NatsServer,
    asset: str,
) -> None:
    router.nats_url = nats_server.url
    router.places[f"{asset}-2"] = own_nats_server.url
    heard = hearing()
    heard.listen(asset, f"{asset}-2")
    assert own_nats_server.connections() == 1
    say(nats_server.url, (f"{asset}.x", b"1"))
    say(own_nats_server.url, (f"{asset}-2.x", b"2"))
    eventually(lambda: len(heard.messages) == 2)
    heard.feed.unsubscribe(f"{asset}-2")
    eventually(lambda: own_nats_server.connections() == 0)
    assert heard.feed.is_live(asset)


# What goes away, and comes back.


def test_a_server_that_is_killed_and_comes_back(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    own_nats_server: NatsServer,
    asset: str,
    logged: list[logging.LogRecord],
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    other = f"{asset}-2"
    heard.listen(asset, other)
    lives = len(heard.lives)
    for round_number in (1, 2):
        own_nats_server.kill()
        killed_at = time.time()
        eventually(lambda: len(heard.cuts) == round_number)  # noqa: B023
        cut, good_at = heard.cuts[-1]
        assert cut == {asset, other}
        assert killed_at - 10 < good_at <= killed_at
        assert not heard.feed.is_live(asset)
        eventually(lambda: "is away" in heard.feed.trouble())
        heard.feed.subscribe(f"{asset}-new-{round_number}")
        own_nats_server.start()
        eventually(lambda: heard.feed.is_live(asset) and heard.feed.is_live(other))
        say(own_nats_server.url, (f"{asset}.x", b"%d" % round_number))
        eventually(lambda: len(heard.messages) == round_number)  # noqa: B023
        heard.listen(f"{asset}-new-{round_number}")
        heard.feed.unsubscribe(f"{asset}-new-{round_number}")
    assert heard.feed.trouble() == ""
    assert {asset, other} <= frozenset[str]().union(*heard.lives[lives:])
    warnings = texts(logged, logging.WARNING)
    assert len(warnings) == 2
    assert all("is away" in text and own_nats_server.url in text for text in warnings)
    assert texts(logged, logging.INFO) == [f"NATS at {own_nats_server.url} is back."] * 2


def test_a_server_that_is_down_at_the_start(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    own_nats_server: NatsServer,
    asset: str,
    logged: list[logging.LogRecord],
) -> None:
    router.nats_url = own_nats_server.url
    own_nats_server.kill()
    heard = hearing()
    began = time.monotonic()
    heard.feed.subscribe(asset)
    assert time.monotonic() - began < 20
    eventually(lambda: "is away" in heard.feed.trouble())
    eventually(lambda: time.monotonic() > began + 2)  # it is tried several times
    own_nats_server.start()
    eventually(lambda: heard.feed.is_live(asset))
    assert heard.cuts == []  # it was never heard before
    assert len(texts(logged, logging.WARNING)) == 1


def test_a_silent_server_is_found_out(
    hearing: Callable[..., Hearing], router: RouterStandIn, own_nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    heard.listen(asset)
    own_nats_server.suspend()
    suspended_at = time.time()
    eventually(lambda: heard.cuts)
    assert heard.cuts[0][0] == {asset}
    assert heard.cuts[0][1] <= suspended_at
    eventually(lambda: "no answer" in heard.feed.trouble())
    own_nats_server.resume()
    eventually(lambda: heard.feed.is_live(asset))
    say(own_nats_server.url, (f"{asset}.x", b"1"))
    eventually(lambda: heard.messages == [(asset, "x", b"1")])


def test_the_proof_is_renewed(
    hearing: Callable[..., Hearing], router: RouterStandIn, own_nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    heard.listen(asset)
    live_at = time.time()
    eventually(lambda: time.time() > live_at + 4.5)
    own_nats_server.kill()
    eventually(lambda: heard.cuts)
    assert heard.cuts[0][1] > live_at


def test_another_server_of_the_cluster_takes_over(
    hearing: Callable[..., Hearing], router: RouterStandIn, asset: str, nats_server: NatsServer
) -> None:
    with nats_cluster() as (one, two):
        router.nats_url = one.url
        heard = hearing()
        heard.listen(asset)  # of the other server only the first one tells
        assert one.connections() == 1
        eventually(lambda: one.subscriptions() and two.connections() == 0)
        one.kill()
        eventually(lambda: heard.cuts)
        eventually(lambda: heard.feed.is_live(asset))
        assert two.connections() == 1
        say(two.url, (f"{asset}.x", b"1"))
        eventually(lambda: heard.messages)


def test_any_of_the_named_servers_will_do(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = f"nats://127.0.0.1:1,{nats_server.url}"
    heard = hearing()
    heard.listen(asset)
    say(nats_server.url, (f"{asset}.x", b"1"))
    eventually(lambda: heard.messages)


def test_an_asset_that_moved_while_its_cluster_was_away(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    own_nats_server: NatsServer,
    nats_server: NatsServer,
    asset: str,
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    assets = [f"{asset}-{number}" for number in range(50)]
    heard.listen(asset, *assets)
    router.nats_url = nats_server.url
    own_nats_server.kill()
    eventually(lambda: heard.cuts)
    eventually(lambda: all(map(heard.feed.is_live, [asset, *assets])))
    assert heard.feed.trouble() == ""
    say(nats_server.url, (f"{asset}.x", b"1"))
    eventually(lambda: heard.messages)


def test_an_asset_that_moved_while_its_cluster_was_there(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    own_nats_server: NatsServer,
    nats_server: NatsServer,
    asset: str,
    logged: list[logging.LogRecord],
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing(ask_again=0.3)
    heard.listen(asset, f"{asset}-2")
    moved_at = time.time()
    router.places[asset] = nats_server.url
    eventually(lambda: heard.cuts)
    assert heard.cuts[0][0] == {asset}
    assert heard.cuts[0][1] <= moved_at
    eventually(lambda: heard.feed.is_live(asset))
    say(nats_server.url, (f"{asset}.x", b"1"))
    say(own_nats_server.url, (f"{asset}.x", b"from where it was"), (f"{asset}-2.x", b"2"))
    eventually(lambda: len(heard.messages) == 2)
    assert set(heard.messages) == {(asset, "x", b"1"), (f"{asset}-2", "x", b"2")}
    assert len(heard.cuts) == 1
    assert any(asset in text and nats_server.url in text for text in texts(logged, logging.INFO))


# The router.


@pytest.mark.parametrize("trouble", ["down", "silent", "500", "garbage"])
def test_a_router_that_does_not_answer_at_the_start(
    hearing: Callable[..., Hearing],
    router: RouterStandIn,
    nats_server: NatsServer,
    asset: str,
    trouble: str,
    logged: list[logging.LogRecord],
) -> None:
    router.nats_url = nats_server.url
    if trouble == "down":
        router.stop()
    router.silent = trouble == "silent"
    router.failing = {"500": {"*": (500, b'{"detail": "no ring"}')}, "garbage": {"*": (200, b"<html>")}}.get(
        trouble, {}
    )
    heard = hearing()
    began = time.monotonic()
    for name in (asset, *(f"{asset}-{number}" for number in range(2, 12))):
        heard.feed.subscribe(name)
    assert time.monotonic() - began < 20  # to wait for each answer takes half a minute
    eventually(lambda: "The asset router at" in heard.feed.trouble())
    eventually(lambda: time.monotonic() > began + 2)  # it is asked several times
    assert len(texts(logged, logging.WARNING)) == 1
    router.silent = False
    router.failing = {}
    if trouble == "down":
        router.start()
    eventually(lambda: heard.feed.is_live(asset) and heard.feed.is_live(f"{asset}-2"))
    assert heard.feed.trouble() == ""
    assert len(texts(logged, logging.WARNING)) == 1
    assert texts(logged, logging.INFO) == [f"The asset router at {router.url} answers again."]


def test_a_router_that_fails_for_one_asset_serves_the_others(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    router.failing[asset] = (500, b"")
    heard = hearing()
    heard.feed.subscribe(asset)
    heard.listen(*(f"{asset}-{number}" for number in range(120)))
    assert asset in heard.feed.trouble()
    del router.failing[asset]
    eventually(lambda: heard.feed.is_live(asset))


def test_a_router_that_is_down_while_nats_comes_back(
    hearing: Callable[..., Hearing], router: RouterStandIn, own_nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    heard.listen(asset)
    router.stop()
    own_nats_server.kill()
    eventually(lambda: heard.cuts)
    own_nats_server.start()
    eventually(lambda: heard.feed.is_live(asset))
    assert heard.feed.trouble() == ""


# Who we are.


def test_user_and_password(
    hearing: Callable[..., Hearing], router: RouterStandIn, asset: str, logged: list[logging.LogRecord]
) -> None:
    with NatsServer(username="app", password="topsecret") as server:
        router.nats_url = server.url
        heard = hearing(credentials=Credentials(nats_username="app", nats_password="topsecret"))
        heard.listen(asset)
        refused = hearing(credentials=Credentials(nats_username="app", nats_password="guess"))
        refused.feed.subscribe(asset)
        eventually(lambda: "authorization violation" in refused.feed.trouble().lower())
        assert "NATS_USERNAME" in refused.feed.trouble()
        router.nats_url = server.url.replace("//", "//app:topsecret@")
        by_url = hearing()
        by_url.listen(asset)
        server.kill()
        eventually(lambda: by_url.feed.trouble())
        said = " ".join([by_url.feed.trouble(), refused.feed.trouble(), *(record.getMessage() for record in logged)])
        assert "is away" in said
        assert "topsecret" not in said
        assert "guess" not in said


def test_a_token(hearing: Callable[..., Hearing], router: RouterStandIn, asset: str) -> None:
    with NatsServer(token="topsecret") as server:
        router.nats_url = server.url
        heard = hearing(credentials=Credentials(nats_token="topsecret"))
        heard.listen(asset)
        nobody = hearing()
        nobody.feed.subscribe(asset)
        eventually(lambda: "NATS_TOKEN" in nobody.feed.trouble())


def test_tls(hearing: Callable[..., Hearing], router: RouterStandIn, asset: str) -> None:
    with NatsServer(tls=True) as server:
        router.nats_url = server.url
        heard = hearing(credentials=Credentials(nats_ssl_ca_file=str(server.certificates.ca_file)))
        heard.listen(asset)
        trusting_nobody = hearing()
        trusting_nobody.feed.subscribe(asset)
        eventually(lambda: "NATS_SSL_CA_FILE" in trusting_nobody.feed.trouble())
        server.suspend()
        eventually(lambda: heard.cuts)
        heard.close()
        gc.collect()  # what was left open warns while the server is still silent


def test_credentials_that_cannot_be_used_are_refused_at_once(router: RouterStandIn, tmp_path: Any) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    asking = AssetRouter(router.url)
    with pytest.raises(ConfigurationError, match="NATS_SSL_CA_FILE"):
        NatsFeed(
            asking,
            on_message=print,
            on_live=print,
            on_cut=print,
            credentials=Credentials(nats_ssl_ca_file=str(tmp_path / "ca.pem")),
        )


_USERS = """
authorization { users: [
  { user: all, password: x },
  { user: some, password: x, permissions: { subscribe: ["Mill.>", "LATHE.>", "OTHER.>"] } } ] }
"""


def test_what_may_not_be_subscribed_to_is_never_live(
    hearing: Callable[..., Hearing], router: RouterStandIn, logged: list[logging.LogRecord]
) -> None:
    with NatsServer(configuration=_USERS) as server:
        router.nats_url = server.url
        heard = hearing(credentials=Credentials(nats_username="some", nats_password="x"))
        for one in ("DRILL", "Lathe", "a b", "a.*"):
            heard.feed.subscribe(one)
        heard.listen("Mill", "OTHER")  # of Mill only the exact spelling is allowed
        eventually(lambda: len(texts(logged, logging.WARNING)) == 4)
        assert "cannot be received over NATS" in heard.feed.trouble()
        assert not any(map(heard.feed.is_live, ("DRILL", "Lathe", "a b", "a.*")))
        login = '{"user":"all","pass":"x"}'
        say(server.url, ("Mill.x", b"1"), ("OTHER.x", b"2"), ("DRILL.x", b"3"), login=login)
        eventually(lambda: len(heard.messages) == 2)
        assert heard.cuts == []


# Too much.


def test_messages_that_were_dropped_here_count_as_a_cut(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    heard = hearing(pending_messages=5)
    heard.listen(asset, f"{asset}-2")
    say(nats_server.url, *((f"{asset}.x", b"%d" % number) for number in range(2000)))
    eventually(lambda: heard.cuts)
    assert {one for cut, _ in heard.cuts for one in cut} == {asset}
    eventually(lambda: heard.feed.is_live(asset))
    say(nats_server.url, (f"{asset}.x", b"the last"))
    eventually(lambda: heard.messages[-1:] == [(asset, "x", b"the last")])
    assert heard.feed.is_live(f"{asset}-2")
    for kind, following in pairwise(heard.order):
        assert (kind, following) != ("cut", "message")  # what is old then is not delivered as if it were new


def test_a_server_that_cuts_off_a_slow_one(hearing: Callable[..., Hearing], router: RouterStandIn, asset: str) -> None:
    with NatsServer(configuration="max_payload: 150000\nmax_pending: 200000\nwrite_deadline: '1s'") as server:
        router.nats_url = server.url
        heard = hearing()
        heard.listen(asset)
        heard.may_go_on.clear()
        for _ in range(30):
            say(server.url, *((f"{asset}.x", b"x" * 100_000) for _ in range(20)))
        heard.may_go_on.set()
        eventually(lambda: heard.cuts)
        eventually(lambda: heard.feed.is_live(asset))


# The end.


def test_a_feed_that_was_never_used_has_no_thread(hearing: Callable[..., Hearing]) -> None:
    heard = hearing()
    assert not [one for one in threading.enumerate() if one.name == "openfactory-loop-nats"]
    assert heard.feed.trouble() == ""
    heard.feed.unsubscribe("MILL")
    heard.close()
    heard.close()


def test_a_closed_feed_is_closed(
    hearing: Callable[..., Hearing], router: RouterStandIn, own_nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    heard.listen(asset)
    heard.feed.close()
    heard.feed.close()
    heard.feed.unsubscribe(asset)
    assert not heard.feed.is_live(asset)
    with pytest.raises(EngineClosedError, match="is closed"):
        heard.feed.subscribe(asset)
    eventually(lambda: own_nats_server.connections() == 0)
    assert heard.cuts == []  # a close is no cut


@pytest.mark.parametrize("state", ["killed", "suspended", "router down", "router silent"])
def test_closing_while_something_is_away_is_quick(
    hearing: Callable[..., Hearing], router: RouterStandIn, own_nats_server: NatsServer, asset: str, state: str
) -> None:
    router.nats_url = own_nats_server.url
    heard = hearing()
    if state.startswith("router"):
        router.silent = True
        if state == "router down":
            router.stop()
        heard.feed.subscribe(asset)
    else:
        heard.listen(asset)
        {"killed": own_nats_server.kill, "suspended": own_nats_server.suspend}[state]()
        eventually(lambda: state == "suspended" or "is away" in heard.feed.trouble())
    began = time.monotonic()
    heard.feed.close()
    assert time.monotonic() - began < 30
    assert not [one for one in threading.enumerate() if one.name == "openfactory-loop-nats"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork. Run it on Linux")
def test_a_fork_leaves_the_parent_as_it_was(
    hearing: Callable[..., Hearing], router: RouterStandIn, nats_server: NatsServer, asset: str
) -> None:
    router.nats_url = nats_server.url
    heard = hearing()
    heard.listen(asset)
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(EngineClosedError):
                heard.feed.subscribe("CHILD")
            assert not heard.feed.is_live(asset)
            heard.feed.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    say(nats_server.url, (f"{asset}.x", b"1"))
    eventually(lambda: heard.messages)
    assert heard.feed.is_live(asset)
    assert heard.cuts == []
