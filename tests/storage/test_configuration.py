from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openfactory.storage import (
    LocalBackend,
    NamedStorage,
    StorageConfigurationError,
    StorageError,
    UnknownStorageTypeError,
    known_storage_types,
    storage_from_environment,
)

KNOWN = ", ".join(known_storage_types())


def local(folder: Path, name: str = "data") -> dict[str, Any]:
    return {"type": "local", "local_path": str(folder), "mount_point": f"/nowhere/{name}"}


@pytest.mark.parametrize("text", [None, "", " \n", "null", "{}", " { } "])
def test_nothing_gives_none(text: str | None) -> None:
    assert storage_from_environment(text) is None


def test_one_backend_object_gives_that_backend(tmp_path: Path) -> None:
    storage = storage_from_environment(json.dumps(local(tmp_path)))
    assert isinstance(storage, LocalBackend)
    assert storage.root == tmp_path


def test_an_object_of_names_gives_a_named_storage(tmp_path: Path) -> None:
    storage = storage_from_environment(json.dumps({"data": local(tmp_path), "logs": local(tmp_path, "logs")}))
    assert isinstance(storage, NamedStorage)
    assert sorted(storage) == ["data", "logs"]


def test_a_store_may_be_named_type(tmp_path: Path) -> None:
    storage = storage_from_environment(json.dumps({"type": local(tmp_path)}))
    assert isinstance(storage, NamedStorage)
    assert storage["type"].root == tmp_path


@pytest.mark.parametrize("document", [{"type": "cloud", "server": "n.h"}, {"data": {"type": "cloud"}}])
def test_an_unknown_type_names_the_known_ones(document: dict[str, Any]) -> None:
    with pytest.raises(UnknownStorageTypeError) as caught:
        storage_from_environment(json.dumps(document))
    assert caught.value.storage_type == "cloud"
    assert caught.value.known == known_storage_types()
    assert f"does not know. It knows: {KNOWN}." in str(caught.value)
    assert str(caught.value).endswith("(pip install --upgrade openfactory-storage).")


# What is wrong, what the sentence begins with, and what else it says: the field and the remedy.
WRONG = [
    ("{", "STORAGE is not valid JSON: Input data was truncated", "Write one storage, "),
    ("{'type': 'local'}", "STORAGE is not valid JSON", "Write one storage, "),
    ("\udcff", "STORAGE is not valid JSON", "Write one storage, "),
    ("[" * 100_000, "STORAGE is not valid JSON", "Write one storage, "),
    ("[]", "STORAGE is a JSON array, not a JSON object", "Write one storage, "),
    ('"local"', "STORAGE is a JSON string", "Write one storage, "),
    ("7", "STORAGE is a JSON number", "Write one storage, "),
    ("1.5", "STORAGE is a JSON number", "Write one storage, "),
    ("true", "STORAGE is a JSON Boolean", "Write one storage, "),
    ('{"local_path": "/srv"}', 'STORAGE has no "type"', "values are not objects: local_path."),
    ('{"type": 3, "local_path": "/srv"}', 'STORAGE has no "type"', "values are not objects: type, local_path."),
    ('{"data": null}', "STORAGE has", "values are not objects: data."),
    ('{"data": [], "logs": {}}', "STORAGE has", "values are not objects: data."),
    ('{"data": {}}', "The store 'data' of STORAGE has no \"type\"", f"Add one of these types: {KNOWN}."),
    ('{"data": {"type": 3}}', "The store 'data' of STORAGE has no \"type\"", "Add one"),
    ('{"type": "cloud"}', "STORAGE has the type 'cloud'", f"It knows: {KNOWN}."),
    ('{"data": {"type": "cloud"}}', "The store 'data' of STORAGE has the type 'cloud'", "Use one of these"),
    ('{"type": "local"}', "STORAGE: ", "missing required field `local_path`"),
    ('{"data": {"type": "local"}}', "The store 'data' of STORAGE: ", "missing required field `local_path`"),
    ('{"data": {"type": "nfs", "sever": "n"}}', "The store 'data' of STORAGE: ", "unknown field `sever`"),
    ('{"a/b": {"type": "local"}}', "The store 'a/b' of STORAGE has an invalid name", "Use letters, digits"),
    (
        '{"data": {"type": "local", "local_path": "/nowhere/a", "mount_point": "/nowhere/b"}}',
        "The store 'data' of STORAGE: ",
        "local_path '/nowhere/a' (No such file or directory). Create the folder (mkdir -p /nowhere/a)",
    ),
    (
        '{"type": "local", "local_path": "/dev/null", "mount_point": "/nowhere/b"}',
        "STORAGE: A local storage finds no folder at its mount_point '/nowhere/b'",
        "its local_path '/dev/null' (Not a directory)",
    ),
]


@pytest.mark.parametrize(("text", "begins", "says"), WRONG)
def test_what_cannot_be_used_names_the_store_the_field_and_the_remedy(text: str, begins: str, says: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        storage_from_environment(text)
    said = str(caught.value)
    assert said.startswith(begins)
    assert says in said
    assert said.endswith(".")
    assert isinstance(caught.value, StorageError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "text", ['[{"key": "hidden"}]', '"hidden"', '{"options": "hidden"}', '{"a": {"type": "local", "x": "hidden"}}']
)
def test_what_is_said_holds_no_value_that_may_be_a_secret(text: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        storage_from_environment(text)
    assert "hidden" not in str(caught.value)


# A type that others bring


PLUGIN = """
from openfactory.storage import FileBackend, LocalBackend, StorageConfigurationError, StorageUnavailableError

class Drawer(LocalBackend):
    @classmethod
    def from_config(cls, config):
        if "drawer" not in config:
            raise KeyError("drawer")
        if config["drawer"] == "jammed":
            raise StorageUnavailableError("The drawer is jammed. Pull.", path="")
        return super().from_config({"type": "local", "local_path": config["drawer"], "mount_point": "/nowhere/drawer"})

class Cupboard(LocalBackend):
    @classmethod
    def checked_config(cls, config):
        shelf = config["shelf"]
        return super().checked_config(
            {"type": "local", "local_path": f"/nowhere/{shelf}", "mount_point": f"/nowhere/{shelf}"}
        )

class Safe(FileBackend):
    @classmethod
    def from_config(cls, config):
        raise StorageConfigurationError("The safe is locked. Turn the key.")

class Shelf:
    pass

broken = 3
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """An installed distribution, as pip leaves it."""
    site = tmp_path / "site"
    info = site / "cabinet-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "cabinet.py").write_text(PLUGIN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cabinet\nVersion: 1.0\n", encoding="utf-8")
    points = [
        "cupboard = cabinet:Cupboard",
        "drawer = cabinet:Drawer",
        "safe = cabinet:Safe",
        "broken = cabinet:broken",
        "other = cabinet:Shelf",
        "gone = cabinet:Gone",
        "missing = nosuchmodule:A",
    ]
    (info / "entry_points.txt").write_text("\n".join(["[openfactory.storage_backends]", *points]), encoding="utf-8")
    return site


def with_plugin(plugin: Path, document: dict[str, Any], function: str = "storage_from_environment") -> tuple[str, str]:
    """What becomes of a document in a process that has the distribution: a class name, and what is said."""
    program = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        f"from openfactory.storage import {function}\n"
        "try:\n"
        f"    found = {function}(sys.argv[2])\n"
        "except Exception as error:\n"
        "    found = error\n"
        "sys.stdout.write(f'{type(found).__name__}\\n{found}')"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(plugin), json.dumps(document)]
    kind, _, said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")
    return kind, said


def test_a_type_by_entry_point_is_used(plugin: Path, tmp_path: Path) -> None:
    assert with_plugin(plugin, {"type": "drawer", "drawer": str(tmp_path)})[0] == "Drawer"
    assert with_plugin(plugin, {"d": {"type": "drawer", "drawer": str(tmp_path)}}) == (
        "NamedStorage",
        "NamedStorage(d)",
    )


def test_a_type_by_entry_point_has_its_mount(plugin: Path) -> None:
    kind, said = with_plugin(plugin, {"type": "cupboard", "shelf": "top"}, "mount_specs_from_environment")
    assert kind == "list"
    assert "'Target': '/nowhere/top'" in said
    kind, said = with_plugin(plugin, {"type": "safe"}, "mount_specs_from_environment")
    assert (kind, said) == ("StorageConfigurationError", "STORAGE: The safe is locked. Turn the key.")


@pytest.mark.parametrize(
    ("settings", "kind", "begins", "says"),
    [
        (
            {"type": "cloud"},
            "UnknownStorageTypeError",
            "STORAGE has",
            "It knows: broken, cupboard, drawer, fsspec, gone, local, miss",
        ),
        (
            {"type": "broken"},
            "StorageConfigurationError",
            "STORAGE has",
            "cabinet:broken is not a FileBackend. Name a subclass",
        ),
        (
            {"type": "other"},
            "StorageConfigurationError",
            "STORAGE has",
            "cabinet:Shelf is not a FileBackend. Name a subclass",
        ),
        ({"type": "gone"}, "StorageConfigurationError", "STORAGE has", "of cabinet:Gone, which cannot be imported"),
        ({"type": "missing"}, "StorageConfigurationError", "STORAGE has", "No module named 'nosuchmodule'"),
        (
            {"type": "drawer"},
            "StorageConfigurationError",
            "STORAGE: the type 'drawer' cannot use",
            "KeyError('drawer')",
        ),
        ({"type": "drawer", "drawer": "jammed"}, "StorageUnavailableError", "STORAGE: The drawer is jammed. Pull.", ""),
        ({"type": "drawer", "drawer": "x"}, "StorageConfigurationError", "STORAGE: ", "local_path is 'x'"),
    ],
)
def test_a_type_by_entry_point_that_cannot_be_used(
    plugin: Path, settings: dict[str, Any], kind: str, begins: str, says: str
) -> None:
    found, said = with_plugin(plugin, settings)
    assert found == kind
    assert said.startswith(begins)
    assert says in said
    assert said.endswith(".")
    found, said = with_plugin(plugin, {"data": settings})
    assert found == kind
    assert said.startswith(begins.replace("STORAGE", "The store 'data' of STORAGE"))


def test_storage_stands_alone() -> None:
    """Importing it loads nothing else of ours."""
    program = (
        "import sys, openfactory.storage\n"
        "print(sorted(n for n in sys.modules if n.startswith('openfactory.') and '.storage' not in n))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
