"""The web server of an app, which serves any WSGI application and imports nothing of the app.

Start with `server`. It opens its port with `listener`, keeps its `connections`, and runs a `request_handler` for each
of them on one of its `threads`. `body` is for the Flask app that it serves.
"""

from openfactory.flaskapp.http.body import strict_request_class
from openfactory.flaskapp.http.server import HttpServer

__all__ = ["HttpServer", "strict_request_class"]
