"""Names that follow from the UUID of an app: the label of its host name and path, and the UUIDs of its replicas."""

from __future__ import annotations

import re

__all__ = ["LONGEST_LABEL", "MAX_LABEL", "label_of", "normalised_name", "path_prefix", "replica_uuids"]

#: Number of characters that a label of a host name may have.
LONGEST_LABEL = MAX_LABEL = 63


def label_of(text: str) -> str:
    """Return a text as a label of a host name, and as a segment of a path.

    >>> label_of("My_App_123"), label_of("A.B c"), label_of("___")
    ('my-app-123', 'a-b-c', '')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


normalised_name = label_of


def path_prefix(uuid: str) -> str:
    """Return the path below which a gateway has the web pages of an asset on `localhost`, such as `/my-app`."""
    return f"/{label_of(uuid)}"


def replica_uuids(uuid: str, replicas: int) -> tuple[str, ...]:
    """Return the UUIDs of the assets of an app.

    >>> replica_uuids("mill", 1), replica_uuids("mill", 2)
    (('mill',), ('mill-1', 'mill-2'))
    """
    return (uuid,) if replicas == 1 else tuple(f"{uuid}-{number}" for number in range(1, replicas + 1))
