"""Run the checks of a factory concurrently, each for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from openfactory.concurrency.bounded import call_on_thread
from openfactory.doctor.broker import examine_broker, examine_log, examine_topics
from openfactory.doctor.clock import examine_clock
from openfactory.doctor.embedded import examine_embedded
from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.doctor.ksqldb import examine_ksqldb, ksqldb_server, prefix_of
from openfactory.doctor.live import examine_live
from openfactory.doctor.owners import examine_owners
from openfactory.engines.location import scheme_of
from openfactory.settings.redaction import redacted

__all__ = ["examine"]

# Healthy servers answer within a fraction of a second.
_CHECK_SECONDS = 15.0

_Check = Callable[[], Iterator[Finding]]


def examine(factory: Factory) -> list[Finding]:
    """Check each server that a factory needs, or its file, and write a test event; then look at the owners of assets.

    It takes less than 20 seconds, if the log of a Kafka need not be read for long.
    """
    checks: dict[str, _Check] = {}
    findings = [fine("environment", f"{redacted(factory.url)} uses {factory.engine}")]
    if factory.is_embedded:
        checks["file"] = lambda: examine_embedded(factory)
    else:
        checks["broker"] = lambda: _broker_and_topics(factory)
        if factory.ksqldb_url is not None:
            checks["ksqlDB"] = lambda: examine_ksqldb(factory)
        if factory.asset_router_url is not None:
            checks["asset router"] = lambda: examine_live(factory)
        checks["clock"] = lambda: examine_clock(factory)
    findings += run_checks(checks, _CHECK_SECONDS)
    is_well = not any(finding.status == "failed" for finding in findings)
    if is_well and scheme_of(factory.url) != "memory":  # whose apps are in the process of the caller
        findings += run_checks({"owners": lambda: examine_owners(factory)}, _CHECK_SECONDS)
    if not factory.is_embedded and factory.asset_router_url is None:
        findings.append(unchecked("asset router", "Not used: live events come from Kafka."))
    return findings


def run_checks(checks: dict[str, _Check], seconds: float) -> list[Finding]:
    """Run each check on a thread, and return the findings in the order of the checks.

    A check that raises, or does not end in time, counts as failed. Its findings until then are kept.

    Args:
        checks: functions that yield findings, by the name of the check.
        seconds: time for all checks together.
    """

    deadline = time.monotonic() + seconds
    found: dict[str, list[Finding]] = {name: [] for name in checks}

    def run(name: str) -> None:
        found[name].extend(checks[name]())

    running = {name: call_on_thread(f"openfactory-doctor-{name}", run, name) for name in checks}
    findings: list[Finding] = []
    for name, running_check in running.items():
        try:
            error = running_check.exception(max(deadline - time.monotonic(), 0))
        except TimeoutError:
            problem = (
                f"The check took more than {seconds:g} s. "
                "Check the network between this machine and the server, or the disk of the file."
            )
        else:
            problem = "" if error is None else f"The check raised {type(error).__name__}: {redacted(str(error))}"
        findings += list(found[name])  # also those of a check that goes on
        if problem:
            findings.append(failed(name, problem))
    return findings


def _broker_and_topics(factory: Factory) -> Iterator[Finding]:
    broker = list(examine_broker(factory))
    yield from broker
    if any(finding.status == "failed" for finding in broker):
        return
    prefix = factory.prefix
    if factory.ksqldb_url is not None:
        with ksqldb_server(factory) as server:
            prefix = prefix_of(factory, server)
    missing = yield from examine_topics(factory, prefix)
    if missing:
        yield unchecked("test event", "Not written, because topics are missing. Create them first.")
    else:
        yield from examine_log(factory, prefix)
