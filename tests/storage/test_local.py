from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from openfactory.storage import (
    FileBackend,
    LocalBackend,
    PathOutsideStorageError,
    ReadOnlyStorageError,
    StorageConfigurationError,
)

pytestmark = pytest.mark.smoke


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


def test_dots_and_links_that_stay_inside_are_fine(storage: LocalBackend, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.txt").write_text("a", encoding="utf-8")
    (folder / "sub" / "link").symlink_to("../a.txt")
    for path in ("sub/../a.txt", "./a.txt", "sub/link"):
        with storage.open(path) as file:
            assert file.read() == "a"


def test_defect_29_the_mount_point_is_the_root_where_it_exists(folder: Path) -> None:
    """A container has the mount point only, the machine that deploys it need not have the folder, and a laptop does."""
    mounted = folder.parent / "mounted"
    mounted.mkdir()
    assert LocalBackend.from_config(settings(folder, mount_point=str(mounted))).root == mounted
    in_the_container = LocalBackend.from_config(settings(folder / "gone", mount_point=str(mounted)))
    in_the_container.write_text("a.txt", "a")
    assert in_the_container.root == mounted
    assert in_the_container.read_text(mounted / "a.txt") == "a"
    assert in_the_container.get_mount_spec()["Source"] == str(folder / "gone")
    (mounted / "a.txt").unlink()
    mounted.rmdir()
    assert LocalBackend.from_config(settings(folder, mount_point=str(mounted))).root == folder


def test_defect_29_a_relative_folder_says_what_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageConfigurationError, match=f"Write the full path, such as '{tmp_path}/cache'"):
        LocalBackend.from_config(settings(tmp_path, local_path="./cache"))


def test_defect_30_no_path_and_no_link_leads_out(storage: LocalBackend, folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret", encoding="utf-8")
    (folder / "link").symlink_to("../secret.txt")
    for path in ("../secret.txt", "link", folder.parent / "secret.txt"):
        with pytest.raises(PathOutsideStorageError):
            storage.open(path)
        with pytest.raises(PathOutsideStorageError):
            storage.open(path, "w")
    assert (folder.parent / "secret.txt").read_text(encoding="utf-8") == "secret"


def test_defect_30_a_file_has_the_encoding_that_is_asked_for(storage: LocalBackend, folder: Path) -> None:
    storage.write_text("a.txt", "Prüfstück", encoding="cp1252")
    assert (folder / "a.txt").read_bytes() == b"Pr\xfcfst\xfcck"
    assert storage.read_text("a.txt", encoding="cp1252") == "Prüfstück"
    with storage.open("a.txt", encoding="cp1252") as file:
        assert file.read() == "Prüfstück"


def test_defect_30_read_only_refuses_what_writes_and_nothing_else(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("a", encoding="utf-8")
    storage = LocalBackend.from_config(settings(folder, read_only=True))
    for write in (
        lambda: storage.open("sub/a.txt", "w"),
        lambda: storage.open("sub/a.txt", "ab"),
        lambda: storage.open("b.txt", "x"),
        lambda: storage.open("sub/a.txt", "r+"),
        lambda: storage.write_text("b.txt", "b"),
        lambda: storage.write_bytes("b.txt", b"b"),
        lambda: storage.write_atomic("b.txt", "b"),
        lambda: storage.put(__file__, "b.txt"),
        lambda: storage.copy("sub/a.txt", "b.txt"),
        lambda: storage.move("sub/a.txt", "b.txt"),
        lambda: storage.delete("sub/a.txt"),
        lambda: storage.mkdir("b"),
    ):
        with pytest.raises(ReadOnlyStorageError, match="is read-only") as caught:
            write()
        assert isinstance(caught.value, PermissionError)
        assert caught.value.path in ("sub/a.txt", "b.txt", "b")
    with pytest.raises(PathOutsideStorageError):
        storage.delete("../a.txt")
    assert [entry.path for entry in storage.walk()] == ["sub", "sub/a.txt"]
    assert storage.read_text("sub/a.txt") == "a"
    assert storage.glob("**/*.txt") == ["sub/a.txt"]
    assert storage.exists("sub")
    storage.get("sub/a.txt", folder.parent / "a.txt")
    assert storage.get_mount_spec()["ReadOnly"]


def test_info_tells_size_time_and_kind(storage: LocalBackend, folder: Path) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    storage.write_text("sub/a.txt", "ä")
    info = storage.info("sub/../sub/a.txt")
    assert (info.path, info.size, info.is_folder) == ("sub/a.txt", 2, False)
    assert info.modified is not None
    assert before <= info.modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert storage.info("sub")[:2] == ("sub", 0)
    assert storage.info("sub").is_folder
    assert storage.info().path == ""
    (folder / "link").symlink_to("sub/a.txt")
    assert storage.info("link").size == 2
    with pytest.raises(FileNotFoundError, match=r"'sub/b\.txt'"):
        storage.info("sub/b.txt")


def test_mkdir(storage: LocalBackend, folder: Path) -> None:
    storage.mkdir("a/b/c")
    storage.mkdir("a/b/c")
    storage.mkdir(".")
    assert (folder / "a" / "b" / "c").is_dir()
    (folder / "file").touch()
    (folder / "dangling").symlink_to("gone")
    (folder / "link").symlink_to("a")
    storage.mkdir("link")
    for path in ("file", "dangling"):
        with pytest.raises(FileExistsError, match=path):
            storage.mkdir(path)
    with pytest.raises(NotADirectoryError):
        storage.mkdir("file/a")


def test_two_that_make_the_same_folders_both_have_them(storage: LocalBackend) -> None:
    with ThreadPoolExecutor(8) as many:
        for number in range(50):
            path = f"{number}/a/b/c.txt"
            list(many.map(lambda text, path=path: storage.write_atomic(path, text), "12345678"))
            assert storage.listdir(f"{number}/a/b") == ["c.txt"]


def test_move(storage: LocalBackend, folder: Path) -> None:
    storage.write_text("a.txt", "a")
    storage.move("a.txt", "new/b.txt")
    storage.write_text("a.txt", "newer")
    storage.move("a.txt", "new/b.txt")
    assert storage.read_text("new/b.txt") == "newer"
    storage.move("new", "deeper/moved")
    assert [entry.path for entry in storage.walk()] == ["deeper", "deeper/moved", "deeper/moved/b.txt"]

    storage.write_text("a.txt", "a")
    storage.mkdir("empty")
    for source, target, error in (
        ("nosuch", "b", FileNotFoundError),
        ("nosuch/a", "b", FileNotFoundError),
        ("a.txt", "empty", IsADirectoryError),
        ("a.txt", ".", IsADirectoryError),
        ("deeper", "empty", FileExistsError),
        ("deeper", "a.txt", FileExistsError),
        ("deeper", "", FileExistsError),
        (".", "b", IsADirectoryError),
        ("a.txt", "a.txt/b", NotADirectoryError),
    ):
        with pytest.raises(error) as caught:
            storage.move(source, target)
        assert caught.value.filename in (source, target, ".")
    with pytest.raises(OSError, match="'deeper' -> 'deeper/moved/in'"):
        storage.move("deeper", "deeper/moved/in")
    assert sorted(os.listdir(folder)) == ["a.txt", "deeper", "empty"]


def test_put_and_get_carry_whole_files_and_say_how_far_they_are(storage: LocalBackend, tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    (tmp_path / "here.bin").write_bytes(content)
    seen: list[tuple[int, int]] = []
    storage.put(tmp_path / "here.bin", "new/there.bin", lambda through, total: seen.append((through, total)))
    storage.get("new/there.bin", tmp_path / "back.bin", lambda through, total: seen.append((through, total)))
    assert (tmp_path / "back.bin").read_bytes() == content
    steps = [(1048576, 2_500_000), (2097152, 2_500_000), (2_500_000, 2_500_000)]
    assert seen == steps * 2
    with pytest.raises(FileNotFoundError):
        storage.get("nosuch", tmp_path / "not made")
    assert not (tmp_path / "not made").exists()


def test_walk_and_glob_see_all_but_the_parts_of_a_crash(storage: LocalBackend, folder: Path) -> None:
    for path in ("a.txt", "sub/b.txt", "sub/.hidden", "sub/deep/c.csv", "[d].txt"):
        storage.write_text(path, "x")
    for place in (folder, folder / "sub"):
        (place / ".ofa-0123456789abcdef.tmp").touch()
    (folder / "sub" / ".ofa-mine.tmp").touch()
    (folder / "link").symlink_to("sub")
    assert [entry.path for entry in storage.walk()] == [
        "[d].txt", "a.txt", "link",
        "sub", "sub/.hidden", "sub/.ofa-mine.tmp", "sub/b.txt", "sub/deep", "sub/deep/c.csv",
    ]  # fmt: skip
    assert [entry.path for entry in storage.walk("sub/deep")] == ["sub/deep/c.csv"]
    assert storage.glob("*.txt") == ["[d].txt", "a.txt"]
    assert storage.glob("**/*.csv") == ["sub/deep/c.csv"]
    assert storage.glob("sub/?.txt") == ["sub/b.txt"]
    assert storage.glob("nosuch/*") == []
    assert ".ofa-0123456789abcdef.tmp" not in str([storage.listdir("sub"), storage.glob("**")])


def test_a_file_that_goes_while_a_folder_is_listed_is_left_out(storage: LocalBackend, folder: Path) -> None:
    """Others work in the folder all the time."""
    stop = Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for number in range(50):
                (folder / f"{number}.tmp").touch()
            for number in range(50):
                (folder / f"{number}.tmp").unlink()

    storage.write_text("kept.txt", "x")
    with ThreadPoolExecutor(1) as another:
        others = another.submit(come_and_go)
        try:
            for _ in range(300):
                assert "kept.txt" in storage.listdir()
        finally:
            stop.set()
        others.result()


def test_ten_thousand_files_are_listed(storage: LocalBackend, folder: Path) -> None:
    names = sorted(f"{number}.txt" for number in range(10_000))
    for name in names:
        (folder / name).touch()
    assert storage.listdir() == names
    assert [entry.path for entry in storage.walk()] == names
    assert storage.glob("*7.txt") == [name for name in names if name.endswith("7.txt")]


def test_fs_is_the_folder_in_the_words_of_fsspec(storage: LocalBackend) -> None:
    storage.write_text("sub/a.txt", "a")
    assert storage.fs.cat_file("sub/a.txt") == b"a"
    assert storage.fs.ls("sub", detail=False) == ["sub/a.txt"]


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


def test_a_file_is_got_into_itself_and_stays(storage: LocalBackend, folder: Path) -> None:
    storage.write_text("a.txt", "content")
    storage.get("a.txt", folder / "a.txt")
    assert storage.read_text("a.txt") == "content"
