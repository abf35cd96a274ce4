"""Tests that change something outside of this machine run only where they are asked for."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on the cluster of KUBECONFIG, unless `-m kubernetes` asks for them."""
    if "kubernetes" in (config.option.markexpr or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("kubernetes")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
