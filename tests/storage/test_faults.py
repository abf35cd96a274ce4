"""What a machine does to a folder: a clear error each time, the old content whole, and the store of use afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest

from openfactory.storage import (
    LocalBackend,
    NamedStorage,
    NFSBackend,
    StorageConfigurationError,
    StorageUnavailableError,
    storage_from_environment,
)
from openfactory.storage.mounted import confinement

WORKER = Path(__file__).parent / "workers" / "full_disk.py"

Result = TypeVar("Result")
AsAnyUser = Callable[[Callable[[], Result]], Result]


@pytest.fixture(params=["kernel", "followed"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    if request.param == "followed":  # as on a system without openat2
        monkeypatch.setattr(confinement, "_kernel_confines", lambda: False)
    folder = tmp_path / "store"
    folder.mkdir()
    storage = LocalBackend.from_config(settings(folder))
    storage.write_text("sub/a.txt", "old")
    return storage


def settings(folder: Path) -> dict[str, Any]:
    return {"type": "local", "local_path": str(folder), "mount_point": "/nowhere/data"}


def uses(storage: LocalBackend) -> dict[str, Callable[[], object]]:
    """Each of these changes or shows something below `sub`."""
    return {
        "open": lambda: storage.open("sub/a.txt"),
        "open w": lambda: storage.open("sub/new.txt", "w"),
        "write_atomic": lambda: storage.write_atomic("sub/a.txt", "new"),
        "write_atomic of a new file": lambda: storage.write_atomic("sub/deep/new.txt", "new"),
        "put": lambda: storage.put(__file__, "sub/a.txt"),
        "copy": lambda: storage.copy("sub/a.txt", "copied.txt"),
        "move": lambda: storage.move("sub/a.txt", "moved.txt"),
        "delete": lambda: storage.delete("sub/a.txt"),
        "mkdir": lambda: storage.mkdir("sub/deep/er"),
        "listdir": lambda: storage.listdir("sub"),
        "walk": lambda: list(storage.walk("sub")),
        "glob": lambda: storage.glob("sub/*"),
        "info": lambda: storage.info("sub/a.txt"),
        "exists": lambda: storage.exists("sub/a.txt"),
    }


USES = list(uses(LocalBackend.__new__(LocalBackend)))


def nothing_changed(storage: LocalBackend) -> None:
    assert [entry.path for entry in storage.walk()] == ["sub", "sub/a.txt"]
    assert os.listdir(storage.root / "sub") == ["a.txt"]
    assert storage.read_text("sub/a.txt") == "old"
    storage.write_atomic("sub/a.txt", "new")
    assert storage.read_text("sub/a.txt") == "new"


# No room


def on_a_small_disk(folder: Path) -> list[str]:
    """What runs a command with a file system of 1 MiB at a folder, which only the command sees."""
    mount = f'mount -t tmpfs -o size=1m none {shlex.quote(str(folder))} && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]


@cache
def may_mount() -> bool:
    """Not in every container; there a limit to the size of files has to do."""
    with TemporaryDirectory() as folder, suppress(FileNotFoundError):
        return subprocess.run([*on_a_small_disk(Path(folder)), "true"], capture_output=True).returncode == 0
    return False


@pytest.mark.parametrize(("how", "error"), [("limit", "EFBIG"), *[("disk", "ENOSPC")] * may_mount()])
def test_without_room_the_old_content_stays(tmp_path: Path, how: str, error: str) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    command = [sys.executable, "-W", "error", str(WORKER), how, str(folder), str(tmp_path / "source")]
    within = on_a_small_disk(folder) if how == "disk" else []
    seen = json.loads(subprocess.run([*within, *command], stdout=subprocess.PIPE, text=True, check=True).stdout)
    for use, name in {"write_atomic": "state.bin", "put": "state.bin", "a new file": "new/state.bin"}.items():
        assert seen[use]["error"] == error
        assert seen[use]["text"].endswith(f"'{name}'")
        assert seen[use]["is_old"]
        assert not set(seen[use]["names"]) - {"state.bin", "new"}, "a part was left"
    assert seen["write_bytes"]["error"] == error
    assert seen["with room"] == {"is_old": False, "is_new": True, "names": ["new", "state.bin"]}


# No permission


@pytest.fixture
def as_any_user() -> Iterator[AsAnyUser[Any]]:
    """Do something without what root may do beyond others: it is a thread that gave it up, where that is needed."""
    with ThreadPoolExecutor(1, initializer=_give_up_capabilities) as one:
        yield lambda do: one.submit(do).result()


def _give_up_capabilities() -> None:
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capset(2), version 3, this thread
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


@pytest.fixture
def locked(storage: LocalBackend) -> Iterator[Path]:
    folder = storage.root / "sub"
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize("use", USES)
def test_a_folder_that_may_not_be_used_any_more(
    storage: LocalBackend, locked: Path, as_any_user: AsAnyUser[Any], use: str
) -> None:
    with pytest.raises(PermissionError, match="sub"):
        as_any_user(uses(storage)[use])
    locked.chmod(0o700)
    nothing_changed(storage)


@pytest.mark.parametrize("use", ["open w", "write_atomic", "write_atomic of a new file", "put", "delete", "mkdir"])
def test_a_folder_that_may_not_be_written_any_more(
    storage: LocalBackend, locked: Path, as_any_user: AsAnyUser[Any], use: str
) -> None:
    locked.chmod(0o500)
    with pytest.raises(PermissionError, match="'sub/") as caught:
        as_any_user(uses(storage)[use])
    assert ".ofa-" not in str(caught.value)
    assert as_any_user(lambda: storage.read_text("sub/a.txt")) == "old"
    locked.chmod(0o700)
    nothing_changed(storage)


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o300, 0o400, 0o600])
@pytest.mark.parametrize("form", ["{}", '{{"data": {}}}'])
@pytest.mark.parametrize("kind", ["local", "nfs"])
def test_no_permission_is_said_at_the_start(
    tmp_path: Path, as_any_user: AsAnyUser[Any], mode: int, form: str, kind: str
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "a.txt").touch()
    folder.chmod(mode)
    one = (
        settings(folder) if kind == "local" else settings(folder) | {"type": "nfs", "server": "s", "remote_path": "/e"}
    )
    try:
        with pytest.raises(StorageConfigurationError) as caught:
            as_any_user(lambda: storage_from_environment(form.format(json.dumps(one))))
    finally:
        folder.chmod(0o700)
    said = str(caught.value)
    assert said.startswith("STORAGE: " if form == "{}" else "The store 'data' of STORAGE: ")
    assert f"cannot read its local_path {str(folder)!r}: Permission denied. Let the app's user (uid " in said
    assert said.endswith("(chmod, chown), or change local_path.")
    assert isinstance(
        as_any_user(lambda: storage_from_environment(form.format(json.dumps(one)))),
        LocalBackend | NFSBackend | NamedStorage,
    )


def test_a_folder_behind_a_closed_door_is_said_at_the_start(tmp_path: Path, as_any_user: AsAnyUser[Any]) -> None:
    (tmp_path / "closed" / "store").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(StorageConfigurationError, match=r"its local_path '.*/closed/store' \(Permission denied\)"):
            as_any_user(lambda: LocalBackend.from_config(settings(tmp_path / "closed" / "store")))
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_store_that_may_only_be_read_begins(tmp_path: Path, as_any_user: AsAnyUser[Any]) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    tmp_path.chmod(0o500)
    try:
        storage = as_any_user(lambda: LocalBackend.from_config(settings(tmp_path)))
        assert as_any_user(lambda: storage.read_text("a.txt")) == "a"
        with pytest.raises(PermissionError, match=r"b\.txt"):
            as_any_user(lambda: storage.write_text("b.txt", "b"))
    finally:
        tmp_path.chmod(0o700)


# No folder


@pytest.mark.parametrize("instead", ["nothing", "a file", "a dangling link"])
@pytest.mark.parametrize("use", USES)
def test_a_root_that_vanished_and_comes_back(storage: LocalBackend, use: str, instead: str) -> None:
    root = storage.root
    aside = root.rename(root.parent / "aside")
    if instead == "a file":
        root.touch()
    elif instead == "a dangling link":
        root.symlink_to("gone")
    with pytest.raises(StorageUnavailableError) as caught:
        uses(storage)[use]()
    assert str(root) in str(caught.value)
    assert str(caught.value).endswith("Check that it is mounted; the next use tries again.")
    assert isinstance(caught.value, OSError)
    assert not isinstance(caught.value, FileNotFoundError), "as if there was no file"
    assert root.exists() == (instead == "a file"), "a folder was made in the place of a mount"
    root.unlink(missing_ok=True)
    aside.rename(root)
    nothing_changed(storage)


def test_a_root_that_is_another_folder_now_is_used_as_it_is(storage: LocalBackend) -> None:
    storage.root.rename(storage.root.parent / "aside")
    storage.root.mkdir()
    assert not storage.exists("sub/a.txt")
    storage.write_atomic("sub/a.txt", "new")
    assert storage.read_text("sub/a.txt") == "new"
    assert (storage.root.parent / "aside" / "sub" / "a.txt").read_text(encoding="utf-8") == "old"


def test_a_file_that_is_open_outlives_the_name_of_the_root(storage: LocalBackend) -> None:
    with storage.open("sub/a.txt", "a") as file:
        storage.root.rename(storage.root.parent / "aside")
        file.write(", new")
    assert (storage.root.parent / "aside" / "sub" / "a.txt").read_text(encoding="utf-8") == "old, new"


# No more files


def test_too_many_open_files_say_so(tmp_path: Path) -> None:
    program = f"""
import errno, os, resource
from openfactory.storage import LocalBackend, StorageUnavailableError
storage = LocalBackend.from_config({settings(tmp_path)!r})
storage.write_atomic("a.txt", "old")
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
kept = []
try:
    while True:
        kept.append(os.dup(0))
except OSError:
    pass
for use in (storage.read_text, lambda path: storage.write_atomic(path, "new"), storage.listdir, storage.exists):
    try:
        use("a.txt")
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        assert not isinstance(error, StorageUnavailableError)
    else:
        raise AssertionError(use)
for one in kept:
    os.close(one)
assert storage.listdir() == ["a.txt"] and storage.read_text("a.txt") == "old"
assert len(os.listdir("/dev/fd")) < 10, "a descriptor was left open"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_nothing_stays_open(storage: LocalBackend) -> None:
    before = _opened_in(storage.root)
    for _ in range(3):
        storage.write_atomic("b/c.txt", "x")
        storage.read_text("b/c.txt")
        storage.move("b/c.txt", "d.txt")
        storage.delete("d.txt")
        for fails in ("sub", "nosuch/a", "sub/a.txt/x"):
            for use in (storage.read_text, storage.delete, lambda path: storage.write_atomic(path, b"")):
                try:
                    use(fails)
                except OSError:
                    continue
        list(storage.walk())
        (storage.root / "nosuch" / "a").unlink(missing_ok=True)
    assert _opened_in(storage.root) == before


def _opened_in(folder: Path) -> list[str]:
    """What is open of a folder; other descriptors of the process come and go by themselves."""
    opened = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this look
            opened.append(os.readlink(descriptor))
    return sorted(name for name in opened if name.startswith(str(folder.resolve())))
