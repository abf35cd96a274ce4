"""The last releases of each asset are kept for a rollback, and no secret is among them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openfactory.deploy.app import Release, UNSPlace
from openfactory.deploy.releases import KEPT, MissingSecretError, ReleaseStore
from plain_target import app_of


def release(folder: Path, generation: int, **settings: Any) -> Release:
    app = app_of(folder, "MILL", **{"secrets": {"password": "swordfish"}, "storage": {}, **settings})
    placed = msgspec.structs.replace(app, uns=UNSPlace({"area": "hall"}, "plant/hall/mill"))
    mounts = ({"Type": "bind", "Source": "/data", "Target": "/mnt"},)
    return Release(placed, "MILL", 1, {"APP_UUID": "MILL"}, {"password": "swordfish"}, mounts, generation)


def test_a_kept_release_is_the_same_again(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path, "process")
    made = release(tmp_path, 4, routing={"port": 8080}, depends_on=["saw"], environment=["A=1"])
    store.keep(made)
    kept = store.last("MILL")
    assert kept is not None
    assert kept.hash == made.hash
    assert kept.with_secrets_of(made) == made
    assert kept.with_secrets_of(made).hash == made.hash
    assert list(store.all_last()) == ["MILL"]
    assert ReleaseStore(tmp_path, "docker").all_last() == {}


def test_files_are_for_the_owner_and_have_no_secret(tmp_path: Path) -> None:
    ReleaseStore(tmp_path, "process").keep(release(tmp_path, 1))
    (file,) = tmp_path.rglob("*.json")
    assert "swordfish" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_secret_that_is_gone_is_an_error(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path, "process")
    store.keep(release(tmp_path, 1))
    kept = store.last("MILL")
    assert kept is not None
    present = msgspec.structs.replace(release(tmp_path, 2), secrets={})
    with pytest.raises(MissingSecretError, match="needs password, which the files do not have") as caught:
        kept.with_secrets_of(present)
    assert caught.value.names == ("password",)
    with pytest.raises(MissingSecretError, match="needs password"):
        kept.with_secrets_of(None)


def test_a_release_without_secrets_needs_no_other(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path, "process")
    made = msgspec.structs.replace(release(tmp_path, 1, secrets={}), secrets={})
    store.keep(made)
    kept = store.last("MILL")
    assert kept is not None
    assert kept.with_secrets_of(None) == made


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path, "process")
    for generation in range(1, KEPT + 3):
        store.keep(release(tmp_path, generation))
    assert [kept.release.generation for kept in store.of("MILL")] == list(range(3, KEPT + 3))
    assert store.generation("MILL") == KEPT + 2
    assert store.generation("SAW") == 0


def test_a_file_that_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path, "process")
    for generation in (1, 2):
        store.keep(release(tmp_path, generation))
    (tmp_path / "releases" / "process" / "MILL" / "2.json").write_text('{"generation": 2')
    assert [kept.release.generation for kept in store.of("MILL")] == [1]
    assert store.generation("MILL") == 2
