"""An FTP server, for what its protocol cannot do by itself: appending, and taking the place of a file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openfactory.storage import FileBackend, StorageUnavailableError
from openfactory.storage.remote import RemoteBackend

PROGRAM = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

authorizer = DummyAuthorizer()
authorizer.add_user("press", "hidden-password", sys.argv[1], perm="elradfmwMT")
FTPHandler.authorizer = authorizer
server = FTPServer(("127.0.0.1", 0), FTPHandler)
print(server.address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("ftp")
    with (
        (folder.parent / "ftp.log").open("wb") as log,
        subprocess.Popen([sys.executable, "-c", PROGRAM, folder], stdout=subprocess.PIPE, stderr=log) as server,
    ):
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.kill()


@pytest.fixture
def storage(port: int, request: pytest.FixtureRequest) -> FileBackend:
    options = {"username": "press", "password": "hidden-password"}
    root = RemoteBackend.from_config({"type": "fsspec", "url": f"ftp://127.0.0.1:{port}/", "options": options})
    root.mkdir(request.node.name)
    url = f"ftp://127.0.0.1:{port}/{request.node.name}"
    return RemoteBackend.from_config({"type": "fsspec", "url": url, "options": options})


def test_appending_keeps_what_is_there(storage: FileBackend) -> None:
    for line in ("one\n", "two\n", "three\n"):
        with storage.open("log.txt", "a") as file:
            file.write(line)
    assert storage.read_text("log.txt") == "one\ntwo\nthree\n"


def test_a_file_takes_the_place_of_another(storage: FileBackend, tmp_path: Path) -> None:
    for content in ("one", "two"):
        storage.write_atomic("state.txt", content)
        assert storage.read_text("state.txt") == content
    assert storage.listdir() == ["state.txt"]


def test_a_wrong_password_is_refused_and_not_told(port: int) -> None:
    options = {"username": "press", "password": "hidden-and-wrong"}
    with pytest.raises(StorageUnavailableError, match="ftp://127") as refused:
        RemoteBackend.from_config({"type": "fsspec", "url": f"ftp://127.0.0.1:{port}/", "options": options})
    assert "hidden" not in f"{refused.value} {refused.value!r} {refused.value.__cause__!r}"
