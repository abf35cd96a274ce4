"""The servers of the tests: they answer, die, come back with their data, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from distributions import ROOT
from openfactory.testing import eventually
from servers import (
    KafkaBroker,
    NatsServer,
    NotOnThisMachineError,
    Proxy,
    Server,
    ServerFailedError,
    Toxiproxy,
    is_running,
    make_certificates,
    nats_cluster,
)
from servers.fetching import fetched, program
from servers.ports import answers, free_port

pytestmark = pytest.mark.thorough  # the tests that use the servers show most of it

QUIET: dict[str, Any] = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}


def produce(bootstrap_servers: str, topic: str, *values: bytes, **settings: Any) -> None:
    """Write, and come back when the broker has said yes to all."""
    from confluent_kafka import Producer

    producer = Producer({**QUIET, "bootstrap.servers": bootstrap_servers, **settings})
    failed: list[object] = []

    def delivered(error: object, message: object) -> None:
        if error is not None:
            failed.append(error)

    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    left = producer.flush(30)
    assert (left, failed) == (0, [])


def consumed(bootstrap_servers: str, topic: str, count: int, **settings: Any) -> list[bytes | None]:
    """The first so many values of partition 0."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({**QUIET, "bootstrap.servers": bootstrap_servers, "group.id": "unused", **settings})
    values: list[bytes | None] = []
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + 30
        while len(values) < count and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                values.append(message.value())
    finally:
        consumer.close()
    return values


def create_topic(bootstrap_servers: str, topic: str) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({**QUIET, "bootstrap.servers": bootstrap_servers})
    for made in admin.create_topics([NewTopic(topic, num_partitions=1)]).values():
        made.result(30)


class NatsConnection:
    """As much of the NATS protocol as these tests need, without a client that helps itself."""

    def __init__(self, address: str, *, context: ssl.SSLContext | None = None, **said: str) -> None:
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=5)
        self.info = json.loads(self._line_of(plain).removeprefix(b"INFO "))
        self.socket = plain if context is None else context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.send("CONNECT " + json.dumps({"verbose": False, **said}))

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\r\n")

    def line(self) -> str:
        """The next line; empty when the server has ended the connection."""
        return self._line_of(self.socket).decode().rstrip()

    def ping(self) -> str:
        self.send("PING")
        return self.line()

    def close(self) -> None:
        self.socket.close()

    @staticmethod
    def _line_of(connection: socket.socket) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            piece = connection.recv(1)
            if not piece:
                break
            line += piece
        return line


@contextmanager
def nats_connection(address: str, **keywords: Any) -> Iterator[NatsConnection]:
    connection = NatsConnection(address.removeprefix("nats://"), **keywords)
    try:
        yield connection
    finally:
        connection.close()


# --- Kafka ----------------------------------------------------------------------------------------


def test_a_broker_keeps_its_address_and_its_data(own_kafka_broker: KafkaBroker) -> None:
    broker = own_kafka_broker
    address, first_pid = broker.bootstrap_servers, broker.pid
    create_topic(address, "kept")
    produce(address, "kept", b"before the kill")
    broker.kill()
    assert not answers(broker.port)
    assert not is_running(first_pid)
    broker.start()
    assert broker.bootstrap_servers == address
    produce(address, "kept", b"before the stop")
    broker.stop()
    broker.start()
    assert consumed(address, "kept", 2) == [b"before the kill", b"before the stop"]


def test_a_topic_is_made_by_a_message_only_where_that_was_asked_for(kafka_broker: KafkaBroker) -> None:
    from confluent_kafka.admin import AdminClient

    metadata = AdminClient({**QUIET, "bootstrap.servers": kafka_broker.bootstrap_servers}).list_topics("nosuch", 10)
    assert "UNKNOWN_TOPIC" in str(metadata.topics["nosuch"].error)
    with KafkaBroker(auto_create_topics=True) as other:
        produce(other.bootstrap_servers, "new", b"1")
        assert consumed(other.bootstrap_servers, "new", 1) == [b"1"]


def test_a_topic_prefix_is_nobody_elses(kafka_url: str, topic_prefix: str, kafka_broker: KafkaBroker) -> None:
    assert kafka_url == f"kafka://{kafka_broker.bootstrap_servers}?prefix={topic_prefix}"
    create_topic(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets")


def test_a_given_folder_is_kept_and_taken_up_again(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "kafka") as broker:
        create_topic(broker.bootstrap_servers, "kept")
        produce(broker.bootstrap_servers, "kept", b"1")
    with KafkaBroker(tmp_path / "kafka") as broker:
        assert consumed(broker.bootstrap_servers, "kept", 1) == [b"1"]


def login(broker: KafkaBroker, mechanism: str, **other: Any) -> dict[str, Any]:
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(broker.certificates.ca_file),
        "sasl.mechanism": mechanism,
        "sasl.username": broker.username,
        "sasl.password": broker.password,
        **other,
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_secured_listener_lets_its_user_in(kafka_broker: KafkaBroker, topic_prefix: str, mechanism: str) -> None:
    settings, address = login(kafka_broker, mechanism), kafka_broker.address("sasl_ssl")
    create_topic(kafka_broker.bootstrap_servers, f"{topic_prefix}{mechanism}")
    produce(address, f"{topic_prefix}{mechanism}", b"1", **settings)
    assert consumed(address, f"{topic_prefix}{mechanism}", 1, **settings) == [b"1"]


def test_a_secured_listener_lets_nobody_else_in(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "no login": {},
        "password": login(kafka_broker, "PLAIN", **{"sasl.password": "guessed"}),
        "scram": login(kafka_broker, "SCRAM-SHA-256", **{"sasl.password": "guessed"}),
        "authority": login(
            kafka_broker, "PLAIN", **{"ssl.ca.location": str(make_certificates(tmp_path / "other").ca_file)}
        ),
    }
    said = {what: let_in(kafka_broker.address("sasl_ssl"), **settings) for what, settings in wrong.items()}
    assert said.pop("authority") in ("_SSL", "no connection")
    assert said == {"no login": "no connection", "password": "_AUTHENTICATION", "scram": "_AUTHENTICATION"}
    assert let_in(kafka_broker.address("sasl_ssl"), **login(kafka_broker, "PLAIN")) == "yes"


def test_a_listener_that_asks_for_a_certificate(kafka_broker: KafkaBroker) -> None:
    made = kafka_broker.certificates
    without = {"security.protocol": "SSL", "ssl.ca.location": str(made.ca_file)}
    shown = {"ssl.certificate.location": str(made.certificate_file), "ssl.key.location": str(made.key_file)}
    assert let_in(kafka_broker.address("mutual"), **without, **shown) == "yes"
    assert let_in(kafka_broker.address("mutual"), **without) in ("_SSL", "no connection")
    assert let_in(kafka_broker.address("ssl"), **without) == "yes"


def test_a_listener_that_asks_for_a_password_alone(kafka_broker: KafkaBroker) -> None:
    said = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": kafka_broker.username,
        "sasl.password": kafka_broker.password,
    }
    assert let_in(kafka_broker.address("sasl_plaintext"), **said) == "yes"
    assert let_in(kafka_broker.address("sasl_plaintext")) == "no connection"


def test_a_secured_listener_takes_tokens(kafka_broker: KafkaBroker) -> None:
    from base64 import urlsafe_b64encode

    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": kafka_broker.username, "iat": now, "exp": now + 600})
    header, claims = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)

    def token(_: str) -> tuple[str, float]:
        return f"{header}.{claims}.", now + 600.0

    settings: dict[str, Any] = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(kafka_broker.certificates.ca_file),
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": token,
    }
    assert let_in(kafka_broker.address("sasl_ssl"), **settings) == "yes"


def let_in(address: str, **settings: Any) -> str:
    """What becomes of a client with these settings: `yes`, or the name of the first error that it meets."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    errors: list[KafkaError] = []
    configuration: dict[str, Any] = {**QUIET, "bootstrap.servers": address, "error_cb": errors.append}
    admin = AdminClient(configuration | settings)
    deadline = time.monotonic() + 20
    while not errors and time.monotonic() < deadline:
        admin.poll(0)
        try:
            return "yes" if admin.list_topics(timeout=0.3).brokers else "no broker"
        except KafkaException:
            continue
    name = errors[0].name() if errors else "no answer"
    # Of these two it is chance which is said first, or at all.
    return "no connection" if name in ("_TRANSPORT", "_ALL_BROKERS_DOWN") else name


# --- NATS -----------------------------------------------------------------------------------------


def test_a_nats_server_keeps_its_address(own_nats_server: NatsServer) -> None:
    server = own_nats_server
    for end in (server.kill, server.stop):
        with nats_connection(server.url) as connection:
            assert connection.ping() == "PONG"
            assert server.connections() == 1
            end()
            assert connection.line() in ("", "-ERR 'Server Shutdown'")
        assert not answers(server.port)
        server.start()
    with nats_connection(server.url) as connection:
        assert connection.ping() == "PONG"


def test_a_suspended_server_keeps_silent_until_it_is_resumed(own_nats_server: NatsServer) -> None:
    with nats_connection(own_nats_server.url) as connection:
        own_nats_server.suspend()
        connection.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.ping()
        own_nats_server.resume()
        connection.socket.settimeout(10)
        assert connection.line() == "PONG"
        own_nats_server.suspend()
        own_nats_server.stop()  # also from there


@pytest.mark.parametrize("said", [{"username": "ofa", "password": "secret"}, {"token": "secret"}], ids="-".join)
def test_a_nats_server_that_asks_who_it_is(nats_server: NatsServer, said: dict[str, str]) -> None:
    with NatsServer(**said) as server:  # type: ignore[arg-type]  # texts only
        words = {"username": "user", "password": "pass", "token": "auth_token"}
        right = {words[name]: text for name, text in said.items()}
        with nats_connection(server.url, **right) as connection:
            assert connection.ping() == "PONG"
        with nats_connection(server.url) as connection:
            assert connection.ping() == "-ERR 'Authorization Violation'"


def test_a_nats_server_with_tls(nats_server: NatsServer) -> None:
    with NatsServer(tls=True) as server:
        context = ssl.create_default_context(cafile=str(server.certificates.ca_file))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as later versions of Python do
        with nats_connection(server.url, context=context) as connection:
            assert connection.info["tls_required"] is True
            assert connection.ping() == "PONG"


def test_the_servers_of_a_cluster_pass_messages_on(nats_server: NatsServer) -> None:
    with nats_cluster(2) as (one, other), nats_connection(one.url) as reader, nats_connection(other.url) as writer:
        reader.send("SUB mill.* 1")
        assert reader.ping() == "PONG"
        eventually(lambda: other.subscriptions() > 0)  # the first server tells the second on its own time
        assert writer.ping() == "PONG"
        writer.send("PUB mill.speed 3\r\n900")
        assert [reader.line(), reader.line()] == ["MSG mill.speed 1 3", "900"]


# --- Toxiproxy ------------------------------------------------------------------------------------


@pytest.fixture
def proxy(toxiproxy: Toxiproxy, nats_server: NatsServer) -> Iterator[Proxy]:
    with toxiproxy.proxy(f"127.0.0.1:{nats_server.port}") as made:
        yield made


def test_a_cut_ends_connections_until_it_is_restored(proxy: Proxy) -> None:
    with nats_connection(proxy.address) as connection:
        assert connection.ping() == "PONG"
        proxy.cut()
        assert connection.line() == ""
    with pytest.raises(ConnectionRefusedError):
        NatsConnection(proxy.address)
    proxy.restore()
    with nats_connection(proxy.address) as connection:
        assert connection.ping() == "PONG"


def test_a_silenced_connection_stays_open_and_says_nothing(proxy: Proxy) -> None:
    with nats_connection(proxy.address) as connection:
        assert connection.ping() == "PONG"
        proxy.silence()
        connection.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.ping()
        proxy.restore()
    with nats_connection(proxy.address) as connection:
        assert connection.ping() == "PONG"


def test_a_slowed_connection_takes_its_time(proxy: Proxy) -> None:
    with nats_connection(proxy.address) as connection:
        assert connection.ping() == "PONG"
        proxy.slow(0.2)
        begin = time.monotonic()
        assert connection.ping() == "PONG"
        assert time.monotonic() - begin >= 0.4
        proxy.restore()


def test_a_broker_behind_a_proxy(kafka_broker: KafkaBroker, toxiproxy: Toxiproxy) -> None:
    port = free_port()
    with (
        toxiproxy.proxy(f"127.0.0.1:{port}") as proxy,
        KafkaBroker(port=port, advertised=proxy.address, auto_create_topics=True) as broker,
    ):
        assert broker.bootstrap_servers == proxy.address
        produce(broker.bootstrap_servers, "cut", b"1")
        proxy.cut()
        assert let_in(broker.bootstrap_servers) == "no connection"
        proxy.restore()
        assert consumed(broker.bootstrap_servers, "cut", 1) == [b"1"]


# --- Ends -----------------------------------------------------------------------------------------

KINDS: list[Callable[[], Server]] = [KafkaBroker, NatsServer, Toxiproxy]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_after_close(
    kafka_broker: KafkaBroker, nats_server: NatsServer, toxiproxy: Toxiproxy, kind: Callable[[], Any]
) -> None:
    with kind() as server:
        pid, port, folder = server.pid, server.port, server.folder
        assert is_running(pid)
        assert folder.is_dir()
    assert not is_running(pid)
    assert not answers(port)
    assert not folder.exists()
    server.close()  # twice is as good as once


@pytest.mark.parametrize("kind", ["KafkaBroker", "NatsServer", "Toxiproxy"])
@pytest.mark.parametrize(
    "signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: signal.Signals(s).name
)
def test_a_server_does_not_outlive_who_started_it(
    kafka_broker: KafkaBroker, nats_server: NatsServer, toxiproxy: Toxiproxy, tmp_path: Path, kind: str, signum: int
) -> None:
    program = tmp_path / "start.py"
    program.write_text(
        textwrap.dedent(f"""
            import signal, sys, threading
            sys.path.insert(0, {str(ROOT / "scripts")!r})
            from servers import {kind}

            server = {kind}(__import__("pathlib").Path({str(tmp_path)!r}, "data"))
            # From a thread that ends: it is the process that counts.
            thread = threading.Thread(target=server.start)
            thread.start()
            thread.join()
            print(server.pid, server.port, flush=True)
            signal.pause()
        """),
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, port = map(int, process.stdout.readline().split())
        assert is_running(pid)
        process.send_signal(signum)
    try:
        eventually(lambda: not is_running(pid))
        assert not answers(port)
    finally:
        if is_running(pid):  # a test that fails leaves nothing either
            os.kill(pid, signal.SIGKILL)


def test_ctrl_c_while_a_server_is_launched_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[int] = []

    def interrupted(*arguments: Any, **keywords: Any) -> subprocess.Popen[bytes]:
        process = popen(*arguments, **keywords)
        if not launched:  # else it is the guard
            launched.append(process.pid)
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)  # here the main thread handles the signal
        return process

    popen = subprocess.Popen
    monkeypatch.setattr("servers.server.subprocess.Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        NatsServer().start()
    [pid] = launched
    assert not is_running(pid)


@pytest.mark.parametrize("kind", [KafkaBroker, NatsServer])
def test_a_server_that_does_not_start_says_why(
    kafka_broker: KafkaBroker, nats_server: NatsServer, kind: type[Any]
) -> None:
    with closing(kind()) as server:
        with socket.create_server(("127.0.0.1", server.port)):
            with pytest.raises(ServerFailedError, match=r"(?s)ended with status 1\. .*(?i:address already in use)"):
                server.start()
            with pytest.raises(ServerFailedError, match="does not run"):
                _ = server.pid
        server.start()  # the port is free again
        assert is_running(server.pid)


def test_a_server_that_runs_is_not_started_twice(own_nats_server: NatsServer) -> None:
    pid = own_nats_server.pid
    with pytest.raises(ServerFailedError, match="runs already"):
        own_nats_server.start()
    assert own_nats_server.pid == pid


@pytest.mark.parametrize(
    ("which", "signum"), [("kafka", signal.SIGINT), ("nats", signal.SIGTERM)], ids=["kafka", "nats"]
)
def test_the_command_runs_a_server_in_the_foreground(
    kafka_broker: KafkaBroker, nats_server: NatsServer, which: str, signum: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "servers", which], cwd=ROOT / "scripts", stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        assert answers(port)
        process.send_signal(signum)
    assert process.returncode == 0
    assert not answers(port)


def test_the_command_says_what_it_knows() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "servers", "zookeeper"], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "Say which: python -m servers kafka, nats, nginx, traefik or fetch\n"


# --- Fetching -------------------------------------------------------------------------------------


def test_what_is_missing_is_said_with_the_remedy() -> None:
    with pytest.raises(NotOnThisMachineError) as caught:
        program("nosuch-server", "nosuch-package")
    assert str(caught.value) == "nosuch-server is not installed. Install it: apt-get install nosuch-package"


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_machine_without_the_server_skips_and_ci_fails(tmp_path: Path, ci: str, outcome: str) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    hidden = "\n\nimport shutil\n\nshutil.which = lambda *_, **__: None\n"
    (tmp_path / "conftest.py").write_text(conftest + hidden, encoding="utf-8")
    (tmp_path / "test_it.py").write_text("def test_it(nats_server): pass\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skipped_is_failed", "-ra", "-c", os.devnull, "--rootdir", ".", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CI": ci, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert "nats-server is not installed. Install it: apt-get install nats-server" in done.stdout


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT / "scripts")!r})
        from servers import fetching

        fetching.CACHE = Path({str(tmp_path / "cache")!r})

        def fetch(folder):
            folder.mkdir()
            (folder / "file").write_text("whole")
            with open({str(tmp_path / "times")!r}, "a") as times:
                times.write("once ")
            time.sleep(0.3)  # while the others come

        print((fetching.fetched("thing", fetch) / "file").read_text())
    """)
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=30)[0] for process in processes] == ["whole\n"] * 4
    assert (tmp_path / "times").read_text(encoding="utf-8") == "once "


def test_a_fetch_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("servers.fetching.CACHE", tmp_path)

    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise NotOnThisMachineError("no network")

    def fetch(folder: Path) -> None:
        assert not folder.exists()
        folder.mkdir()

    with pytest.raises(NotOnThisMachineError):
        fetched("thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]
    (tmp_path / "thing.partial").mkdir()  # of a process that was killed meanwhile
    assert list(fetched("thing", fetch).iterdir()) == []
