"""What makes a Flask app right behind a gateway that strips a path prefix, and right without one at the same time."""

from __future__ import annotations

from flask import Flask, has_request_context, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix

from openfactory.settings import environment

__all__ = ["stand_behind_gateway"]


def stand_behind_gateway(app: Flask) -> None:
    """Take the client's address, the scheme, the host and the prefix as the gateway tells them.

    Of each X-Forwarded header the last value counts, which the gateway has set. APPLICATION_ROOT becomes
    OPENFACTORY_ROOT_PATH unless the app has set it; it counts where there is no request. Within a request the prefix is
    that of the request, in addresses and in the path of the session cookie.
    """
    prefix = environment("OPENFACTORY_ROOT_PATH")
    if prefix is not None and app.config["APPLICATION_ROOT"] == "/":
        app.config["APPLICATION_ROOT"] = "/" + prefix.strip("/")
    if type(app.session_interface) is SecureCookieSessionInterface:  # a user's own interface decides for itself
        app.session_interface = _SessionCookie()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]


class _SessionCookie(SecureCookieSessionInterface):
    """Flask's sessions; the cookie is for the prefix by which the request came.

    With one path for all, a browser that comes by another way would never send it back: in development an app is
    reached under a prefix and under a host name of its own at once.
    """

    def get_cookie_path(self, app: Flask) -> str:
        configured: str | None = app.config["SESSION_COOKIE_PATH"]
        if configured is not None or not has_request_context():
            return super().get_cookie_path(app)
        return request.script_root or "/"
