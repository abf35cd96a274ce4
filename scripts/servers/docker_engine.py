"""A whole Docker in namespaces of its own: nothing of the machine's network, processes and mounts is touched.

Its containers have bridges, ports and name resolution among themselves, and nothing leaves: the network namespace has
no way out. A test reaches the engine by its socket, and a container by `connect` and `inside`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from servers.fetching import NotOnThisMachineError, program, run
from servers.image_archive import write_image
from servers.server import Server, ServerFailedError

__all__ = ["INIT", "DockerEngine", "docker_client"]

_PACKAGE = "docker.io"
_CLONE_NEWNET = 0x40000000
_CGROUPS = Path("/sys/fs/cgroup")

#: The first process of the namespaces: it prepares them, and starts the daemon anew when it was killed, as the init of
#: a machine does. When it ends, the kernel ends all that runs in them.
INIT = """
set -e
mkdir -p "$1"
mount --rbind /sys/fs/cgroup "$1"
mount -t sysfs sysfs /sys
mount --rbind "$1" /sys/fs/cgroup
mount -t tmpfs tmpfs /run
ip link set lo up
shift
while :; do
  status=0
  "$@" || status=$?
  [ "$status" -eq 137 ] || exit "$status"
done
"""


class DockerEngine(Server):
    """One engine; after `kill` or `stop` and `start` it has the same socket, and its images if it has a data folder."""

    name = "docker"
    start_timeout: ClassVar[float] = 120.0

    #: Name of the process that answers.
    daemon: ClassVar[str] = "dockerd"

    @property
    def host(self) -> str:
        """DOCKER_HOST of its clients."""
        return f"unix://{self.folder}/docker.sock"

    @property
    def init_pid(self) -> int:
        """The first process of its namespaces.

        Raises:
            ServerFailedError: it does not run.
        """
        children = _children(self.pid)
        if not children:
            raise ServerFailedError(f"{self.name} does not run. Start it first.")
        return children[0]

    @property
    def daemon_pid(self) -> int:
        """The process of the daemon, which is another one after `kill_daemon`."""
        for pid in _children(self.init_pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == self.daemon:
                    return pid
        raise ServerFailedError(f"The daemon of {self.name} does not run. Start it first.")

    def kill_daemon(self) -> None:
        """Kill the daemon alone (SIGKILL), and return when another one answers."""
        killed = self.daemon_pid
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + self.start_timeout
        while not self._is_ready() or killed in _children(self.init_pid):
            if time.monotonic() > deadline:
                raise ServerFailedError(self._complaint("did not answer after its daemon was killed"))
            time.sleep(0.02)

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process of a container, by the number that the engine has for it."""
        namespaces = (f"--target={self.init_pid}", "--pid", "--mount")
        run(program("nsenter", "util-linux"), *namespaces, "--", "kill", f"-{number.value}", str(pid))

    def docker(self, *arguments: str | Path, timeout: float = 300.0) -> str:
        """Run a command of its client, and return its output.

        Raises:
            NotOnThisMachineError: it failed, or did not end in time.
        """
        return run(docker_client(), *arguments, environment=self.client_environment, timeout=timeout)

    @property
    def client_environment(self) -> dict[str, str]:
        """Variables for its clients: nothing of the user's settings reaches them."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "client"), "DOCKER_BUILDKIT": "1"}

    def init_swarm(self) -> None:
        """Make it a swarm of one node."""
        self.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")

    def load_image(self, tag: str, layers: Sequence[Path | bytes], **settings: object) -> None:
        """Make an image.

        Args:
            tag: its name.
            layers: an archive of files for each layer.
            settings: more of its settings, such as `Env=["A=b"]`.

        Raises:
            NotOnThisMachineError: it could not be made.
        """
        loading = subprocess.Popen(
            [docker_client(), "load", "--quiet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.client_environment},
        )
        with loading:
            assert loading.stdin is not None
            assert loading.stdout is not None
            with suppress(BrokenPipeError), loading.stdin as stream:
                write_image(stream, tag, layers, settings)
            said = loading.stdout.read().decode(errors="replace")
        if loading.returncode:
            raise NotOnThisMachineError(f"`docker load` of {tag} failed. Try it by hand. It said:\n{said}")

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs another one in its network: `subprocess.run(engine.inside("ip", "addr"))`."""
        return [program("nsenter", "util-linux"), f"--target={self.init_pid}", "--net", "--", *command]

    def connect(self, host: str, port: int, timeout: float = 30.0) -> socket.socket:
        """Return a connection to an address in its network, such as that of a container.

        Raises:
            OSError: nothing answers there.
        """
        outcome: list[socket.socket | OSError] = []

        def enter() -> None:
            # The namespace is that of the thread, which ends; a socket stays in that in which it was made.
            with open(f"/proc/{self.init_pid}/ns/net") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    outcome.append(OSError(ctypes.get_errno(), "setns failed"))
                    return
            try:
                outcome.append(socket.create_connection((host, port), timeout=timeout))
            except OSError as error:
                outcome.append(error)

        thread = threading.Thread(target=enter, name="openfactory-docker-connect")
        thread.start()
        thread.join()
        if isinstance(outcome[0], OSError):
            raise outcome[0]
        return outcome[0]

    def stop(self, timeout: float = 60.0) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ServerFailedError):
                os.kill(self.daemon_pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        if self._process is None:
            return
        for pid in _children(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # It ends when all processes of the namespaces have.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        super().kill()
        _remove_cgroups(self._cgroup)

    @property
    def _cgroup(self) -> str:
        return f"openfactory-docker-{self.folder.name}"

    def _prepare(self) -> None:
        if os.geteuid():
            raise NotOnThisMachineError("A Docker in namespaces of its own needs root. Run the tests as root.")
        for name, package in (("ip", "iproute2"), ("iptables", "iptables"), ("mount", "mount")):
            program(name, package)
        settings = {
            "hosts": [self.host, "unix:///run/docker.sock"],  # a container may mount the second
            "data-root": str(self.folder / "data"),
            "exec-root": "/run/docker",  # of its own mount namespace; it has sockets, whose paths must be short
            "pidfile": str(self.folder / "docker.pid"),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self._cgroup}",
            "log-level": "warn",
        }
        (self.folder / "daemon.json").write_text(json.dumps(settings), encoding="utf-8")
        # Left by a daemon that was killed; its number is another's in the new namespace.
        (self.folder / "docker.pid").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        daemon = program("dockerd", _PACKAGE)
        return [
            *(program("unshare", "util-linux"), "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", INIT, "docker-engine", str(self.folder / "cgroup")),
            *(daemon, f"--config-file={self.folder / 'daemon.json'}"),
        ]

    def _environment(self) -> dict[str, str]:
        # Where Debian puts the programs that the daemon starts; and a place for the dumps that containerd leaves.
        return {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "TMPDIR": str(self.folder)}

    def _is_ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(self.folder / "docker.sock"))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(100)
        except OSError:
            return False


def docker_client() -> str:
    """Return the path of the command `docker`.

    Raises:
        NotOnThisMachineError: it could not be had.
    """
    # That of the package first: another one on PATH may lack the builder, which is a program of its own by now.
    packaged = Path("/usr/bin/docker")
    return str(packaged) if packaged.exists() else program("docker", _PACKAGE)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _remove_cgroups(name: str) -> None:
    """Remove the control groups of ended containers, which outlive the namespaces."""
    for top in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")):
        if not top.is_dir():
            continue
        deadline = time.monotonic() + 10
        for folder in (*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top):
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:  # its processes have ended a moment ago
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.01)
                else:
                    break
