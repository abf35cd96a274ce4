"""An FTP server, for what its protocol cannot do by itself: appending, and taking the place of a file."""

from __future__ import annotations

import os
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
FTPHandler.unicode_errors = "surrogateescape"  # names go over the wire as they are on the disk
server = FTPServer(("127.0.0.1", 0), FTPHandler)
print(server.address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server shows."""
    return tmp_path_factory.mktemp("ftp")


@pytest.fixture(scope="module")
def port(shown: Path) -> Iterator[int]:
    folder = shown
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


def test_positions_and_byte_order_marks_are_those_of_the_builtin_open(storage: FileBackend) -> None:
    for line in ("one\n", "two\n"):
        with storage.open("rows.csv", "a", encoding="utf-16") as file:
            assert file.tell() == (0 if line == "one\n" else len("one\n".encode("utf-16")))
            file.write(line)
    assert storage.read_bytes("rows.csv") == "one\ntwo\n".encode("utf-16")
    with storage.open("new.bin", "wb") as new:
        assert (new.write(b"abcdef"), new.seek(2), new.write(b"X"), new.tell()) == (6, 2, 1, 3)
    assert storage.read_bytes("new.bin") == b"abXdef"


def test_names_may_be_any_bytes(storage: FileBackend, shown: Path, request: pytest.FixtureRequest) -> None:
    name = os.fsdecode(b"\xff.csv")
    (shown / request.node.name / name).write_bytes(b"1;2")
    storage.write_text("good.csv", "3;4")
    assert storage.listdir() == ["good.csv", name]
    assert storage.read_bytes(name) == b"1;2"
    storage.move(name, f"{name}.moved")
    assert storage.exists(f"{name}.moved")


def test_files_are_read_through_a_cache(storage: FileBackend, port: int, request: pytest.FixtureRequest) -> None:
    storage.write_text("today.csv", "1;2")
    login = {"ftp": {"username": "press", "password": "hidden-password"}}
    url = f"simplecache::ftp://127.0.0.1:{port}/{request.node.name}"
    assert RemoteBackend.from_config({"type": "fsspec", "url": url, "options": login}).read_text("today.csv") == "1;2"


def test_a_wrong_password_is_refused_and_not_told(port: int) -> None:
    options = {"username": "press", "password": "hidden-and-wrong"}
    with pytest.raises(StorageUnavailableError, match="ftp://127") as refused:
        RemoteBackend.from_config({"type": "fsspec", "url": f"ftp://127.0.0.1:{port}/", "options": options})
    assert "hidden" not in f"{refused.value} {refused.value!r} {refused.value.__cause__!r}"
