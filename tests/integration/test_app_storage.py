"""An app and its files: STORAGE decides where they are, whatever the app's data is on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient
from openfactory.storage import FileBackend, LocalBackend, StorageConfigurationError

CALL_SECONDS = 30.0


class Recorder(OpenFactoryApp):
    """Keeps what it is told in a file."""

    kept = EventAttribute(value=0, tag="Recorder.Kept")

    @ofa_method(description="Keep a line")
    def keep(self, line: str) -> str:
        with self.storage.open("book/lines.txt", "a") as book:
            book.write(f"{line}\n")
        self.kept = self.kept.value + 1
        self.storage.write_atomic("book/count.txt", str(self.kept.value))
        return str(self.storage.read_text("book/lines.txt"))


def local(folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    return {"type": "local", "local_path": str(folder), "mount_point": "/nowhere/mounted"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Sets STORAGE."""
    return lambda settings: monkeypatch.setenv("STORAGE", json.dumps(settings))


Store = Callable[[object], None]


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_a_command_writes_a_file_whatever_the_data_is_on(tmp_path: Path, store: Store, scheme: str) -> None:
    url = {"memory": f"memory://{uuid4().hex}", "sqlite": f"sqlite:///{tmp_path}/factory.db"}[scheme]
    store(local(tmp_path / "files"))
    with KSQLDBClient(url) as client:
        app = Recorder(client, app_uuid="RECORDER")
        try:
            with Asset("RECORDER", client) as recorder:
                assert recorder.call("keep", line="one", sender_uuid="HMI", timeout=CALL_SECONDS) == "one\n"
                assert recorder.call("keep", line="two", sender_uuid="HMI", timeout=CALL_SECONDS) == "one\ntwo\n"
        finally:
            app.shutdown()
    assert (tmp_path / "files" / "book" / "count.txt").read_text() == "2"


def test_one_storage_is_that_storage(tmp_path: Path, store: Store) -> None:
    store(local(tmp_path / "files"))
    app = Recorder(None, test_mode=True)
    app.shutdown()
    assert isinstance(app.storage, LocalBackend)
    assert app.storage.root == tmp_path / "files"


def test_several_storages_have_their_names(tmp_path: Path, store: Store) -> None:
    store({"data": local(tmp_path / "a"), "cfg": local(tmp_path / "b") | {"mount_point": "/nowhere/else"}})
    app = Recorder(None, test_mode=True)
    app.shutdown()
    assert isinstance(app.storage, FileBackend)
    assert isinstance(app.storage, Mapping)
    assert app.storage["data"].root == tmp_path / "a"
    found = app.storage.get("cfg")
    assert found.root == tmp_path / "b"
    app.storage.write_text("cfg/press.json", "{}")
    assert (tmp_path / "b" / "press.json").read_text() == "{}"


@pytest.mark.parametrize("text", ["", "{}", "null"])
def test_no_storage_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STORAGE", text)
    app = Recorder(None, test_mode=True)
    app.shutdown()
    assert app.storage is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"type": "tape"}, r"STORAGE has the type 'tape'"),
        ({"data": {"type": "local", "local_path": "/nowhere/at/all", "mount_point": "/nowhere/mounted"}}, "'data'"),
        ({"data": {"type": "local", "local_path": "/", "mount_point": "/m", "locl": 1}}, "'data'.*locl"),
    ],
)
def test_an_app_whose_storage_cannot_be_used_does_not_start_half(store: Store, settings: object, said: str) -> None:
    store(settings)
    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        with pytest.raises(StorageConfigurationError, match=said):
            Recorder(client, app_uuid="RECORDER")
        assert client.engine.types(["RECORDER"]) == {}
        assert client.engine.snapshot(["RECORDER"]).events == {}
