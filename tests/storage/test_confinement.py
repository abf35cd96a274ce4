"""Nothing outside of a folder is reached: by the kernel's own means, and without them as far as that goes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.storage import FileBackend, LocalBackend, PathOutsideStorageError
from openfactory.storage.mounted import confinement

WORKERS = Path(__file__).parent / "workers"


@pytest.fixture(autouse=True, params=["kernel", "followed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With openat2, and as on a system that has no such call."""
    if request.param == "followed":
        monkeypatch.setattr(confinement, "_kernel_confines", lambda: False)
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "key.txt").write_text("what is outside", encoding="utf-8")
    return path


@pytest.fixture
def storage(folder: Path) -> LocalBackend:
    return at(folder)


def at(folder: Path) -> LocalBackend:
    return LocalBackend.from_config({"type": "local", "local_path": str(folder), "mount_point": "/nowhere/mounted"})


def everything_below(folder: Path) -> dict[str, Any]:
    found = {path: path.lstat() for path in (folder, *folder.rglob("*"))}
    return {
        str(path): (known.st_mtime_ns, known.st_ino, path.read_bytes() if path.is_file() else b"")
        for path, known in found.items()
    }


def uses(path: str) -> dict[str, Callable[[FileBackend], object]]:
    """All that follows a path to its end."""
    return {
        "open": lambda s: s.open(path, "rb").close(),
        "open w": lambda s: s.open(path, "wb").close(),
        "open a": lambda s: s.open(path, "ab").close(),
        "open r+": lambda s: s.open(path, "r+b").close(),
        "read_bytes": lambda s: s.read_bytes(path),
        "info": lambda s: s.info(path),
        "exists": lambda s: s.exists(path),
        "listdir": lambda s: s.listdir(path),
        "walk": lambda s: list(s.walk(path)),
        "copy from": lambda s: s.copy(path, "copied"),
        "mkdir": lambda s: s.mkdir(f"{path}/new"),
        "write_atomic": lambda s: s.write_atomic(f"{path}/new", b"x"),
        "put": lambda s: s.put(__file__, f"{path}/new"),
        "copy to": lambda s: s.copy("here.txt", f"{path}/new"),
        "move to": lambda s: s.move("here.txt", f"{path}/new"),
        "move from": lambda s: s.move(f"{path}/key.txt", "moved"),
        "delete": lambda s: s.delete(f"{path}/key.txt"),
    }


LINKS_OUT = {
    "relative": "../outside",
    "absolute": "{outside}",
    "to a file": "../outside/key.txt",
    "by way of the root's own name": "../store/../outside",
    "in a chain": "relative",
    "in a long chain": "in a chain",
    "into what is not there": "../outside/gone",
    "to the root of the machine": "/",
    "to the folder above": "..",
}


@pytest.fixture
def with_links(folder: Path, outside: Path) -> Path:
    (folder / "sub").mkdir()
    (folder / "here.txt").write_text("here", encoding="utf-8")
    for name, target in LINKS_OUT.items():
        (folder / name).symlink_to(target.format(outside=outside))
    (folder / "sub" / "up").symlink_to("../../outside")
    (folder / "process").symlink_to("/proc/self/root")
    return folder


@pytest.mark.parametrize("use", uses(""))
@pytest.mark.parametrize("link", [*LINKS_OUT, "sub/up", "process"])
def test_no_link_leads_out(storage: LocalBackend, with_links: Path, outside: Path, link: str, use: str) -> None:
    before = everything_below(outside)
    with pytest.raises(PathOutsideStorageError) as caught:
        uses(link)[use](storage)
    assert caught.value.path.startswith(link)
    assert str(with_links) in str(caught.value)
    assert str(caught.value).endswith("Use another path, or a link that stays inside the storage.")
    assert everything_below(outside) == before
    assert (with_links / "here.txt").read_text(encoding="utf-8") == "here"


@pytest.mark.parametrize("path", ["..", "../outside/key.txt", "sub/../../outside", "{outside}/key.txt", "a\\..\\b"])
@pytest.mark.parametrize("use", uses(""))
def test_no_path_leads_out(storage: LocalBackend, with_links: Path, outside: Path, path: str, use: str) -> None:
    before = everything_below(outside)
    with pytest.raises(PathOutsideStorageError) as caught:
        uses(path.format(outside=outside))[use](storage)
    assert caught.value.path.startswith(path.format(outside=outside))
    assert everything_below(outside) == before
    assert (with_links / "here.txt").exists()


def test_links_that_stay_inside_are_followed(storage: LocalBackend, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.txt").write_text("a", encoding="utf-8")
    links = {
        "sub/up": "../a.txt",
        "chain": "sub/up",
        "in full": str(folder / "a.txt"),
        "by the folder above": "../store/a.txt",
        "folder": str(folder / "sub"),
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    for path in (*links, "folder/up"):
        if path != "folder":
            assert storage.read_text(path) == "a"
    storage.write_text("folder/new/b.txt", "b")
    storage.write_atomic("folder/c.txt", "c")
    assert storage.listdir("folder") == ["c.txt", "new", "up"]
    assert (folder / "sub" / "new" / "b.txt").read_text(encoding="utf-8") == "b"


def test_a_link_to_what_is_not_there_yet_makes_it_inside(storage: LocalBackend, folder: Path) -> None:
    (folder / "latest").symlink_to("2026.txt")
    (folder / "latest in full").symlink_to(folder / "2027.txt")
    storage.write_text("latest", "new")
    storage.write_text("latest in full", "newer")
    assert (folder / "2026.txt").read_text(encoding="utf-8") == "new"
    assert (folder / "2027.txt").read_text(encoding="utf-8") == "newer"
    (folder / "2027.txt").unlink()
    with pytest.raises(FileExistsError):
        storage.open("latest in full", "x")
    assert not (folder / "2027.txt").exists()


def test_links_that_lead_to_each_other_lead_to_nothing(storage: LocalBackend, folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    assert not storage.exists("one")
    with pytest.raises(OSError, match="one") as caught:
        storage.read_bytes("one")
    assert caught.value.errno == errno.ELOOP
    assert storage.listdir() == ["one", "two"]
    storage.delete("one")
    assert storage.listdir() == ["two"]


def test_what_replaces_or_removes_a_link_leaves_what_it_leads_to(
    storage: LocalBackend, folder: Path, outside: Path
) -> None:
    before = everything_below(outside)
    storage.write_text("here.txt", "here")
    for name in ("deleted", "written", "put", "copied", "moved"):
        (folder / name).symlink_to(outside / "key.txt")
    (folder / "elsewhere").symlink_to(outside)
    storage.delete("deleted")
    storage.write_atomic("written", "mine")
    storage.put(__file__, "put")
    storage.copy("here.txt", "copied")
    storage.move("elsewhere", "still a link")
    storage.move("here.txt", "moved")
    assert everything_below(outside) == before
    assert storage.read_text("written") == "mine"
    assert storage.read_text("copied") == storage.read_text("moved") == "here"
    assert os.readlink(folder / "still a link") == str(outside)
    assert [entry.path for entry in storage.walk()] == ["copied", "moved", "put", "still a link", "written"]
    assert storage.glob("**/key.txt") == []


@pytest.mark.parametrize("path", ["root/etc/passwd", "cwd", "fd/0", "exe"])
def test_the_magic_links_of_processes_lead_nowhere(path: str) -> None:
    storage = at(Path("/proc/self"))
    with pytest.raises((PathOutsideStorageError, OSError)) as caught:
        storage.open(path, "rb")
    assert isinstance(caught.value, PathOutsideStorageError) or (
        isinstance(caught.value, OSError) and caught.value.errno == errno.ELOOP
    )


def test_a_root_that_is_a_link_is_no_escape(folder: Path, outside: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    storage = at(link)
    storage.write_text("sub/a.txt", "a")
    assert storage.root == link
    for path in ("sub/a.txt", link / "sub/a.txt", folder / "sub/a.txt"):
        assert storage.read_text(path) == "a"
    (folder / "out").symlink_to(outside)
    with pytest.raises(PathOutsideStorageError):
        storage.read_text("out/key.txt")
    # It is looked up for each use: one who leads it elsewhere is the one who runs the machine.
    (folder.parent / "other").mkdir()
    link.unlink()
    link.symlink_to(folder.parent / "other")
    assert storage.listdir() == []


TREE_SEGMENTS = ["..", ".", "sub", "a", "b", "up", "out", "in", "full", "loop", "gone", "key.txt"]


@given(st.lists(st.sampled_from(TREE_SEGMENTS), max_size=7))
def test_a_path_reads_what_it_leads_to_inside_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, segments: list[str]
) -> None:
    """The model: the path as text, then its links, and what that names must be in the folder."""
    base = tmp_path_factory.getbasetemp() / "tree"
    root = base / "root"
    if not base.exists():
        (root / "sub" / "sub").mkdir(parents=True)
        for file in (root / "a", root / "sub" / "b", root / "sub" / "sub" / "a"):
            file.write_text(str(file), encoding="utf-8")
        (base / "key.txt").write_text("secret", encoding="utf-8")
        links = {"sub/up": "..", "sub/sub/up": "../..", "up": "..", "out": str(base), "in": "sub", "sub/in": "../sub"}
        for name, target in (links | {"full": str(root / "sub"), "sub/out": "../../key.txt", "loop": "loop"}).items():
            (root / name).symlink_to(target)
    path = "/".join(segments)
    plain = os.path.normpath(path)
    real = Path(os.path.realpath(root / plain))
    try:
        found = at(root).read_text(path)
    except PathOutsideStorageError:
        assert plain.startswith("..") or not real.is_relative_to(root)
    except OSError:
        assert not real.is_file()
    else:
        assert real.is_relative_to(root)
        assert found == str(real)


# Swapped while it is used: only the kernel can keep that promise.


@contextmanager
def swapping(folder: Path, *pairs: str) -> Iterator[None]:
    command = [sys.executable, str(WORKERS / "swapping.py"), str(folder), *pairs]
    with subprocess.Popen(command) as process:
        try:
            yield
            assert process.poll() is None, "nothing was swapped"
        finally:
            process.kill()


def nothing_from_outside(names: Iterable[str]) -> None:
    assert not [name for name in names if name.endswith(SECRET)]


def read_inside(storage: FileBackend, path: str) -> None:
    assert storage.read_text(path) == "inside"


def size_inside(storage: FileBackend, way_in: str) -> None:
    assert storage.info(f"{way_in}/key.txt").size == len("inside")


def move_there_and_back(storage: FileBackend, way_in: str) -> None:
    storage.write_text("mine.txt", "inside")
    storage.move("mine.txt", f"{way_in}/moved.txt")
    storage.move(f"{way_in}/moved.txt", "mine.txt")


SECRET = "outside only.txt"
TRIES: dict[str, Callable[[FileBackend, str], object]] = {
    "read": lambda s, way_in: read_inside(s, f"{way_in}/key.txt"),
    "info": size_inside,
    "write": lambda s, way_in: s.write_text(f"{way_in}/key.txt", "inside"),
    "replace": lambda s, way_in: s.write_atomic(f"{way_in}/key.txt", "inside"),
    "make": lambda s, way_in: s.write_text(f"{way_in}/new.txt", "inside"),
    "delete": lambda s, way_in: s.delete(f"{way_in}/new.txt"),
    "mkdir": lambda s, way_in: s.mkdir(f"{way_in}/folder"),
    "move": move_there_and_back,
    "list": lambda s, way_in: nothing_from_outside(s.listdir(way_in)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="openat2 is Linux's")
@pytest.mark.parametrize("way", ["kernel"], indirect=True)
def test_links_that_are_swapped_all_the_time_never_lead_out(storage: LocalBackend, folder: Path, outside: Path) -> None:
    (outside / SECRET).write_text("secret", encoding="utf-8")
    for name in ("real", "target"):
        (folder / name).mkdir()
        (folder / name / "key.txt").write_text("inside", encoding="utf-8")
    (folder / "link").symlink_to("target")
    (folder / "file").symlink_to("target/key.txt")
    for name, target in (("real-out", outside), ("link-out", outside), ("file-out", outside / "key.txt")):
        (folder / name).symlink_to(target)
    storage.write_text("mine.txt", "inside")
    before = everything_below(outside)

    tries: dict[str, Callable[[], object]] = {
        f"{name} {way_in}": partial(attempt, storage, way_in)
        for way_in in ("link", "real")
        for name, attempt in TRIES.items()
    }
    tries["read file"] = partial(read_inside, storage, "file")
    tries["append file"] = lambda: storage.open("file", "ab").close()
    tries["walk"] = lambda: nothing_from_outside(entry.path for entry in storage.walk())
    done, refused = dict.fromkeys(tries, 0), dict.fromkeys(tries, 0)
    until = time.monotonic() + 60
    with swapping(folder, "link,link-out", "real,real-out", "file,file-out"):
        # Thousands of tries, and each of them both ways: else nothing was swapped in the midst of it.
        while (
            sum(done.values()) + sum(refused.values()) < 6000 or min(done.values()) < 5 or max(refused.values()) < 100
        ):
            assert time.monotonic() < until, f"too few tries: {done}, {refused}"
            for name, attempt in tries.items():
                try:
                    attempt()
                    done[name] += 1
                except PathOutsideStorageError:
                    refused[name] += 1
                except (FileNotFoundError, FileExistsError):  # what a try before it was refused
                    pass
            with suppress(OSError, PathOutsideStorageError):
                storage.write_text("target/key.txt", "inside")
    assert everything_below(outside) == before
    assert all(refused[name] for name in tries if name != "walk"), refused
