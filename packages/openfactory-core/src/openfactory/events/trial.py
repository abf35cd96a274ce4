"""The test event of `ofa doctor`, of an asset that is in no list."""

from __future__ import annotations

import secrets

from openfactory.events.event import AssetEvent, new_event

__all__ = ["TEST_ASSET", "new_test_event"]

#: UUID of the asset of test events.
TEST_ASSET = "openfactory-doctor"


def new_test_event() -> AssetEvent:
    """Return an event with a value that no other test event has."""
    return new_event(TEST_ASSET, "test", secrets.token_hex(8), "Events", "Doctor.Test")
