"""Odd files of other programs: a folder with one of them is read as any other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openfactory.storage import FileBackend, LocalBackend, NamedStorage, PathOutsideStorageError
from openfactory.storage.file_info import utc_time
from openfactory.storage.remote import RemoteBackend
from openfactory.storage.remote.info import info_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.csv").write_text("1;2\n")
    return tmp_path


@pytest.fixture(params=["alone", "named"])
def storage(request: pytest.FixtureRequest, folder: Path) -> FileBackend:
    backend = LocalBackend.from_config({"type": "local", "local_path": str(folder), "mount_point": "/nowhere/data"})
    return backend if request.param == "alone" else NamedStorage({"data": backend})


def inside(storage: FileBackend, path: str) -> str:
    return f"data/{path}" if isinstance(storage, NamedStorage) else path


@pytest.mark.parametrize("seconds", [910_692_730_085, 253_402_300_800, -62_135_596_801, 2**40])
def test_a_time_that_datetime_cannot_hold(storage: FileBackend, folder: Path, seconds: int) -> None:
    (folder / "odd.csv").write_text("3;4\n")
    os.utime(folder / "odd.csv", (seconds, seconds))
    kept = (folder / "odd.csv").stat().st_mtime == seconds  # not every file system keeps it
    info = storage.info(inside(storage, "odd.csv"))
    assert info.size == 4
    assert (info.modified is None) == kept
    assert storage.listdir(inside(storage, "")) == ["good.csv", "odd.csv"]
    assert storage.glob(inside(storage, "*.csv")) == [inside(storage, "good.csv"), inside(storage, "odd.csv")]
    assert storage.exists(inside(storage, "odd.csv"))


def test_odd_names_and_links(storage: FileBackend, folder: Path) -> None:
    odd = [b"\xff.csv", b"line\nbreak.csv", b"\xc3\x28.csv"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    (folder / "back\\slash").mkdir()
    (folder / "back\\slash" / "one.csv").write_text("1")
    (folder / "dangling.csv").symlink_to("nowhere")
    (folder / "loop.csv").symlink_to("loop.csv")
    names = [os.fsdecode(name) for name in odd]
    links = ["dangling.csv", "loop.csv"]

    assert storage.listdir(inside(storage, "")) == sorted(["good.csv", "back\\slash", *names, *links])
    walked = [entry.path for entry in storage.walk()]
    assert inside(storage, "back\\slash/one.csv") in walked
    assert [storage.read_bytes(inside(storage, name)) for name in names] == odd
    assert all(storage.exists(inside(storage, name)) for name in names)
    for link in links:
        assert inside(storage, link) in walked
        assert not storage.exists(inside(storage, link))
        assert storage.glob(inside(storage, f"{link}/*")) == []
    assert storage.glob(inside(storage, "**/one.csv")) == [inside(storage, "back\\slash/one.csv")]
    with pytest.raises(PathOutsideStorageError, match="contains a backslash"):
        storage.read_bytes(inside(storage, "back\\slash/one.csv"))


def test_keys_that_are_no_paths() -> None:
    """As S3 has them; `tests/storage_servers` has the same for S3."""
    storage = RemoteBackend.from_config({"type": "fsspec", "url": "memory://odd-keys"})
    keys = ["keep.csv", "a//b.csv", "a/b.csv", "odd/../keep.csv", "odd/./d.csv", "/e.csv", "windows\\f.csv"]
    for key in keys:
        storage.fs.fs.store[f"/odd-keys/{key}"] = storage.fs.fs.open("memory://made", "wb")
        storage.fs.fs.store[f"/odd-keys/{key}"].write(key.encode())
    files = [entry.path for entry in storage.walk() if not entry.is_folder]
    assert sorted(storage.read_text(path) for path in files) == sorted(keys)
    for entry in list(storage.walk("odd")):
        if not entry.is_folder:
            storage.delete(entry.path)
    assert storage.read_text("keep.csv") == "keep.csv"


@pytest.mark.parametrize(
    "time", [float("nan"), float("inf"), 1e18, -1e18, None, "0000-00-00", "9999-12-31T23:59:59-12:00"]
)
def test_an_odd_time_of_a_server_is_not_told(time: object) -> None:
    assert info_of("a", {"type": "file", "size": None, "mtime": time}) == ("a", 0, None, False)


def test_a_time_of_a_server_is_in_utc() -> None:
    assert str(utc_time(0)) == "1970-01-01 00:00:00+00:00"
    assert (
        str(info_of("a", {"type": "file", "modified": "2026-01-01T01:00:00+01:00"}).modified)
        == "2026-01-01 00:00:00+00:00"
    )
