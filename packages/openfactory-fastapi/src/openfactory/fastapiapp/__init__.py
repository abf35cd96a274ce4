"""OpenFactoryFastAPIApp: an OpenFactory app with a FastAPI interface.

Start with `app`, the base class of an app, and `server`, its web server: uvicorn in the event loop of the app. Each
request passes through `middleware`, and `gateway` makes URLs right behind a prefix. The pages of health and metrics are
those of `openfactory.apps.web`. Live pages use `server_sent_events`, and pages with files `stored_files`.
"""

from openfactory.fastapiapp.__about__ import __version__
from openfactory.fastapiapp.app import OpenFactoryFastAPIApp
from openfactory.fastapiapp.server_sent_events import sse
from openfactory.fastapiapp.stored_files import send_stored_file

__all__ = ["OpenFactoryFastAPIApp", "__version__", "send_stored_file", "sse"]
