"""Connections that can be cut, slowed and silenced: toxiproxy, built by Go."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from servers.fetching import fetched, go_beside
from servers.ports import HOST, answers, free_port
from servers.server import Server

__all__ = ["Proxy", "Toxiproxy"]

# The last one that Debian 12's Go builds.
_VERSION = "2.8.0"


class Toxiproxy(Server):
    """The server of all proxies; each is made by `proxy`."""

    name = "toxiproxy"

    def __init__(self, data_folder: Path | None = None) -> None:
        super().__init__(data_folder)
        self.port = free_port()

    def proxy(self, upstream: str) -> Proxy:
        """A port of its own that passes everything on to `upstream`, a host and port that need not answer yet."""
        proxy = Proxy(self, f"{HOST}:{free_port()}")
        self.ask("POST", "/proxies", name=proxy.address, listen=proxy.address, upstream=upstream, enabled=True)
        return proxy

    def ask(self, method: str, path: str, **fields: Any) -> Any:
        """What its HTTP interface answers."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}{path}",
            method=method,
            data=json.dumps(fields).encode() if fields else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def _prepare(self) -> None:
        """It has no settings, and forgets its proxies when it ends."""

    def _command(self) -> list[str]:
        return [str(fetched(f"toxiproxy-{_VERSION}", _build)), "-host", HOST, "-port", str(self.port)]

    def _is_ready(self) -> bool:
        return answers(self.port)


class Proxy:
    """One connection point, at `address`; also a context manager, which removes it."""

    def __init__(self, server: Toxiproxy, address: str) -> None:
        self._server = server
        self.address = address

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._server.ask("POST", f"/proxies/{self.address}", enabled=False)

    def silence(self) -> None:
        """Let nothing through in either direction: connections stay open, and are taken, and nobody answers."""
        self._poison("timeout", timeout=0)

    def slow(self, seconds: float) -> None:
        """Hold everything back for so long, in each direction."""
        self._poison("latency", latency=round(seconds * 1000))

    def restore(self) -> None:
        """Pass everything on again; connections that were silenced are ended."""
        for toxic in self._server.ask("GET", f"/proxies/{self.address}/toxics"):
            self._server.ask("DELETE", f"/proxies/{self.address}/toxics/{toxic['name']}")
        self._server.ask("POST", f"/proxies/{self.address}", enabled=True)

    def close(self) -> None:
        """Remove it, with its connections."""
        self._server.ask("DELETE", f"/proxies/{self.address}")

    def _poison(self, kind: str, **attributes: int) -> None:
        for stream in ("upstream", "downstream"):
            self._server.ask(
                "POST",
                f"/proxies/{self.address}/toxics",
                name=f"{kind}_{stream}",
                type=kind,
                stream=stream,
                attributes=attributes,
            )


def _build(binary: Path) -> None:
    with go_beside(binary) as go:
        go.run("install", "-modcacherw", f"github.com/Shopify/toxiproxy/v2/cmd/server@v{_VERSION}")
        (go.folder / "bin" / "server").rename(binary)
