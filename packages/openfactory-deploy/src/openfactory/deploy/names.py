"""Names that follow from the UUID of an app: the label of its host name and path, and the UUIDs of its replicas."""

from __future__ import annotations

import re

__all__ = ["MAX_LABEL", "normalised_name", "path_prefix", "replica_uuids"]

#: Number of characters that a label of a host name may have.
MAX_LABEL = 63


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
