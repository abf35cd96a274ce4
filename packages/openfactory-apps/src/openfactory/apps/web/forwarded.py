"""Check the X-Forwarded headers of a gateway, before they get into URLs, cookies and the log."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import unquote

__all__ = ["FORWARDED_HEADERS", "ForwardedHeaders"]

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

_HOST = re.compile(r"([a-z\d][a-z\d.-]*|\[(?P<ipv6>[\da-f:.]+)\])(:(?P<port>[1-9]\d{,4}))?", re.ASCII | re.IGNORECASE)
_ADDRESS_WITH_PORT = re.compile(r"(?P<ipv4>[\d.]+):\d+|\[(?P<ipv6>[0-9a-f:.]+)\](:\d+)?", re.ASCII | re.IGNORECASE)
_PREFIX = re.compile(r"(/([\w.~!$&()*+=:@-]|%[0-9a-f]{2})+)*", re.ASCII | re.IGNORECASE)
_HIGHEST_PORT = 65_535


class ForwardedHeaders:
    """Check of the X-Forwarded headers, of which the last value counts: the gateway has set it.

    A client that bypasses the gateway can send any text. A value of the wrong form is ignored, so that an app never
    builds a URL like `javascript:…` or `//elsewhere.example`. The first such value of each header is logged.

    Args:
        logger: logger for values that are ignored.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._logged: set[str] = set()

    def last_value(self, name: str, values: str) -> str:
        """Return the last value of a header, in its usual form; empty if it is missing or has the wrong form.

        Args:
            name: name of the header, such as `X-Forwarded-Proto`.
            values: value of the header in the request, with commas between several values.
        """
        text = values.rpartition(",")[2].strip()
        if not text:
            return ""
        form = _FORMS[name]
        value = form.read(text)
        if value is None:
            self._log_once(name, text, form.remedy)
        return value or ""

    def _log_once(self, name: str, text: str, remedy: str) -> None:
        if name not in self._logged:
            self._logged.add(name)
            self._logger.warning("%s %a is ignored, here and in later requests. %s", name, text[:100], remedy)


def _address(text: str) -> str | None:
    """Return an IP address without the port that some gateways add."""
    if found := _ADDRESS_WITH_PORT.fullmatch(text):
        text = found["ipv4"] or found["ipv6"]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return None if "%" in text else str(mapped or address)


def _scheme(text: str) -> str | None:
    return _SCHEMES.get(text.lower())


def _host(text: str) -> str | None:
    found = _HOST.fullmatch(text)
    if found is None or int(found["port"] or 0) > _HIGHEST_PORT:
        return None
    if found["ipv6"] is not None:
        try:
            IPv6Address(found["ipv6"])
        except ValueError:
            return None
    return text


def _prefix(text: str) -> str | None:
    """Return a prefix without a slash at its end."""
    prefix = text.removesuffix("/")
    parts = unquote(prefix).split("/")[1:]
    is_valid = _PREFIX.fullmatch(prefix) and all(
        part not in ("", ".", "..") and part.isprintable() and "\\" not in part for part in parts
    )
    return prefix if is_valid else None


class _Form(NamedTuple):
    """The form of a header: a function that reads it, or returns None, and the remedy for a wrong value."""

    read: Callable[[str], str | None]
    remedy: str


_FORMS = {
    "X-Forwarded-For": _Form(_address, "Let the gateway send the IP address of the client."),
    "X-Forwarded-Proto": _Form(_scheme, "Let the gateway send http or https."),
    "X-Forwarded-Host": _Form(_host, "Let the gateway send a host, with or without a port."),
    "X-Forwarded-Prefix": _Form(
        _prefix, "Let the gateway send a path that begins with one slash, with escapes such as %20."
    ),
}

#: Names of the headers that are checked.
FORWARDED_HEADERS = tuple(_FORMS)
