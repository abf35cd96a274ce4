"""A token server of the tests: it gives unsigned tokens to those who know the secret (OAuth 2, client credentials)."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus

from servers import Certificates

__all__ = ["OidcStandIn"]


class OidcStandIn:
    """Serves `POST /token` on 127.0.0.1; as a context manager it runs within the block.

    Args:
        certificates: what it proves itself with; without any it speaks HTTP.

    Attributes:
        client_id, client_secret: who is given a token.
        lifetime: for how long a token is good, in seconds; it may be over already.
        scopes: the scope of each request that was answered with a token.
    """

    client_id = "press-line"
    client_secret = "client-secret-of-the-tests"

    def __init__(self, certificates: Certificates | None = None) -> None:
        self.lifetime = 3600.0
        self.scopes: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.stand_in = self  # type: ignore[attr-defined]
        self._scheme = "http"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate_file, certificates.key_file)
            # The handshake belongs to the thread of the connection: a client that refuses it must not stop others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="oidc-stand-in")

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, login: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        if login != f"{self.client_id}:{self.client_secret}" or form.get("grant_type") != ["client_credentials"]:
            return 401, {"error": "invalid_client", "error_description": "no such client, or another secret"}
        self.scopes.append(form.get("scope", [""])[0])
        return 200, {"access_token": self._token(), "token_type": "Bearer", "expires_in": int(self.lifetime)}

    def _token(self) -> str:
        now = time.time()
        issued = min(now, now + self.lifetime - 60)
        claims = {"sub": self.client_id, "iat": int(issued), "exp": int(now + self.lifetime), "scope": "kafka"}
        return f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{_encoded(claims)}."


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        stand_in: OidcStandIn = self.server.stand_in  # type: ignore[attr-defined]
        _, _, encoded = self.headers.get("Authorization", "").partition(" ")
        # As the standard has it, both parts are encoded as in a form before they are joined.
        login = unquote_plus(base64.b64decode(encoded).decode())
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        status, content = stand_in.answer(login, form)
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _encoded(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
