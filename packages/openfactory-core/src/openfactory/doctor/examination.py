"""The checks of a factory, side by side, each for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from openfactory.doctor.broker import examine_broker, examine_topics
from openfactory.doctor.clock import examine_clock
from openfactory.doctor.embedded import examine_embedded
from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.doctor.ksqldb import examine_ksqldb, ksqldb_server, prefix_of
from openfactory.doctor.live import examine_live
from openfactory.settings.credentials import redacted

__all__ = ["examine"]

# How long one part may take. Servers that answer at all take a fraction of a second.
_PART_SECONDS = 15.0

_Part = Callable[[], Iterator[Finding]]


def examine(factory: Factory) -> list[Finding]:
    """Look at all parts of a factory; it changes nothing, and takes less than 20 seconds."""
    parts: dict[str, _Part] = {}
    findings = [fine("environment", f"{redacted(factory.url)} is {factory.engine}")]
    if factory.is_embedded:
        parts["file"] = lambda: examine_embedded(factory)
    else:
        parts["broker"] = lambda: _broker_and_topics(factory)
        if factory.ksqldb_url is not None:
            parts["ksqlDB"] = lambda: examine_ksqldb(factory)
        if factory.asset_router_url is not None:
            parts["asset router"] = lambda: examine_live(factory)
        parts["clock"] = lambda: examine_clock(factory)
    findings += side_by_side(parts, _PART_SECONDS)
    if not factory.is_embedded and factory.asset_router_url is None:
        findings.append(unchecked("asset router", "There is none: live events come from Kafka itself."))
    return findings


def side_by_side(parts: dict[str, _Part], seconds: float) -> list[Finding]:
    """What the parts find, in their order; one that takes longer has found that."""
    found: dict[str, list[Finding]] = {}

    def look(name: str, part: _Part) -> None:
        try:
            found[name] = list(part())
        except Exception as error:  # noqa: BLE001 - one part that breaks hides nothing of the others
            found[name] = [failed(name, f"It cannot be checked: {type(error).__name__}: {redacted(str(error))}")]

    threads = [
        threading.Thread(target=look, args=one, name=f"openfactory-doctor-{one[0]}", daemon=True)
        for one in parts.items()
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    slow = f"It took more than {seconds:g} s. Look at the network between this machine and it."
    return [finding for name in parts for finding in found.get(name, [failed(name, slow)])]


def _broker_and_topics(factory: Factory) -> Iterator[Finding]:
    broker = list(examine_broker(factory))
    yield from broker
    if any(finding.status == "failed" for finding in broker):
        return
    prefix = factory.prefix
    if factory.ksqldb_url is not None:
        with ksqldb_server(factory) as server:
            prefix = prefix_of(factory, server)
    yield from examine_topics(factory, prefix)
