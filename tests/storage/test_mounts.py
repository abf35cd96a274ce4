"""The mounts of a STORAGE, on a machine that has neither its folders nor its servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openfactory.storage import (
    FileBackend,
    LocalBackend,
    LocalConfiguration,
    NamedStorage,
    NFSBackend,
    NFSConfiguration,
    StorageConfigurationError,
    mount_specs_from_environment,
    storage_from_environment,
)

LOCAL = {"type": "local", "local_path": "/nowhere/data", "mount_point": "/nowhere/mounted", "read_only": True}
NFS = {"type": "nfs", "server": "files.invalid", "remote_path": "/exports/data", "mount_point": "/nowhere/nfs"}
S3 = {"type": "fsspec", "url": "s3://bucket", "options": {"endpoint_url": "http://127.0.0.1:1", "key": "${NOT_SET}"}}

LOCAL_MOUNT = {"Type": "bind", "Source": "/nowhere/data", "Target": "/nowhere/mounted", "ReadOnly": True}
NFS_MOUNT = {
    "Type": "volume",
    "Source": "nfs_files_invalid_exports_data",
    "Target": "/nowhere/nfs",
    "VolumeOptions": {
        "DriverConfig": {
            "Name": "local",
            "Options": {"type": "nfs", "o": "addr=files.invalid,nfsvers=4", "device": ":/exports/data"},
        }
    },
}


@pytest.mark.parametrize(
    ("document", "mounts"),
    [
        (LOCAL, [LOCAL_MOUNT]),
        (NFS, [NFS_MOUNT]),
        (S3, []),
        ({"data": LOCAL, "files": NFS, "images": S3}, [LOCAL_MOUNT, NFS_MOUNT]),
        ({}, []),
    ],
)
def test_mounts_need_no_folder(document: dict[str, Any], mounts: list[dict[str, Any]]) -> None:
    assert mount_specs_from_environment(json.dumps(document)) == mounts


@pytest.mark.parametrize("text", [None, "", " ", "null"])
def test_an_empty_variable_has_no_mounts(text: str | None) -> None:
    assert mount_specs_from_environment(text) == []


def test_no_file_is_opened_and_no_server_asked() -> None:
    program = """
import json, sys
from openfactory.storage import mount_specs_from_environment
import openfactory.storage.remote
seen = []
sys.addaudithook(lambda event, details: seen.append(event))
mounts = mount_specs_from_environment(sys.argv[1])
print(len(mounts), {event for event in seen if event.startswith(("open", "os.", "socket.", "subprocess."))})
"""
    document = json.dumps({"data": LOCAL, "files": NFS, "images": S3})
    command = [sys.executable, "-c", program, document]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert found.strip() == "2 set()"


@pytest.mark.parametrize("settings", [LOCAL, NFS])
def test_an_open_storage_has_the_same_mount(tmp_path: Path, settings: dict[str, Any]) -> None:
    text = json.dumps(settings | {"local_path": str(tmp_path)})
    storage = storage_from_environment(text)
    assert storage is not None
    assert [storage.get_mount_spec()] == mount_specs_from_environment(text)
    assert storage.get_mount_spec() == storage.config.get_mount_spec()


def test_the_settings_as_structs_have_their_mount() -> None:
    local = LocalConfiguration("/nowhere/data", "/nowhere/mounted", read_only=True)
    nfs = NFSConfiguration("files.invalid", "/exports/data", "/nowhere/nfs")
    assert (local.get_mount_spec(), nfs.get_mount_spec()) == (LOCAL_MOUNT, NFS_MOUNT)


@pytest.mark.parametrize(("backend", "settings"), [(LocalBackend, LOCAL), (NFSBackend, NFS)])
def test_opening_still_needs_the_folder(backend: type[FileBackend], settings: dict[str, Any]) -> None:
    for create in (backend.from_config, lambda config: NamedStorage.from_config({"data": config})):
        with pytest.raises(StorageConfigurationError, match="finds no folder at its mount_point '/nowhere/"):
            create(settings)


@pytest.mark.parametrize(
    "document",
    [
        [LOCAL],
        {"local_path": "/srv"},
        {"type": "cloud"},
        LOCAL | {"local_path": "data"},
        NFS | {"mount_options": "ro"},
        {"type": "fsspec", "url": "http://host/data"},
        {"data": NFS | {"sever": "n"}},
        {"a/b": LOCAL},
        {"data": LOCAL, "logs": LOCAL},
    ],
)
def test_settings_are_refused_as_for_opening(document: Any, tmp_path: Path) -> None:
    text = json.dumps(document).replace("/nowhere/data", str(tmp_path))
    with pytest.raises(StorageConfigurationError) as opening:
        storage_from_environment(text)
    with pytest.raises(StorageConfigurationError) as asking:
        mount_specs_from_environment(text)
    assert str(asking.value) == str(opening.value)
