"""A Podman with the API of Docker, in namespaces of its own like the Docker of the tests."""

from __future__ import annotations

import os
from typing import ClassVar

from servers.docker_engine import INIT, DockerEngine
from servers.fetching import NotOnThisMachineError, program

__all__ = ["PodmanEngine"]


class PodmanEngine(DockerEngine):
    """One engine, whose socket takes the requests of Docker's clients."""

    name = "podman"
    daemon: ClassVar[str] = "podman"

    def _prepare(self) -> None:
        if os.geteuid():
            raise NotOnThisMachineError("A Podman in namespaces of its own needs root. Run the tests as root.")
        (self.folder / "client").mkdir(exist_ok=True)

    def _command(self) -> list[str]:
        podman, runtime = program("podman", "podman"), program("runc", "runc")
        places = (f"--root={self.folder / 'data'}", "--runroot=/run/podman", "--tmpdir=/run/podman-tmp")
        return [
            *(program("unshare", "util-linux"), "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", INIT, "podman-engine", str(self.folder / "cgroup")),
            *(podman, *places, f"--runtime={runtime}", "--cgroup-manager=cgroupfs", "--storage-driver=vfs"),
            *("--log-level=warn", "system", "service", "--time=0", self.host),
        ]
