from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.storage import (
    NFSBackend,
    ReadOnlyStorageError,
    StorageConfigurationError,
    storage_from_environment,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


def settings(folder: Path, **others: Any) -> dict[str, Any]:
    """A folder stands for the mount."""
    return {"type": "nfs", "server": "n.h", "remote_path": "/e/d", "mount_point": str(folder)} | others


@pytest.fixture
def stand_in(folder: Path) -> dict[str, Any]:
    """As on a developer's machine, where nothing is mounted."""
    return settings(folder, mount_point="/nowhere/d", local_path=str(folder))


def options_of(spec: dict[str, Any]) -> str:
    options: str = spec["VolumeOptions"]["DriverConfig"]["Options"]["o"]
    return options


def test_its_files_are_at_the_mount_point(folder: Path) -> None:
    storage = NFSBackend.from_config(settings(folder))
    storage.write_text("sub/a.txt", "ä")
    assert storage.root == folder
    assert (folder / "sub" / "a.txt").read_text(encoding="utf-8") == "ä"
    assert storage.listdir() == ["sub"]
    assert storage.compatible_with_swarm()
    assert repr(storage) == f"NFSBackend({str(folder)!r})"


def test_a_folder_may_stand_for_the_mount_where_there_is_none(folder: Path, stand_in: dict[str, Any]) -> None:
    assert NFSBackend.from_config(stand_in).root == folder
    mounted = folder.parent / "mounted"
    mounted.mkdir()
    assert NFSBackend.from_config(stand_in | {"mount_point": str(mounted)}).root == mounted


def test_the_mount_spec_is_a_volume_of_the_local_driver(stand_in: dict[str, Any]) -> None:
    spec = NFSBackend.from_config(stand_in).get_mount_spec()
    assert spec == {
        "Type": "volume",
        "Source": "nfs_n_h_e_d",
        "Target": "/nowhere/d",
        "VolumeOptions": {
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "nfs", "o": "addr=n.h,nfsvers=4", "device": ":/e/d"},
            }
        },
    }
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "nfs_n_h_e_d"),
        ({"server": "192.168.1.10", "remote_path": "/exports/data"}, "nfs_192_168_1_10_exports_data"),
        ({"remote_path": "/exports/data/"}, "nfs_n_h_exports_data"),
        ({"mount_options": ["rw"]}, "nfs_n_h_e_d_35d495b4"),
        ({"mount_options": [" rw ", "", "  "]}, "nfs_n_h_e_d_35d495b4"),
        ({"mount_options": []}, "nfs_n_h_e_d"),
        ({"mount_options": ["", " "]}, "nfs_n_h_e_d"),
        # Docker takes no brackets, colons and blanks in a name.
        ({"server": "[fd00::1]"}, "nfs__fd00__1__e_d"),
        ({"remote_path": "/e/my data"}, "nfs_n_h_e_my_data"),
    ],
)
def test_the_name_of_the_volume(stand_in: dict[str, Any], change: dict[str, Any], name: str) -> None:
    assert NFSBackend.from_config(stand_in | change).get_mount_spec()["Source"] == name


@given(st.permutations(["rw", "noatime", "nfsvers=4.1", "timeo=600", "hard"]))
def test_the_name_is_the_same_in_whatever_order_the_options_are(
    tmp_path_factory: pytest.TempPathFactory, options: list[str]
) -> None:
    spec = NFSBackend.from_config(settings(tmp_path_factory.getbasetemp(), mount_options=options)).get_mount_spec()
    digest = hashlib.sha1(b"hard,nfsvers=4.1,noatime,rw,timeo=600", usedforsecurity=False).hexdigest()
    assert spec["Source"] == f"nfs_n_h_e_d_{digest[:8]}"
    assert options_of(spec) == ",".join(["addr=n.h", *options])  # the mount has them as they are given


@pytest.mark.parametrize(
    ("options", "mounted_with"),
    [
        (None, "addr=n.h,nfsvers=4"),
        ([" rw ", "", "noatime"], "addr=n.h,rw,noatime,nfsvers=4"),
        (["nfsvers=4.1"], "addr=n.h,nfsvers=4.1"),
        (["rw,nfsvers=3"], "addr=n.h,rw,nfsvers=3"),
        (["vers=4.1"], "addr=n.h,vers=4.1,nfsvers=4"),
    ],
)
def test_the_version_of_nfs_is_4_unless_nfsvers_says_another(
    stand_in: dict[str, Any], options: list[str] | None, mounted_with: str
) -> None:
    spec = NFSBackend.from_config(stand_in | {"mount_options": options}).get_mount_spec()
    assert options_of(spec) == mounted_with


def test_an_ipv6_address_keeps_its_brackets_in_the_mount(stand_in: dict[str, Any]) -> None:
    assert options_of(NFSBackend.from_config(stand_in | {"server": "[fd00::1]"}).get_mount_spec()).startswith(
        "addr=[fd00::1],"
    )


@pytest.mark.parametrize("options", [["ro"], ["noatime", " ro"], ["noatime, ro"], ["ro,noatime"]])
def test_a_mount_that_is_read_only_is_not_written(folder: Path, options: list[str]) -> None:
    """Defect 30: `ro` was not kept by the storage itself."""
    (folder / "a.txt").write_text("a", encoding="utf-8")
    storage = NFSBackend.from_config(settings(folder, mount_options=options))
    assert storage.read_only
    assert storage.config.read_only
    for write in (
        lambda: storage.write_text("a.txt", "b"),
        lambda: storage.open("a.txt", "a"),
        lambda: storage.open("a.txt", "r+"),
        lambda: storage.write_atomic("a.txt", "b"),
        lambda: storage.delete("a.txt"),
        lambda: storage.mkdir("b"),
        lambda: storage.move("a.txt", "b.txt"),
        lambda: storage.copy("a.txt", "b.txt"),
        lambda: storage.put(__file__, "b.txt"),
    ):
        with pytest.raises(ReadOnlyStorageError, match="read_only or the mount option ro, remove it"):
            write()
    assert storage.read_text("a.txt") == "a"
    assert storage.listdir() == ["a.txt"]
    assert options_of(storage.get_mount_spec()).count("ro") == 1


@pytest.mark.parametrize("options", [None, ["rw"], ["root_squash=ro"], ["nfsvers=4", "rootpro"]])
def test_other_options_say_nothing_of_writing(folder: Path, options: list[str] | None) -> None:
    assert not NFSBackend.from_config(settings(folder, mount_options=options)).read_only


def test_read_only_is_said_to_the_mount_too(stand_in: dict[str, Any]) -> None:
    spec = NFSBackend.from_config(stand_in | {"read_only": True, "mount_options": ["noatime"]}).get_mount_spec()
    assert options_of(spec) == "addr=n.h,noatime,ro,nfsvers=4"
    as_option = NFSBackend.from_config(stand_in | {"mount_options": ["ro", "noatime"]}).get_mount_spec()
    assert spec["Source"] == as_option["Source"]


@pytest.mark.parametrize(
    "server", ["n", "n.h", "files-1.plant.example", "10.0.0.7", "300.1.1.1", "[::1]", "[FD00::a1]"]
)
def test_servers_that_are_taken(stand_in: dict[str, Any], server: str) -> None:
    assert NFSBackend.from_config(stand_in | {"server": f" {server}\n"}).config.server == server


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"server": ""}, "server is ''. Write a host name"),
        ({"server": "a_b"}, "server is 'a_b'"),
        ({"server": "a..b"}, "server is"),
        ({"server": "fd00::1"}, "IPv6 address in brackets"),
        ({"server": "n.h:2049"}, "server is"),
        ({"server": "n.h,nfsvers=3"}, "server is"),
        ({"server": None}, r"`\$.server`"),
        ({"remote_path": "e/d"}, "remote_path is 'e/d'. Write the absolute path"),
        ({"remote_path": ""}, "remote_path is ''"),
        ({"mount_point": "mnt"}, "mount_point is 'mnt'"),
        ({"mount_point": "/a/../b"}, r"has no '\.\.'"),
        ({"mount_options": "rw"}, r'mount_options is the string \'rw\', not a list. Write a list: \["rw"\]\.'),
        ({"mount_options": "rw, ro"}, r'Write a list: \["rw", "ro"\]\.'),
        ({"mount_options": ["rw", 4]}, r"`\$.mount_options\[1\]`"),
        ({"mount_options": {"rw": True}}, r"`\$.mount_options`"),
        ({"local_path": "cache"}, "local_path is 'cache', which is not absolute"),
        ({"read_only": "yes"}, r"`\$.read_only`"),
        ({"options": ["rw"]}, "unknown field `options`"),
    ],
)
@pytest.mark.parametrize("name", [None, "data"])
def test_settings_that_cannot_be_used_are_refused(
    stand_in: dict[str, Any], name: str | None, change: dict[str, Any], said: str
) -> None:
    one = stand_in | change
    with pytest.raises(StorageConfigurationError, match=said) as caught:
        storage_from_environment(json.dumps({name: one} if name else one))
    assert str(caught.value).startswith("The store 'data' of STORAGE: " if name else "STORAGE: ")
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("field", ["server", "remote_path", "mount_point"])
def test_settings_that_are_missing_are_named(stand_in: dict[str, Any], field: str) -> None:
    del stand_in[field]
    with pytest.raises(StorageConfigurationError, match=f"missing required field `{field}`"):
        NFSBackend.from_config(stand_in)


def test_a_mount_that_is_not_there_says_what_to_mount(folder: Path) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        NFSBackend.from_config(settings(folder, mount_point="/nowhere/d"))
    assert str(caught.value) == (
        "An nfs storage finds no folder at its mount_point '/nowhere/d' (No such file or directory). "
        "Mount n.h:/e/d there, or set local_path to a folder to use instead."
    )


def test_settings_are_tidied(folder: Path) -> None:
    config = NFSBackend.from_config(
        settings(
            folder, mount_point=f" {folder}/ ", remote_path=" /a/../b ", mount_options=[" rw ", " "], description="x"
        )
    ).config
    assert config.mount_point == str(folder)
    assert config.remote_path == "/a/../b"  # the server's, so it is kept as it is
    assert config.mount_options == ["rw"]
    assert config.description == "x"
