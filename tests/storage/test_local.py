from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from openfactory.storage import (
    FileBackend,
    LocalBackend,
    PathOutsideStorageError,
    StorageConfigurationError,
    StorageError,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def storage(folder: Path) -> LocalBackend:
    return LocalBackend.from_config(settings(folder))


def settings(folder: Path, **others: Any) -> dict[str, Any]:
    return {"type": "local", "local_path": str(folder), "mount_point": "/nowhere/mounted"} | others


def test_what_is_written_is_read_again(storage: FileBackend) -> None:
    with storage.open("notes/today.txt", "w") as file:
        file.write("Prüfstück\n")
    with storage.open("notes/today.txt", "a") as file:
        file.write("second line\n")

    with storage.open("notes/today.txt") as file:
        assert file.read() == "Prüfstück\nsecond line\n"
    with storage.open("notes/today.txt", "rb") as file:
        assert file.read().startswith("Prüf".encode())


def test_text_is_utf8_unless_another_encoding_is_given(storage: FileBackend) -> None:
    with storage.open("a.txt", "w", encoding="latin-1", newline="\r\n") as file:
        file.write("ü\n")
    with storage.open("a.txt", "rb") as file:
        assert file.read() == b"\xfc\r\n"


def test_bytes_are_written_in_every_mode(storage: FileBackend) -> None:
    with storage.open("x/data.bin", "xb") as file:
        file.write(b"abc")
    with storage.open("x/data.bin", "r+b") as file:
        file.seek(1)
        file.write(b"B")
    with storage.open("x/data.bin", "ab") as file:
        file.write(b"d")
    with storage.open("x/data.bin", "rb") as file:
        assert file.read() == b"aBcd"


def test_exclusive_creation_refuses_a_file_that_is_there(storage: FileBackend) -> None:
    storage.open("a.txt", "x").close()
    with pytest.raises(FileExistsError):
        storage.open("a.txt", "x")


def test_reading_makes_no_folders(storage: LocalBackend) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open("new/folder/a.txt")
    assert storage.listdir() == []


def test_a_folder_is_not_opened(storage: LocalBackend, folder: Path) -> None:
    (folder / "sub").mkdir()
    with pytest.raises(IsADirectoryError):
        storage.open("sub")
    with pytest.raises(IsADirectoryError):
        storage.open("sub", "w")


def test_exists(storage: LocalBackend, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").touch()
    (folder / "dangling").symlink_to("gone")
    assert storage.exists("sub")
    assert storage.exists("sub/a.txt")
    assert storage.exists(Path("sub") / "a.txt")
    assert not storage.exists("b.txt")
    assert not storage.exists("dangling")


def test_delete(storage: LocalBackend, folder: Path) -> None:
    (folder / "a.txt").touch()
    storage.delete("a.txt")
    assert not (folder / "a.txt").exists()
    with pytest.raises(FileNotFoundError):
        storage.delete("a.txt")
    (folder / "sub").mkdir()
    for path in ("sub", "sub/", ".", "sub/.."):
        with pytest.raises(IsADirectoryError):
            storage.delete(path)


def test_delete_removes_a_link_and_not_what_it_leads_to(storage: LocalBackend, folder: Path) -> None:
    outside = folder.parent / "outside.txt"
    outside.touch()
    (folder / "kept.txt").touch()
    (folder / "in").symlink_to("kept.txt")
    (folder / "out").symlink_to(outside)

    storage.delete("in")
    storage.delete("out")

    assert storage.listdir() == ["kept.txt"]
    assert outside.exists()


def test_listdir_gives_sorted_names(storage: LocalBackend, folder: Path) -> None:
    for name in ("b.txt", "a.txt", "[c]*.txt"):
        (folder / name).touch()
    (folder / "sub").mkdir()
    assert storage.listdir(".") == storage.listdir("") == ["[c]*.txt", "a.txt", "b.txt", "sub"]
    assert storage.listdir("sub") == []
    with pytest.raises(FileNotFoundError):
        storage.listdir("gone")
    with pytest.raises(NotADirectoryError):
        storage.listdir("a.txt")


def test_an_absolute_path_inside_the_root_is_taken(storage: LocalBackend, folder: Path) -> None:
    (folder / "a.txt").touch()
    assert storage.exists(folder / "a.txt")
    assert storage.listdir(storage.root) == ["a.txt"]


@pytest.fixture
def with_ways_out(folder: Path) -> Path:
    secret = folder.parent / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("secret", encoding="utf-8")
    (folder / "sub").mkdir()
    (folder / "file").symlink_to(secret / "key.txt")
    (folder / "dir").symlink_to(secret)
    (folder / "new").symlink_to(secret / "not-yet-there.txt")
    (folder / "sub" / "up").symlink_to("../..")
    return secret


WAYS_OUT = [
    "../secret/key.txt",
    "..",
    "sub/../../secret/key.txt",
    "/etc/passwd",
    "file",
    "dir/key.txt",
    "dir/new.txt",
    "new",
    "sub/up/secret/key.txt",
    # The name of the root is a prefix of this one.
    "../store-of-others/a.txt",
    "a\0b",
]


@pytest.mark.parametrize("path", WAYS_OUT)
def test_no_path_leads_out(storage: LocalBackend, with_ways_out: Path, path: str) -> None:
    for use in (
        storage.open,
        lambda p: storage.open(p, "w"),
        storage.exists,
        storage.listdir,
    ):
        with pytest.raises(PathOutsideStorageError) as caught:
            use(path)
        assert caught.value.path == path
        assert isinstance(caught.value, StorageError)
        assert isinstance(caught.value, ValueError)
    assert sorted(os.listdir(with_ways_out)) == ["key.txt"]


@pytest.mark.parametrize("path", ["../secret/key.txt", "dir/key.txt", "sub/up/secret/key.txt", "..", "a\0b"])
def test_nothing_outside_is_deleted(storage: LocalBackend, with_ways_out: Path, path: str) -> None:
    with pytest.raises(PathOutsideStorageError):
        storage.delete(path)
    assert (with_ways_out / "key.txt").exists()


def test_the_refusal_names_path_target_root_and_remedy(storage: LocalBackend, folder: Path) -> None:
    with pytest.raises(PathOutsideStorageError) as caught:
        storage.open("../secret")
    text = str(caught.value)
    assert "'../secret'" in text
    assert str(folder.parent / "secret") in text
    assert str(folder) in text
    assert text.endswith("may not lead out of it.")


def test_dots_and_links_that_stay_inside_are_fine(storage: LocalBackend, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.txt").write_text("a", encoding="utf-8")
    (folder / "sub" / "link").symlink_to("../a.txt")
    for path in ("sub/../a.txt", "./a.txt", "sub/link"):
        with storage.open(path) as file:
            assert file.read() == "a"


def test_a_root_that_is_a_link_is_no_escape(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    storage = LocalBackend.from_config(settings(link))
    with storage.open("a.txt", "w") as file:
        file.write("a")
    assert storage.root == link
    assert storage.exists(link / "a.txt")
    assert storage.exists(folder / "a.txt")
    storage.delete("a.txt")
    assert storage.listdir() == []


# No deadline: it is the disk that takes the time.
@hypothesis_settings(deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "sub", "dir", "up", "file", "a", "/", "//"]), max_size=8))
def test_whatever_the_path_nothing_outside_is_seen(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    base = tmp_path_factory.mktemp("case")
    root = base / "root"
    (root / "sub").mkdir(parents=True)
    (root / "dir").symlink_to(base)
    (root / "file").symlink_to(base / "a")
    (root / "sub" / "up").symlink_to("../..")
    (base / "a").write_text("secret", encoding="utf-8")
    storage = LocalBackend.from_config(settings(root))
    path = "/".join(parts)
    try:
        with storage.open(path) as file:
            raise AssertionError(f"{path!r} read {file.read()!r} from outside")
    except (PathOutsideStorageError, FileNotFoundError, IsADirectoryError):
        pass


def test_the_mount_point_is_the_root_where_it_exists(folder: Path) -> None:
    mounted = folder.parent / "mounted"
    mounted.mkdir()
    assert LocalBackend.from_config(settings(folder, mount_point=str(mounted))).root == mounted
    # In the container only the mount point is there.
    assert LocalBackend.from_config(settings(folder / "gone", mount_point=str(mounted))).root == mounted
    mounted.rmdir()
    assert LocalBackend.from_config(settings(folder, mount_point=str(mounted))).root == folder


def test_neither_folder_there_is_an_error_with_a_remedy(folder: Path) -> None:
    with pytest.raises(StorageConfigurationError, match=r"mkdir -p .*/gone"):
        LocalBackend.from_config(settings(folder / "gone"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"local_path": "./cache"}, "not absolute"),
        ({"local_path": ""}, "not absolute"),
        ({"local_path": 3}, r"local_path"),
        ({"mount_point": "mnt"}, "absolute path"),
        ({"mount_point": "/"}, "is not '/'"),
        ({"mount_point": "//."}, "is not '/'"),
        ({"mount_point": "/a/../b"}, r"has no '\.\.'"),
        ({"mount_point": "/a b"}, "letters, digits"),
        ({"mount_point": "/" + "a" * 255}, "255"),
        ({"mount_point": None}, "mount_point"),
        ({"mounted": "/mnt"}, "mounted"),
        ({"type": "nfs"}, "nfs"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(StorageConfigurationError, match=said) as caught:
        LocalBackend.from_config(settings(folder, **change))
    assert '"local_path": "/srv/data"' in str(caught.value)


def test_missing_settings_are_named(folder: Path) -> None:
    with pytest.raises(StorageConfigurationError, match="mount_point"):
        LocalBackend.from_config({"type": "local", "local_path": str(folder)})


def test_settings_are_tidied(folder: Path) -> None:
    storage = LocalBackend.from_config(
        settings(folder, local_path=f" {folder}/x/.. ", mount_point=" //mnt/a/ ", description="Results")
    )
    assert storage.config.local_path == str(folder)
    assert storage.config.mount_point == "/mnt/a"
    assert storage.config.description == "Results"


def test_the_mount_spec_is_a_bind_mount(storage: LocalBackend, folder: Path) -> None:
    spec = storage.get_mount_spec()
    assert spec == {"Type": "bind", "Source": str(folder), "Target": "/nowhere/mounted", "ReadOnly": False}
    assert json.loads(json.dumps(spec)) == spec
    assert not storage.compatible_with_swarm()
