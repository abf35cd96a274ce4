"""A move to another volume: nothing is lost, whatever happens on the way."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openfactory.storage import LocalBackend
from openfactory.storage.atomic_replace import sync_folder_of
from openfactory.storage.mounted import confinement, volumes


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def there(here: Path) -> Iterator[Path]:
    """A folder on another volume than `here`."""
    places = (place for place in ("/dev/shm", "/var/tmp", "/tmp", ".") if os.stat(place).st_dev != here.stat().st_dev)
    folder = Path(tempfile.mkdtemp(prefix="ofa-volume-", dir=next(places))).resolve()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["kernel", "followed"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    """The whole machine, so that both volumes are in one storage."""
    if request.param == "followed":  # as on a system without openat2
        monkeypatch.setattr(confinement, "_kernel_confines", lambda: False)
    return LocalBackend.from_config({"type": "local", "local_path": "/", "mount_point": "/nowhere/data"})


@pytest.fixture
def week(here: Path) -> Path:
    """A folder with files, folders, links and permissions of several kinds."""
    week = here / "week"
    (week / "empty").mkdir(parents=True)
    (week / "deep").mkdir(mode=0o750)
    (week / "monday.csv").write_text("1;2\n")
    (week / "deep" / "run.sh").write_bytes(os.urandom(3_000_000))
    (week / "deep" / "run.sh").chmod(0o700)
    (week / "latest").symlink_to("monday.csv")
    (week / "dangling").symlink_to("nowhere")
    os.utime(week / "monday.csv", ns=(1_000_000_000, 2_000_000_007))
    return week


def content(folder: Path) -> dict[str, Any]:
    """Everything below a folder, with what a rename would keep."""
    return {
        str(path.relative_to(folder)): (
            oct(path.lstat().st_mode),
            os.readlink(path)
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else path.stat().st_mtime_ns,
            None if path.is_symlink() else path.stat().st_mtime_ns,
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_a_file_is_moved(storage: LocalBackend, here: Path, there: Path) -> None:
    (here / "today.csv").write_text("1;2\n")
    (here / "today.csv").chmod(0o640)
    os.utime(here / "today.csv", ns=(1_000_000_000, 2_000_000_007))
    (there / "today.csv").write_text("the old one")
    storage.move(here / "today.csv", there / "today.csv")
    assert not (here / "today.csv").exists()
    assert (there / "today.csv").read_text() == "1;2\n"
    assert (there / "today.csv").stat().st_mode & 0o777 == 0o640
    assert (there / "today.csv").stat().st_mtime_ns == 2_000_000_007
    assert os.listdir(there) == ["today.csv"]


def test_a_folder_is_moved(storage: LocalBackend, here: Path, there: Path, week: Path) -> None:
    before = content(week)
    storage.move(week, there / "archive" / "week")
    assert content(there / "archive" / "week") == before
    assert os.listdir(here) == []
    with pytest.raises(FileExistsError):
        storage.move(there / "archive", there)
    storage.move(there / "archive" / "week" / "latest", here / "latest")
    assert os.readlink(here / "latest") == "monday.csv"


@pytest.mark.parametrize("name", ["week", "week/deep/run.sh"])
def test_a_copy_that_fails_leaves_everything_as_it_was(
    storage: LocalBackend, here: Path, there: Path, week: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = content(week)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        storage.move(here / name, there / "moved")
    assert caught.value.filename == str(here / name)[1:]
    assert content(week) == before
    assert os.listdir(there) == []


def test_what_changes_meanwhile_is_kept(
    storage: LocalBackend, here: Path, there: Path, week: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sync_folder_of

    def write_meanwhile(*arguments: Any) -> None:
        with (week / "monday.csv").open("a") as file:
            file.write("3;4\n")
        (week / "empty" / "new.csv").write_text("new")
        (week / "new folder").mkdir()
        real(*arguments)

    monkeypatch.setattr(volumes, "sync_folder_of", write_meanwhile)
    with pytest.raises(OSError, match=r"changed while it was copied.*move the files that are left") as caught:
        storage.move(week, there / "week")
    assert caught.value.errno == errno.EBUSY
    left = sorted(str(path.relative_to(week)) for path in week.rglob("*"))
    assert left == ["empty", "empty/new.csv", "monday.csv", "new folder"]
    assert (week / "monday.csv").read_text() == "1;2\n3;4\n"
    assert (there / "week" / "monday.csv").read_text() == "1;2\n"
    assert (there / "week" / "deep" / "run.sh").stat().st_size == 3_000_000


def test_what_is_deleted_meanwhile_is_moved(
    storage: LocalBackend, here: Path, there: Path, week: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(week)
    real = os.listdir

    def list_and_delete(folder: Any) -> list[str]:
        names = real(folder)
        if (there / "week").exists():  # the copy is complete
            (week / "monday.csv").unlink(missing_ok=True)
        return names

    monkeypatch.setattr(os, "listdir", list_and_delete)
    storage.move(week, there / "week")
    monkeypatch.undo()
    assert content(there / "week") == before
    assert os.listdir(here) == []


def test_what_a_file_system_does_not_have_is_left_out(
    here: Path, there: Path, week: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some cannot flush a folder, or refuse one of the extended attributes."""
    real, kept = os.fsync, set()

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    def setxattr(_: int, name: str, value: bytes) -> None:
        if name == "user.first":
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        kept.add((name, value))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "listxattr", lambda _: ["user.first", "user.second"], raising=False)
    monkeypatch.setattr(os, "getxattr", lambda *_: b"1", raising=False)
    monkeypatch.setattr(os, "setxattr", setxattr, raising=False)
    before = content(week)
    volumes.move_to_other_volume(volumes.Place(str(week), None), volumes.Place(str(there / "week"), None))
    assert content(there / "week") == before
    assert kept == {("user.second", b"1")}


def test_a_pipe_is_not_moved(storage: LocalBackend, here: Path, there: Path, week: Path) -> None:
    os.mkfifo(week / "deep" / "pipe")
    with pytest.raises(OSError, match="pipe, socket or device") as caught:
        storage.move(week, there / "week")
    assert caught.value.errno == errno.EXDEV
    assert (week / "monday.csv").exists()
    assert os.listdir(there) == []


def test_a_folder_is_not_moved_into_itself(here: Path, week: Path) -> None:
    """A volume may be mounted in the folder, so the kernel need not refuse it."""
    before = content(week)
    for target in (week / "empty" / "week", week / "new"):
        with pytest.raises(OSError, match="cannot be moved into itself"):
            volumes.move_to_other_volume(volumes.Place(str(week), None), volumes.Place(str(target), None))
    assert content(week) == before
