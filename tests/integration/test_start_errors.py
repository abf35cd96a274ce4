"""An app that cannot start says in one sentence why not and what to do, in time, and ends with a failure."""

from __future__ import annotations

import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

# Alone it takes some 5 s (the time that a silent server is given); five at once on a busy machine take longer.
IN_TIME = 60.0


def sentence(app: Worker) -> str:
    """What the app says at its end, after it has failed in time."""
    assert app.ended(max(app.started + IN_TIME - time.monotonic(), 0.1)) == 1
    last = app.err.strip().splitlines()[-1]
    print(f"{time.monotonic() - app.started:.1f} s: {last}")
    error, _, said = last.partition(": ")
    assert re.fullmatch(r"openfactory\.(exceptions|engines\.ksqldb\.errors)\.\w+", error), last
    assert said.endswith((".", "…"))
    return said


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Addresses where nobody is, where nobody answers, where the answer never ends, and where somebody answers."""
    with ExitStack() as cleanup:
        free, mute, drip = (cleanup.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3))
        ports = {name: one.getsockname()[1] for name, one in (("free", free), ("mute", mute), ("drip", drip))}
        free.close()
        threading.Thread(target=drip_bytes, args=(drip,), daemon=True).start()
        answering = cleanup.enter_context(HTTPServer(("127.0.0.1", 0), AnyAnswer))
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        cleanup.callback(answering.shutdown)
        yield {
            name: f"http://127.0.0.1:{port}" for name, port in (*ports.items(), ("answering", answering.server_port))
        }


def drip_bytes(server: socket.socket) -> None:
    """Answer without an end, a byte at a time."""
    try:
        connection, _ = server.accept()
        with connection:
            while True:
                connection.send(b"H")
                time.sleep(0.5)
    except OSError:
        return


class AnyAnswer(BaseHTTPRequestHandler):
    """Answers as any web server would."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_no_server_is_one_sentence_with_the_address_and_the_embedded_way(start: Start, servers: dict[str, str]) -> None:
    apps = {url: start("gantry_app.py", KSQLDB_URL=url) for url in servers.values()}
    apps["http://localhost:8088"] = start("gantry_app.py")  # the default of the app's file
    for url, app in apps.items():
        said = sentence(app)
        assert url in said
        assert "KSQLDB_URL=sqlite:///" in said
        assert "ofa run" in said
        assert "AVAILABLE" not in app.out


def no_scheme(folder: Path) -> str:
    return "factory.db"


def unknown_scheme(folder: Path) -> str:
    return "mysql://localhost/factory"


def two_slashes(folder: Path) -> str:
    return "sqlite://factory.db"


def unknown_option(folder: Path) -> str:
    return f"sqlite:///{folder}/factory.db?keep=3"


def missing_folder(folder: Path) -> str:
    return f"sqlite:///{folder}/missing/factory.db"


def below_a_file(folder: Path) -> str:
    (folder / "file").write_text("x")
    return f"sqlite:///{folder}/file/factory.db"


def a_folder(folder: Path) -> str:
    (folder / "factory.db").mkdir()
    return f"sqlite:///{folder}/factory.db"


def in_proc(folder: Path) -> str:
    return "sqlite:////proc/factory.db"


def name_too_long(folder: Path) -> str:
    return f"sqlite:///{folder}/{'x' * 300}.db"


def null_byte(folder: Path) -> str:
    return f"sqlite:///{folder}/fac%00tory.db"


def no_database(folder: Path) -> str:
    (folder / "factory.db").write_text("position,speed\n1,2\n" * 100)
    return f"sqlite:///{folder}/factory.db"


def database_of_others(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "factory.db")) as connection:
        connection.execute("CREATE TABLE orders (id, what)")
        connection.commit()
    return f"sqlite:///{folder}/factory.db"


def in_wal_mode_of_others(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "factory.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (id, what)")
        connection.commit()
    return f"sqlite:///{folder}/factory.db"


def a_factory(folder: Path) -> str:
    url = f"sqlite:///{folder}/factory.db"
    with KSQLDBClient(url) as client, Asset("MILL", client) as mill:
        for number in range(300):
            note = AssetAttribute(id=f"note-{number}", value="y" * 100, type="Events", tag="Note")
            mill.add_attribute(note, wait_to_become_available=False)
        mill.flush()
    return url


def later_schema(folder: Path) -> str:
    url = a_factory(folder)
    with closing(sqlite3.connect(folder / "factory.db")) as connection:
        connection.execute("PRAGMA user_version = 3")
    return url


def cut_in_half(folder: Path) -> str:
    url = a_factory(folder)
    whole = (folder / "factory.db").read_bytes()
    (folder / "factory.db").write_bytes(whole[: len(whole) // 2])
    return url


def scrambled(folder: Path) -> str:
    url = a_factory(folder)
    whole = (folder / "factory.db").read_bytes()
    (folder / "factory.db").write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    return url


@pytest.mark.parametrize(
    ("make", "reason", "remedy"),
    [
        (no_scheme, "does not name an engine", "Set KSQLDB_URL to sqlite:///factory.db"),
        (unknown_scheme, "its scheme is not one of http, https, kafka, memory, sqlite", "Set KSQLDB_URL to"),
        (two_slashes, "has two slashes before its path", "Write sqlite:///factory.db"),
        (unknown_option, "has the invalid option keep='3'", "The options are"),
        (missing_folder, "missing/factory.db cannot be opened", "Create the folder"),
        (below_a_file, "file/factory.db cannot be opened", "in KSQLDB_URL"),
        (a_folder, "factory.db cannot be opened", "in KSQLDB_URL"),
        (in_proc, "/proc/factory.db cannot be opened", "Name a file in KSQLDB_URL that this user may write"),
        (name_too_long, "cannot be opened", "in KSQLDB_URL"),
        (null_byte, "", "in KSQLDB_URL"),
        (no_database, "file is not a database", "Name another file in KSQLDB_URL"),
        (database_of_others, "is a database of another program", "Name another file in KSQLDB_URL"),
        (in_wal_mode_of_others, "is a database of another program", "Name another file in KSQLDB_URL"),
        (later_schema, "was written by a later version of OpenFactory", "pip install --upgrade openfactory-core"),
    ],
    ids=lambda one: one.__name__ if callable(one) else "",
)
def test_what_cannot_be_opened_is_one_sentence_with_a_remedy_and_stays_as_it_was(
    start: Start, tmp_path: Path, make: Callable[[Path], str], reason: str, remedy: str
) -> None:
    url = make(tmp_path)
    file = tmp_path / "factory.db"
    before = file.read_bytes() if file.is_file() else b""
    said = sentence(start("gantry_app.py", KSQLDB_URL=url))
    assert reason in said
    assert remedy in said
    assert (file.read_bytes() if file.is_file() else b"") == before


@pytest.mark.parametrize("make", [cut_in_half, scrambled])
def test_a_damaged_factory_is_named_and_is_not_called_unwritable(
    start: Start, tmp_path: Path, make: Callable[[Path], str]
) -> None:
    url = make(tmp_path)
    said = sentence(start("gantry_app.py", KSQLDB_URL=url))
    assert f"{tmp_path}/factory.db" in said
    assert "malformed" in said
    assert "may write" not in said  # a remedy for something else


@pytest.mark.parametrize("make", [no_database, database_of_others, in_wal_mode_of_others])
def test_nothing_is_left_beside_a_file_that_is_not_ours(
    start: Start, tmp_path: Path, make: Callable[[Path], str]
) -> None:
    url = make(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    sentence(start("gantry_app.py", KSQLDB_URL=url))
    assert {path.name for path in tmp_path.iterdir()} == before
