"""Names that follow from the UUID of an app: the label of its host name and path, and the UUIDs of its replicas."""

from __future__ import annotations

import hashlib
import re

__all__ = ["MAX_LABEL", "normalised_name", "path_prefix", "replica_uuids", "secret_key"]

#: Number of characters that a label of a host name may have.
MAX_LABEL = 63

# Docker's bound for the name of a secret, and the characters that it may have.
_MAX_SECRET = 64
_SECRET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_HASH_DIGITS = 12


def normalised_name(text: str) -> str:
    """Return a text as a label of a host name, and as a segment of a path.

    It may be empty or too long; the checks of the files refuse that.

    >>> normalised_name("My_App_123"), normalised_name("A.B c"), normalised_name("___")
    ('my-app-123', 'a-b-c', '')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def path_prefix(uuid: str) -> str:
    """Return the path below which a gateway has the web pages of an asset on `localhost`, such as `/my-app`."""
    return f"/{normalised_name(uuid)}"


def replica_uuids(uuid: str, replicas: int) -> tuple[str, ...]:
    """Return the UUIDs of the assets of an app.

    >>> replica_uuids("mill", 1), replica_uuids("mill", 2)
    (('mill',), ('mill-1', 'mill-2'))
    """
    return (uuid,) if replicas == 1 else tuple(f"{uuid}-{number}" for number in range(1, replicas + 1))


def secret_key(service: str, name: str, *, distinct: bool = False) -> str:
    """Return the name of a secret among those of all services, as Docker takes it.

    A hash of both names keeps names apart that are too long, or have other characters. A `_` in the name of the service
    may make two equal too.

    >>> secret_key("mill", "password"), secret_key("mill_2", "password", distinct=True)
    ('mill_password', 'mill_2_password-f4005805cc10')

    Args:
        service: name of the service.
        name: name of the secret in the file of the app.
        distinct: have the hash in any case.
    """
    text = f"{service}_{name}"
    if not distinct and len(text) <= _MAX_SECRET and _SECRET.fullmatch(text):
        return text
    digest = hashlib.sha256(f"{service}/{name}".encode()).hexdigest()[:_HASH_DIGITS]
    shortened = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[: _MAX_SECRET - _HASH_DIGITS - 1]
    return f"{shortened.strip('_.-')}-{digest}"
