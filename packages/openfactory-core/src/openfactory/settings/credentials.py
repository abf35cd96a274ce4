"""Who we are to Kafka, ksqlDB and NATS, and how their servers prove who they are.

Each field is also an environment variable: `kafka_sasl_username` is `KAFKA_SASL_USERNAME`, and what must stay
secret may be in a file instead, which `KAFKA_SASL_PASSWORD_FILE` names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openfactory.exceptions import ConfigurationError, MissingDistributionError
from openfactory.settings import environment

if TYPE_CHECKING:
    import ssl

__all__ = ["Credentials", "redacted"]

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MECHANISMS = (*_PASSWORD_MECHANISMS, "OAUTHBEARER")

# What librdkafka calls the settings that go to it as they are.
_KAFKA_PROPERTIES = {
    "kafka_security_protocol": "security.protocol",
    "kafka_sasl_mechanism": "sasl.mechanism",
    "kafka_sasl_username": "sasl.username",
    "kafka_sasl_password": "sasl.password",
    "kafka_oauth_token_url": "sasl.oauthbearer.token.endpoint.url",
    "kafka_oauth_client_id": "sasl.oauthbearer.client.id",
    "kafka_oauth_client_secret": "sasl.oauthbearer.client.secret",
    "kafka_oauth_scope": "sasl.oauthbearer.scope",
    "kafka_oauth_ca_file": "https.ca.location",
    "kafka_ssl_ca_file": "ssl.ca.location",
    "kafka_ssl_cert_file": "ssl.certificate.location",
    "kafka_ssl_key_file": "ssl.key.location",
    "kafka_ssl_key_password": "ssl.key.password",
}

# Where Linux systems have the authorities that they trust, if not where librdkafka looks for those of a token server.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem")
_AUTHORITIES_OF_LIBRDKAFKA = "/etc/pki/tls/certs/ca-bundle.crt"

# The part of a URL before the @, also where a slash in the password hides that @ from those who read it as a URL.
_USERINFO = re.compile(r"://(?:[^/?#\s]*@|[^/?#\s:\[]*:(?!\d*(?:[/?#\s,]|$))\S*@)")


def _secret() -> Any:
    return field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, repr=False)
class Credentials:
    """All that the servers ask for; without any of it they are spoken to in the clear, by nobody in particular.

    >>> Credentials(kafka_security_protocol="SSL", nats_token="not to be seen")
    Credentials(kafka_security_protocol='SSL', nats_token=***)

    Raises:
        ConfigurationError: a value that nobody knows, a part without its other part, or a file that is not there.
    """

    kafka_security_protocol: str | None = None
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = _secret()
    kafka_oauth_token_url: str | None = None
    kafka_oauth_client_id: str | None = None
    kafka_oauth_client_secret: str | None = _secret()
    kafka_oauth_scope: str | None = None
    kafka_oauth_ca_file: str | None = None
    kafka_ssl_ca_file: str | None = None
    kafka_ssl_cert_file: str | None = None
    kafka_ssl_key_file: str | None = None
    kafka_ssl_key_password: str | None = _secret()
    ksqldb_username: str | None = None
    ksqldb_password: str | None = _secret()
    ksqldb_ssl_ca_file: str | None = None
    nats_credentials_file: str | None = None
    nats_nkey_seed_file: str | None = None
    nats_username: str | None = None
    nats_password: str | None = _secret()
    nats_token: str | None = _secret()
    nats_ssl_ca_file: str | None = None
    nats_ssl_cert_file: str | None = None
    nats_ssl_key_file: str | None = None

    def __post_init__(self) -> None:
        self._check_kafka_sasl()
        self._check_kafka_tls()
        self._check_pair("ksqldb_username", "ksqldb_password")
        self._check_nats()
        for one in fields(self):
            if one.name.endswith("_file"):
                self._check_file(one.name)

    def __repr__(self) -> str:
        shown = (
            f"{one.name}={getattr(self, one.name)!r}" if one.repr else f"{one.name}=***"
            for one in fields(self)
            if getattr(self, one.name)
        )
        return f"Credentials({', '.join(shown)})"

    @classmethod
    def from_environment(cls) -> Credentials:
        """What the environment says.

        Raises:
            ConfigurationError: it contradicts itself, names what nobody knows, or a file that cannot be read.
        """
        return cls(**{one.name: _value(one.name.upper(), secret=not one.repr) for one in fields(cls)})

    def kafka(self) -> dict[str, Any]:
        """The properties of librdkafka that say so; empty where there is nothing to say."""
        said = {name: getattr(self, one) for one, name in _KAFKA_PROPERTIES.items() if getattr(self, one)}
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            said["sasl.oauthbearer.method"] = "oidc"
            if not self.kafka_oauth_ca_file and (authorities := self._authorities_of_token_servers()):
                said["https.ca.location"] = authorities
        return said

    def ksqldb(self) -> dict[str, Any]:
        """The keyword arguments of an `httpx.Client` that say so.

        Raises:
            ConfigurationError: the file with the authorities holds none.
        """
        said: dict[str, Any] = {}
        if self.ksqldb_username:
            said["auth"] = (self.ksqldb_username, self.ksqldb_password)
        if self.ksqldb_ssl_ca_file:
            said["verify"] = self._tls("ksqldb")
        return said

    def nats(self) -> dict[str, Any]:
        """The keyword arguments of `nats.connect` that say so.

        Raises:
            ConfigurationError: a file holds no authority, certificate or key.
            MissingDistributionError: a file with a seed is named, and nothing here can sign with it.
        """
        if (self.nats_credentials_file or self.nats_nkey_seed_file) and find_spec("nkeys") is None:
            raise MissingDistributionError(
                "NATS_CREDENTIALS_FILE and NATS_NKEY_SEED_FILE need the library nkeys. Install it: pip install nkeys."
            )
        named = {
            "user_credentials": self.nats_credentials_file,
            "nkeys_seed": self.nats_nkey_seed_file,
            "user": self.nats_username,
            "password": self.nats_password,
            "token": self.nats_token,
        }
        said: dict[str, Any] = {name: value for name, value in named.items() if value}
        if self.nats_ssl_ca_file or self.nats_ssl_cert_file:
            said["tls"] = self._tls("nats")
        return said

    def _authorities_of_token_servers(self) -> str | None:
        """The file that librdkafka has to be told of; None where it finds it by itself, or needs none."""
        if urlsplit(self.kafka_oauth_token_url or "").scheme != "https" or Path(_AUTHORITIES_OF_LIBRDKAFKA).exists():
            return None
        return next((path for path in _AUTHORITIES if Path(path).exists()), None)

    def _tls(self, server: str) -> ssl.SSLContext:
        """The authorities that are trusted with a server, and the certificate that is shown to it."""
        import ssl  # slow to import, and most processes need none of it

        certificate = getattr(self, f"{server}_ssl_cert_file", None)
        named = [f"{server}_ssl_{part}_file".upper() for part in ("ca", *(("cert", "key") if certificate else ()))]
        try:
            context = ssl.create_default_context(cafile=getattr(self, f"{server}_ssl_ca_file"))
            if certificate:
                # The empty password: OpenSSL would ask for one on the terminal.
                context.load_cert_chain(certificate, getattr(self, f"{server}_ssl_key_file"), password="")
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"What {', '.join(named)} name cannot be used for TLS ({error}). Use PEM files, the key unencrypted."
            ) from error
        return context

    def _check_kafka_sasl(self) -> None:
        protocol, mechanism = self.kafka_security_protocol, self.kafka_sasl_mechanism
        self._check_choice("kafka_security_protocol", _PROTOCOLS)
        self._check_choice("kafka_sasl_mechanism", _MECHANISMS)
        login = ("kafka_sasl_username", "kafka_sasl_password")
        oauth = ("kafka_oauth_client_id", "kafka_oauth_client_secret", "kafka_oauth_token_url")
        oauth_options = ("kafka_oauth_scope", "kafka_oauth_ca_file")
        if protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
            self._need("kafka_security_protocol", "kafka_sasl_mechanism")
        else:
            self._refuse(
                ("kafka_sasl_mechanism", *login, *oauth, *oauth_options),
                "KAFKA_SECURITY_PROTOCOL is neither SASL_SSL nor SASL_PLAINTEXT. Set it to SASL_SSL",
            )
        if mechanism == "OAUTHBEARER":
            self._need("kafka_sasl_mechanism", *oauth)
            self._refuse(login, "KAFKA_SASL_MECHANISM is OAUTHBEARER. Set KAFKA_OAUTH_CLIENT_ID and its secret instead")
            if urlsplit(self.kafka_oauth_token_url or "").scheme not in ("http", "https"):
                raise ConfigurationError(
                    f"KAFKA_OAUTH_TOKEN_URL is {redacted(self.kafka_oauth_token_url or '')!r}, "
                    "which is no address of a server. Write https://host/path."
                )
        elif mechanism:
            self._need("kafka_sasl_mechanism", *login)
            self._refuse(
                (*oauth, *oauth_options),
                f"KAFKA_SASL_MECHANISM is {mechanism}. Set it to OAUTHBEARER, or set KAFKA_SASL_USERNAME instead",
            )

    def _check_kafka_tls(self) -> None:
        tls = ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file", "kafka_ssl_key_password")
        if self.kafka_security_protocol not in ("SSL", "SASL_SSL"):
            self._refuse(tls, "KAFKA_SECURITY_PROTOCOL is neither SSL nor SASL_SSL. Set it to one of them")
        self._check_pair("kafka_ssl_cert_file", "kafka_ssl_key_file")
        if self.kafka_ssl_key_password:
            self._need("kafka_ssl_key_password", "kafka_ssl_key_file")

    def _check_nats(self) -> None:
        self._check_pair("nats_username", "nats_password")
        self._check_pair("nats_ssl_cert_file", "nats_ssl_key_file")
        ways = ("nats_credentials_file", "nats_nkey_seed_file", "nats_username", "nats_token")
        chosen = [one.upper() for one in ways if getattr(self, one)]
        if len(chosen) > 1:
            raise ConfigurationError(f"{' and '.join(chosen)} are both set, each a way to log in to NATS. Keep one.")

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value and value not in choices:
            raise ConfigurationError(
                f"{name.upper()} is {value!r}. Set it to {', '.join(choices[:-1])} or {choices[-1]}."
            )

    def _check_pair(self, one: str, other: str) -> None:
        if getattr(self, one):
            self._need(one, other)
        elif getattr(self, other):
            self._need(other, one)

    def _check_file(self, name: str) -> None:
        path = getattr(self, name)
        if path and not (Path(path).is_file() and os.access(path, os.R_OK)):
            raise ConfigurationError(f"{name.upper()} names {path!r}, which is no file that can be read. Correct it.")

    def _need(self, because_of: str, *names: str) -> None:
        missing = [name.upper() for name in names if not getattr(self, name)]
        if missing:
            value = getattr(self, because_of) if because_of.endswith(("protocol", "mechanism")) else "set"
            raise ConfigurationError(
                f"{because_of.upper()} is {value}, which needs {' and '.join(missing)}. Set it too, "
                f"or unset {because_of.upper()}."
            )

    def _refuse(self, names: tuple[str, ...], because: str) -> None:
        for name in names:
            if getattr(self, name):
                raise ConfigurationError(f"{name.upper()} is set, and {because}, or unset {name.upper()}.")


def redacted(text: str) -> str:
    """A URL, or a text with URLs in it, without the names and passwords in front of their hosts.

    >>> redacted("no answer from nats://app:secret@plant:4222")
    'no answer from nats://plant:4222'
    """
    return _USERINFO.sub("://", text)


def _value(name: str, *, secret: bool) -> str | None:
    """The value of a variable; that of a secret also out of the file that `<name>_FILE` names."""
    value = environment(name)
    path = environment(f"{name}_FILE") if secret else None
    if path is None:
        return value
    if value is not None:
        raise ConfigurationError(f"{name} and {name}_FILE are both set. Keep one.")
    try:
        content = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name}_FILE names {path!r}, which cannot be read ({error}). Correct it.") from error
    if not content:
        raise ConfigurationError(f"{name}_FILE names {path!r}, which is empty. Write the secret into it.")
    return content
