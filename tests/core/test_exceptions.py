"""The tree of errors is as its docstring draws it, and every error carries its facts."""

from __future__ import annotations

import builtins
import pickle
import re
from collections.abc import Iterator

import pytest

from openfactory import exceptions
from openfactory.assets import AssetAttribute  # noqa: F401 - so that every module with an error is loaded
from openfactory.kafka.ksql import KSQLDBClientException


def drawn() -> Iterator[tuple[int, str, str | None, str | None]]:
    """Each line of the drawing: depth, name, other name, built-in parent."""
    for line in (exceptions.__doc__ or "").splitlines():
        found = re.match(r"([ │├└─]*)(\w+)(?:, also named (\w+))?(?:\s+\(an? (\w+)\))?$", line)
        if found and hasattr(exceptions, found[2]):
            yield len(found[1]) // 4, found[2], found[3], found[4]


def test_the_drawing_is_the_tree() -> None:
    above: list[type[BaseException]] = [Exception]
    names = set()
    for depth, name, other_name, builtin in drawn():
        error: type[BaseException] = getattr(exceptions, name)
        parents: list[type[BaseException]] = [above[depth]]
        if builtin is not None:
            parents.append(getattr(builtins, builtin))
        assert list(error.__bases__) == parents, name
        names |= {name, other_name} - {None}
        if other_name is not None:
            assert getattr(exceptions, other_name) is error
        above[depth + 1 :] = [error]
    assert names == set(exceptions.__all__)


def test_every_error_of_the_core_is_below_the_root() -> None:
    assert issubclass(KSQLDBClientException, exceptions.OpenFactoryError)


def test_the_names_of_openfactory_are_there() -> None:
    assert exceptions.OFAException is exceptions.OpenFactoryError
    assert exceptions.OFAConfigurationException is exceptions.ConfigurationError


ERRORS = [
    (
        exceptions.InvalidEventError("text", asset_uuid="MILL", attribute_id="x"),
        {"asset_uuid": "MILL", "attribute_id": "x"},
    ),
    (exceptions.EngineUnavailableError("text", address="sqlite:///x"), {"address": "sqlite:///x"}),
    (exceptions.QueryError("text", statement="SELECT"), {"statement": "SELECT"}),
    (exceptions.DeliveryError("text", events=[1, 2]), {"events": (1, 2)}),
    (exceptions.DeliveryTimeout("text", pending=3), {"pending": 3}),
    (
        exceptions.CommandTimeout("text", asset_uuid="MILL", method="move", correlation_id="7", timeout=1.5),
        {"asset_uuid": "MILL", "method": "move", "correlation_id": "7", "timeout": 1.5},
    ),
    (
        exceptions.CommandRejected("text", asset_uuid="MILL", method="move", correlation_id="7"),
        {"asset_uuid": "MILL", "method": "move", "correlation_id": "7"},
    ),
]


@pytest.mark.parametrize(("error", "facts"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_carries_its_facts(error: Exception, facts: dict[str, object]) -> None:
    assert str(error) == "text"
    assert {name: getattr(error, name) for name in facts} == facts


@pytest.mark.parametrize(("error", "facts"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_survives_the_way_to_another_process(error: Exception, facts: dict[str, object]) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "text"
    assert {name: getattr(again, name) for name in facts} == facts
