"""What could not be written is kept for the next flush, told to the hooks, and logged in few lines."""

from __future__ import annotations

import logging
import threading

import pytest

from openfactory.engines.failures import DeliveryFailures
from openfactory.events.event import AssetEvent
from openfactory.exceptions import DeliveryError, OpenFactoryError


def event(number: int) -> AssetEvent:
    return AssetEvent("MILL", f"x{number}", number, "Events", "Test", "2026-01-01T00:00:00.000Z")


@pytest.fixture
def failures() -> DeliveryFailures:
    return DeliveryFailures()


def test_nothing_is_raised_where_nothing_failed(failures: DeliveryFailures) -> None:
    failures.raise_if_any()


def test_flush_raises_what_has_failed_once(failures: DeliveryFailures) -> None:
    reason = OSError("no room")
    failures.add([event(1)], 1, reason)
    failures.add([event(2), event(3)], 2, OSError("still no room"))
    with pytest.raises(DeliveryError, match=r"3 events were not written, first MILL\.x1: still no room") as raised:
        failures.raise_if_any()
    assert [one.value for one in raised.value.events] == [1, 2, 3]
    assert isinstance(raised.value.__cause__, OSError)
    failures.raise_if_any()


def test_receipt_is_told_the_cause(failures: DeliveryFailures) -> None:
    reason = OSError("no room")
    failure = failures.add([event(1)], 1, reason)
    assert failure.__cause__ is reason
    assert "no room" in str(failure)
    assert list(failure.events) == [event(1)]


def test_what_is_no_event_is_counted(failures: DeliveryFailures) -> None:
    failures.add([], 1, OSError("no room"))
    with pytest.raises(DeliveryError, match="1 events were not written, first a registration"):
        failures.raise_if_any()


def test_so_many_are_kept_and_all_are_counted(failures: DeliveryFailures) -> None:
    for number in range(1_500):
        failures.add([event(number)], 1, OSError("no room"))
    with pytest.raises(DeliveryError, match="1500 events") as raised:
        failures.raise_if_any()
    assert [one.value for one in raised.value.events] == list(range(1_000))


def test_thousands_of_failures_are_few_lines(failures: DeliveryFailures, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        for number in range(1_000):
            failures.add([event(number)], 1, OSError("no room"))
    assert 1 <= len(caplog.records) <= 10


def test_hooks_hear_each_event_although_one_of_them_raises(
    failures: DeliveryFailures, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[object, OpenFactoryError]] = []

    def fail(_: AssetEvent, __: OpenFactoryError) -> None:
        raise ValueError("on purpose")

    failures.on_delivery_error(fail)
    failures.on_delivery_error(lambda one, error: told.append((one.value, error)))
    failure = failures.add([event(1), event(2)], 2, OSError("no room"))
    failures.call_hooks([event(1), event(2)], failure)
    assert told == [(1, failure), (2, failure)]
    assert caplog.text.count("a hook for failed deliveries, raised") == 2


def test_hook_may_ask_what_failed(failures: DeliveryFailures) -> None:
    """A hook that flushes, or has another hook told, waits for no lock."""
    raised: list[DeliveryError] = []

    def flush(_: AssetEvent, __: OpenFactoryError) -> None:
        try:
            failures.raise_if_any()
        except DeliveryError as error:
            raised.append(error)
        failures.on_delivery_error(lambda *_: None)

    failures.on_delivery_error(flush)
    failure = failures.add([event(1)], 1, OSError("no room"))
    calling = threading.Thread(target=failures.call_hooks, args=([event(1)], failure), daemon=True)
    calling.start()
    calling.join(60)
    assert not calling.is_alive()
    assert len(raised) == 1


def test_no_failure_of_many_threads_is_forgotten(failures: DeliveryFailures) -> None:
    def fail() -> None:
        for number in range(200):
            failures.add([event(number)], 1, OSError("no room"))

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pytest.raises(DeliveryError, match="800 events"):
        failures.raise_if_any()
