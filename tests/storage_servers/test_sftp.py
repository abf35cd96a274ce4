"""Files on a server of SFTP: OpenSSH's."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import paramiko
import pytest
from fsspec.implementations.sftp import SFTPFileSystem

from openfactory.storage import (
    FileBackend,
    PathOutsideStorageError,
    StorageConfigurationError,
    StorageUnavailableError,
    storage_from_environment,
)
from openfactory.storage.remote import RemoteBackend, sftp
from openfactory.storage.remote.info import info_of
from openfactory.storage.remote.kinds import Protocol
from openfactory.storage.testing import FileBackendConformance

_CONTENT = b"0123456789abcdef" * 300_000


@pytest.mark.thorough  # the same code runs over memory:// in each run
class TestSFTP(FileBackendConformance):
    can_update = False

    @pytest.fixture
    def settings(self, sftp_server: Any, shown_folder: Path) -> dict[str, Any]:
        settings: dict[str, Any] = sftp_server.settings(shown_folder)
        return settings


@pytest.fixture(autouse=True)
def connections_end(sftp_server: Any) -> Iterator[None]:
    """End the connections of a test: the client of each has a thread, which looks ten times a second."""
    yield
    sftp_server.kill_sessions()


@pytest.fixture
def storage(sftp_server: Any, shown_folder: Path) -> FileBackend:
    return opened(sftp_server.settings(shown_folder))


def opened(settings: dict[str, Any]) -> FileBackend:
    storage = storage_from_environment(json.dumps(settings))
    assert storage is not None
    return storage


def test_it_is_the_folder_of_the_server(storage: FileBackend, shown_folder: Path) -> None:
    storage.write_text("sub/one.txt", "one")
    (shown_folder / "sub" / "two.txt").write_text("two")
    assert (shown_folder / "sub" / "one.txt").read_text() == "one"
    assert storage.listdir("sub") == ["one.txt", "two.txt"]
    assert str(storage.root) == str(shown_folder)


@pytest.mark.parametrize(
    "reads",
    [
        lambda storage: storage.read_bytes("link"),
        lambda storage: storage.read_bytes("deep/link/secret.txt"),
        lambda storage: storage.listdir("deep/link"),
        lambda storage: list(storage.walk("deep/link")),
        lambda storage: storage.exists("link"),
        lambda storage: storage.info("deep/link/secret.txt"),
        lambda storage: storage.copy("link", "copy"),
        lambda storage: storage.write_text("link", "x"),
        lambda storage: storage.write_text("dangling", "x"),
        lambda storage: storage.write_atomic("deep/link/new.txt", "x"),
        lambda storage: storage.open("deep/link/new.txt", "x"),
        lambda storage: storage.delete("deep/link/secret.txt"),
        lambda storage: storage.mkdir("deep/link/new"),
        lambda storage: storage.move("deep/link/secret.txt", "moved"),
        lambda storage: storage.move("inside.txt", "deep/link/moved.txt"),
        lambda storage: storage.put(__file__, "deep/link/new.txt"),
        lambda storage: storage.read_bytes("chain"),
    ],
)
def test_links_that_lead_out_are_refused(
    storage: FileBackend, shown_folder: Path, tmp_path: Path, reads: Callable[[FileBackend], object]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    storage.write_text("inside.txt", "inside")
    (shown_folder / "deep").mkdir()
    (shown_folder / "link").symlink_to("../outside/secret.txt")
    (shown_folder / "deep" / "link").symlink_to(outside)
    (shown_folder / "dangling").symlink_to(outside / "new.txt")
    (shown_folder / "chain").symlink_to("link")
    before = sorted(os.listdir(shown_folder))

    with pytest.raises(PathOutsideStorageError, match="through a symbolic link"):
        reads(storage)

    assert os.listdir(outside) == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == "secret"
    assert sorted(os.listdir(shown_folder)) == before
    assert [entry.path for entry in storage.walk()] == ["chain", "dangling", "deep", "deep/link", "inside.txt", "link"]


def test_links_inside_are_followed_and_removed_themselves(
    storage: FileBackend, shown_folder: Path, tmp_path: Path
) -> None:
    storage.write_text("real/one.txt", "one")
    (shown_folder / "link").symlink_to("real")
    (shown_folder / "outside").symlink_to(tmp_path)
    assert storage.read_text("link/one.txt") == "one"
    storage.write_text("link/two.txt", "two")
    storage.move("link", "moved")
    storage.delete("outside")
    storage.delete("moved")
    assert [entry.path for entry in storage.walk()] == ["real", "real/one.txt", "real/two.txt"]
    assert tmp_path.exists()


def test_links_that_lead_nowhere_do_not_exist(storage: FileBackend, shown_folder: Path) -> None:
    (shown_folder / "loop").symlink_to("loop")
    (shown_folder / "dangling").symlink_to("nowhere")
    for link in ("loop", "dangling", "loop/below"):
        assert not storage.exists(link)
    assert storage.listdir() == ["dangling", "loop"]
    assert storage.glob("loop/*") == []


def test_names_may_be_any_bytes(storage: FileBackend, shown_folder: Path) -> None:
    names = ["good.csv", os.fsdecode(b"\xff.csv"), os.fsdecode(b"\xc3\x28/one.csv")]
    (shown_folder / names[2]).parent.mkdir()
    for name in names:
        (shown_folder / name).write_text(name, errors="surrogateescape")
    assert [entry.path for entry in storage.walk() if not entry.is_folder] == sorted(names)
    for name in names:
        assert storage.read_bytes(name) == os.fsencode(name)
        assert storage.info(name).modified is not None
        storage.write_atomic(f"{name}.new", "new")
        storage.move(name, f"moved/{name}")
        storage.delete(f"moved/{name}")
    assert not storage.exists("\ud800.csv")  # no name on any machine
    assert storage.listdir() == sorted(
        ["good.csv.new", "moved", os.fsdecode(b"\xff.csv.new"), os.fsdecode(b"\xc3\x28")]
    )


def test_a_file_is_moved_to_another_volume(sftp_server: Any, shown_folder: Path) -> None:
    other = next(
        place for place in ("/dev/shm", "/var/tmp", "/tmp", ".") if os.stat(place).st_dev != shown_folder.stat().st_dev
    )
    storage = opened(sftp_server.settings(Path("/")))
    (shown_folder / "week").mkdir()
    (shown_folder / "week" / "today.csv").write_text("1;2")
    with TemporaryDirectory(dir=other) as there:
        storage.move(f"{shown_folder}/week/today.csv", f"{there}/deep/today.csv")
        assert (Path(there) / "deep" / "today.csv").read_text() == "1;2"
        assert os.listdir(shown_folder / "week") == []
        with pytest.raises(OSError, match=r"cannot move the folder.*copy its files"):
            storage.move(f"{shown_folder}/week", f"{there}/week")
        with pytest.raises(FileNotFoundError, match=r"gone\.csv"):
            storage.move(f"{shown_folder}/gone.csv", f"{there}/gone.csv")
    assert os.listdir(shown_folder) == ["week"]


def test_what_changes_during_a_move_to_another_volume_is_kept(
    sftp_server: Any, shown_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_another_volume(*_: object) -> None:
        raise StorageUnavailableError("as a server says it", path="")

    def copy_meanwhile(self: RemoteBackend, source: str, target: str) -> None:
        copy(self, source, target)
        meanwhile.pop()()

    copy = RemoteBackend._copy
    storage = opened(sftp_server.settings(shown_folder))
    monkeypatch.setattr(Protocol, "move", on_another_volume)
    monkeypatch.setattr(RemoteBackend, "_copy", copy_meanwhile)
    storage.write_text("today.csv", "1;2")
    today = shown_folder / "today.csv"
    meanwhile: list[Callable[[], object]] = [today.unlink, lambda: today.write_text("1;2\n3;4")]
    with pytest.raises(OSError, match=r"changed while it was copied.*today\.csv") as caught:
        storage.move("today.csv", "moved.csv")
    assert caught.value.errno == errno.EBUSY
    assert (storage.read_text("today.csv"), storage.read_text("moved.csv")) == ("1;2\n3;4", "1;2")
    storage.move("today.csv", "moved.csv")
    assert storage.listdir() == ["moved.csv"]


def test_a_server_need_not_tell_the_kind_or_the_time() -> None:
    attributes = paramiko.SFTPAttributes()
    attributes.filename, attributes.longname = "data", "drwxr-xr-x 2 press press 4096 data"
    entry = sftp.decoded_stat(SFTPFileSystem._decode_stat, attributes, "/files")
    assert info_of("data", entry) == ("data", 0, None, True)


def test_a_root_that_is_a_link(sftp_server: Any, shown_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "named").symlink_to(shown_folder)
    storage = opened(sftp_server.settings(tmp_path / "named"))
    storage.write_text("sub/one.txt", "one")
    assert (shown_folder / "sub" / "one.txt").read_text() == "one"


def test_the_root_of_the_server_is_a_storage(sftp_server: Any, shown_folder: Path) -> None:
    storage = opened(sftp_server.settings(Path("/")))
    storage.write_text(f"{shown_folder}/one.txt".lstrip("/"), "one")
    assert (shown_folder / "one.txt").read_text() == "one"
    assert str(storage.root) == "/"
    assert shown_folder.parts[1] in storage.listdir()


def test_what_another_process_writes_is_seen_at_once(
    sftp_server: Any, storage: FileBackend, shown_folder: Path
) -> None:
    storage.write_text("one.txt", "one")
    assert (storage.listdir(), storage.exists("two.txt")) == (["one.txt"], False)
    other = """
import sys
from openfactory.storage import storage_from_environment
storage = storage_from_environment(sys.argv[1])
storage.write_text("two.txt", storage.read_text("one.txt") * 2)
storage.delete("one.txt")
"""
    settings = json.dumps(sftp_server.settings(shown_folder))
    subprocess.run([sys.executable, "-c", other, settings], check=True, timeout=60)
    assert (storage.listdir(), storage.info("two.txt").size) == (["two.txt"], 6)


def test_a_session_that_is_killed_in_mid_write(sftp_server: Any, storage: FileBackend, shown_folder: Path) -> None:
    storage.write_atomic("state.bin", b"old")
    with storage.open("log.bin", "wb") as file:
        file.write(b"first")
        assert sftp_server.kill_sessions() >= 1
        with pytest.raises(StorageUnavailableError, match=r"log\.bin.*connects again"):
            file.write(_CONTENT)
    assert (shown_folder / "state.bin").read_bytes() == b"old"
    assert storage.read_bytes("state.bin") == b"old"
    storage.write_atomic("state.bin", b"new")
    assert storage.read_bytes("state.bin") == b"new"


@pytest.mark.parametrize(
    "write",
    [
        lambda storage, local: storage.write_atomic("state.bin", local.read_bytes()),
        lambda storage, local: storage.put(local, "state.bin"),
        lambda storage, local: storage.copy("large.bin", "state.bin"),
    ],
)
def test_a_wire_that_is_cut_in_mid_write(
    sftp_server: Any,
    shown_folder: Path,
    wire_to: Callable[[int], Any],
    write: Callable[[FileBackend, Path], None],
) -> None:
    wire = wire_to(sftp_server.port)
    storage = opened(sftp_server.settings(shown_folder, port=wire.port))
    storage.write_atomic("state.bin", b"old")
    local = shown_folder.parent / "new.bin"
    local.write_bytes(_CONTENT)
    (shown_folder / "large.bin").write_bytes(_CONTENT)

    wire.cut_after(len(_CONTENT) // 2)
    with pytest.raises(StorageUnavailableError, match="connects again"):
        write(storage, local)
    assert (shown_folder / "state.bin").read_bytes() == b"old"
    with pytest.raises(StorageUnavailableError, match="cannot be reached"):
        storage.listdir()

    wire.mend()
    assert storage.read_bytes("state.bin") == b"old"
    assert storage.listdir() == ["large.bin", "state.bin"]  # what is left of the new content is not shown
    write(storage, local)
    assert storage.read_bytes("state.bin") == _CONTENT


def test_threads_share_the_new_connection(sftp_server: Any, shown_folder: Path, wire_to: Callable[[int], Any]) -> None:
    wire = wire_to(sftp_server.port)
    storage = opened(sftp_server.settings(shown_folder, port=wire.port))
    storage.write_text("one.txt", "one")
    wire.cut_after(1)
    with pytest.raises(StorageUnavailableError):
        storage.read_text("one.txt")
    wire.mend()
    before = wire.connections
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: storage.read_text("one.txt"), range(16))) == ["one"] * 16
    assert wire.connections == before + 1


def test_a_file_of_the_old_connection_does_not_end_the_new_one(
    sftp_server: Any, shown_folder: Path, wire_to: Callable[[int], Any]
) -> None:
    wire = wire_to(sftp_server.port)
    storage = opened(sftp_server.settings(shown_folder, port=wire.port))
    storage.write_text("one.txt", "one")
    with storage.open("one.txt", "rb") as file:
        wire.cut_after(1)
        with pytest.raises(StorageUnavailableError):
            storage.listdir()
        wire.mend()
        assert storage.read_text("one.txt") == "one"
        before = wire.connections
        with pytest.raises(StorageUnavailableError):
            file.read()
        assert storage.read_text("one.txt") == "one"
        assert wire.connections == before


def test_a_server_that_is_silent(sftp_server: Any, shown_folder: Path, wire_to: Callable[[int], Any]) -> None:
    wire = wire_to(sftp_server.port)
    storage = opened(sftp_server.settings(shown_folder, port=wire.port, timeout=2))
    storage.write_atomic("state.bin", b"old")
    wire.silence()
    before = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="state"):
        storage.read_bytes("state.bin")
    assert time.monotonic() - before < 60
    wire.mend()
    assert storage.read_bytes("state.bin") == b"old"


def test_a_folder_that_is_missing(sftp_server: Any, shown_folder: Path) -> None:
    (shown_folder / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(
            StorageConfigurationError, match=rf"STORAGE: The folder of sftp://.*/{name} does not exist\. Create"
        ):
            opened(sftp_server.settings(shown_folder / name))


def test_a_server_that_is_not_there(shown_folder: Path, sftp_server: Any) -> None:
    with pytest.raises(StorageUnavailableError, match=r"cannot be reached.*Check that the server runs"):
        opened(sftp_server.settings(shown_folder, port=9))


@pytest.mark.parametrize("in_url", [True, False])
def test_a_login_that_is_refused_is_not_said(
    sftp_server: Any,
    shown_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    in_url: bool,
) -> None:
    secret = "p@ss/wörd:1#?"
    monkeypatch.setenv("PLANT_PASSWORD", secret)
    caplog.set_level("DEBUG")
    login = {"username": "nobody-here", "password": "${PLANT_PASSWORD}"}
    settings = sftp_server.settings(shown_folder, key_filename=None, **login)
    if in_url:
        for name in login:
            del settings["options"][name]
        settings["url"] = settings["url"].replace("sftp://", "sftp://nobody-here:${PLANT_PASSWORD}@")
    with pytest.raises(StorageUnavailableError, match=r"Authentication failed.*check the login") as raised:
        opened(settings)
    said = [str(raised.value), repr(raised.value), repr(raised.value.__cause__), caplog.text]
    assert not [text for text in said if secret in text or repr(secret)[1:-1] in text or "p@ss" in text]


def test_an_option_that_is_unknown(sftp_server: Any, shown_folder: Path) -> None:
    with pytest.raises(StorageConfigurationError, match=r"does not take these options: .*no_such_option.*Remove"):
        opened(sftp_server.settings(shown_folder, no_such_option=1))


def test_folders_that_many_make_at_once(storage: FileBackend, sftp_server: Any, shown_folder: Path) -> None:
    stores = [storage, *(opened(sftp_server.settings(shown_folder)) for _ in range(3))]
    with ThreadPoolExecutor(4) as pool:
        for number in range(10):
            path = f"{number}/a/b/c/d"
            list(pool.map(lambda store, path=path: store.mkdir(path), stores))
    assert len(storage.listdir()) == 10
