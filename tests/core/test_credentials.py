"""Credentials: what the environment says, in the words of each client library, and never in a text."""

from __future__ import annotations

import pickle
import ssl
import subprocess
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, strategies

from openfactory.exceptions import ConfigurationError, MissingDistributionError
from openfactory.settings import VARIABLES
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

PLAIN = {
    "kafka_security_protocol": "SASL_PLAINTEXT",
    "kafka_sasl_mechanism": "PLAIN",
    "kafka_sasl_username": "app",
    "kafka_sasl_password": "topsecret",
}
OAUTH = {
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "OAUTHBEARER",
    "kafka_oauth_token_url": "https://login/token",
    "kafka_oauth_client_id": "app",
    "kafka_oauth_client_secret": "topsecret",
}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key, in `cert.pem` and `key.pem` of this folder."""
    folder = tmp_path_factory.mktemp("pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=plant -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def set_environment(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), value)


# What is said to whom.


def test_nothing_said_is_nothing_asked_for() -> None:
    for nothing in (Credentials(), Credentials.from_environment()):
        assert nothing.kafka() == nothing.ksqldb() == nothing.nats() == {}
        assert nothing == Credentials()
        assert repr(nothing) == "Credentials()"


def test_every_field_is_a_variable_and_every_secret_may_be_in_a_file() -> None:
    for field in fields(Credentials):
        assert field.name.upper() in VARIABLES
        assert (f"{field.name.upper()}_FILE" in VARIABLES) is not field.repr
    assert {field.name for field in fields(Credentials) if not field.repr} == {
        name for name in (one.name for one in fields(Credentials)) if name.endswith(("password", "secret", "token"))
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_kafka_by_password(monkeypatch: pytest.MonkeyPatch, mechanism: str) -> None:
    set_environment(monkeypatch, PLAIN | {"kafka_sasl_mechanism": mechanism})
    assert Credentials.from_environment().kafka() == {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "sasl.username": "app",
        "sasl.password": "topsecret",
    }


def test_kafka_by_token(monkeypatch: pytest.MonkeyPatch, pem: Path) -> None:
    ca_file = str(pem / "cert.pem")
    set_environment(monkeypatch, OAUTH | {"kafka_oauth_scope": "plant", "kafka_oauth_ca_file": ca_file})
    assert Credentials.from_environment().kafka() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://login/token",
        "sasl.oauthbearer.client.id": "app",
        "sasl.oauthbearer.client.secret": "topsecret",
        "sasl.oauthbearer.scope": "plant",
        "https.ca.location": ca_file,
    }


def test_kafka_by_certificate(monkeypatch: pytest.MonkeyPatch, pem: Path) -> None:
    cert, key = str(pem / "cert.pem"), str(pem / "key.pem")
    files = {"kafka_ssl_ca_file": cert, "kafka_ssl_cert_file": cert, "kafka_ssl_key_file": key}
    set_environment(monkeypatch, files | {"kafka_security_protocol": "SSL", "kafka_ssl_key_password": "topsecret"})
    assert Credentials.from_environment().kafka() == {
        "security.protocol": "SSL",
        "ssl.ca.location": cert,
        "ssl.certificate.location": cert,
        "ssl.key.location": key,
        "ssl.key.password": "topsecret",
    }


def test_librdkafka_knows_all_of_these_properties(pem: Path) -> None:
    kafka = pytest.importorskip("confluent_kafka", reason="pip install confluent-kafka")
    ca_file = str(pem / "cert.pem")
    settings: tuple[dict[str, str], ...] = (
        PLAIN,
        OAUTH | {"kafka_oauth_scope": "plant", "kafka_oauth_ca_file": ca_file, "kafka_ssl_ca_file": ca_file},
        {"kafka_security_protocol": "SSL", "kafka_ssl_cert_file": ca_file, "kafka_ssl_key_file": f"{pem}/key.pem"},
    )
    for one in settings:
        kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, **Credentials(**one).kafka()})


def test_ksqldb(monkeypatch: pytest.MonkeyPatch, pem: Path) -> None:
    set_environment(
        monkeypatch,
        {"ksqldb_username": "app", "ksqldb_password": "topsecret", "ksqldb_ssl_ca_file": str(pem / "cert.pem")},
    )
    said = Credentials.from_environment().ksqldb()
    assert said["auth"] == ("app", "topsecret")
    assert isinstance(said["verify"], ssl.SSLContext)
    assert [ca["subject"] for ca in said["verify"].get_ca_certs()] == [((("commonName", "plant"),),)]
    assert said.keys() == {"auth", "verify"}


def test_nats_by_password_token_and_certificate(monkeypatch: pytest.MonkeyPatch, pem: Path) -> None:
    assert Credentials(nats_username="app", nats_password="topsecret").nats() == {
        "user": "app",
        "password": "topsecret",
    }
    assert Credentials(nats_token="topsecret").nats() == {"token": "topsecret"}
    cert, key = str(pem / "cert.pem"), str(pem / "key.pem")
    set_environment(
        monkeypatch, {"nats_ssl_ca_file": cert, "nats_ssl_cert_file": cert, "nats_ssl_key_file": key, "nats_token": "t"}
    )
    said = Credentials.from_environment().nats()
    assert isinstance(said["tls"], ssl.SSLContext)
    assert said.keys() == {"tls", "token"}


@pytest.mark.parametrize(
    ("field", "argument"), [("nats_credentials_file", "user_credentials"), ("nats_nkey_seed_file", "nkeys_seed")]
)
def test_nats_by_seed(tmp_path: Path, field: str, argument: str) -> None:
    path = tmp_path / "seed"
    path.write_text("SU…", encoding="utf-8")
    credentials = Credentials(**{field: str(path)})
    try:
        import nkeys  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        remedy = r'need the library nkeys\. Install it: pip install "openfactory-core\[nkeys\]"\.'
        with pytest.raises(MissingDistributionError, match=remedy):
            credentials.nats()
    else:
        assert credentials.nats() == {argument: str(path)}


# What is refused.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kafka_security_protocol": "TLS"}, "KAFKA_SECURITY_PROTOCOL='TLS' is not a known value. Write PLAINTEXT, "),
        ({"kafka_security_protocol": "SASL_SSL"}, "needs KAFKA_SASL_MECHANISM. Set KAFKA_SASL_MECHANISM, or unset KAF"),
        (PLAIN | {"kafka_sasl_mechanism": "GSSAPI"}, "KAFKA_SASL_MECHANISM='GSSAPI' is not a known value. Write PLA"),
        (PLAIN | {"kafka_security_protocol": "SSL"}, "KAFKA_SASL_MECHANISM is set, but KAFKA_SECURITY_PROTOCOL is ne"),
        ({"kafka_sasl_username": "app"}, "KAFKA_SASL_USERNAME is set, but KAFKA_SECURITY_PROTOCOL is neither SASL_SSL"),
        ({"kafka_oauth_scope": "x"}, "KAFKA_OAUTH_SCOPE is set, but KAFKA_SECURITY_PROTOCOL is neither"),
        (PLAIN | {"kafka_sasl_password": ""}, "KAFKA_SASL_MECHANISM is PLAIN, which needs KAFKA_SASL_PASSWORD. Set KA"),
        (PLAIN | {"kafka_oauth_client_id": "x"}, "KAFKA_OAUTH_CLIENT_ID is set, but KAFKA_SASL_MECHANISM is PLAIN."),
        (OAUTH | {"kafka_oauth_client_secret": ""}, "OAUTHBEARER, which needs KAFKA_OAUTH_CLIENT_SECRET. Set KAFKA_"),
        (OAUTH | {"kafka_sasl_username": "x"}, "KAFKA_SASL_USERNAME is set, but KAFKA_SASL_MECHANISM is OAUTHBEARER."),
        (OAUTH | {"kafka_oauth_token_url": "login"}, "KAFKA_OAUTH_TOKEN_URL='login' is not an http(s) URL. Write http"),
        ({"kafka_ssl_ca_file": __file__}, "KAFKA_SSL_CA_FILE is set, but KAFKA_SECURITY_PROTOCOL is neither SSL nor"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_ca_file": "/no/such"}, "KAFKA_SSL_CA_FILE='/no/such'"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_key_file": __file__}, "which needs KAFKA_SSL_CERT_FILE. Set"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_key_password": "x"}, "which needs KAFKA_SSL_KEY_FILE. Set"),
        ({"ksqldb_username": "app"}, "KSQLDB_USERNAME is set, which needs KSQLDB_PASSWORD. Set KSQLDB_PASSWORD, or u"),
        ({"ksqldb_password": "x"}, "KSQLDB_PASSWORD is set, which needs KSQLDB_USERNAME. Set KSQLDB_USERNAME, or uns"),
        ({"nats_password": "x"}, "NATS_PASSWORD is set, which needs NATS_USERNAME. Set NATS_USERNAME, or unset NATS_P"),
        ({"nats_ssl_cert_file": __file__}, "NATS_SSL_CERT_FILE is set, which needs NATS_SSL_KEY_FILE. Set NATS_SS"),
        ({"nats_credentials_file": "/no/such"}, "NATS_CREDENTIALS_FILE='/no/such' is not a file"),
        ({"nats_nkey_seed_file": "/"}, "NATS_NKEY_SEED_FILE='/' is not a file that can be read. Correct the path."),
        (
            {"nats_username": "app", "nats_password": "x", "nats_token": "x"},
            "NATS_USERNAME and NATS_TOKEN are set, but NATS takes only one login. Keep one of them.",
        ),
    ],
)
def test_what_does_not_go_together(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], text: str) -> None:
    set_environment(monkeypatch, settings)
    with pytest.raises(ConfigurationError) as by_environment:
        Credentials.from_environment()
    with pytest.raises(ConfigurationError) as by_arguments:
        Credentials(**settings)
    assert text in str(by_arguments.value)
    assert str(by_environment.value) == str(by_arguments.value)
    assert "topsecret" not in str(by_arguments.value)


@pytest.mark.parametrize("name", ["ksqldb_ssl_ca_file", "nats_ssl_ca_file"])
def test_authorities_that_are_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate", encoding="utf-8")
    credentials = Credentials(**{name: str(path)})
    use = credentials.ksqldb if name.startswith("ksqldb") else credentials.nats
    with pytest.raises(ConfigurationError, match=rf"of {name.upper()} cannot be used for TLS .* Use PEM") as caught:
        use()
    assert caught.value.__cause__ is not None


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(pem: Path) -> None:
    command = "openssl rsa -aes256 -passout pass:topsecret -in key.pem -out locked.pem"
    subprocess.run(command.split(), cwd=pem, check=True, capture_output=True)
    credentials = Credentials(nats_ssl_cert_file=str(pem / "cert.pem"), nats_ssl_key_file=str(pem / "locked.pem"))
    with pytest.raises(ConfigurationError, match="with an unencrypted key"):
        credentials.nats()


# Secrets.


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(f" top sécret {ending}".encode())
    set_environment(monkeypatch, {"nats_username": "app", "nats_password_file": str(path)})
    assert Credentials.from_environment().nats() == {"user": "app", "password": " top sécret "}


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "cannot be read"), (b"\xff", "cannot be read"), (b"\n", "is empty. Write the secret")],
)
def test_a_file_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, text: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("NATS_TOKEN_FILE", str(path))
    with pytest.raises(ConfigurationError, match=f"NATS_TOKEN_FILE='.*secret' {text}"):
        Credentials.from_environment()


def test_a_secret_that_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"nats_token": "topsecret", "nats_token_file": __file__})
    with pytest.raises(ConfigurationError, match=r"NATS_TOKEN_FILE are both set\. Unset one of them\.") as caught:
        Credentials.from_environment()
    assert "topsecret" not in str(caught.value)


def test_no_text_shows_a_secret() -> None:
    said = Credentials(**PLAIN, ksqldb_username="app", ksqldb_password="topsecret", nats_token="topsecret")
    for text in (repr(said), str(said), f"{said}", f"{[said]}"):
        assert "topsecret" not in text
        assert "kafka_sasl_username='app', kafka_sasl_password=***" in text


def test_they_are_values() -> None:
    said = Credentials(**PLAIN)
    assert said == Credentials(**PLAIN)
    assert hash(said) == hash(Credentials(**PLAIN))
    assert said != Credentials(**PLAIN | {"kafka_sasl_password": "other"})
    assert pickle.loads(pickle.dumps(said)) == said
    with pytest.raises(AttributeError):
        said.nats_token = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Credentials("SSL")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://plant:4222", "nats://plant:4222"),
        ("nats://app:secret@plant:4222/x?y=1#z", "nats://plant:4222/x?y=1#z"),
        ("nats://secret@plant", "nats://plant"),
        ("nats://a:secret@one:1,nats://b:secret@two:2", "nats://one:1,nats://two:2"),
        ("nats://app:sec/ret@plant:4222", "nats://plant:4222"),
        ("nats://app:se?c#r@et@plant:4222", "nats://plant:4222"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://plant:80/a@b", "http://plant:80/a@b"),
        ("sqlite:////srv/me@plant/factory.db", "sqlite:////srv/me@plant/factory.db"),
        ("sqlite://secret@/factory.db", "sqlite:///factory.db"),
        ("kafka://plant?prefix=x_&password=secret", "kafka://plant?prefix=x_&password=***"),
        ("kafka://plant?sasl.password=se#cr;et&prefix=x_", "kafka://plant?sasl.password=***&prefix=x_"),
        ("http://plant?pass%77ord=secret&y=1", "http://plant?pass%77ord=***&y=1"),
        ("http://plant?Api-Key=secret&X-Amz-Signature=secret", "http://plant?Api-Key=***&X-Amz-Signature=***"),
        ("s3://plant?aws_access_key_id=secret&token=secret", "s3://plant?aws_access_key_id=***&token=***"),
        ("jdbc:sqlserver://plant;database=x;password=secret", "jdbc:sqlserver://plant;database=x;password=***"),
        ("no answer from http://plant?pwd=secret, nor", "no answer from http://plant?pwd=*** nor"),
        ("sqlite:///f.db?keep_days=1&synchronous=full", "sqlite:///f.db?keep_days=1&synchronous=full"),
        ("no answer from http://app:secret@plant, nor from x@y", "no answer from http://plant, nor from x@y"),
        ("", ""),
    ],
)
def test_redacted(text: str, shown: str) -> None:
    assert redacted(text) == shown


_PART = strategies.text(strategies.characters(codec="ascii", exclude_characters="\r\n \t"), min_size=1, max_size=12)


@given(_PART, _PART)
def test_a_quoted_password_is_never_shown(user: str, password: str) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    assert redacted(f"nats://{login}@plant:4222/x") == "nats://plant:4222/x"


@given(_PART, strategies.sampled_from(["password", "sasl.password", "token", "client_secret", "accessKey"]))
def test_a_secret_in_a_query_is_never_shown(password: str, name: str) -> None:
    secret = quote(password, safe="")
    assert redacted(f"kafka://plant?{name}={secret}&prefix=x_") == f"kafka://plant?{name}=***&prefix=x_"
