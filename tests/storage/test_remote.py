"""What is elsewhere, as far as no server is needed: settings, secrets, packages, memory."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from openfactory.storage import (
    FileBackend,
    NamedStorage,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
    storage_from_environment,
)
from openfactory.storage.remote.protocols import protocol_of
from openfactory.storage.testing.processes import in_forked_child


def opened(url: str, **others: Any) -> FileBackend:
    storage = storage_from_environment(json.dumps({"type": "fsspec", "url": url} | others))
    assert storage is not None
    return storage


@pytest.fixture
def storage() -> FileBackend:
    return opened(f"memory://{uuid4().hex}")


# Settings


@pytest.mark.parametrize(
    "url",
    [
        "file:///srv/data",
        "FILE:///srv/data",
        "local:///srv/data",
        "simplecache::file:///srv/data",
        "filecache::local:///srv/data",
        "dir::file:///srv/data",
    ],
)
def test_a_folder_of_this_machine_has_a_type_of_its_own(url: str) -> None:
    with pytest.raises(StorageConfigurationError, match=r'STORAGE: .*Use \{"type": "local"\}'):
        opened(url)


@pytest.mark.parametrize("url", ["http://host/data", "https://host/data"])
def test_a_web_site_has_no_folders(url: str) -> None:
    with pytest.raises(StorageConfigurationError, match=r"STORAGE: .*web site, which has no folders\. Use"):
        opened(url)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "/srv/data"}, "url has no protocol. Write it as"),
        ({"url": "no-such-protocol://host/data"}, "no-such-protocol.*Check the protocol"),
        ({"url": "memory://x", "options": ["a"]}, r"Expected `object`, got `array` - at `\$\.options`.*Write"),
        ({"url": "memory://x", "password": "x"}, "unknown field `password`.*Write"),
        ({"url": 7}, r"Expected `str`, got `int` - at `\$\.url`.*Write"),
        ({}, "missing required field `url`.*Write"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(StorageConfigurationError, match=f"^STORAGE: .*{said}"):
        storage_from_environment(json.dumps({"type": "fsspec"} | settings))


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("s3://bucket/x", "s3fs", "s3fs"),
        ("sftp://host/x", "paramiko", "paramiko"),
        ("gcs://bucket/x", "gcsfs", "gcsfs"),
        ("abfs://container/x", "adlfs", "adlfs"),
        ("webdav://host/x", "webdav4", "webdav4"),
        ("smb://host/x", "smbclient", "smbprotocol"),
        ("zip://::s3://bucket/a.zip", "s3fs", "s3fs"),
    ],
)
def test_a_package_that_is_missing_is_named(url: str, module: str, package: str) -> None:
    program = """
import sys
sys.modules[sys.argv[2]] = None
from openfactory.storage import StorageConfigurationError, storage_from_environment
try:
    storage_from_environment(sys.argv[1])
except StorageConfigurationError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, json.dumps({"type": "fsspec", "url": url}), module]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said.strip() == f"STORAGE: {url} needs a package that is not installed. Install it: pip install {package}"


# Secrets


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv("PLANT_SECRET", raising=False)
        if value is not None:
            monkeypatch.setenv("PLANT_SECRET", value)
        for settings in (
            {"url": "memory://x", "options": {"deep": [{"secret": "${PLANT_SECRET}"}]}},
            {"url": "memory://${PLANT_SECRET}/x"},
        ):
            with pytest.raises(
                StorageConfigurationError, match=r"\$\{PLANT_SECRET\}.*PLANT_SECRET is not set\. Set it"
            ):
                opened(**settings)


def test_a_variable_stands_for_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    place = uuid4().hex
    monkeypatch.setenv("PLANT_PLACE", place)
    opened("memory://${PLANT_PLACE}/data").write_text("one.txt", "one")
    assert opened(f"memory://{place}/data").read_text("one.txt") == "one"


def test_secrets_are_in_nothing_that_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PLANT_SECRET", "hidden-in-the-environment")
    caplog.set_level("DEBUG")
    options = {"password": "hidden-in-the-options", "token": "${PLANT_SECRET}"}
    storage = opened(f"memory://{uuid4().hex}", options=options)
    named = storage_from_environment(
        json.dumps({"a": {"type": "fsspec", "url": f"memory://{uuid4().hex}", "options": options}})
    )
    assert named is not None
    said = [repr(storage), str(storage), repr(storage.config), str(storage.config), repr(named), repr(named.config)]
    said += [str(list(storage.config.__rich_repr__())), caplog.text, str(vars(storage))]
    for ask in (lambda: storage.read_text("missing"), lambda: storage.open("../x"), lambda: storage.listdir("missing")):
        with pytest.raises((OSError, ValueError)) as raised:
            ask()
        said += [str(raised.value), repr(raised.value), repr(raised.value.__cause__)]
    assert "memory://" in repr(storage)
    assert not [text for text in said if "hidden" in text]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("simplecache://x", {"target_protocol": "hidden-value"}),
        ("ftp://user:hidden-value@127.0.0.1:9/x", {}),
        ("zip://::ftp://user:hidden-value@127.0.0.1:9/x.zip", {}),
        ("ftp://127.0.0.1:9/x", {"username": "user", "password": "hidden-value"}),
    ],
)
def test_secrets_are_in_no_error(url: str, options: dict[str, Any]) -> None:
    with pytest.raises((StorageConfigurationError, StorageUnavailableError)) as raised:
        opened(url, options=options)
    error: BaseException | None = raised.value
    while error is not None:
        assert "hidden-value" not in f"{error} {error!r}"
        error = error.__cause__


# Memory


def test_memory_is_shared_under_one_url_and_with_fsspec(storage: FileBackend) -> None:
    storage.write_text("sub/one.txt", "one")
    again = opened(f"memory:/{storage.root}")
    assert again.listdir("sub") == ["one.txt"]
    with fsspec.open(f"memory:/{storage.root}/sub/one.txt", "rb") as file:
        assert file.read() == b"one"
    assert opened(f"memory://{uuid4().hex}").listdir() == []


def test_memory_appends_of_many_threads_are_all_there(storage: FileBackend) -> None:
    def append(number: int) -> None:
        with storage.open("log.txt", "a") as file:
            file.write(f"{number}\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(200)))
    assert sorted(map(int, storage.read_text("log.txt").split())) == list(range(200))


def test_a_file_that_nobody_closes_is_kept_when_it_is_thrown_away(storage: FileBackend) -> None:
    file = storage.open("log.txt", "w")
    file.write("last words")
    del file
    gc.collect()
    assert storage.read_text("log.txt") == "last words"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later, if there are threads
def test_a_file_that_is_open_during_a_fork_is_written_by_the_parent_alone(storage: FileBackend) -> None:
    with storage.open("log.txt", "a") as log:
        log.write("before\n")
        log.flush()

        def work() -> list[str]:
            log.write("child\n")
            with pytest.raises(StorageUnavailableError, match=r"opened before this process was forked.*Open it again"):
                log.flush()
            return storage.listdir()

        assert in_forked_child(work) == []
        assert in_forked_child(lambda: [log.close(), storage.listdir()]) == [None, []]
        log.write("after\n")
    assert storage.read_text("log.txt") == "before\nafter\n"


# Temporary files


def test_only_a_large_copy_needs_a_temporary_file(storage: FileBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    other = NamedStorage({"here": storage, "there": opened(f"memory://{uuid4().hex}")})
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/to/write")
    storage.write_atomic("whole.bin", bytes(17 * 2**20))
    storage.write_bytes("small.bin", bytes(5 * 2**20))
    other.copy("here/small.bin", "there/small.bin")
    with pytest.raises(StorageError, match=r"No such file or directory\. Set TMPDIR to a folder") as caught:
        other.copy("here/whole.bin", "there/whole.bin")
    assert not isinstance(caught.value, OSError)
    assert other.listdir("there") == ["small.bin"]
    monkeypatch.undo()
    other.copy("here/whole.bin", "there/whole.bin")
    assert other.info("there/whole.bin").size == 17 * 2**20


# Archives


def test_an_archive_is_read_only_by_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.txt", "one")
    storage = opened(f"zip://::file://{tmp_path}/a.zip")
    assert storage.read_only
    assert storage.read_text("one.txt") == "one"
    assert storage.get_mount_spec() is None


def test_an_archive_may_have_names_that_are_no_paths(tmp_path: Path) -> None:
    names = ["one.txt", "back\\slash.txt", "a/../up.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    storage = opened(f"zip://::file://{tmp_path}/a.zip")
    files = [entry.path for entry in storage.walk() if not entry.is_folder]
    assert sorted(storage.read_text(path) for path in files) == sorted(names)


def test_no_character_of_a_path_becomes_a_dot_where_a_client_may_follow_it() -> None:
    """Some clients put a path into a URL, in which `..` leads to another repository or bucket."""
    literal = {"s3", "s3a", "memory", "zip", "tar", "libarchive"}
    others = {"github", "gist", "git", "gs", "gcs", "abfs", "az", "oss", "sftp", "smb", "ftp", "webdav", "simplecache"}
    for scheme in literal | others:
        assert (protocol_of(scheme).key_of("a/\uff0e\uff0e/other") == "a/../other") == (scheme in literal)


def test_an_archive_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises((StorageConfigurationError, StorageUnavailableError), match=r"missing\.zip"):
        opened(f"zip://::file://{tmp_path}/missing.zip")


# The suite that is shipped


@pytest.mark.parametrize("module", ["openfactory.storage", "openfactory.storage.testing"])
def test_only_the_suite_needs_pytest(module: str) -> None:
    program = """
import importlib, sys
sys.modules["pytest"] = None
try:
    importlib.import_module(sys.argv[1])
except ImportError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", program, module], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    needs = "openfactory.storage.testing needs pytest. Install it: pip install pytest"
    assert said.strip() == (needs if module.endswith("testing") else "")
