"""OpenFactoryFlaskApp: an OpenFactory app with a Flask web interface of its own.

Read `app` for what a user's class derives from and `server` for the HTTP server behind it; then what every such app
has: `gateway` (prefixes, cookies), `health` and `metrics`, and `server_sent_events` for live pages.
"""

from openfactory.flaskapp.__about__ import __version__
from openfactory.flaskapp.app import OpenFactoryFlaskApp
from openfactory.flaskapp.current import current_ofa_app
from openfactory.flaskapp.server_sent_events import sse

__all__ = ["OpenFactoryFlaskApp", "__version__", "current_ofa_app", "sse"]
