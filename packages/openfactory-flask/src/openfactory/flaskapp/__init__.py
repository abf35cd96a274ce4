"""OpenFactoryFlaskApp: an OpenFactory app with a Flask web interface.

Start with `app`, the base class of an app, and `http`, its web server. `gateway` has prefixes and cookies, `endpoints`
the pages of health and metrics, whose content is in `openfactory.apps.web`. Live pages use `server_sent_events`.
"""

from openfactory.apps.web.health import AppHealth
from openfactory.flaskapp.__about__ import __version__
from openfactory.flaskapp.app import OpenFactoryFlaskApp
from openfactory.flaskapp.current import current_ofa_app
from openfactory.flaskapp.server_sent_events import sse

__all__ = ["AppHealth", "OpenFactoryFlaskApp", "__version__", "current_ofa_app", "sse"]
