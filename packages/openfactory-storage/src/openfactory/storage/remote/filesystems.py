"""Connect to the fsspec filesystem of a URL and its options, and keep secrets out of error messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from openfactory.storage.errors import StorageConfigurationError, StorageUnavailableError
from openfactory.storage.remote import sftp

__all__ = ["Address", "Secrets", "connect"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# Protocols without folders: a file appears when its upload is complete, and a name with `/` needs no folder.
_OBJECT_STORES = frozenset({"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "ocilake", "oss", "tos"})

# Protocols that fsspec can only read.
_READ_ONLY = frozenset({"data", "gist", "git", "github", "libarchive", "tar", "zip"})

# Folders of this machine. They need the type `local`, which keeps every path inside the folder.
_LOCAL = frozenset({"", "file", "local"})

# A web site has pages, but no folders.
_WEB_SITES = frozenset({"http", "https"})

# Protocols over SSH. Their client waits for a silent server forever unless it has a timeout.
_SSH = frozenset({"sftp", "ssh"})
_TIMEOUT_SECONDS = 30.0

# s3fs retries by itself. If botocore retried as well, a request would fail only after twenty minutes.
_S3 = frozenset({"s3", "s3a"})
_S3_TIMEOUTS = {"connect_timeout": 10, "read_timeout": _TIMEOUT_SECONDS, "retries": {"max_attempts": 0}}

# Protocols that receive the login as options, because a password may contain characters with a meaning in a URL.
_LOGIN_IN_OPTIONS = _SSH | {"ftp", "smb"}

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
        if address.protocol in _LOCAL:
            raise ValueError(
                'url is a folder of this machine. Use {"type": "local"}, which keeps every path inside the folder'
            )
        if address.protocol in _WEB_SITES:
            raise ValueError("url is a web site, which has no folders. Use webdav, s3, or 'zip://::https://…'")
        return address

    @property
    def protocol(self) -> str:
        """The protocol of the storage: the first protocol of a chain such as `zip://::s3://bucket/a.zip`."""
        return self.url.partition("::")[0].partition("://")[0].lower()

    @property
    def is_object_store(self) -> bool:
        """Whether the URL names an object store, which has no folders."""
        return self.protocol in _OBJECT_STORES

    @property
    def in_memory(self) -> bool:
        """Whether the files are in the memory of this process."""
        return self.protocol == "memory"

    @property
    def is_writable(self) -> bool:
        """Whether fsspec can write files with this protocol."""
        return self.protocol not in _READ_ONLY

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
        if self.protocol in _LOGIN_IN_OPTIONS:
            url, login = _split_login(url)
            options |= _resolved(login)
        if self.protocol in _SSH:
            options.setdefault("timeout", _TIMEOUT_SECONDS)
        if self.protocol in _S3:
            options["config_kwargs"] = _S3_TIMEOUTS | options.get("config_kwargs", {})
        return _resolved(url), options

    def secrets(self) -> Secrets:
        """Return the secrets of the address, with the current values of the environment variables."""
        _, options = self.resolved()
        references = _REFERENCE.findall(" ".join([self.url, *_texts(dict(self.options))]))
        logins = [_split_login(part)[1] for part in self.url.split("::")]
        hidden = {name: value for name, value in options.items() if name not in _NOT_SECRET}
        values = [*_texts(hidden), *_texts(_resolved(logins)), *(os.environ.get(name, "") for name in references)]
        return Secrets(value for value in values if value not in (self.url, self.protocol))


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
        if address.protocol in _SSH:
            sftp.prepare(fs, options["timeout"])
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
            f"argument of fsspec's filesystem for {address.protocol}."
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
    return fs, text.rstrip("/") or ("/" if text.startswith("/") or address.in_memory else "")


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
    return f"the package that fsspec needs for {address.protocol} ({error})"
