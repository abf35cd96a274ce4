"""Make a FastAPI app work behind a gateway that strips a path prefix, and without a gateway."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import Scope

from openfactory.apps.web.forwarded import FORWARDED_HEADERS, ForwardedHeaders

__all__ = ["follow_gateway"]

_HEADERS = {name.lower().encode(): name for name in FORWARDED_HEADERS}
_SCHEMES_OF_SOCKETS = {"http": "ws", "https": "wss"}


def follow_gateway(scope: Scope, root_path: str, headers: ForwardedHeaders) -> None:
    """Take the client's address, the scheme, the host and the prefix from the X-Forwarded headers of a gateway.

    The last value of each header counts, which the gateway sets. A last value of the wrong form is ignored, and the
    header is removed, so that the app does not read it either. A path without the prefix gets it, as ASGI requires:
    URLs of the request are made from it.

    Args:
        scope: request to change.
        root_path: prefix of a request without X-Forwarded-Prefix.
        headers: check of the headers.
    """
    if scope.get("client"):
        address, *port = scope["client"]  # a socket for both families gives an address of IPv4 a form of IPv6
        scope["client"] = (address.removeprefix("::ffff:") if "." in address else address, *port)
    forwarded = _checked(scope, headers)
    if address := forwarded.get("X-Forwarded-For"):
        scope["client"] = (address, 0)
    if scheme := forwarded.get("X-Forwarded-Proto"):
        scope["scheme"] = scheme if scope["type"] == "http" else _SCHEMES_OF_SOCKETS[scheme]
    if host := forwarded.get("X-Forwarded-Host"):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [*others, (b"host", host.encode("ascii"))]
    named = forwarded.get("X-Forwarded-Prefix", "").strip("/")
    prefix = "/".join(["", named or (scope.get("root_path") or root_path).strip("/")]).rstrip("/")
    scope["root_path"] = prefix
    plain = unquote(prefix)
    if f"{scope['path']}/".startswith(f"{plain}/"):  # the path has no escapes, but the prefix of URLs has
        scope["path"] = prefix + scope["path"][len(plain) :]
    elif not f"{scope['path']}/".startswith(f"{prefix}/"):
        scope["path"] = prefix + scope["path"]
        if raw_path := scope.get("raw_path"):
            scope["raw_path"] = prefix.encode() + raw_path


def _checked(scope: Scope, headers: ForwardedHeaders) -> dict[str, str]:
    """Return the valid values of the headers, and remove the headers whose values are not valid."""
    values: dict[str, str] = {}
    for header, value in scope["headers"]:
        if (name := _HEADERS.get(header)) is not None:
            values[name] = headers.last_value(name, value.decode("latin-1"))
    scope["headers"] = [pair for pair in scope["headers"] if values.get(_HEADERS.get(pair[0], ""), "kept")]
    return values
