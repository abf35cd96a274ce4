"""Real servers of files on the loopback: S3 by moto in a process of its own, SFTP by OpenSSH; and a wire to cut."""

from __future__ import annotations

import gc
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import botocore.session
import paramiko
import pytest

_START_SECONDS = 60.0


class Wire:
    """Hands on what goes to a server and comes from it, until it is cut or silent."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._cut_after: int | None = None
        self._mended = True
        self._silent = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut_after(self, bytes_up: int) -> None:
        """Cut what is connected when so much more went to the server; what connects then is cut at once."""
        self._cut_after = bytes_up

    def mend(self) -> None:
        self._cut_after, self._mended, self._silent = None, True, False

    def silence(self) -> None:
        """Hand on nothing any more, and close nothing: as when a cable is pulled."""
        self._silent = True

    def close(self) -> None:
        self._listening.close()
        self._cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                if not self._mended:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._to_port))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._pairs.append((client, server))
                threading.Thread(target=self._carry, args=(client, server), name="wire", daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while True:
                for source in select.select([client, server], [], [], 10)[0]:
                    data = source.recv(16_384)
                    if not data:
                        return self._end(client, server)
                    while self._silent:
                        time.sleep(0.01)  # it is no condition that is waited for, but nothing that comes
                    (server if source is client else client).sendall(data)
                    if source is client and self._cut_after is not None:
                        self._cut_after -= len(data)
                        if self._cut_after <= 0:
                            self._mended = False
                            self._cut()
        return self._end(client, server)

    def _cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._end(*pair)

    def _end(self, *pair: socket.socket) -> None:
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def wire_to() -> Iterator[Callable[[int], Wire]]:
    """A wire to a port of this machine."""
    wires: list[Wire] = []

    def lay(port: int) -> Wire:
        wires.append(Wire(port))
        return wires[-1]

    yield lay
    for wire in wires:
        wire.close()


# S3


@dataclass(frozen=True)
class S3Server:
    port: int

    def settings(self, place: str, *, port: int | None = None, **options: Any) -> dict[str, Any]:
        """The settings of a storage at `bucket/folder`."""
        endpoint = f"http://127.0.0.1:{port or self.port}"
        login = {"key": "test-access-key", "secret": "test-secret-key"}
        return {
            "type": "fsspec",
            "url": f"s3://{place}",
            "options": {"endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}} | login | options,
        }

    def put(self, place: str, content: bytes = b"") -> None:
        """Put an object, or make a bucket, as another client of the server."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{place}", data=content, method="PUT")
        request.add_header("Content-Type", "application/octet-stream")  # else it is taken for a form
        with urllib.request.urlopen(request, timeout=30):
            pass

    def require_logins(self, after_requests: int) -> None:
        """Let in only those whom it knows, from some request on; nobody, as it knows none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/moto-api/reset-auth",
            data=str(after_requests).encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


@pytest.fixture(scope="session", autouse=True)
def s3_models_are_read_once() -> Iterator[None]:
    """Share what botocore reads of S3: each connection of s3fs would read it anew, which takes half a second of CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="module", autouse=True)
def clients_end() -> Iterator[None]:
    """Collect the clients of a file's storages, which complain that nobody closed them, before other tests run."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of S3, whose buckets are in its memory."""
    log = tmp_path_factory.mktemp("s3") / "log"
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (
        log.open("wb") as output,
        _running(
            [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(port)], output, environment
        ) as process,
    ):
        _wait_for(process, port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/", log)
        yield S3Server(port)


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A bucket of its own, empty."""
    name = f"bucket-{uuid4().hex}"
    s3_server.put(name)
    return name


# SFTP


@dataclass(frozen=True)
class SFTPServer:
    port: int
    key: Path
    process: int
    log: Path

    def settings(self, folder: Path, *, port: int | None = None, **options: Any) -> dict[str, Any]:
        """The settings of a storage in a folder of this machine, as the server shows it."""
        login = {"username": pwd.getpwuid(os.getuid()).pw_name, "key_filename": str(self.key)}
        quick = {"look_for_keys": False, "allow_agent": False}
        return {
            "type": "fsspec",
            "url": f"sftp://127.0.0.1{folder}",
            "options": {"port": port or self.port} | login | quick | options,
        }

    def kill_sessions(self) -> int:
        """End the processes that serve a connection; how many these are."""
        found = _children(self.process)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(found)


@pytest.fixture(scope="session")
def sftp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTPServer]:
    """OpenSSH's server, with keys and a configuration of its own."""
    program = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if program is None:
        pytest.skip(reason="These tests need OpenSSH's server. Install it: apt-get install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    host_key, user_key, log = folder / "host_key", folder / "user_key", folder / "log"
    for file in (host_key, user_key):
        paramiko.RSAKey.generate(2048).write_private_key_file(str(file))
        file.chmod(0o600)
    public = paramiko.RSAKey.from_private_key_file(str(user_key))
    (folder / "authorized_keys").write_text(f"{public.get_name()} {public.get_base64()}\n")
    port = _free_port()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile {folder}/pid\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nUsePAM no\n"
        "PermitRootLogin yes\nStrictModes no\nSubsystem sftp internal-sftp\nMaxStartups 100\nUseDNS no\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's server locks its helper in
    options = ["-f", f"{folder}/config"]
    forgiving = [*options, "-o", "PerSourcePenalties=no"]  # newer servers shut out who fails to log in
    if subprocess.run([program, "-t", *forgiving], capture_output=True, timeout=60).returncode == 0:
        options = forgiving
    with log.open("wb") as output, _running([program, "-D", "-e", *options], output) as process:
        _wait_for(process, port, b"", b"SSH-2.0", log)
        yield SFTPServer(port, user_key, process.pid, log)


@pytest.fixture
def shown_folder(tmp_path: Path) -> Path:
    """A folder that the SFTP server shows."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


class _running:  # noqa: N801
    """A server while the block runs; what it started ends with it."""

    def __init__(self, command: list[str], output: Any, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        started = _children(self._process.pid)
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in started:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _children(process: int) -> list[int]:
    """The processes that a process started, and those that these started."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_children(child)]
    return found


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port: int = listening.getsockname()[1]
    return port


def _wait_for(process: subprocess.Popen[bytes], port: int, said: bytes, answer: bytes, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
            wire.sendall(said)
            if wire.recv(len(answer)) == answer:
                return
        assert process.poll() is None, f"the server did not start: {log.read_text()}"
        assert time.monotonic() < end, f"the server did not answer: {log.read_text()}"
        time.sleep(0.05)
