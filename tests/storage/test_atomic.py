"""Who reads a file that is replaced gets the old content or the new, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from openfactory.storage import LocalBackend
from openfactory.storage.atomic_replace import copy_ownership, replace_file
from openfactory.storage.mounted import confinement

WORKERS = Path(__file__).parent / "workers"


@pytest.fixture(params=["kernel", "followed"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    if request.param == "followed":  # as on a system without openat2
        monkeypatch.setattr(confinement, "_kernel_confines", lambda: False)
    folder = tmp_path / "store"
    folder.mkdir()
    return LocalBackend.from_config({"type": "local", "local_path": str(folder), "mount_point": "/nowhere/data"})


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)

    def change(mask: int) -> None:
        os.umask(mask)

    yield change
    os.umask(before)


def worker(name: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", str(WORKERS / name), *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_kill_in_the_midst_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    kills = [json.loads(line) for line in worker("killed.py", tmp_path, 50).splitlines()]
    assert sum(kill["in_the_midst"] for kill in kills) == 50
    for kill in kills:
        assert kill["found"] is not None, "a mixture"
        assert kill["found"] >= kill["before"]
        assert kill["listed"] == [["state.bin"]] * 3
    # What was left behind was not whole, or nothing was killed while it wrote.
    parts = list(tmp_path.glob(".ofa-*.tmp"))
    assert len(parts) == 50
    assert min(part.stat().st_size for part in parts) < 8 * 1024 * 1024


def test_two_processes_that_write_one_file_never_mix(tmp_path: Path) -> None:
    seen = json.loads(worker("two_writers.py", tmp_path, 200))
    assert "mixture" not in seen["read"]
    assert seen["read"]["first"]
    assert seen["read"]["second"]
    assert seen["listed"] == ["state.bin"]


def ways_to_replace(storage: LocalBackend, tmp_path: Path) -> dict[str, Callable[[], None]]:
    source = tmp_path / "source"
    source.write_text("new", encoding="utf-8")
    storage.write_text("source", "new")
    return {
        "write_atomic": lambda: storage.write_atomic("a.txt", "new"),
        "put": lambda: storage.put(source, "a.txt"),
        "copy": lambda: storage.copy("source", "a.txt"),
    }


WAYS = ["write_atomic", "put", "copy"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666, 0o755, 0o444])
def test_the_permissions_of_a_file_that_is_replaced_are_kept(
    storage: LocalBackend, tmp_path: Path, way: str, mode: int
) -> None:
    file = storage.root / "a.txt"
    file.touch()
    file.chmod(mode)
    ways_to_replace(storage, tmp_path)[way]()
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_any_has(
    storage: LocalBackend, tmp_path: Path, umask: Callable[[int], None], way: str, mask: int, mode: int
) -> None:
    umask(mask)
    ways_to_replace(storage, tmp_path)[way]()
    (storage.root / "link").symlink_to("source")
    storage.write_atomic("link", "new")
    storage.write_text("plain.txt", "new")
    for name in ("a.txt", "link", "plain.txt"):
        assert stat.S_IMODE((storage.root / name).lstat().st_mode) == mode


def test_a_file_that_is_written_with_permissions_has_them_in_place_of_those_before(
    tmp_path: Path, umask: Callable[[int], None]
) -> None:
    file = tmp_path / "state.json"
    file.write_text("old")
    file.chmod(0o644)
    umask(0o022)

    def new() -> Iterator[bytes]:
        (part,) = tmp_path.glob(".ofa-*.tmp")
        assert stat.S_IMODE(part.stat().st_mode) == 0o600  # before it has any content
        yield b"new"

    replace_file(str(file), None, new(), "state.json", mode=0o600)
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)


def test_the_owner_of_a_file_that_is_replaced_is_kept_as_far_as_one_may(storage: LocalBackend) -> None:
    file = storage.root / "a.txt"
    file.touch()
    with suppress(OSError):  # only root may, and not in each container
        os.chown(file, 1, -1)
    owner = file.stat().st_uid
    file.chmod(0o640)
    storage.write_atomic("a.txt", "new")
    assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (owner, 0o640)


@pytest.mark.parametrize(("owner", "mode"), [(0, 0o6755), (1, 0o755)])
def test_a_file_that_gets_another_owner_is_not_setuid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refuse)
    with (tmp_path / "a.txt").open("wb") as file:
        _, ino, dev, links, uid, *others = os.fstat(file.fileno())
        copy_ownership(file.fileno(), os.stat_result((0o106755, ino, dev, links, uid + owner, *others)))
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


@pytest.mark.parametrize("way", WAYS)
def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_it_is_said(
    storage: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What the system is asked for, and in which order; it does it too."""
    replace = ways_to_replace(storage, tmp_path)[way]
    asked: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        asked.append("folder" if is_folder else Path(f"/dev/fd/{descriptor}").read_text(encoding="utf-8"))
        real_fsync(descriptor)

    def exchange(*arguments: Any, **options: Any) -> None:
        asked.append("the name")
        real_replace(*arguments, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", exchange)
    replace()
    assert asked == ["new", "the name", "folder"]


def test_a_new_folder_is_on_the_disk_too(storage: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        asked.append(os.fstat(descriptor).st_ino)
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.write_atomic("a/b/c.txt", "new")
    inodes = [(storage.root / path).stat().st_ino for path in ("", "a", "a/b/c.txt", "a/b")]
    assert asked == inodes


class UnreadableError(Exception):
    pass


@pytest.mark.parametrize("old", ["old", None])
def test_a_source_that_fails_leaves_the_old_content_and_no_part(
    storage: LocalBackend, tmp_path: Path, old: str | None
) -> None:
    if old is not None:
        storage.write_text("a.txt", old)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    seen: list[list[str]] = []

    def fail(through: int, total: int) -> None:
        seen.append(os.listdir(storage.root))
        if through >= total // 2:
            raise UnreadableError

    with pytest.raises(UnreadableError):
        storage.put(source, "a.txt", fail)
    assert any(name.startswith(".ofa-") for name in seen[-1]), "nothing was written yet"
    assert os.listdir(storage.root) == (["a.txt"] if old else [])
    assert storage.exists("a.txt") == bool(old)
    if old is not None:
        assert storage.read_text("a.txt") == old


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_is_not_replaced(storage: LocalBackend, tmp_path: Path, way: str) -> None:
    (storage.root / "a.txt").mkdir()
    replace = ways_to_replace(storage, tmp_path)[way]
    with pytest.raises(IsADirectoryError, match=r"a\.txt"):
        replace()
    assert sorted(os.listdir(storage.root)) == ["a.txt", "source"]
    for root in ("", ".", "a.txt/.."):
        with pytest.raises(IsADirectoryError):
            storage.write_atomic(root, b"x")


def test_a_reader_keeps_the_content_that_it_opened(storage: LocalBackend) -> None:
    storage.write_atomic("a.txt", "old")
    with storage.open("a.txt") as file:
        storage.write_atomic("a.txt", "new")
        assert file.read() == "old"
    assert storage.read_text("a.txt") == "new"


def test_a_file_is_copied_and_moved_onto_itself(storage: LocalBackend) -> None:
    storage.write_text("a.txt", "same")
    storage.copy("a.txt", "./a.txt")
    storage.move("a.txt", "a.txt")
    assert storage.read_text("a.txt") == "same"
    assert storage.listdir() == ["a.txt"]


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_every_kind_of_bytes_is_written_whole(storage: LocalBackend, size: int) -> None:
    content = os.urandom(size)
    for kind in (content, bytearray(content), memoryview(content)):
        storage.write_atomic("a.bin", kind)  # type: ignore[arg-type]
        assert storage.read_bytes("a.bin") == content
