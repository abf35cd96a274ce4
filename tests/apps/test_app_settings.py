"""The environment variables that openfactory-apps declares."""

from __future__ import annotations

from openfactory.apps.settings import VARIABLES
from openfactory.settings import VARIABLES as ALL

DEFAULTS = {
    "APP_GENERATION": None,
    "APP_TAKE_OVER": "0",
    "APPLICATION_LICENSE": "BSD-3-Clause license",
    "APPLICATION_MANUFACTURER": "OpenFactoryIO",
    "APPLICATION_VERSION": "latest",
    "COMMAND_WINDOW": "10",
    "OPENFACTORY_HOST": "0.0.0.0",
    "OPERATIONS_PORT": None,
    "STORAGE": None,
    "SWARM_REPLICAS": "1",
    "SWARM_TASK_SLOT": None,
}


def test_the_defaults_are_those_of_the_pages() -> None:
    assert {variable.name: variable.default for variable in VARIABLES} == DEFAULTS


def test_they_are_in_the_table_of_all_variables() -> None:
    assert all(ALL[variable.name] is variable for variable in VARIABLES)
