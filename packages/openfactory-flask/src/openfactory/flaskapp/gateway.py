"""Make a Flask app work behind a gateway that strips a path prefix, and without a gateway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Config, Flask, has_request_context, request
from werkzeug.middleware.proxy_fix import ProxyFix

from openfactory.apps.web.forwarded import FORWARDED_HEADERS, ForwardedHeaders
from openfactory.settings import environment

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["GatewayMiddleware", "configure_for_gateway"]

_HEADERS = {f"HTTP_{name.upper().replace('-', '_')}": name for name in FORWARDED_HEADERS}


class GatewayMiddleware:
    """Middleware that takes the client's address, the scheme, the host and the prefix from the headers of a gateway.

    The last value of each X-Forwarded header counts, which the gateway sets. A last value of the wrong form is ignored,
    and the header is removed, so that the app does not read it either.

    Args:
        application: application to call.
        headers: check of the headers.
    """

    def __init__(self, application: WSGIApplication, headers: ForwardedHeaders) -> None:
        self._application = ProxyFix(application, x_for=1, x_proto=1, x_host=1, x_prefix=1)
        self._headers = headers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for variable, name in _HEADERS.items():
            if variable in environ:
                if value := self._headers.last_value(name, environ[variable]):
                    environ[variable] = value  # alone, as ProxyFix does not split at a comma after a quote
                else:
                    del environ[variable]
        return self._application(environ, start_response)


def configure_for_gateway(app: Flask) -> None:
    """Configure the prefix of a Flask app.

    In a request, the path of its cookies is the prefix of the request. Outside of a request, URLs have the prefix
    APPLICATION_ROOT, which becomes OPENFACTORY_ROOT_PATH unless the app sets it.
    """
    prefix = environment("OPENFACTORY_ROOT_PATH")
    if prefix is not None and app.config["APPLICATION_ROOT"] == "/":
        app.config["APPLICATION_ROOT"] = "/" + prefix.strip("/")
    _follow_prefix(app.config)


def _follow_prefix(config: Config) -> None:
    """Let each setting `…COOKIE_PATH` that the app does not set be the prefix of the request.

    Flask, and extensions such as Flask-Session and Flask-Login, read the path of their cookies from the configuration
    when they set one. An app may be reached under a prefix and under a host name of its own at the same time, for
    example in development. With a fixed path, a browser would not send the cookie back for both.
    """
    config_class = type(config)

    class PrefixedConfig(config_class):  # type: ignore[misc, valid-type]
        def __getitem__(self, key: str) -> Any:
            path = self._cookie_path(key)
            return super().__getitem__(key) if path is None else path

        def get(self, key: str, default: Any = None) -> Any:
            path = self._cookie_path(key)
            return super().get(key, default) if path is None else path

        def _cookie_path(self, key: str) -> str | None:
            if not key.endswith("COOKIE_PATH") or not has_request_context() or super().get(key) is not None:
                return None
            return request.script_root or "/"

    PrefixedConfig.__name__, PrefixedConfig.__qualname__ = config_class.__name__, config_class.__qualname__
    config.__class__ = PrefixedConfig  # the object stays the same, as extensions may have kept it
