"""Tasks run after those that they need, beside each other, and not after one that has failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.deploy.ordering import run_in_order
from openfactory.exceptions import ConfigurationError

NAMES = "abcdefg"


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=8, max_size=20),
    st.sets(st.sampled_from(NAMES), max_size=2),
)
def test_the_order_is_kept_and_failures_skip_those_that_need_them(
    edges: list[tuple[str, str]], failing: set[str]
) -> None:
    after: dict[str, set[str]] = {}
    for one, other in edges:
        if one > other:  # without circles
            after.setdefault(one, set()).add(other)
    done: list[str] = []
    skipped: dict[str, str] = {}

    def task(name: str) -> Callable[[], bool]:
        def run() -> bool:
            assert after.get(name, set()) <= set(done) - failing
            done.append(name)
            return name not in failing

        return run

    run_in_order({name: task(name) for name in NAMES}, after, skipped.__setitem__)
    expected: set[str] = set()
    for name in NAMES:
        if after.get(name, set()) & (failing | expected):
            expected.add(name)
    assert skipped.keys() == expected
    assert sorted(done) == sorted(set(NAMES) - expected)


def test_independent_tasks_run_beside_each_other() -> None:
    together = threading.Barrier(3)

    def run() -> bool:
        together.wait(60)
        return True

    run_in_order(dict.fromkeys("abc", run), {}, lambda *_: None)


def test_a_circle_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="a, b wait for each other"):
        run_in_order(dict.fromkeys("abc", lambda: True), {"a": {"b"}, "b": {"a"}}, lambda *_: None)


def test_an_error_ends_the_call_after_the_running_tasks() -> None:
    cancelled = threading.Event()
    ended = threading.Event()

    def slow() -> bool:
        assert cancelled.wait(60)
        time.sleep(0.01)
        ended.set()
        return True

    def wrong() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_in_order({"slow": slow, "wrong": wrong}, {}, lambda *_: None, cancelled.set)
    assert ended.is_set()
