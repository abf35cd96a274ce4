"""The web server of an app, which serves any WSGI application and imports nothing of the app.

Start with `server`. Its loop (`waiting`) accepts each `connection`, and reads the `request_head`. One of its `threads`
answers the request: `exchange` calls the application with the `request_body`, and sends the `response`. `connections`
says how many there may be. `body` and `is_taken` are for the Flask app that it serves.
"""

from openfactory.flaskapp.http.body import strict_request_class
from openfactory.flaskapp.http.exchange import is_taken
from openfactory.flaskapp.http.server import HttpServer

__all__ = ["HttpServer", "is_taken", "strict_request_class"]
