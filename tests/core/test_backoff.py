"""The delays between attempts to reach a server grow up to a limit, and differ between processes."""

from __future__ import annotations

from openfactory.engines.fanout.backoff import Backoff


def test_delays_grow_up_to_a_limit_and_start_again() -> None:
    backoff = Backoff()
    longest = [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    for _ in range(2):
        delays = [backoff.next_delay() for _ in longest]
        assert all(limit / 2 <= delay <= limit for delay, limit in zip(delays, longest, strict=True)), delays
        backoff.reset()


def test_two_processes_do_not_wait_for_the_same_time() -> None:
    assert len({Backoff().next_delay() for _ in range(20)}) > 1
