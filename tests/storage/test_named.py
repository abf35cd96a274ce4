from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from openfactory.storage import (
    FileBackend,
    LocalBackend,
    NamedStorage,
    PathOutsideStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    UnknownStoreError,
)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    for name in ("data", "cfg"):
        (tmp_path / name).mkdir()
    return {
        name: {"type": "local", "local_path": str(tmp_path / name), "mount_point": f"/nowhere/{name}"}
        for name in ("data", "cfg")
    }


@pytest.fixture
def storage(settings: dict[str, Any]) -> NamedStorage:
    return NamedStorage.from_config(settings)


def test_it_is_a_mapping_of_its_stores(storage: NamedStorage, tmp_path: Path) -> None:
    assert isinstance(storage, Mapping)
    assert isinstance(storage, FileBackend)
    assert sorted(storage) == ["cfg", "data"]
    assert len(storage) == 2
    assert storage
    assert isinstance(storage["data"], LocalBackend)
    assert storage["data"].root == tmp_path / "data"
    found = storage.get("data")
    assert found is storage["data"]
    assert storage.get("nosuch") is None
    assert "cfg" in storage
    assert "nosuch" not in storage
    assert repr(storage) == "NamedStorage(cfg, data)"


def test_the_first_segment_is_the_name_of_the_store(storage: NamedStorage) -> None:
    with storage.open("data/sub/a.txt", "w") as file:
        file.write("ä")
    with storage["data"].open("sub/a.txt") as file:
        assert file.read() == "ä"
    assert storage.exists("data/sub/a.txt")
    assert storage.exists("./data//sub/a.txt")
    assert storage.exists(Path("data"))
    assert not storage.exists("cfg/sub/a.txt")
    assert storage.listdir("data/sub") == ["a.txt"]
    storage.delete("data/sub/a.txt")
    assert storage.listdir("data/sub") == []


def test_the_storage_itself_is_a_folder_of_stores(storage: NamedStorage) -> None:
    assert storage.listdir() == storage.listdir("") == storage.listdir(".") == ["cfg", "data"]
    assert storage.exists(".")
    with pytest.raises(IsADirectoryError):
        storage.open("", "w")
    with pytest.raises(IsADirectoryError):
        storage.delete(".")
    with pytest.raises(IsADirectoryError):
        storage.delete("data")
    with pytest.raises(IsADirectoryError):
        storage.open("data")


def test_an_unknown_store_names_those_there_are(storage: NamedStorage) -> None:
    for use in (storage.open, storage.delete, storage.listdir):
        with pytest.raises(UnknownStoreError):
            use("nosuch/a.txt")
    with pytest.raises(UnknownStoreError) as caught:
        storage["nosuch"]
    assert caught.value.store == "nosuch"
    assert caught.value.known == ("cfg", "data")
    assert str(caught.value).startswith("The storage has no store 'nosuch'. It has cfg, data:")
    assert not storage.exists("nosuch/a.txt")


@pytest.mark.parametrize("path", ["/data/a.txt", "../data/a.txt", "data/../cfg/a.txt", "data/../../secret"])
def test_no_path_leaves_its_store(storage: NamedStorage, path: str) -> None:
    for use in (storage.open, storage.exists, storage.listdir, storage.delete):
        with pytest.raises(PathOutsideStorageError):
            use(path)


def test_what_only_one_store_can_answer_says_so(storage: NamedStorage) -> None:
    assert not hasattr(storage, "root")
    with pytest.raises(SeveralStoresError, match=r"storage\['cfg'\]\.root"):
        _ = storage.root
    with pytest.raises(SeveralStoresError, match=r"storage\['cfg'\]\.get_mount_spec\(\)"):
        storage.get_mount_spec()
    assert not storage.compatible_with_swarm()


def test_two_stores_do_not_share_a_mount_point(settings: dict[str, Any]) -> None:
    settings["cfg"]["mount_point"] = "/nowhere/data/"
    with pytest.raises(StorageConfigurationError, match="where the store 'data' is already"):
        NamedStorage.from_config(settings)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "ü"])
def test_a_name_can_stand_in_a_path(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(StorageConfigurationError, match="needs another name"):
        NamedStorage.from_config({name: settings["data"]})


def test_no_store_at_all_is_refused() -> None:
    with pytest.raises(StorageConfigurationError, match="at least one store"):
        NamedStorage({})
