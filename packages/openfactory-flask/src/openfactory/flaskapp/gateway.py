"""Make a Flask app work behind a gateway that strips a path prefix, and without a gateway."""

from __future__ import annotations

from flask import Flask, has_request_context, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix

from openfactory.settings import environment

__all__ = ["configure_for_gateway"]


def configure_for_gateway(app: Flask) -> None:
    """Take the client's address, the scheme, the host and the prefix from the X-Forwarded headers of a gateway.

    The last value of each header counts, which the gateway sets. In a request, URLs and the path of the session cookie
    have the prefix of the request. Outside of a request, URLs have the prefix APPLICATION_ROOT, which becomes
    OPENFACTORY_ROOT_PATH unless the app sets it.
    """
    prefix = environment("OPENFACTORY_ROOT_PATH")
    if prefix is not None and app.config["APPLICATION_ROOT"] == "/":
        app.config["APPLICATION_ROOT"] = "/" + prefix.strip("/")
    if type(app.session_interface) is SecureCookieSessionInterface:  # the app has not set another interface
        app.session_interface = _SessionCookie()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]


class _SessionCookie(SecureCookieSessionInterface):
    """Flask's session interface, with the prefix of the request as the path of the cookie.

    An app may be reached under a prefix and under a host name of its own at the same time, for example in development.
    With a fixed path, a browser would not send the cookie back for both.
    """

    def get_cookie_path(self, app: Flask) -> str:
        configured: str | None = app.config["SESSION_COOKIE_PATH"]
        if configured is not None or not has_request_context():
            return super().get_cookie_path(app)
        return request.script_root or "/"
