"""A pytest plugin: with CI=true a skipped test is a failed test.

A skip is a promise that the test runs somewhere else. There is no "somewhere else" after CI, so what is
skipped there is tested nowhere. A test that is expected to fail (xfail) did run and is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

_REMEDY = "CI runs every test: give it what it needs there, or remove it."


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI", "").lower() not in ("true", "1") or hasattr(report, "wasxfail"):
        return
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped in CI: {reason}\n{_REMEDY}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test, or a skip in one of its fixtures, into a failure."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a module that skips itself while it is collected into a failure."""
    report = yield
    _fail_if_skipped(report)
    return report
