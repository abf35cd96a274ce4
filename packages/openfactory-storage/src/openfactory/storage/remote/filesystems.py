"""Connect to the fsspec filesystem of a URL and its options, and keep secrets out of error messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from ftplib import FTP
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from openfactory.storage.errors import StorageConfigurationError, StorageUnavailableError
from openfactory.storage.remote import sftp
from openfactory.storage.remote.any_utf8 import ANY_UTF8
from openfactory.storage.remote.kinds import Protocol
from openfactory.storage.remote.protocols import protocol_of

__all__ = ["Address", "Secrets", "connect"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# Options that help to find a mistake and are not secret.
_NOT_SECRET = frozenset({"endpoint_url", "host", "region_name"})

# Shorter values are not redacted, because they would remove large parts of a message.
_SHORTEST_SECRET = 4

# Packages whose name differs from the name of their module.
_PACKAGES = {"distributed": "distributed", "git": "pygit2", "libarchive": "libarchive-c", "smbclient": "smbprotocol"}


class Secrets:
    """Secret values of options and environment variables, which are removed from texts.

    Args:
        values: the secret values. Values of fewer than four characters are ignored.
    """

    def __init__(self, values: Iterator[str]) -> None:
        secrets = {value for value in values if len(value) >= _SHORTEST_SECRET}
        forms = {form for value in secrets for form in (value, repr(value)[1:-1], quote(value), quote(value, safe=""))}
        self._longest_first = sorted(forms, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Return the text with `…` in place of each secret."""
        for secret in self._longest_first:
            text = text.replace(secret, "…")
        return text

    def safe_cause(self, error: BaseException) -> BaseException | None:
        """Return the error, for `raise … from`; None if the error or one of its causes contains a secret."""
        seen: set[int] = set()
        cause: BaseException | None = error
        while cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            text = f"{cause!r} {cause}"
            if self.redact(text) != text:
                return None
            cause = cause.__cause__ or cause.__context__
        return error


class Address(NamedTuple):
    """URL and options of a filesystem, as the settings give them.

    Attributes:
        url: the URL, with unresolved references such as `${NAME}` to environment variables.
        options: the options of the filesystem, with unresolved references.
    """

    url: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any]) -> Address:
        """Create an address after a check of its URL.

        Raises:
            ValueError: the URL has no protocol, or a protocol that this type of storage does not support.
        """
        address = cls(url.strip(), options)
        if "://" not in address.url:
            raise ValueError("url has no protocol. Write it as 's3://bucket/folder' or 'sftp://host/folder'")
        if refusal := address.protocol.refusal:
            raise ValueError(refusal)
        return address

    @property
    def scheme(self) -> str:
        """The first scheme of the URL, also of a chain such as `zip://::s3://bucket/a.zip`."""
        return self.url.partition("::")[0].partition("://")[0].lower()

    @property
    def protocol(self) -> Protocol:
        """The protocol of the storage."""
        return protocol_of(self.scheme)

    def __str__(self) -> str:
        """Return the URL without the login and the query."""
        return "::".join(_without_login(part) for part in self.url.split("::"))

    def __repr__(self) -> str:
        """Return the URL without secrets and options, because some tools show the variables of a traceback."""
        return f"{type(self).__name__}({str(self)!r})"

    def resolved(self) -> tuple[str, dict[str, Any]]:
        """Return URL and options with the values of the environment variables, and with default timeouts.

        Raises:
            StorageConfigurationError: an environment variable is not set.
        """
        options: dict[str, Any] = _resolved(dict(self.options))
        url = self.url
        if self.protocol.login_in_options:
            url, login = _split_login(url)
            options |= _resolved(login)
        for name, default in self.protocol.options.items():
            given = options.get(name, default)
            options[name] = default | given if isinstance(default, dict) else given
        return _resolved(url), options

    def secrets(self) -> Secrets:
        """Return the secrets of the address, with the current values of the environment variables."""
        _, options = self.resolved()
        references = _REFERENCE.findall(" ".join([self.url, *_texts(dict(self.options))]))
        logins = [_split_login(part)[1] for part in self.url.split("::")]
        hidden = {name: value for name, value in options.items() if name not in _NOT_SECRET}
        values = [*_texts(hidden), *_texts(_resolved(logins)), *(os.environ.get(name, "") for name in references)]
        return Secrets(value for value in values if value not in (self.url, self.scheme))


def connect(address: Address) -> tuple[AbstractFileSystem, str]:
    """Connect to an address and return its filesystem, with the path of the root in that filesystem.

    Raises:
        StorageConfigurationError: the protocol does not exist, its package is not installed, or an option is wrong.
        StorageUnavailableError: the server does not answer or refuses the login.
    """
    url, options = address.resolved()
    secrets = address.secrets()
    try:
        # Not from fsspec's cache of instances, so that the connection and its secrets are not shared.
        fs, root = url_to_fs(url, skip_instance_cache=True, **options)
        sftp.prepare(fs, options.get("timeout"))
        if isinstance(client := getattr(fs, "ftp", None), FTP):
            # url_to_fs drops an option of this name. In a chain of URLs, the options of FTP are under its name.
            client.encoding = options.get("ftp", options).get("encoding", ANY_UTF8)
    except ImportError as error:
        raise StorageConfigurationError(
            f"{address} needs a package that is not installed. Install it: pip install {_package_of(error, address)}"
        ) from secrets.safe_cause(error)
    except ValueError as error:
        raise StorageConfigurationError(
            f"{address} can't be used: {secrets.redact(str(error))}. Check the protocol of the url and the options."
        ) from secrets.safe_cause(error)
    except TypeError as error:
        raise StorageConfigurationError(
            f"{address} does not take these options: {secrets.redact(str(error))}. Remove each option that is not an "
            f"argument of fsspec's filesystem for {address.scheme}."
        ) from secrets.safe_cause(error)
    except Exception as error:  # noqa: BLE001 - each protocol has its own errors
        raise StorageUnavailableError(
            f"{address} cannot be reached: {secrets.redact(repr(error))}. Check that the server runs, and "
            "check the login in the options.",
            path="",
        ) from secrets.safe_cause(error)
    if isinstance(_innermost(fs), LocalFileSystem):
        raise StorageConfigurationError(
            f'{address} is a folder of this machine. Use {{"type": "local"}}, which keeps every path inside the folder.'
        )
    if (cache := getattr(fs, "dircache", None)) is not None:
        cache.use_listings_cache = False  # other processes may write too
    text = str(root)
    return fs, text.rstrip("/") or ("/" if text.startswith("/") else fs.root_marker)


def _innermost(fs: AbstractFileSystem) -> AbstractFileSystem:
    """Return the filesystem below all wrappers, such as a cache."""
    while (inner := getattr(fs, "fs", None) or getattr(fs, "sync_fs", None)) is not None:
        fs = inner
    return fs


def _split_login(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its login, and the login as options."""
    protocol, separator, rest = url.partition("://")
    userinfo, at, host = rest.rpartition("@")
    if not at or "::" in url:
        return url, {}
    username, _, password = userinfo.partition(":")
    login = {"username": unquote(username), "password": unquote(password)}
    return f"{protocol}{separator}{host}", {name: value for name, value in login.items() if value}


def _resolved(value: Any) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _variable(match[1]), value)
    if isinstance(value, Mapping):
        return {name: _resolved(item) for name, item in value.items()}
    return [_resolved(item) for item in value] if isinstance(value, list) else value


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise StorageConfigurationError(
            f"STORAGE refers to ${{{name}}}, and the environment variable {name} is not set. Set it."
        )
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _NOT_SECRET:
                yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _without_login(url: str) -> str:
    protocol, separator, rest = url.partition("://")
    return f"{protocol}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _package_of(error: ImportError, address: Address) -> str:
    """Return the package of the module that is not installed. fsspec raises its ImportError from that of the module."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ImportError) and cause.name:
            module = cause.name.partition(".")[0]
            return _PACKAGES.get(module, module)
        cause = cause.__cause__
    return f"the package that fsspec needs for {address.scheme} ({error})"
