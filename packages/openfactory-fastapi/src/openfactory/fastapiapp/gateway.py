"""Make a FastAPI app work behind a gateway that strips a path prefix, and without a gateway."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["follow_gateway"]


def follow_gateway(scope: Scope, root_path: str) -> None:
    """Take the client's address, the scheme, the host and the prefix from the X-Forwarded headers of a gateway.

    The last value of each header counts, which the gateway sets. A path without the prefix gets it, as ASGI requires:
    URLs of the request are made from it.

    Args:
        scope: request to change.
        root_path: prefix of a request without X-Forwarded-Prefix.
    """
    forwarded = {
        name: value.rpartition(b",")[2].strip().decode("latin-1")
        for name, value in scope["headers"]
        if name.startswith(b"x-forwarded-")
    }
    if address := forwarded.get(b"x-forwarded-for"):
        scope["client"] = (address, 0)
    if scheme := forwarded.get(b"x-forwarded-proto"):
        scope["scheme"] = scheme if scope["type"] == "http" else {"http": "ws", "https": "wss"}.get(scheme, scheme)
    if host := forwarded.get(b"x-forwarded-host"):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [*others, (b"host", host.encode("latin-1"))]
    named = forwarded.get(b"x-forwarded-prefix", "").strip("/")
    prefix = "/".join(["", named or (scope.get("root_path") or root_path).strip("/")]).rstrip("/")
    scope["root_path"] = prefix
    if not f"{scope['path']}/".startswith(f"{prefix}/"):
        scope["path"] = prefix + scope["path"]
        if raw_path := scope.get("raw_path"):
            scope["raw_path"] = prefix.encode() + raw_path
