"""The wait until the condition of an app is fulfilled, before the app is stopped or replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from openfactory.assets import Asset, Factory
from openfactory.deploy.conditions import Condition
from openfactory.exceptions import OpenFactoryError

__all__ = ["ConditionNotFulfilledError", "wait_until_fulfilled"]

# Seconds between two looks at the values, which the assets follow by themselves.
_SECONDS = 0.05


class ConditionNotFulfilledError(OpenFactoryError):
    """The condition of an app was not fulfilled in time, so the app was not touched.

    Attributes:
        condition: text of the condition.
    """

    def __init__(self, message: str, *, condition: str) -> None:
        super().__init__(message)
        self.condition = condition


def wait_until_fulfilled(
    factory: Factory,
    condition: Condition,
    timeout: float,
    report: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Wait until a condition on assets of a factory is fulfilled.

    Args:
        factory: factory of the assets.
        condition: the condition.
        timeout: seconds to wait.
        report: called with the reason of the wait, when it begins and when a value changes.
        check: called again and again; an error that it raises ends the wait.

    Raises:
        ConditionNotFulfilledError: the condition was not fulfilled in time.
    """
    deadline = time.monotonic() + timeout
    with ExitStack() as stack:
        uuids = dict.fromkeys(part.asset_uuid for part in condition.comparisons())
        assets = {uuid: stack.enter_context(factory.asset(uuid)) for uuid in uuids}

        def lookup(asset_uuid: str, attribute_id: str) -> Any:
            return _value(assets[asset_uuid], attribute_id)

        shown = ""
        while not condition.holds(lookup):
            values = condition.explain(lookup)
            if time.monotonic() >= deadline:
                raise ConditionNotFulfilledError(
                    f"The condition {condition.text!r} was not fulfilled within {timeout:g} s: {values}. "
                    "Try again later, give it a longer timeout in `when`, or override it with --now.",
                    condition=condition.text,
                )
            if values != shown:
                shown = values
                report(f"waits up to {timeout:g} s for {condition.text}: {values} (--now does not wait)")
            check()
            time.sleep(_SECONDS)


def _value(asset: Asset, attribute_id: str) -> Any:
    if attribute_id not in asset or attribute_id in asset.methods():
        return None
    return asset[attribute_id].value
