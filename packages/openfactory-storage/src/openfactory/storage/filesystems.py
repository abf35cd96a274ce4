"""From the URL and the options of a storage to a filesystem of fsspec, without a secret in anything that is said."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from openfactory.storage import sftp
from openfactory.storage.errors import StorageConfigurationError, StorageUnavailableError

__all__ = ["Address", "Secrets", "connect"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# Stores without folders: what is uploaded is there when it is whole, and a name with `/` needs nothing before it.
_OBJECT_STORES = frozenset({"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "ocilake", "oss", "tos"})

# What fsspec can only read.
_READ_ONLY = frozenset({"data", "gist", "git", "github", "libarchive", "tar", "zip"})

# These have a type of their own, which keeps every path inside.
_OF_THIS_MACHINE = frozenset({"", "file", "local"})

# A web site has pages, and no folders.
_PAGES = frozenset({"http", "https"})

# Protocols over SSH; their client never gives up on a silent server unless it is told when.
_SSH = frozenset({"sftp", "ssh"})
_PATIENCE_SECONDS = 30.0

# s3fs tries again itself, and not for the twenty minutes that it takes when its library does so too.
_S3 = frozenset({"s3", "s3a"})
_S3_PATIENCE = {"connect_timeout": 10, "read_timeout": _PATIENCE_SECONDS, "retries": {"max_attempts": 0}}

# Who takes the login as options: a password in a URL could hold a character that means something there.
_WITH_LOGIN = _SSH | {"ftp", "smb"}

# What helps to find a mistake, and is no secret.
_HARMLESS = frozenset({"endpoint_url", "host", "region_name"})

# A shorter value would blot out half of what is said.
_SHORTEST_SECRET = 4

# Packages that have another name than the module that is missed.
_PACKAGES = {"distributed": "distributed", "git": "pygit2", "libarchive": "libarchive-c", "smbclient": "smbprotocol"}


class Secrets:
    """Keeps out of a text what nobody is to read: the values of options, and of the environment."""

    def __init__(self, values: Iterator[str]) -> None:
        long = {value for value in values if len(value) >= _SHORTEST_SECRET}
        written = {form for value in long for form in (value, repr(value)[1:-1], quote(value), quote(value, safe=""))}
        self._longest_first = sorted(written, key=len, reverse=True)

    def taken_out_of(self, text: str) -> str:
        """The text with `…` in their place."""
        for secret in self._longest_first:
            text = text.replace(secret, "…")
        return text

    def cause(self, error: BaseException) -> BaseException | None:
        """The error, to be named as a cause; None if it or one before it says a secret."""
        seen: set[int] = set()
        before: BaseException | None = error
        while before is not None and id(before) not in seen:
            seen.add(id(before))
            said = f"{before!r} {before}"
            if self.taken_out_of(said) != said:
                return None
            before = before.__cause__ or before.__context__
        return error


class Address(NamedTuple):
    """Where files are, as the settings say it.

    Attributes:
        url: with references to the environment as they stand there.
        options: the same.
    """

    url: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, url: str, options: Mapping[str, Any]) -> Address:
        """An address that can be understood.

        Raises:
            ValueError: it cannot.
        """
        address = cls(url.strip(), options)
        if "://" not in address.url:
            raise ValueError("url has no protocol. Write it as 's3://bucket/folder' or 'sftp://host/folder'")
        if address.protocol in _OF_THIS_MACHINE:
            raise ValueError(
                'url is a folder of this machine. Use {"type": "local"} for it, which keeps every path inside'
            )
        if address.protocol in _PAGES:
            raise ValueError("url is a web site, which has no folders. Use webdav, s3, or 'zip://::https://…'")
        return address

    @property
    def protocol(self) -> str:
        """Of the storage itself: the first one of a chain such as `zip://::s3://bucket/a.zip`."""
        return self.url.partition("::")[0].partition("://")[0].lower()

    @property
    def has_objects(self) -> bool:
        """Whether it is a store of objects, without folders."""
        return self.protocol in _OBJECT_STORES

    @property
    def in_memory(self) -> bool:
        """Whether the files are in the memory of this process."""
        return self.protocol == "memory"

    @property
    def can_be_written(self) -> bool:
        """Whether fsspec writes there at all."""
        return self.protocol not in _READ_ONLY

    def __str__(self) -> str:
        """The address without who logs in and how."""
        return "::".join(_without_login(part) for part in self.url.split("::"))

    def __repr__(self) -> str:
        """Without the options either: what shows the variables of a traceback shows this."""
        return f"{type(self).__name__}({str(self)!r})"

    def resolved(self) -> tuple[str, dict[str, Any]]:
        """URL and options with the values of the environment.

        Raises:
            StorageConfigurationError: a variable that is referred to is not set.
        """
        options: dict[str, Any] = _resolved(dict(self.options))
        url = self.url
        if self.protocol in _WITH_LOGIN:
            url, login = _login_of(url)
            options |= _resolved(login)
        if self.protocol in _SSH:
            options.setdefault("timeout", _PATIENCE_SECONDS)
        if self.protocol in _S3:
            options["config_kwargs"] = _S3_PATIENCE | options.get("config_kwargs", {})
        return _resolved(url), options

    def secrets(self) -> Secrets:
        """What is not to be said, with the values that the environment has now."""
        _, options = self.resolved()
        references = _REFERENCE.findall(" ".join([self.url, *_texts(dict(self.options))]))
        logins = [_login_of(part)[1] for part in self.url.split("::")]
        shown = {name: value for name, value in options.items() if name not in _HARMLESS}
        values = [*_texts(shown), *_texts(_resolved(logins)), *(os.environ.get(name, "") for name in references)]
        return Secrets(value for value in values if value not in (self.url, self.protocol))


def connect(address: Address) -> tuple[AbstractFileSystem, str]:
    """The filesystem of an address, and the path of its root in it.

    Raises:
        StorageConfigurationError: there is no such protocol, its package is missing, or an option is wrong.
        StorageUnavailableError: the server does not answer or lets nobody in.
    """
    url, options = address.resolved()
    secrets = address.secrets()
    try:
        # An instance of its own: its connection and its secrets are shared with nobody.
        fs, root = url_to_fs(url, skip_instance_cache=True, **options)
        if address.protocol in _SSH:
            sftp.prepare(fs, options["timeout"])
    except ImportError as error:
        raise StorageConfigurationError(
            f"{address} needs a package that is not installed. Install it: pip install {_package_of(error, address)}"
        ) from secrets.cause(error)
    except ValueError as error:
        raise StorageConfigurationError(
            f"{address} can't be used: {secrets.taken_out_of(str(error))}. Look at the protocol of the url and at "
            "the options."
        ) from secrets.cause(error)
    except TypeError as error:
        raise StorageConfigurationError(
            f"{address} does not take these options: {secrets.taken_out_of(str(error))}. They are those of fsspec's "
            f"filesystem for {address.protocol}; take out what it does not know."
        ) from secrets.cause(error)
    except Exception as error:  # noqa: BLE001 - each protocol has errors of its own
        raise StorageUnavailableError(
            f"{address} cannot be reached: {secrets.taken_out_of(repr(error))}. See whether the server runs, and "
            "check the login in the options.",
            path="",
        ) from secrets.cause(error)
    if isinstance(_innermost(fs), LocalFileSystem):
        raise StorageConfigurationError(
            f'{address} is a folder of this machine. Use {{"type": "local"}} for it, which keeps every path inside.'
        )
    if (cache := getattr(fs, "dircache", None)) is not None:
        cache.use_listings_cache = False  # others write too
    text = str(root)
    return fs, text.rstrip("/") or ("/" if text.startswith("/") or address.in_memory else "")


def _innermost(fs: AbstractFileSystem) -> AbstractFileSystem:
    """What a filesystem hands on to, such as one that only caches."""
    while (inner := getattr(fs, "fs", None) or getattr(fs, "sync_fs", None)) is not None:
        fs = inner
    return fs


def _login_of(url: str) -> tuple[str, dict[str, str]]:
    """A URL without its login, and the login as options."""
    protocol, separator, rest = url.partition("://")
    userinfo, at, host = rest.rpartition("@")
    if not at or "::" in url:
        return url, {}
    username, _, password = userinfo.partition(":")
    login = {"username": unquote(username), "password": unquote(password)}
    return f"{protocol}{separator}{host}", {name: value for name, value in login.items() if value}


def _resolved(value: Any) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _variable(found[1]), value)
    if isinstance(value, Mapping):
        return {name: _resolved(one) for name, one in value.items()}
    return [_resolved(one) for one in value] if isinstance(value, list) else value


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
        for name, one in value.items():
            if name not in _HARMLESS:
                yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)


def _without_login(url: str) -> str:
    protocol, separator, rest = url.partition("://")
    return f"{protocol}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _package_of(error: ImportError, address: Address) -> str:
    """The package of the module that is missed, which fsspec names as the cause."""
    missing: BaseException | None = error
    while missing is not None:
        if isinstance(missing, ImportError) and missing.name:
            module = missing.name.partition(".")[0]
            return _PACKAGES.get(module, module)
        missing = missing.__cause__
    return f"what fsspec needs for {address.protocol} ({error})"
