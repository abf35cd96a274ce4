"""OpenFactoryFlaskApp: an OpenFactory app with a Flask web interface.

Start with `app`, the base class of an app, and `http`, its web server. Each request passes through `gateway`, which has
prefixes and cookies, and `middleware`, which has the pages of health and metrics; their content is in
`openfactory.apps.web`. Live pages use `server_sent_events`, and pages with files `stored_files`.
"""

from openfactory.apps.operations.health import AppHealth
from openfactory.flaskapp.__about__ import __version__
from openfactory.flaskapp.app import OpenFactoryFlaskApp
from openfactory.flaskapp.current import current_ofa_app
from openfactory.flaskapp.server_sent_events import sse
from openfactory.flaskapp.stored_files import send_stored_file

__all__ = ["AppHealth", "OpenFactoryFlaskApp", "__version__", "current_ofa_app", "send_stored_file", "sse"]
