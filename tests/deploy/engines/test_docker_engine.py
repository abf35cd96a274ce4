"""The Docker of the tests: it answers, comes back after a kill, is cut off from the machine, and leaves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import DockerEngine, NotOnThisMachineError, ServerFailedError, is_running

Eventually = Callable[..., None]


def serve(engine: DockerEngine, image: str, name: str) -> str:
    """Start a web server in a container, and return its address."""
    options = ("--detach", "--init", "--restart=always", f"--name={name}")
    engine.docker("run", *options, image, "python", "-m", "http.server")
    return address(engine, name)


def address(engine: DockerEngine, name: str) -> str:
    return engine.docker("inspect", "--format={{.NetworkSettings.IPAddress}}", name).strip()


def answers(engine: DockerEngine, host: str) -> bool:
    try:
        with engine.connect(host, 8000) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(12) == b"HTTP/1.0 200"
    except OSError:
        return False


def test_the_image_has_the_distributions_and_their_command(engine: DockerEngine, image: str) -> None:
    said = engine.docker("run", "--rm", "--user=10001:10001", image, "ofa", "version")
    assert {"openfactory-apps", "openfactory-fanout", "openfactory-flask", "openfactory-storage"} <= set(said.split())


@pytest.mark.thorough  # the apps of the docker target come back with a killed daemon too
def test_a_container_answers_and_comes_back_with_a_killed_daemon(
    engine: DockerEngine, image: str, eventually: Eventually
) -> None:
    host = serve(engine, image, "comes-back")
    eventually(lambda: answers(engine, host))
    daemon = engine.daemon_pid
    engine.kill_daemon()
    assert engine.daemon_pid != daemon
    eventually(lambda: answers(engine, address(engine, "comes-back")))
    engine.docker("rm", "--force", "comes-back")


def test_containers_reach_nothing_outside(engine: DockerEngine, image: str) -> None:
    found = subprocess.run(engine.inside("ip", "route"), capture_output=True, text=True, check=True).stdout
    assert "default" not in found
    program = "import socket; socket.create_connection(('192.0.2.1', 80), 9)"
    with pytest.raises(NotOnThisMachineError, match="unreachable"):
        engine.docker("run", "--rm", image, "python", "-c", program)


def test_nothing_is_left_of_an_engine(eventually: Eventually) -> None:
    with DockerEngine() as engine:
        folder = engine.folder
        first, daemon = engine.init_pid, engine.daemon_pid
        namespace = Path(f"/proc/{first}/ns/net").readlink()
        assert namespace != Path("/proc/self/ns/net").readlink()
        assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not folder.exists()
    assert not is_running(first)
    assert not is_running(daemon)
    assert list(Path("/sys/fs/cgroup").glob(f"**/openfactory-docker-{folder.name}")) == []
    with pytest.raises(ServerFailedError, match="Start it first"):
        engine.daemon_pid  # noqa: B018


@pytest.mark.thorough  # two more starts of a daemon; no other test keeps the folder of one
def test_a_kept_folder_has_the_volumes_after_a_stop(tmp_path: Path) -> None:
    other = DockerEngine(tmp_path)
    with other:
        other.docker("volume", "create", "kept")
        other.stop()
        other.start()
        assert other.docker("volume", "ls", "--quiet").split() == ["kept"]
