"""OpenFactoryFlaskApp: an OpenFactory app with a Flask web interface.

Start with `app`, the base class of an app, and `http`, its web server. Every app also has the parts in `gateway`
(prefixes, cookies), `health` and `metrics`. Live pages use `server_sent_events`.
"""

from openfactory.flaskapp.__about__ import __version__
from openfactory.flaskapp.app import OpenFactoryFlaskApp
from openfactory.flaskapp.current import current_ofa_app
from openfactory.flaskapp.health import AppHealth
from openfactory.flaskapp.server_sent_events import sse

__all__ = ["AppHealth", "OpenFactoryFlaskApp", "__version__", "current_ofa_app", "sse"]
