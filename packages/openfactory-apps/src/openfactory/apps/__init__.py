"""Apps: write a class, give it attributes and methods, and run it.

Read in this order: `attributes` and `methods` (what a class declares), `ofaapp` (the app), `lifecycle`, `signals` and
`command_handler` (how an app stops, and how it runs commands), `web` (what apps with web pages have in common), `cli`
(the `ofa` command).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openfactory.apps.__about__ import __version__
from openfactory.apps.attributes import AttributeField, EventAttribute, SampleAttribute
from openfactory.apps.methods import ofa_method
from openfactory.apps.ofaapp import OpenFactoryApp

if TYPE_CHECKING:
    from openfactory.fastapiapp import OpenFactoryFastAPIApp as OpenFactoryFastAPIApp
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
    """Import an app class with web pages when it is first used, because it needs a distribution of its own."""
    if name == "OpenFactoryFlaskApp":
        from openfactory.apps.ofa_flask_app import OpenFactoryFlaskApp

        return OpenFactoryFlaskApp
    if name == "OpenFactoryFastAPIApp":
        from openfactory.apps.ofa_fastapi_app import OpenFactoryFastAPIApp

        return OpenFactoryFastAPIApp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
