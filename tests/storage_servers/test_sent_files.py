"""The files that web pages send, from storages that are not a folder of this machine."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from uuid import uuid4

import pytest

from openfactory.apps.web.stored_files import StoredFile
from openfactory.storage import FileBackend
from openfactory.storage.remote import RemoteBackend

CONTENT = random.Random(15).randbytes(300_000)


@pytest.fixture(params=["memory", "s3", "sftp", "zip"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> FileBackend:
    """A storage with a file `films/film.bin`."""
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "films.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("films/film.bin", CONTENT)
        return RemoteBackend.from_config({"type": "fsspec", "url": f"zip://::file://{tmp_path}/films.zip"})
    if request.param == "memory":
        settings = {"type": "fsspec", "url": f"memory://{uuid4().hex}"}
    elif request.param == "s3":
        settings = request.getfixturevalue("s3_server").settings(request.getfixturevalue("bucket"))
    else:
        folder = request.getfixturevalue("shown_folder")
        settings = request.getfixturevalue("sftp_server").settings(folder)
    storage = RemoteBackend.from_config(settings)
    storage.write_bytes("films/film.bin", CONTENT)
    return storage


def test_a_part_and_the_whole_are_sent(storage: FileBackend) -> None:
    part = StoredFile.open(storage, "films/film.bin").answer("GET", {"range": "bytes=70000-269999"})
    assert part.headers["Content-Range"] == "bytes 70000-269999/300000"
    assert b"".join(part.content) == CONTENT[70_000:270_000]
    head = StoredFile.open(storage, "films/film.bin").answer("HEAD", {})
    assert (head.headers["Content-Length"], b"".join(head.content)) == ("300000", b"")
    whole = StoredFile.open(storage, "films/film.bin").answer("GET", {"range": "bytes=0-9", "if-range": '"old"'})
    assert b"".join(whole.content) == CONTENT
    known = head.headers.get("ETag")
    if known is not None:  # a zip file need not tell the time
        again = StoredFile.open(storage, "films/film.bin").answer("GET", {"if-none-match": known})
        assert (again.status, b"".join(again.content)) == (304, b"")


@pytest.mark.parametrize("path", ["films/none.bin", "films", "../films/film.bin", "films/film.bin/x"])
def test_other_paths_are_not_files(storage: FileBackend, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        StoredFile.open(storage, path)
