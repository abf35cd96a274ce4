"""OpenFactoryFlaskApp: an OpenFactory app with a Flask web interface of its own.

Read `app` for what a user's class derives from, and `server` for the HTTP server behind it.
"""

from openfactory.flaskapp.__about__ import __version__
from openfactory.flaskapp.app import OpenFactoryFlaskApp

__all__ = ["OpenFactoryFlaskApp", "__version__"]
