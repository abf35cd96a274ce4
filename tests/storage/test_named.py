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
    ReadOnlyStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    UnknownStoreError,
)
from openfactory.storage.paths import StoragePath


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


def test_a_store_reads_in_its_own_way(storage: NamedStorage) -> None:
    class Decoding(LocalBackend):
        def read_bytes(self, path: StoragePath) -> bytes:
            return super().read_bytes(path)[::-1]

        def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
            return super().read_text(path, encoding=encoding)[::-1]

    own = NamedStorage({"own": Decoding(storage["data"].config)})
    own.write_text("own/a.txt", "abc")
    assert (own.read_text("own/a.txt"), own.read_bytes("own/a.txt")) == ("cba", b"cba")


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
    assert str(caught.value).startswith("The storage has no store 'nosuch'. Use one of cfg, data,")
    assert not storage.exists("nosuch/a.txt")


@pytest.mark.parametrize("path", ["/data/a.txt", "../data/a.txt", "data/../cfg/a.txt", "data/../../secret", "data\\a"])
def test_no_path_leaves_its_store(storage: NamedStorage, path: str) -> None:
    for use in (storage.open, storage.exists, storage.listdir, storage.delete):
        with pytest.raises(PathOutsideStorageError):
            use(path)


def test_no_path_contains_nul(storage: NamedStorage) -> None:
    for path in ("data\0", "da\0ta/a"):
        for use in (storage.open, storage.listdir, storage.delete):
            with pytest.raises(PathOutsideStorageError):
                use(path)
        assert not storage.exists(path)


def test_what_only_one_store_can_answer_says_so(storage: NamedStorage) -> None:
    assert not hasattr(storage, "root")
    with pytest.raises(SeveralStoresError, match=r"storage\['cfg'\]\.root"):
        _ = storage.root
    with pytest.raises(SeveralStoresError, match=r"storage\['cfg'\]\.get_mount_spec\(\)"):
        storage.get_mount_spec()
    assert not storage.compatible_with_swarm()


@pytest.mark.parametrize("mount_point", ["/nowhere/data", "/nowhere/data/", "/nowhere/./data", " //nowhere/data"])
@pytest.mark.parametrize("kind", ["local", "nfs"])
def test_defect_30_two_stores_do_not_share_a_mount_point(settings: dict[str, Any], kind: str, mount_point: str) -> None:
    settings["cfg"]["mount_point"] = mount_point
    if kind == "nfs":
        settings["cfg"] |= {"type": "nfs", "server": "n.h", "remote_path": "/e"}
    with pytest.raises(StorageConfigurationError) as caught:
        NamedStorage.from_config(settings)
    assert str(caught.value) == (
        "The store 'cfg' of STORAGE has the mount_point '/nowhere/data', and so has the store 'data'. "
        "Give each store its own mount_point."
    )


def test_every_way_to_read_and_write_goes_to_the_store(storage: NamedStorage, tmp_path: Path) -> None:
    storage.write_text("data/a.txt", "ä")
    storage.write_bytes("data/b.bin", b"b")
    storage.write_atomic("data/sub/c.txt", "c")
    assert storage.read_text("data/a.txt") == storage["data"].read_text("a.txt") == "ä"
    assert storage.read_bytes("data/b.bin") == b"b"
    assert (tmp_path / "data" / "sub" / "c.txt").read_text(encoding="utf-8") == "c"
    storage.mkdir("cfg/new/er")
    storage.mkdir("cfg")
    storage.mkdir(".")
    assert (tmp_path / "cfg" / "new" / "er").is_dir()
    with pytest.raises(UnknownStoreError):
        storage.mkdir("nosuch")
    with pytest.raises(FileNotFoundError):
        storage.info("data/nosuch.txt")
    assert storage.info("data/sub/c.txt")[:2] == ("data/sub/c.txt", 1)
    assert storage.info("data").is_folder
    assert storage.info() == ("", 0, None, True)
    assert storage.info("data").path == "data"


def test_walk_and_glob_go_through_all_stores(storage: NamedStorage) -> None:
    for path in ("data/a.txt", "data/sub/b.txt", "cfg/a.toml"):
        storage.write_text(path, "x")
    everything = ["cfg", "cfg/a.toml", "data", "data/a.txt", "data/sub", "data/sub/b.txt"]
    assert [entry.path for entry in storage.walk()] == everything
    assert [entry.path for entry in storage.walk("data/sub")] == ["data/sub/b.txt"]
    assert storage.glob("**/*.txt") == ["data/a.txt", "data/sub/b.txt"]
    assert storage.glob("*/a.*") == ["cfg/a.toml", "data/a.txt"]
    assert storage.glob("data/*.txt") == ["data/a.txt"]
    assert storage.glob("*") == ["cfg", "data"]


def test_files_are_copied_and_moved_within_a_store_and_to_another(storage: NamedStorage) -> None:
    storage.write_text("data/a.txt", "a")
    storage.write_text("data/sub/b.txt", "b")
    storage.copy("data/a.txt", "data/copy.txt")
    storage.copy("data/a.txt", "cfg/new/a.txt")
    storage.move("data/copy.txt", "data/moved.txt")
    storage.move("data/moved.txt", "cfg/new/moved.txt")
    storage.move("data/sub", "data/folder")
    assert storage.read_text("cfg/new/a.txt") == storage.read_text("cfg/new/moved.txt") == "a"
    assert [entry.path for entry in storage["data"].walk()] == ["a.txt", "folder", "folder/b.txt"]

    with pytest.raises(IsADirectoryError, match="cannot be moved to another store; move its files"):
        storage.move("data/folder", "cfg/folder")
    for use in (storage.copy, storage.move):
        with pytest.raises(UnknownStoreError):
            use("data/a.txt", "nosuch/a.txt")
        with pytest.raises(UnknownStoreError):
            use("nosuch/a.txt", "data/a.txt")
        with pytest.raises(FileNotFoundError):
            use("data/nosuch.txt", "cfg/b.txt")
        with pytest.raises(IsADirectoryError):
            use("data/a.txt", "cfg")
        with pytest.raises(IsADirectoryError):
            use("data/a.txt", "")
    assert storage.read_text("data/a.txt") == "a"
    assert storage.listdir("cfg") == ["new"]


def test_files_are_carried_in_and_out(storage: NamedStorage, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("here", encoding="utf-8")
    seen: list[tuple[int, int]] = []
    storage.put(tmp_path / "here.txt", "data/there.txt", lambda through, total: seen.append((through, total)))
    storage.get("data/there.txt", tmp_path / "back.txt", lambda through, total: seen.append((through, total)))
    storage.get("data/there.txt", str(tmp_path / "again.txt"))
    assert seen == [(4, 4), (4, 4)]
    assert (tmp_path / "back.txt").read_text(encoding="utf-8") == "here"
    assert (tmp_path / "again.txt").read_text(encoding="utf-8") == "here"


def test_get_is_that_of_a_mapping_too(storage: NamedStorage) -> None:
    """Apps of today write `storage.get("data").root`."""
    found = storage.get("data")
    assert found is not None
    assert found.root == storage["data"].root
    assert storage.get("nosuch") is None
    assert storage.get("nosuch", None) is None
    assert storage.get("nosuch", storage["cfg"]) is storage["cfg"]
    assert storage.get("data", storage["cfg"]) is storage["data"]
    assert dict(storage) == {"data": storage["data"], "cfg": storage["cfg"]}
    assert list(storage.items()) == [(name, storage[name]) for name in ("data", "cfg")]


def test_a_store_that_is_read_only_refuses_what_the_others_take(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "cfg" / "a.toml").write_text("a", encoding="utf-8")
    settings["cfg"]["read_only"] = True
    storage = NamedStorage.from_config(settings)
    storage.write_text("data/a.txt", "a")
    for write in (
        lambda: storage.open("cfg/a.toml", "w"),
        lambda: storage.write_text("cfg/b", "b"),
        lambda: storage.write_bytes("cfg/b", b"b"),
        lambda: storage.write_atomic("cfg/b", "b"),
        lambda: storage.put(__file__, "cfg/b"),
        lambda: storage.copy("data/a.txt", "cfg/b"),
        lambda: storage.copy("cfg/a.toml", "cfg/b"),
        lambda: storage.move("data/a.txt", "cfg/b"),
        lambda: storage.move("cfg/a.toml", "data/b"),
        lambda: storage.move("cfg/a.toml", "cfg/b"),
        lambda: storage.delete("cfg/a.toml"),
        lambda: storage.mkdir("cfg/b"),
    ):
        with pytest.raises(ReadOnlyStorageError):
            write()
    assert [entry.path for entry in storage.walk()] == ["cfg", "cfg/a.toml", "data", "data/a.txt"]
    storage.copy("cfg/a.toml", "data/b.toml")
    assert storage.read_text("data/b.toml") == storage.read_text("cfg/a.toml") == "a"


def test_links_do_not_lead_from_store_to_store(storage: NamedStorage, tmp_path: Path) -> None:
    storage.write_text("cfg/a.toml", "a")
    (tmp_path / "data" / "link").symlink_to("../cfg")
    for use in (storage.listdir, storage.info, storage.read_bytes):
        with pytest.raises(PathOutsideStorageError):
            use("data/link/a.toml")
    assert storage.glob("data/**/a.toml") == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "ü"])
def test_a_name_can_stand_in_a_path(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(StorageConfigurationError, match="has an invalid name"):
        NamedStorage.from_config({name: settings["data"]})


def test_no_store_at_all_is_refused() -> None:
    with pytest.raises(StorageConfigurationError, match="at least one store"):
        NamedStorage({})
