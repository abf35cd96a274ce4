"""A test event: the check that a database takes events and returns them."""

from __future__ import annotations

import sqlite3

from openfactory.engines.embedded.insertion import insert_event
from openfactory.engines.embedded.queries import read_snapshot
from openfactory.engines.embedded.transaction import transaction
from openfactory.events.trial import TEST_ASSET, new_test_event

__all__ = ["try_event"]


def try_event(connection: sqlite3.Connection) -> bool:
    """Write an event, read it, and remove it again, in one transaction; return whether it was read as it was written.

    The commit writes pages to the disk, as that of any event does. A transaction that is rolled back would write
    nothing, and succeed on a full disk. No other connection sees the event, and its position is used by the next one.

    Args:
        connection: connection for writing, whose lock the caller has.

    Raises:
        sqlite3.Error, OSError: the event cannot be written.
    """
    event = new_test_event()
    with transaction(connection):
        position = insert_event(connection, event)
        found = read_snapshot(connection, [TEST_ASSET]).events.get(TEST_ASSET)
        connection.execute("DELETE FROM latest WHERE asset = ?", (TEST_ASSET,))
        connection.execute("DELETE FROM log WHERE id = ?", (position,))
    return found == [event.with_position(position)]
