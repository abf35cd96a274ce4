"""`ofa doctor` on a factory in a file: what it finds in a damaged copy, on a full disk, and beside a file of others."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from openfactory.assets import Asset, AssetAttribute, Factory
from openfactory.concurrency.kernel_locks import kernel_locks
from openfactory.doctor import Factory as Plant
from openfactory.doctor import Finding, content, examine, file_access, wal
from openfactory.kafka import KSQLDBClient

PAGE = 4096


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two factories: `closed`, and `killed`, whose newest events are in its WAL."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "closed").mkdir()
    (folder / "killed").mkdir()
    url = f"sqlite:///{folder}/closed/factory.db"
    for place in ("closed", "killed"):
        with KSQLDBClient(url) as client, Asset("MILL", client) as mill:
            mill.add_attribute(AssetAttribute(id="n", value="0", type="Events", tag="Count"))
            for number in range(3000):
                mill["n"] = f"{place} {number} {'x' * 40}"
            mill.flush(60)
            if place == "killed":  # in the middle of the work of this process
                for file in (folder / "closed").glob("factory.db*"):
                    if file.is_file():
                        shutil.copy(file, folder / "killed")
    return folder


@pytest.fixture
def factory_file(stored: Path, tmp_path: Path) -> Path:
    return copy_of(stored / "closed", tmp_path)


def copy_of(folder: Path, to: Path) -> Path:
    for file in folder.glob("factory.db*"):
        if file.is_file():
            shutil.copy(file, to)
    return to / "factory.db"


def examined(path: Path) -> dict[str, Finding]:
    found = examine(Plant.of(f"sqlite:///{path}"))
    assert all(one.remedy for one in found if one.status != "ok")
    return {one.check: one for one in found}


def overwrite(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def execute(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()


def root_of(path: Path, name: str) -> int:
    """The place of the first page of a table or an index."""
    connection = sqlite3.connect(path)
    page: int = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    connection.close()
    return (page - 1) * PAGE


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_factory_that_is_well_is_well_in_every_check(stored: Path, tmp_path: Path, how: str) -> None:
    found = examined(copy_of(stored / how, tmp_path))
    assert list(found) == ["environment", "file", "disk", "WAL", "content", "engine", "test event", "wake-up", "owners"]
    assert {one.status for one in found.values()} == {"ok"}


def test_the_test_event_is_seen_by_nobody(factory_file: Path) -> None:
    def rows() -> tuple[list[object], list[object]]:
        connection = sqlite3.connect(factory_file)
        log = connection.execute("SELECT * FROM log").fetchall()
        attributes = connection.execute("SELECT asset, attr FROM latest").fetchall()
        connection.close()
        return log, attributes

    log, attributes = rows()
    with Factory(f"sqlite:///{factory_file}") as factory, factory.watch(commands=True) as events:
        assert examined(factory_file)["test event"].status == "ok"
        with factory.asset("MILL") as mill:
            mill["n"] = "next"
        event = events.get(timeout=20)
        assert (event and event.value) == "next"
        assert factory.assets() == factory.availability() == {}
    later_log, later_attributes = rows()
    assert later_log[:-1] == log
    assert later_attributes == attributes


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_off_a_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - PAGE)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lose_magic(path: Path) -> None:
    overwrite(path, 0, bytes(16))


def lose_first_page(path: Path) -> None:
    overwrite(path, 0, bytes(PAGE))


def lose_version(path: Path) -> None:
    overwrite(path, 60, bytes(4))


def lose_log(path: Path) -> None:
    overwrite(path, root_of(path, "log"), bytes(PAGE))


def lose_index(path: Path) -> None:
    overwrite(path, root_of(path, "commands"), bytes(PAGE))


def scribble(path: Path) -> None:
    overwrite(path, path.stat().st_size // PAGE // 2 * PAGE + 100, bytes(range(256)))


def damage_free_list(path: Path) -> None:
    overwrite(path, 32, struct.pack(">II", 7, 12))


def damage_schema(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE log", b"CREATE TABXE log"))


def lose_trigger(path: Path) -> None:
    execute(path, "DROP TRIGGER keep_latest")


def lose_column(path: Path) -> None:
    execute(
        path,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'updated_at', 'updated') "
        "WHERE name = 'uns'",
    )


def lose_events(path: Path) -> None:
    execute(path, "DELETE FROM log WHERE id > 100")


def lose_bounds(path: Path) -> None:
    execute(path, "DELETE FROM trimmed")


def lose_entries_of_index(path: Path) -> None:
    execute(
        path,
        "INSERT INTO log (asset, attr, value, type, tag, ts) "
        "VALUES ('MILL', 'c', '1', 'OpenFactory', 'Method.Command', 't');"
        "DROP INDEX commands; CREATE INDEX commands ON log (asset) WHERE tag = 'nothing';"
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '''nothing''', '''Method.Command''') "
        "WHERE name = 'commands'",
    )


def lose_wal(path: Path) -> None:
    path.with_name("factory.db-wal").unlink()


def cut_wal(path: Path) -> None:
    os.truncate(path.with_name("factory.db-wal"), 20)


def lose_header_of_wal(path: Path) -> None:
    overwrite(path.with_name("factory.db-wal"), 0, bytes(32))


def damage_frame(path: Path) -> None:
    overwrite(path.with_name("factory.db-wal"), 32 + 24 + 500, bytes(range(200)))


def take_wal_of_other_program(path: Path) -> None:
    other = path.with_name("other.db")
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript("CREATE TABLE notes (note); INSERT INTO notes VALUES (1)")
    shutil.copy(path.with_name("other.db-wal"), path.with_name("factory.db-wal"))
    connection.close()


def take_wal_of_other_factory(path: Path) -> None:
    folder = path.with_name("other")
    folder.mkdir()
    with KSQLDBClient(f"sqlite:///{folder}/factory.db") as client, Asset("PRESS", client) as press:
        press.add_attribute(AssetAttribute(id="n", value="0", type="Events", tag="Count"))
        press.flush()
        shutil.copy(folder / "factory.db-wal", path.with_name("factory.db-wal"))


@pytest.mark.parametrize(
    ("how", "damage", "said"),
    [
        ("closed", cut, "is damaged: "),
        ("closed", cut_off_a_page, "is damaged: "),
        ("closed", empty, "is empty."),
        ("closed", lose_magic, "its header is damaged: it begins with b'\\x00"),
        ("closed", lose_first_page, "its header is damaged: "),
        ("closed", lose_version, "is damaged: its header has lost the version of its schema."),
        ("closed", lose_log, "is damaged: "),
        ("closed", lose_index, "is damaged: "),
        ("closed", scribble, "is damaged: "),
        ("closed", damage_free_list, "is damaged: Main freelist: "),
        ("closed", damage_schema, "is damaged: malformed database schema (log)"),
        ("closed", lose_trigger, "lacks trigger keep_latest."),
        ("closed", lose_column, "is damaged: no such column: updated_at."),
        ("closed", lose_events, "is damaged: the last event of 1 attributes is missing, such as MILL.n."),
        ("closed", lose_bounds, "is damaged: its table trimmed does not have one row."),
        ("closed", lose_entries_of_index, "is damaged: "),
        ("killed", lose_wal, "factory.db-wal was removed, and with it the newest events."),
        ("killed", cut_wal, "factory.db-wal is damaged, or is not a WAL"),
        ("killed", lose_header_of_wal, "factory.db-wal is damaged, or is not a WAL"),
        ("killed", damage_frame, "pages of commits in it cannot be read any more."),
        ("closed", take_wal_of_other_program, "factory.db-wal belongs to another database"),
        ("closed", take_wal_of_other_factory, "factory.db-wal belongs to another database"),
    ],
)
def test_damage_is_named_and_the_file_is_left_alone(
    stored: Path, tmp_path: Path, how: str, damage: Callable[[Path], None], said: str
) -> None:
    path = copy_of(stored / how, tmp_path)
    damage(path)
    before = path.read_bytes()
    found = examined(path)
    assert found["content"].status == "failed"
    assert said in found["content"].found
    assert found["engine"].status == "unchecked"
    assert path.read_bytes() == before


@pytest.mark.parametrize("counts_later", [False, True])
def test_a_commit_that_waits_for_the_disk_is_not_lost(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts_later: bool
) -> None:
    path = copy_of(stored / "killed", tmp_path)
    index = path.with_name("factory.db-shm")
    frames: int = struct.unpack("=I", index.read_bytes()[16:20])[0]
    overwrite(index, 16, struct.pack("=I", frames - 3))  # as SQLite has it with synchronous=full
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if counts_later and len(looks) == 4:
            overwrite(index, 16, struct.pack("=I", frames))

    monkeypatch.setattr(wal, "time", SimpleNamespace(sleep=sleep))
    assert wal.lost_frames(path) == (0 if counts_later else 3)
    assert counts_later or sum(looks) == pytest.approx(1.0)


def test_the_locks_of_this_process_outlast_the_checks(factory_file: Path) -> None:
    """SQLite has locks on these bytes of a database and its index as long as it has them open."""
    bytes_of_users = {factory_file: 0x40000002, factory_file.with_name("factory.db-shm"): 128}

    def is_locked(file: Path, byte: int) -> bool:
        return any((lock.process, lock.first) == (os.getpid(), byte) for lock in kernel_locks(file.stat()))

    with Factory(f"sqlite:///{factory_file}"):
        assert all(is_locked(*place) for place in bytes_of_users.items())
        assert examined(factory_file)["content"].status == "ok"
        assert all(is_locked(*place) for place in bytes_of_users.items())


def test_repeated_checks_do_not_open_more_and_more_files(factory_file: Path) -> None:
    for _ in range(3):
        examined(factory_file)
    places = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert len([place for place in places if place.startswith(str(factory_file))]) <= 2


def test_an_index_alone_is_rebuilt_and_not_restored(factory_file: Path) -> None:
    lose_entries_of_index(factory_file)
    content = examined(factory_file)["content"]
    assert content.found.startswith(f"An index of {factory_file} is damaged: row ")
    assert content.remedy == f"Stop all apps, then rebuild it: sqlite3 {factory_file} REINDEX."
    execute(factory_file, "REINDEX")
    assert examined(factory_file)["content"].status == "ok"


def test_a_file_that_is_too_large_to_check_is_not_called_well(
    factory_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_SECONDS", 0)
    monkeypatch.setattr(content, "_STEPS", 1)
    found = examined(factory_file)
    assert found["content"].status == "unchecked"
    assert "cannot be checked within 0 s" in found["content"].found
    assert found["test event"].status == "ok"


@pytest.mark.parametrize(
    ("state", "status", "said"),
    [
        ({"f_bavail": 0}, "failed", "is full, 0 kB free."),
        ({"f_bavail": 500}, "failed", "is full, 2.0 MB free."),
        ({"f_bavail": 5_000}, "advice", "is almost full, 20.5 MB free."),
        ({"f_favail": 0}, "failed", "has no inode left"),
        ({"f_files": 0, "f_favail": 0}, "ok", "4.1 GB free"),  # a file system that does not count them
        ({"f_flag": os.ST_RDONLY}, "failed", "is mounted read-only."),
    ],
)
def test_a_disk_with_little_space_is_named(
    factory_file: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, int], status: str, said: str
) -> None:
    well = {"f_bavail": 1_000_000, "f_frsize": PAGE, "f_files": 9, "f_favail": 9, "f_flag": 0}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**well | state))
    found = examined(factory_file)["disk"]
    assert (found.status, said in found.found) == (status, True)


def test_a_commit_that_the_disk_refuses_is_found_by_the_test_event(factory_file: Path) -> None:
    """The limit on the size of files stands for a quota, which is not seen in the free space."""
    program = (
        "import resource, sys; from openfactory.doctor import Factory, examine\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (32_768, resource.RLIM_INFINITY))\n"
        f"for one in examine(Factory.of('sqlite:///{factory_file}')): print(one.check, one.status, one.found, sep='|')"
    )
    execute(factory_file, "PRAGMA journal_mode = WAL")
    with Factory(f"sqlite:///{factory_file}") as factory, factory.asset("MILL") as mill:
        mill["n"] = "x" * 40_000
        mill.flush()
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    said = dict(line.split("|", 1) for line in found.stdout.splitlines())
    assert said["disk"].startswith("ok|"), found
    assert said["test event"].startswith(f"failed|An event cannot be written to {factory_file}")


Other = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def other(factory_file: Path) -> Iterator[Other]:
    """Start another program, which begins a transaction and never ends it: `other("BEGIN")`."""
    program = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(sys.argv[2]); connection.execute('SELECT * FROM log').fetchone()\n"
        "print('reads', flush=True); time.sleep(600)"
    )
    with ExitStack() as stack:

        def start(begin: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", program, os.fspath(factory_file), begin]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "reads\n"
            return process

        yield start


def test_a_reader_that_keeps_the_wal_is_named(
    factory_file: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = other("BEGIN")
    with Factory(f"sqlite:///{factory_file}") as factory, factory.asset("MILL") as mill:
        for number in range(25):
            mill["n"] = f"{number} {'x' * 200_000}"
        mill.flush(60)
        found = examined(factory_file)["WAL"]
        assert (found.status, f"because process {reader.pid} reads the database" in found.found) == ("advice", True)
        monkeypatch.setattr("openfactory.doctor.wal.WAL_TRUNCATE_BYTES", 4_500_000)
        assert examined(factory_file)["WAL"].status == "failed"
        reader.kill()
        reader.wait()
        assert "nobody reads in a long transaction now" in examined(factory_file)["WAL"].found


def test_a_program_that_keeps_a_transaction_for_writing_is_named(factory_file: Path, other: Other) -> None:
    writer = other("BEGIN IMMEDIATE")
    found = examined(factory_file)["test event"]
    assert found.status == "failed"
    assert found.found.startswith(f"Process {writer.pid} keeps a transaction open on {factory_file}, so that ")


def test_wake_ups_that_cannot_be_received_are_advice(factory_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("openfactory.engines.embedded.wake.DatagramWake.listen", refuse)
    found = examined(factory_file)["wake-up"]
    assert (found.status, "(Permission denied)" in found.found) == ("advice", True)


ALICE, BOB, LAB = 4001, 4002, 4100  # ids that no user and no group of the machine has


@pytest.mark.parametrize(
    ("folder", "changes", "status", "said"),
    [
        ((ALICE, ALICE, 0o700), {}, "ok", ""),
        ((ALICE, LAB, 0o2770), {"": (ALICE, LAB, 0o660), ".lock": (BOB, LAB, 0o660)}, "ok", ""),
        ((ALICE, ALICE, 0o700), {".lock": (0, 0, 0o660)}, "failed", "factory.db.lock belongs to root:root "),
        ((ALICE, ALICE, 0o700), {"-shm": (0, 0, 0o600)}, "failed", f"so {ALICE} cannot write it."),
        ((ALICE, ALICE, 0o700), {".wake": (0, 0, 0o755)}, "failed", "factory.db.wake belongs to root:root "),
        ((0, 0, 0o755), {}, "failed", f"belongs to root:root with the mode 755, so {ALICE} "),
        ((ALICE, ALICE, 0o700), {"": (ALICE, ALICE, 0o440)}, "failed", f"the mode 440, so {ALICE} cannot write it."),
        ((ALICE, LAB, 0o770), {}, "failed", f"so the group {LAB} of the folder cannot write it."),
        ((ALICE, LAB, 0o2770), {"": (ALICE, LAB, 0o640)}, "failed", f"so the group {LAB} of the folder cannot"),
        ((ALICE, ALICE, 0o755), {".lock": (ALICE, ALICE, 0o666)}, "advice", "is open to every user of the machine."),
    ],
)
def test_owners_and_modes_that_keep_a_user_out_are_named(
    tmp_path: Path,
    stored: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: tuple[int, int, int],
    changes: dict[str, tuple[int, int, int]],
    status: str,
    said: str,
) -> None:
    path = copy_of(stored / "killed", tmp_path)
    path.with_name("factory.db.wake").mkdir()
    real = os.stat

    def owned(place: Path) -> os.stat_result:
        found: list[int] = [int(part) for part in real(place)]
        group = folder[1] if folder[2] & 0o2000 else ALICE
        default = (ALICE, group, 0o770 if place.is_dir() else 0o660)
        uid, gid, mode = folder if place == tmp_path else changes.get(place.name.removeprefix("factory.db"), default)
        found[0], found[4], found[5] = found[0] & ~0o7777 | mode, uid, gid
        return os.stat_result(found)

    # A user other than root cannot give files away, so their owners are made up.
    monkeypatch.setattr(file_access, "status_of", owned)
    monkeypatch.setattr(os, "access", lambda *_: True)
    found = list(file_access.examine_access(path))
    bad = [one for one in found if one.status != "ok"]
    assert {one.status for one in bad} <= {status}
    assert bool(bad) == bool(said)
    assert said in "".join(one.found for one in bad)
    if status == "failed" and said.startswith("factory.db"):
        assert bad[0].remedy.startswith(f"Run as root: chown {ALICE}:{ALICE} {path}")


@pytest.mark.parametrize(("suffix", "expected"), [(".lock", "file"), (".wake", "folder"), ("-wal", "file")])
def test_a_folder_in_the_place_of_a_file_is_named(factory_file: Path, suffix: str, expected: str) -> None:
    place = factory_file.with_name(f"factory.db{suffix}")
    place.unlink(missing_ok=True)
    place.touch() if expected == "folder" else place.mkdir()
    found = examined(factory_file)["file"]
    assert (found.status, found.found) == ("failed", f"{place} is not a {expected}.")


def test_a_file_in_a_closed_folder_is_named(factory_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)  # root may look into every folder
    found = examined(factory_file)["file"]
    assert (found.status, found.remedy) == ("failed", "Grant this user access to the folder.")


def test_root_leaves_no_files_that_the_owner_cannot_use(factory_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, tuple[int, int]] = {}
    factory_file.with_name("factory.db.lock").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda file, uid, gid: given.update({file.name: (uid, gid)}))
    assert examined(factory_file)["engine"].status == "ok"
    owner = factory_file.stat()
    assert given == dict.fromkeys(["factory.db.lock", "factory.db.wake"], (owner.st_uid, owner.st_gid))


def test_root_leaves_no_such_files_after_a_check_that_fails(
    factory_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Iterator[Finding]:
        path.with_name("factory.db.lock").touch()
        raise OSError("the disk is gone")

    given: list[str] = []
    factory_file.with_name("factory.db.lock").unlink()
    monkeypatch.setattr("openfactory.doctor.embedded.examine_disk", fail)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda file, *_: given.append(file.name))
    assert "the disk is gone" in examine(Plant.of(f"sqlite:///{factory_file}"))[-1].found
    assert given == ["factory.db.lock"]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOENT])
def test_a_file_without_access_lists_or_that_is_removed_meanwhile_ends_no_check(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(place: Path) -> list[str]:
        if number == errno.ENOENT and place.name == "factory.db-wal":
            place.unlink()
        raise OSError(number, os.strerror(number))

    path = copy_of(stored / "killed", tmp_path)
    monkeypatch.setattr(os, "listxattr", refuse)
    monkeypatch.setattr(file_access, "_users_of", lambda _: [file_access._User("alice", ALICE, frozenset())])
    found = list(file_access.examine_access(path))
    kept_out = [one.found.partition(" ")[0] for one in found if one.status == "failed"]
    everything = [os.fspath(path) + suffix for suffix in ("", "-wal", "-shm", ".lock")]
    assert kept_out == ([os.fspath(tmp_path), *everything] if number == errno.EOPNOTSUPP else [])


def test_a_file_that_is_removed_meanwhile_is_no_fault(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def access(place: Path, mode: int) -> bool:
        if place.name == "factory.db-wal":
            place.unlink()
            return False
        return True

    path = copy_of(stored / "killed", tmp_path)
    monkeypatch.setattr(os, "access", access)
    assert {one.status for one in file_access.examine_access(path)} == {"ok"}


def test_a_write_of_another_program_that_was_cut_off_is_named(factory_file: Path) -> None:
    execute(factory_file, "PRAGMA journal_mode = DELETE")
    factory_file.with_name("factory.db-journal").write_text("a journal")
    found = examined(factory_file)["content"]
    assert (found.status, "and left its journal." in found.found) == ("failed", True)


def test_a_file_that_this_user_may_not_write_is_named(factory_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: place.name != "factory.db.lock")
    found = examined(factory_file)["file"]
    assert (found.status, found.found) == ("failed", f"{factory_file}.lock cannot be written.")
