"""Names that follow from the UUID of an app: the label of its host name and path, and the UUIDs of its replicas."""

from __future__ import annotations

import re

__all__ = ["LONGEST_LABEL", "label_of", "replica_uuids"]

#: Number of characters that a label of a host name may have.
LONGEST_LABEL = 63


def label_of(text: str) -> str:
    """Return a text as a label of a host name, and as a segment of a path.

    >>> label_of("My_App_123"), label_of("A.B c"), label_of("___")
    ('my-app-123', 'a-b-c', '')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def replica_uuids(uuid: str, replicas: int) -> tuple[str, ...]:
    """Return the UUIDs of the assets of an app.

    >>> replica_uuids("mill", 1), replica_uuids("mill", 2)
    (('mill',), ('mill-1', 'mill-2'))
    """
    return (uuid,) if replicas == 1 else tuple(f"{uuid}-{number}" for number in range(1, replicas + 1))
