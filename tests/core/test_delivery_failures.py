"""What could not be written is kept until its writer is told, passed to the hooks, and logged in few lines."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from openfactory.concurrency.strand import current_strand
from openfactory.engines.failures import DeliveryFailures, UntoldFailures
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError, OpenFactoryError


def event(number: int) -> AssetEvent:
    return AssetEvent("MILL", f"x{number}", number, "Events", "Test", "2026-01-01T00:00:00.000Z")


def write(number: int, *, is_event: bool = True) -> Receipt:
    """A write of this thread."""
    return Receipt(number, lambda *_: True, event(number) if is_event else None, current_strand())


@pytest.fixture
def failures() -> DeliveryFailures:
    return DeliveryFailures()


def test_nothing_is_raised_where_nothing_failed(failures: DeliveryFailures) -> None:
    failures.raise_if_any(of_others=True)


def test_flush_raises_what_has_failed_once(failures: DeliveryFailures) -> None:
    failures.settle([write(1)], OSError("no room"))
    failures.settle([write(2), write(3)], OSError("still no room"))
    with pytest.raises(DeliveryError, match=r"3 events were not written \(MILL\.x1, .*\): still no room") as raised:
        failures.raise_if_any(of_others=True)
    assert [one.value for one in raised.value.events] == [1, 2, 3]
    assert isinstance(raised.value.__cause__, OSError)
    failures.raise_if_any(of_others=True)


def test_receipt_is_told_the_cause(failures: DeliveryFailures) -> None:
    reason, first, second = OSError("no room"), write(1), write(2)
    failures.settle([first, second], reason)
    for one in (first, second):
        failure = one.error
        assert isinstance(failure, DeliveryError)
        assert failure.__cause__ is reason
        assert "no room" in str(failure)
        assert list(failure.events) == [one.event]


def test_what_is_no_event_is_counted(failures: DeliveryFailures) -> None:
    failures.settle([write(1, is_event=False)], OSError("no room"))
    with pytest.raises(DeliveryError, match=r"1 events were not written \(a registration\)"):
        failures.raise_if_any(of_others=True)


def test_so_many_are_kept_and_all_are_counted(failures: DeliveryFailures) -> None:
    for number in range(1_500):
        failures.settle([write(number)], OSError("no room"))
    with pytest.raises(DeliveryError, match="1500 events") as raised:
        failures.raise_if_any(of_others=True)
    assert [one.value for one in raised.value.events] == list(range(1_000))


def test_thousands_of_failures_are_few_lines(failures: DeliveryFailures, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        for number in range(1_000):
            failures.settle([write(number)], OSError("no room"))
    assert 1 <= len(caplog.records) <= 10


def test_failures_of_threads_that_have_ended_are_kept_in_one_place() -> None:
    """A server may have a thread for each request, and nobody may ever flush."""
    failures = UntoldFailures()
    for number in range(300):
        with ThreadPoolExecutor(1) as thread:
            failed = thread.submit(write, number).result(60)
        failed.error = DeliveryError("no room")
        failures.add([failed])
    assert len(failures._by_strand) < 100
    with pytest.raises(DeliveryError, match="300 events"):
        failures.raise_if_any(of_others=False)


def test_hooks_hear_each_event_although_one_of_them_raises(
    failures: DeliveryFailures, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[object, OpenFactoryError]] = []

    def fail(_: AssetEvent, __: OpenFactoryError) -> None:
        raise ValueError("on purpose")

    failures.on_delivery_error(fail)
    failures.on_delivery_error(lambda one, error: told.append((one.value, error)))
    writes = [write(1), write(2)]
    failures.settle(writes, OSError("no room"))
    failures.call_hooks(writes)
    assert told == [(1, writes[0].error), (2, writes[1].error)]
    assert caplog.text.count("a hook for failed deliveries, raised") == 2


def test_hook_may_ask_what_failed(failures: DeliveryFailures) -> None:
    """A hook that flushes, or has another hook told, waits for no lock."""
    raised: list[DeliveryError] = []

    def flush(_: AssetEvent, __: OpenFactoryError) -> None:
        try:
            failures.raise_if_any(of_others=True)
        except DeliveryError as error:
            raised.append(error)
        failures.on_delivery_error(lambda *_: None)

    failures.on_delivery_error(flush)
    failed = write(1)
    failures.settle([failed], OSError("no room"))
    calling = threading.Thread(target=failures.call_hooks, args=([failed],), daemon=True)
    calling.start()
    calling.join(60)
    assert not calling.is_alive()
    assert len(raised) == 1


def test_no_failure_of_many_threads_is_forgotten(failures: DeliveryFailures) -> None:
    def fail() -> None:
        for number in range(200):
            failures.settle([write(number)], OSError("no room"))

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pytest.raises(DeliveryError, match="800 events"):
        failures.raise_if_any(of_others=False)
