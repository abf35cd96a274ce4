"""Apps: write a class, give it attributes and methods, and run it.

Read in this order: `attributes` and `methods` (what a class declares), `ofaapp` (the app), `lifecycle` and
`command_handler` (how an app stops, and how it runs commands), `cli` (the `ofa` command).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openfactory.apps.__about__ import __version__
from openfactory.apps.attributes import AttributeField, EventAttribute, SampleAttribute
from openfactory.apps.methods import ofa_method
from openfactory.apps.ofaapp import OpenFactoryApp

if TYPE_CHECKING:
    from openfactory.flaskapp import OpenFactoryFlaskApp as OpenFactoryFlaskApp

__all__ = [
    "AttributeField",
    "EventAttribute",
    "OpenFactoryApp",
    "SampleAttribute",
    "__version__",
    "ofa_method",
]


def __getattr__(name: str) -> Any:
    """Import `OpenFactoryFlaskApp` when it is first used, because it needs openfactory-flask."""
    if name == "OpenFactoryFlaskApp":
        from openfactory.apps.ofa_flask_app import OpenFactoryFlaskApp

        return OpenFactoryFlaskApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
