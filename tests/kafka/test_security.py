"""Logging in and TLS, tried on real servers: what works, what is said when it doesn't, and that no secret is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import nats
import nkeys  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from ksqldb_factory import KsqlDBFactory
from ksqldb_stand_in import _Handler
from needed import running
from oidc_stand_in import OidcStandIn
from openfactory.apps import OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.apps.cli.root import ofa
from openfactory.assets import Asset, AssetAttribute
from openfactory.engines import open_engine
from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.engines.kafka_engine.topics import TOPICS
from openfactory.exceptions import ConfigurationError, EngineClosedError, EngineUnavailableError
from openfactory.kafka import KSQLDBClient
from openfactory.settings.credentials import Credentials
from openfactory.testing import AppClient, eventually
from router_stand_in import RouterStandIn
from servers import KafkaBroker, NatsServer, make_certificates
from servers.fetching import program, run
from servers.kafka_broker import Security
from topic_deletion import delete_topics

# Within this time, in seconds, it is said what goes wrong.
SOON = 45.0

WRONG = "guessed-wrong"
KEY_PASSWORD = "key-password-of-the-tests"

#: Nothing of this may be seen anywhere.
SECRETS = (KafkaBroker.password, OidcStandIn.client_secret, WRONG, KEY_PASSWORD)

#: Environment variables and their values.
Settings = dict[str, str]


class Mill(OpenFactoryApp):
    """An app that is commanded, and says something."""

    speed = SampleAttribute(value=0, tag="Spindle.Speed")

    @ofa_method(description="Start the spindle")
    def start(self, speed: int = 900) -> str:
        self.speed = speed
        return f"milling at {speed} rpm"


class Plant:
    """The broker, and the token servers of these tests; each of those is started when it is first asked for."""

    def __init__(self, folder: Path, broker: KafkaBroker) -> None:
        self.folder = folder
        self.broker = broker
        self.prefix = f"t{uuid4().hex[:8]}"
        self._token_servers: dict[str, OidcStandIn] = {}
        self._running = ExitStack()

    def token_server(self, scheme: str) -> OidcStandIn:
        if scheme not in self._token_servers:
            certificates = self.broker.certificates if scheme == "https" else None
            self._token_servers[scheme] = self._running.enter_context(OidcStandIn(certificates))
        return self._token_servers[scheme]

    def encrypted_key(self) -> Path:
        """The key of the client, behind a password."""
        key = self.folder / "encrypted.pem"
        if not key.exists():
            plain = self.broker.certificates.key_file
            run(
                program("openssl", "openssl"),
                *("ec", "-aes256", "-passout", f"pass:{KEY_PASSWORD}"),
                "-in",
                plain,
                "-out",
                key,
            )
        return key

    def close(self) -> None:
        self._running.close()
        delete_topics(self.broker.bootstrap_servers, self.prefix)


class Way(NamedTuple):
    """A listener of the broker, and how to log in to it."""

    listener: Security
    settings: Callable[[Plant], Settings]


def tls(protocol: str = "SSL") -> Callable[[Plant], Settings]:
    return lambda plant: {
        "KAFKA_SECURITY_PROTOCOL": protocol,
        "KAFKA_SSL_CA_FILE": str(plant.broker.certificates.ca_file),
    }


def mutual(plant: Plant) -> Settings:
    made = plant.broker.certificates
    return {
        **tls()(plant),
        "KAFKA_SSL_CERT_FILE": str(made.certificate_file),
        "KAFKA_SSL_KEY_FILE": str(made.key_file),
    }


def mutual_by_encrypted_key(plant: Plant) -> Settings:
    return {
        **mutual(plant),
        "KAFKA_SSL_KEY_FILE": str(plant.encrypted_key()),
        "KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
    }


def password(mechanism: str, *, in_the_clear: bool = False) -> Callable[[Plant], Settings]:
    return lambda plant: {
        **({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"} if in_the_clear else tls("SASL_SSL")(plant)),
        "KAFKA_SASL_MECHANISM": mechanism,
        "KAFKA_SASL_USERNAME": KafkaBroker.username,
        "KAFKA_SASL_PASSWORD": KafkaBroker.password,
    }


def token(scheme: str) -> Callable[[Plant], Settings]:
    def settings(plant: Plant) -> Settings:
        server = plant.token_server(scheme)
        said = {
            **tls("SASL_SSL")(plant),
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA_OAUTH_TOKEN_URL": server.url,
            "KAFKA_OAUTH_CLIENT_ID": server.client_id,
            "KAFKA_OAUTH_CLIENT_SECRET": server.client_secret,
            "KAFKA_OAUTH_SCOPE": "kafka",
        }
        return said | ({"KAFKA_OAUTH_CA_FILE": said["KAFKA_SSL_CA_FILE"]} if scheme == "https" else {})

    return settings


def with_other(way: Callable[[Plant], Settings], **other: str | None) -> Callable[[Plant], Settings]:
    """The settings of a way with some others, or without some."""

    def settings(plant: Plant) -> Settings:
        return {name: value for name, value in {**way(plant), **other}.items() if value is not None}

    return settings


def with_files_of_others(way: Callable[[Plant], Settings], **parts: str) -> Callable[[Plant], Settings]:
    """The settings of a way with files of an authority that the broker does not know."""

    def settings(plant: Plant) -> Settings:
        strangers = make_certificates(plant.folder / "strangers")
        return {**way(plant), **{name: str(getattr(strangers, part)) for name, part in parts.items()}}

    return settings


WAYS = {
    "TLS": Way("ssl", tls()),
    "mutual TLS": Way("mutual", mutual),
    "mutual TLS, key with a password": Way("mutual", mutual_by_encrypted_key),
    "PLAIN in the clear": Way("sasl_plaintext", password("PLAIN", in_the_clear=True)),
    "PLAIN": Way("sasl_ssl", password("PLAIN")),
    "SCRAM-SHA-256": Way("sasl_ssl", password("SCRAM-SHA-256")),
    "SCRAM-SHA-512": Way("sasl_ssl", password("SCRAM-SHA-512")),
    "token by HTTP": Way("sasl_ssl", token("http")),
    "token by HTTPS": Way("sasl_ssl", token("https")),
}

#: What is wrong, and what is said of it: the cause, and what to set.
MISTAKES: dict[str, tuple[Way, str]] = {
    "password": (
        Way("sasl_ssl", with_other(password("SCRAM-SHA-512"), KAFKA_SASL_PASSWORD=WRONG)),
        r"it rejects the login \(.+\)\. Check .*KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    ),
    "password in the clear": (
        Way("sasl_plaintext", with_other(password("PLAIN", in_the_clear=True), KAFKA_SASL_PASSWORD=WRONG)),
        r"it rejects the login \(.+\)\. Check .*KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    ),
    "authority": (
        Way("sasl_ssl", with_files_of_others(password("PLAIN"), KAFKA_SSL_CA_FILE="ca_file")),
        r"TLS failed \(.+\)\. .*KAFKA_SSL_CA_FILE",
    ),
    "no authority": (
        Way("ssl", with_other(tls(), KAFKA_SSL_CA_FILE=None)),
        r"TLS failed \(.+\)\. .*KAFKA_SSL_CA_FILE",
    ),
    "no certificate": (
        Way("mutual", tls()),
        r"requires one \(.+\)\. Set KAFKA_SSL_CERT_FILE .+KAFKA_SSL_KEY_FILE",
    ),
    "certificate of others": (
        Way(
            "mutual",
            with_files_of_others(mutual, KAFKA_SSL_CERT_FILE="certificate_file", KAFKA_SSL_KEY_FILE="key_file"),
        ),
        r"rejects the client certificate, .+\. Set KAFKA_SSL_CERT_FILE .+KAFKA_SSL_KEY_FILE",
    ),
    "no TLS": (
        Way("sasl_ssl", password("PLAIN", in_the_clear=True)),
        r"uses the protocol in KAFKA_SECURITY_PROTOCOL",
    ),
    "TLS where there is none": (
        Way("sasl_plaintext", password("PLAIN")),
        r"it closes the connection \(.+\)\. .*KAFKA_SECURITY_PROTOCOL",
    ),
    "no login": (Way("sasl_plaintext", lambda plant: {}), r"KAFKA_SECURITY_PROTOCOL"),
    "secret of the client": (
        Way("sasl_ssl", with_other(token("http"), KAFKA_OAUTH_CLIENT_SECRET=WRONG)),
        r"no OAuth token could be obtained \(.+\)\. Check KAFKA_OAUTH_TOKEN_URL, .*KAFKA_OAUTH_CLIENT_SECRET",
    ),
    "authority of the token server": (
        Way("sasl_ssl", with_files_of_others(token("https"), KAFKA_OAUTH_CA_FILE="ca_file")),
        r"no OAuth token could be obtained \(.+\)\. .*KAFKA_OAUTH_CA_FILE",
    ),
}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, kafka_broker: KafkaBroker) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("plant"), kafka_broker)
    yield plant
    plant.close()


@pytest.fixture(autouse=True)
def everything_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def url_of(plant: Plant, way: Way) -> str:
    """A fresh place of data behind the listener of a way."""
    return f"kafka://{plant.broker.address(way.listener)}?prefix={plant.prefix}{uuid4().hex[:8]}_"


def as_credentials(settings: Mapping[str, str]) -> Credentials:
    return Credentials(**{name.lower(): value for name, value in settings.items()})


def assert_no_secret(*texts: object) -> None:
    for text in texts:
        assert [secret for secret in SECRETS if secret in str(text)] == []


def warnings_of_ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is warned of; without what librdkafka says, which goes nowhere but to pytest."""
    return [
        one.getMessage()
        for one in caplog.records
        if one.levelno >= logging.WARNING
        and one.name.startswith("openfactory")
        and one.name != "openfactory.kafka.librdkafka"
    ]


def all_said(error: BaseException | None) -> str:
    """The texts and the attributes of an error and of what caused it."""
    said = ""
    while error is not None:
        said += f"{error}\n{error!r}\n{vars(error)}\n"
        error = error.__cause__ or error.__context__
    return said


def it_works(client: KSQLDBClient | None) -> None:
    """An app is commanded, writes, reads its own values, and is watched; with no client, by the environment alone."""
    uuid = f"MILL-{uuid4().hex[:6]}"
    heard: list[Any] = []

    def on_speed(subject: str, message: Mapping[str, Any]) -> None:
        heard.append(message["VALUE"])

    with AppClient(lambda _, test_mode: Mill(client, app_uuid=uuid)) as mill, Asset(uuid, client) as asset:
        asset.subscribe_to_attribute("speed", on_speed)
        assert mill.call("start", speed=1200, timeout=20) == "milling at 1200 rpm"
        assert asset.wait_until("speed", 1200, timeout=60)
        eventually(lambda: 1200 in heard)
        assert [one.value for one in asset.history("speed")] == [0, 1200]


# What works


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_apps_log_in_by_the_environment(
    way: Way,
    plant: Plant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in way.settings(plant).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KSQLDB_URL", url_of(plant, way))
    it_works(None)
    assert_no_secret(caplog.text, *capsys.readouterr())


# Whatever the environment says becomes such an argument.
@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=() if name == "SCRAM-SHA-512" else pytest.mark.thorough) for name, way in WAYS.items()],
    ids=WAYS,
)
def test_apps_log_in_by_an_argument(
    way: Way, plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The argument says everything: what the environment says is for others.
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "somebody-else")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", WRONG)
    credentials = as_credentials(way.settings(plant))
    with KSQLDBClient(url_of(plant, way), credentials=credentials) as client:
        it_works(client)
        assert_no_secret(caplog.text, repr(credentials), repr(client), client.info(), client.engine.health())


@pytest.mark.parametrize("way", ["mutual TLS, key with a password", "SCRAM-SHA-512", "token by HTTP"])
def test_secrets_come_from_files(way: str, plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = {"KAFKA_SSL_KEY_PASSWORD", "KAFKA_SASL_PASSWORD", "KAFKA_OAUTH_CLIENT_SECRET"}
    settings = WAYS[way].settings(plant)
    assert len(secret & settings.keys()) == 1
    for name, value in settings.items():
        if name in secret:
            (tmp_path / name).write_text(f"{value}\n")  # as editors and `docker secret create` leave it
            monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
        else:
            monkeypatch.setenv(name, value)
    with open_engine(url_of(plant, WAYS[way])) as reference:
        assert reference.engine.health().connected


@pytest.mark.thorough  # waits for the end of a token's life
def test_a_token_is_renewed_before_it_expires(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    way = WAYS["token by HTTP"]
    server = plant.token_server("http")
    # Who logs in just before a token is renewed must log in again after a fifth of its time, and a broker refuses
    # that within a second. A fifth of this leaves time for a machine that is busy.
    server.lifetime = 20.0
    credentials = as_credentials(way.settings(plant))
    given_before, started = len(server.scopes), time.monotonic()
    try:
        with KSQLDBClient(url_of(plant, way), credentials=credentials) as client, Asset("MILL", client) as mill:
            first = len(server.scopes)
            assert first > given_before
            eventually(lambda: time.monotonic() > started + server.lifetime + 1, timeout=40)  # those are over now
            assert len(server.scopes) > first
            mill.add_attribute(AssetAttribute(id="speed", value=7, type="Samples", tag="Spindle.Speed"))
            mill.flush()
            assert client.engine.health().connected
            assert [one.value for one in client.engine.history("MILL", "speed")] == [7]
    finally:
        server.lifetime = 3600.0
    assert set(server.scopes) == {"kafka"}
    assert warnings_of_ours(caplog) == []


def test_setting_up_and_examining_a_locked_broker(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    way = WAYS["SCRAM-SHA-256"]
    for name, value in way.settings(plant).items():
        monkeypatch.setenv(name, value)
    url = url_of(plant, way)
    monkeypatch.setenv("KSQLDB_URL", url)
    set_up = CliRunner().invoke(ofa, ["setup-kafka"])
    assert set_up.exit_code == 0, set_up.output
    assert f"{len(TOPICS)} created, 0 unchanged" in set_up.output
    examined = CliRunner().invoke(ofa, ["doctor"])
    assert examined.exit_code == 0, examined.output
    assert f"{len(TOPICS)} exist" in examined.output
    with KSQLDBClient(url) as client, Asset("MILL", client) as mill:
        mill.add_attribute(AssetAttribute(id="speed", value=7, type="Samples", tag="Spindle.Speed"))
        mill.flush()
        shown = CliRunner().invoke(ofa, ["asset", "inspect", "MILL"])
        assert shown.exit_code == 0, shown.output
        assert "speed" in shown.output
    assert_no_secret(set_up.output, examined.output, shown.output, caplog.text)


# What does not


@pytest.mark.parametrize(("way", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained_soon_and_without_the_secret(
    way: Way, said: str, plant: Plant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings, url = way.settings(plant), url_of(plant, way)
    address = plant.broker.address(way.listener)
    client = KSQLDBClient(url, credentials=as_credentials(settings))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(lambda: client.engine)
        examined = CliRunner().invoke(ofa, ["doctor", "--url", url])
        error = opening.exception(SOON)
    assert time.monotonic() - started < SOON
    assert isinstance(error, EngineUnavailableError)
    assert error.address == address
    assert address in str(error)
    assert re.search(said, str(error)), str(error)
    warnings = warnings_of_ours(caplog)
    assert [line for line in warnings if not re.search(said, line)] == []
    assert len(warnings) == 1
    assert examined.exit_code == 1
    assert address in examined.output
    assert_no_secret(all_said(error), repr(client.credentials), repr(client), examined.output, caplog.text)


@pytest.mark.parametrize("command", [["asset", "ls"], ["setup-kafka"]], ids=" ".join)
def test_a_command_says_what_is_wrong_with_the_login(
    command: list[str], plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, said = MISTAKES["password"]
    for name, value in way.settings(plant).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KSQLDB_URL", url_of(plant, way))
    started = time.monotonic()
    ended = CliRunner().invoke(ofa, command)
    assert time.monotonic() - started < SOON
    assert ended.exit_code == 1
    assert re.search(said, ended.output), ended.output
    assert_no_secret(ended.output)


def test_a_token_that_has_expired(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    way = WAYS["token by HTTP"]
    plant.token_server("http").lifetime = -30.0
    started = time.monotonic()
    try:
        with (
            pytest.raises(EngineUnavailableError, match=r"token.*unexpired.*Check KAFKA_OAUTH_TOKEN_URL") as caught,
            KSQLDBClient(url_of(plant, way), credentials=as_credentials(way.settings(plant))) as client,
        ):
            client.engine.health()
    finally:
        plant.token_server("http").lifetime = 3600.0
    assert time.monotonic() - started < SOON
    assert_no_secret(all_said(caught.value), caplog.text)


@pytest.mark.parametrize(
    ("way", "other", "said"),
    [
        ("mutual TLS, key with a password", {"KAFKA_SSL_KEY_PASSWORD": WRONG}, "KAFKA_SSL_KEY_PASSWORD"),
        ("mutual TLS, key with a password", {"KAFKA_SSL_KEY_PASSWORD": None}, "KAFKA_SSL_KEY_PASSWORD"),
        ("TLS", {"KAFKA_SSL_CA_FILE": __file__}, "KAFKA_SSL_CA_FILE"),
    ],
    ids=["password of the key", "no password of the key", "no certificate in the file"],
)
def test_files_that_cannot_be_used_are_named_at_once(
    way: str, other: dict[str, str | None], said: str, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = as_credentials(with_other(WAYS[way].settings, **other)(plant))
    url = url_of(plant, WAYS[way])
    with pytest.raises(ConfigurationError, match=said) as caught, KSQLDBClient(url, credentials=credentials) as client:
        client.engine.health()
    assert plant.broker.address(WAYS[way].listener) in str(caught.value)
    assert_no_secret(all_said(caught.value), caplog.text)


def test_two_logins_to_one_place_are_refused(plant: Plant) -> None:
    way = WAYS["PLAIN"]
    url, ours = url_of(plant, way), way.settings(plant)
    with KSQLDBClient(url, credentials=as_credentials(ours)) as client:
        assert client.engine.health().connected
        theirs = as_credentials({**ours, "KAFKA_SASL_PASSWORD": WRONG})
        with (
            KSQLDBClient(url, credentials=theirs) as other,
            pytest.raises(
                ConfigurationError, match=r"already open in this process.*the same options and credentials"
            ) as caught,
        ):
            Asset("MILL", other)
        assert_no_secret(all_said(caught.value))
        with KSQLDBClient(url, credentials=as_credentials(ours)) as same:
            assert same.engine is client.engine


# NATS


def published(url: str, credentials: Credentials, subject: str) -> None:
    """Say something on NATS, and come back when the server has taken it."""

    async def publish() -> None:
        client = await nats.connect(url, **credentials.nats())
        await client.publish(subject, b"message")
        await client.flush()
        await client.close()

    asyncio.run(publish())


@contextmanager
def hearing(server: NatsServer, credentials: Credentials) -> Iterator[tuple[NatsFeed, list[str]]]:
    """A feed of what the server carries, and the attributes that it has told of."""
    heard: list[str] = []
    with RouterStandIn(server.url) as stand_in:
        router = AssetRouter(stand_in.url)
        feed = NatsFeed(
            router,
            on_message=lambda asset_uuid, attribute_id, payload, headers: heard.append(attribute_id),
            on_live=lambda assets: None,
            on_cut=lambda assets, good_at: None,
            credentials=credentials,
        )
        try:
            yield feed, heard
        finally:
            feed.close()
            router.close()


class Login(NamedTuple):
    """What a NATS server asks for, who may enter, and who may not."""

    server: NatsServer
    ours: dict[str, str]
    wrong: dict[str, str]


def by_password(folder: Path) -> Login:
    server = NatsServer(username="press", password=KafkaBroker.password)
    ours = {"nats_username": "press", "nats_password": KafkaBroker.password}
    return Login(server, ours, {**ours, "nats_password": WRONG})


def by_token(folder: Path) -> Login:
    server = NatsServer(token=KafkaBroker.password)
    return Login(server, {"nats_token": KafkaBroker.password}, {"nats_token": WRONG})


def by_key(folder: Path) -> Login:
    ours, wrong = new_key(nkeys.PREFIX_BYTE_USER), new_key(nkeys.PREFIX_BYTE_USER)
    server = NatsServer(configuration=f"authorization: {{users: [{{nkey: {public(ours)}}}]}}")
    return Login(
        server,
        {"nats_nkey_seed_file": written(folder / "ours.nk", seed(ours))},
        {"nats_nkey_seed_file": written(folder / "wrong.nk", seed(wrong))},
    )


def by_credentials_file(folder: Path) -> Login:
    """As `nsc` makes it: an operator vouches for an account, and that for its users."""
    operator, account = new_key(nkeys.PREFIX_BYTE_OPERATOR), new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    voucher = token_of(operator, public(operator), {"type": "operator", "version": 2})
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    told = token_of(
        operator, public(account), {"type": "account", "version": 2, "limits": {**limits, "wildcards": True}}
    )
    server = NatsServer(
        configuration=f"operator: {voucher}\nresolver: MEMORY\nresolver_preload: {{{public(account)}: {told}}}"
    )
    stranger = new_key(nkeys.PREFIX_BYTE_ACCOUNT)
    files = {
        name: written(folder / f"{name}.creds", credentials_file(issuer, public(account)))
        for name, issuer in (("ours", account), ("wrong", stranger))
    }
    return Login(server, {"nats_credentials_file": files["ours"]}, {"nats_credentials_file": files["wrong"]})


def in_tls(folder: Path) -> Login:
    server = NatsServer(tls=True)
    made, strangers = server.certificates, make_certificates(folder / "strangers")
    ours = {
        "nats_ssl_ca_file": str(made.ca_file),
        "nats_ssl_cert_file": str(made.certificate_file),
        "nats_ssl_key_file": str(made.key_file),
    }
    return Login(server, ours, {"nats_ssl_ca_file": str(strangers.ca_file)})


def new_key(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def public(key: nkeys.KeyPair) -> str:
    return bytes(key.public_key).decode()


def seed(key: nkeys.KeyPair) -> str:
    return bytes(key.seed).decode()


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def token_of(issuer: nkeys.KeyPair, subject: str, claims: dict[str, object]) -> str:
    """A JWT in which an issuer vouches for a subject."""
    said = {"jti": uuid4().hex, "iat": int(time.time()), "iss": public(issuer), "sub": subject, "name": "test"}
    parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, {**said, "nats": claims})
    signed = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{encoded(issuer.sign(signed.encode()))}"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def credentials_file(issuer: nkeys.KeyPair, account: str) -> str:
    user = new_key(nkeys.PREFIX_BYTE_USER)
    claims = {"type": "user", "version": 2, "issuer_account": account, "subs": -1, "data": -1, "payload": -1}
    jwt = token_of(issuer, public(user), claims)
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed(user)}\n------END USER NKEY SEED------\n"
    )


@pytest.mark.parametrize("login", [by_password, by_token, by_key, by_credentials_file, in_tls])
def test_logging_in_to_nats(login: Callable[[Path], Login], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server, ours, wrong = login(tmp_path)
    with running(server):
        with hearing(server, Credentials(**ours)) as (feed, heard):
            feed.subscribe("MILL")
            eventually(lambda: feed.is_live("MILL"))
            published(server.url, Credentials(**ours), "MILL.speed")
            eventually(lambda: heard == ["speed"])
            assert feed.trouble() == ""
        assert warnings_of_ours(caplog) == []

        with hearing(server, Credentials(**wrong)) as (feed, heard):
            feed.subscribe("MILL")
            eventually(lambda: "Set NATS_" in feed.trouble(), timeout=SOON)
            eventually(lambda: len(re.findall("(authentication|handshake) error", server.log)) > 1, timeout=SOON)
            assert not feed.is_live("MILL")
            assert f"NATS at {server.url} is away" in feed.trouble()
            assert feed.trouble().count("Set NATS_") == 1
        warnings = warnings_of_ours(caplog)
        assert len(warnings) == 1
        assert "Set NATS_" in warnings[0]
        seeds = [
            Path(path).read_text()
            for name, path in (*ours.items(), *wrong.items())
            if "ssl" not in name and "file" in name
        ]
        hidden = [line for text in seeds for line in text.split() if len(line) > 40]
        assert [one for one in hidden if one in caplog.text + feed.trouble()] == []
        assert_no_secret(caplog.text, feed.trouble(), repr(Credentials(**wrong)))


# ksqlDB, and all of it together


class Locked(_Handler):
    """Answers those who say who they are, as a ksqlDB with basic authentication does."""

    login = base64.b64encode(f"press:{KafkaBroker.password}".encode()).decode()

    def _serve(self) -> None:
        if self.headers.get("Authorization") == f"Basic {self.login}":
            super()._serve()
            return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send(401, {"@type": "generic_error", "error_code": 40100, "message": "Unauthorized"}, streamed=False)


KSQLDB_LOGIN = {"ksqldb_username": "press", "ksqldb_password": KafkaBroker.password}
NATS_LOGIN = {"nats_username": "press", "nats_password": KafkaBroker.password}


@pytest.fixture(scope="module")
def locked(kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    """A factory whose ksqlDB and NATS want to know who comes."""
    nats_server = NatsServer(username="press", password=KafkaBroker.password)
    with running(nats_server):
        of_the_forwarder = nats_server.url.replace("://", f"://press:{KafkaBroker.password}@")
        with KsqlDBFactory(kafka_broker.bootstrap_servers, of_the_forwarder) as factory:
            factory.router.nats_url = nats_server.url
            assert factory.ksqldb._server is not None
            factory.ksqldb._server.RequestHandlerClass = Locked
            yield factory


def client_of(factory: KsqlDBFactory, **credentials: str) -> KSQLDBClient:
    return KSQLDBClient(
        factory.url,
        max_retries=0,
        bootstrap_servers=factory.bootstrap_servers,
        asset_router_url=factory.router.url,
        credentials=Credentials(**credentials),
    )


def test_apps_log_in_to_a_whole_factory(locked: KsqlDBFactory, caplog: pytest.LogCaptureFixture) -> None:
    with client_of(locked, **KSQLDB_LOGIN, **NATS_LOGIN) as client:
        it_works(client)
        assert_no_secret(caplog.text, client.engine.health(), repr(client))
    assert warnings_of_ours(caplog) == []


def test_apps_log_in_to_a_whole_factory_by_the_environment(
    locked: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {**KSQLDB_LOGIN, **NATS_LOGIN}.items():
        monkeypatch.setenv(name.upper(), value)
    locked.entered(monkeypatch)
    it_works(None)
    assert_no_secret(caplog.text)


@pytest.mark.parametrize("login", [{}, {**KSQLDB_LOGIN, "ksqldb_password": WRONG}], ids=["nobody", "wrong password"])
def test_a_ksqldb_that_does_not_know_us(
    login: dict[str, str], locked: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()
    with client_of(locked, **login) as client:
        for ask in (client.tables, lambda: client.engine):
            with pytest.raises(EngineUnavailableError, match=r"KSQLDB_USERNAME and KSQLDB_PASSWORD") as caught:
                ask()
            assert locked.url in str(caught.value)
            assert_no_secret(all_said(caught.value))
    for name, value in login.items():
        monkeypatch.setenv(name.upper(), value)
    examined = CliRunner().invoke(ofa, ["doctor", "--url", locked.entered(monkeypatch)])
    assert time.monotonic() - started < SOON
    assert examined.exit_code == 1
    assert "KSQLDB_USERNAME" in examined.output
    assert_no_secret(examined.output, caplog.text)


def test_a_nats_that_does_not_know_us_costs_no_event(locked: KsqlDBFactory, caplog: pytest.LogCaptureFixture) -> None:
    wrong = {**KSQLDB_LOGIN, **NATS_LOGIN, "nats_password": WRONG}
    with client_of(locked, **wrong) as client, Asset("LATHE", client) as lathe:
        lathe.subscribe_to_messages(lambda subject, message: None)
        eventually(lambda: "NATS_USERNAME" in client.engine.health().reason, timeout=SOON)
        it_works(client)  # from the log
        assert_no_secret(client.engine.health())
    assert len([line for line in warnings_of_ours(caplog) if "NATS_USERNAME" in line]) == 1
    assert_no_secret(caplog.text)


def test_a_login_in_the_url_is_not_shown(
    locked: KsqlDBFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    locked.entered(monkeypatch)
    monkeypatch.delenv("ASSET_ROUTER_URL")
    url = locked.url.replace("://", f"://press:{KafkaBroker.password}@")
    monkeypatch.setenv("KSQLDB_URL", url)
    with KSQLDBClient(url) as client:
        engine = client.engine
        with AppClient(lambda _, test_mode: Mill(client, app_uuid="MILL")) as mill:
            mill.app.welcome_banner()
            other = KSQLDBClient(locked.url.replace("://", f"://press:{WRONG}@"))
            with other, pytest.raises(ConfigurationError, match="already open in this process") as refused:
                Asset("MILL", other)
        said = [CliRunner().invoke(ofa, ["asset", *words]).output for words in (["ls"], ["inspect", "NOBODY"])]
    assert "was not found in" in said[1]
    with pytest.raises(EngineClosedError) as closed:
        engine.tables()
    assert_no_secret(*said, *capsys.readouterr(), all_said(refused.value), all_said(closed.value), caplog.text)


def test_the_credentials_of_the_environment_may_be_passed_too(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    way = WAYS["PLAIN"]
    url = url_of(plant, way)
    for name, value in way.settings(plant).items():
        monkeypatch.setenv(name, value)
    with KSQLDBClient(url) as client, KSQLDBClient(url, credentials=Credentials.from_environment()) as other:
        assert client.engine is other.engine
