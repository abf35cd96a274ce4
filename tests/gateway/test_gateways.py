"""The gateways themselves: they answer, come back at the same ports, and leave nothing behind."""

from __future__ import annotations

import http.client
import http.server
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from distributions import ROOT
from servers import (
    Gateway,
    NginxServer,
    NotOnThisMachineError,
    Route,
    ServerFailedError,
    TraefikServer,
    free_port,
    is_running,
)
from servers.ports import HOST, answers


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked, and with the headers that tell of a gateway."""

    def do_GET(self) -> None:
        names = sorted(name for name in self.headers if name.startswith("X-Forwarded"))
        said = " ".join([self.path, *(f"{name}={self.headers[name]}" for name in names)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def echo() -> Iterator[int]:
    """The port of a server that is no app."""
    with http.server.ThreadingHTTPServer((HOST, 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def ask(gateway: Gateway, host: str, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(HOST, gateway.port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_a_route_is_for_its_hosts_and_its_prefix_alone(gateway_kind: type[Gateway]) -> None:
    with echo() as port, gateway_kind([Route(port, ("a.test", "b.test"), "/a"), Route(port, ("c.test",))]) as gateway:
        for host, prefix in (("a.test", ""), ("b.test", ""), ("c.test", ""), ("localhost", "/a")):
            status, said = ask(gateway, host, f"{prefix}/x/?y=1")
            path, *told = said.split()
            assert (status, path) == (200, "/x/?y=1")
            assert f"X-Forwarded-Host={host}" in told
            assert ("X-Forwarded-Prefix=/a" in told) == (host == "localhost")
        for host, path in (("d.test", "/"), ("localhost", "/"), ("localhost", "/b/")):
            assert ask(gateway, host, path)[0] == 404


def test_it_comes_back_at_the_same_port_and_leaves_nothing(gateway_kind: type[Gateway]) -> None:
    with gateway_kind([Route(free_port(), ("a.test",))]) as gateway:
        folder, port, first_pid = gateway.folder, gateway.port, gateway.pid
        assert ask(gateway, "a.test", "/")[0] == 502
        gateway.kill()
        assert not is_running(first_pid)
        assert not answers(port)
        gateway.start()
        assert gateway.port == port
        assert ask(gateway, "a.test", "/")[0] == 502
        gateway.stop()
        assert not answers(port)
        gateway.start()
        last_pid = gateway.pid
    assert not is_running(last_pid)
    assert not answers(port)
    assert not answers(gateway.tls_port)
    assert not folder.exists()


def test_it_keeps_to_this_machine(gateway_kind: type[Gateway]) -> None:
    with gateway_kind([]) as gateway:
        for table in ("tcp", "tcp6"):
            lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
            for port in (gateway.port, gateway.tls_port):
                listening = [line.split()[1] for line in lines if line.split()[1].endswith(f":{port:04X}")]
                assert [address for address in listening if not address.startswith("0100007F:")] == []


def test_a_taken_port_is_said(gateway_kind: type[Gateway]) -> None:
    said = r"(?s)ended with status 1\. .*(?i:address already in use)"
    with (
        closing(gateway_kind([])) as gateway,
        socket.create_server((HOST, gateway.port)),
        pytest.raises(ServerFailedError, match=said),
    ):
        gateway.start()


def test_what_is_missing_is_said_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    find = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name == "nginx" else find(name, path=path))
    with closing(NginxServer([])) as gateway, pytest.raises(NotOnThisMachineError) as caught:
        gateway.start()
    assert str(caught.value) == "nginx is not installed. Install it: apt-get install nginx"
    assert gateway.log == ""


@pytest.mark.parametrize(
    "gateway_kind", [NginxServer, pytest.param(TraefikServer, marks=pytest.mark.thorough)], indirect=True
)
def test_the_command_puts_a_gateway_before_an_app(gateway_kind: type[Gateway]) -> None:
    with (
        echo() as port,
        subprocess.Popen(
            [sys.executable, "-m", "servers", gateway_kind.name, "/a", str(port)],
            cwd=ROOT / "scripts",
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        gateway_port = int(url.removeprefix("http://localhost:").removesuffix("/a/"))
        with closing(http.client.HTTPConnection(HOST, gateway_port, timeout=30)) as connection:
            connection.request("GET", "/a/x", headers={"Host": f"localhost:{gateway_port}"})
            assert connection.getresponse().read().startswith(b"/x ")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert not answers(gateway_port)
