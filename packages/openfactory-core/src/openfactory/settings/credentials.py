"""Credentials for Kafka, ksqlDB and NATS, and the certificate authorities for their servers.

Each field of `Credentials` is also an environment variable: `kafka_sasl_username` is `KAFKA_SASL_USERNAME`. A secret
may be in a file instead: `KAFKA_SASL_PASSWORD_FILE` names the file with the password.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openfactory.exceptions import ConfigurationError, MissingDistributionError
from openfactory.settings import environment
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    import ssl

__all__ = ["Credentials"]

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MECHANISMS = (*_PASSWORD_MECHANISMS, "OAUTHBEARER")

# The fields that librdkafka receives unchanged, and the names of its properties.
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

# Files with the certificate authorities that Linux systems trust. For a token server, librdkafka reads only its own.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem")
_AUTHORITIES_OF_LIBRDKAFKA = "/etc/pki/tls/certs/ca-bundle.crt"


def _secret() -> Any:
    return field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, repr=False)
class Credentials:
    """Credentials and TLS files for all servers; an empty instance connects without a login and without TLS.

    >>> Credentials(kafka_security_protocol="SSL", nats_token="not to be seen")
    Credentials(kafka_security_protocol='SSL', nats_token=***)

    Raises:
        ConfigurationError: a value is not valid, fields do not fit together, or a file cannot be read.
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
        for item in fields(self):
            if item.name.endswith("_file"):
                self._check_file(item.name)

    def __repr__(self) -> str:
        shown = (
            f"{item.name}={getattr(self, item.name)!r}" if item.repr else f"{item.name}=***"
            for item in fields(self)
            if getattr(self, item.name)
        )
        return f"Credentials({', '.join(shown)})"

    @classmethod
    def from_environment(cls) -> Credentials:
        """Return the credentials in the environment variables.

        Raises:
            ConfigurationError: a value is not valid, variables do not fit together, or a file cannot be read.
        """
        return cls(**{item.name: _value(item.name.upper(), secret=not item.repr) for item in fields(cls)})

    def kafka(self) -> dict[str, Any]:
        """Return the properties for librdkafka; empty if no field for Kafka is set."""
        properties = {key: value for name, key in _KAFKA_PROPERTIES.items() if (value := getattr(self, name))}
        if self.kafka_sasl_mechanism == "OAUTHBEARER":
            properties["sasl.oauthbearer.method"] = "oidc"
            if not self.kafka_oauth_ca_file and (authorities := self._token_server_authorities()):
                properties["https.ca.location"] = authorities
        return properties

    def ksqldb(self) -> dict[str, Any]:
        """Return the keyword arguments for `httpx.Client`; empty if no field for ksqlDB is set.

        Raises:
            ConfigurationError: the file with the certificate authorities cannot be used.
        """
        arguments: dict[str, Any] = {}
        if self.ksqldb_username:
            arguments["auth"] = (self.ksqldb_username, self.ksqldb_password)
        if self.ksqldb_ssl_ca_file:
            arguments["verify"] = self._tls("ksqldb")
        return arguments

    def nats(self) -> dict[str, Any]:
        """Return the keyword arguments for `nats.connect`; empty if no field for NATS is set.

        Raises:
            ConfigurationError: a file with certificate authorities, a certificate or a key cannot be used.
            MissingDistributionError: a file with a seed needs the library nkeys, which is not installed.
        """
        if (self.nats_credentials_file or self.nats_nkey_seed_file) and find_spec("nkeys") is None:
            raise MissingDistributionError(
                "NATS_CREDENTIALS_FILE and NATS_NKEY_SEED_FILE need the library nkeys. "
                'Install it: pip install "openfactory-core[nkeys]".'
            )
        login = {
            "user_credentials": self.nats_credentials_file,
            "nkeys_seed": self.nats_nkey_seed_file,
            "user": self.nats_username,
            "password": self.nats_password,
            "token": self.nats_token,
        }
        arguments: dict[str, Any] = {name: value for name, value in login.items() if value}
        if self.nats_ssl_ca_file or self.nats_ssl_cert_file:
            arguments["tls"] = self._tls("nats")
        return arguments

    def _token_server_authorities(self) -> str | None:
        """Return the file of authorities to set for librdkafka, or None if librdkafka needs no setting."""
        if urlsplit(self.kafka_oauth_token_url or "").scheme != "https" or Path(_AUTHORITIES_OF_LIBRDKAFKA).exists():
            return None
        return next((path for path in _AUTHORITIES if Path(path).exists()), None)

    def _tls(self, server: str) -> ssl.SSLContext:
        """Return a TLS context with the certificate authorities for a server and the client certificate."""
        import ssl  # slow to import, and most processes do not use TLS here

        certificate = getattr(self, f"{server}_ssl_cert_file", None)
        named = [f"{server}_ssl_{part}_file".upper() for part in ("ca", *(("cert", "key") if certificate else ()))]
        try:
            context = ssl.create_default_context(cafile=getattr(self, f"{server}_ssl_ca_file"))
            if certificate:
                # Without a password argument, OpenSSL asks for the password of an encrypted key on the terminal.
                context.load_cert_chain(certificate, getattr(self, f"{server}_ssl_key_file"), password="")
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"The files of {', '.join(named)} cannot be used for TLS ({error}). "
                "Use PEM files, with an unencrypted key."
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
            self._refuse(login, "KAFKA_SASL_MECHANISM is OAUTHBEARER. Set KAFKA_OAUTH_CLIENT_ID and its secret")
            if urlsplit(self.kafka_oauth_token_url or "").scheme not in ("http", "https"):
                raise ConfigurationError(
                    f"KAFKA_OAUTH_TOKEN_URL={redacted(self.kafka_oauth_token_url or '')!r} is not an http(s) URL. "
                    "Write https://host/path."
                )
        elif mechanism:
            self._need("kafka_sasl_mechanism", *login)
            self._refuse(
                (*oauth, *oauth_options),
                f"KAFKA_SASL_MECHANISM is {mechanism}. Set it to OAUTHBEARER",
            )

    def _check_kafka_tls(self) -> None:
        tls = ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file", "kafka_ssl_key_password")
        if self.kafka_security_protocol not in ("SSL", "SASL_SSL"):
            self._refuse(tls, "KAFKA_SECURITY_PROTOCOL is neither SSL nor SASL_SSL. Set it to SSL or SASL_SSL")
        self._check_pair("kafka_ssl_cert_file", "kafka_ssl_key_file")
        if self.kafka_ssl_key_password:
            self._need("kafka_ssl_key_password", "kafka_ssl_key_file")

    def _check_nats(self) -> None:
        self._check_pair("nats_username", "nats_password")
        self._check_pair("nats_ssl_cert_file", "nats_ssl_key_file")
        logins = ("nats_credentials_file", "nats_nkey_seed_file", "nats_username", "nats_token")
        chosen = [name.upper() for name in logins if getattr(self, name)]
        if len(chosen) > 1:
            raise ConfigurationError(
                f"{' and '.join(chosen)} are set, but NATS takes only one login. Keep one of them."
            )

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value and value not in choices:
            raise ConfigurationError(
                f"{name.upper()}={value!r} is not a known value. Write {', '.join(choices[:-1])} or {choices[-1]}."
            )

    def _check_pair(self, first: str, second: str) -> None:
        if getattr(self, first):
            self._need(first, second)
        elif getattr(self, second):
            self._need(second, first)

    def _check_file(self, name: str) -> None:
        path = getattr(self, name)
        if path and not (Path(path).is_file() and os.access(path, os.R_OK)):
            raise ConfigurationError(f"{name.upper()}={path!r} is not a file that can be read. Correct the path.")

    def _need(self, cause: str, *names: str) -> None:
        missing = [name.upper() for name in names if not getattr(self, name)]
        if missing:
            value = getattr(self, cause) if cause.endswith(("protocol", "mechanism")) else "set"
            needed = " and ".join(missing)
            raise ConfigurationError(
                f"{cause.upper()} is {value}, which needs {needed}. Set {needed}, or unset {cause.upper()}."
            )

    def _refuse(self, names: tuple[str, ...], reason_and_remedy: str) -> None:
        for name in names:
            if getattr(self, name):
                raise ConfigurationError(f"{name.upper()} is set, but {reason_and_remedy}, or unset {name.upper()}.")


def _value(name: str, *, secret: bool) -> str | None:
    """Return the value of a variable; a secret may also be in the file that `<name>_FILE` names."""
    value = environment(name)
    path = environment(f"{name}_FILE") if secret else None
    if path is None:
        return value
    if value is not None:
        raise ConfigurationError(f"{name} and {name}_FILE are both set. Unset one of them.")
    try:
        content = Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name}_FILE={path!r} cannot be read ({error}). Correct the path.") from error
    if not content:
        raise ConfigurationError(f"{name}_FILE={path!r} is empty. Write the secret into the file.")
    return content
