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


@pytest.mark.parametrize("document", [{"type": "nfs", "server": "n.h"}, {"data": {"type": "nfs"}}])
def test_an_unknown_type_names_the_known_ones(document: dict[str, Any]) -> None:
    with pytest.raises(UnknownStorageTypeError) as caught:
        storage_from_environment(json.dumps(document))
    assert caught.value.storage_type == "nfs"
    assert caught.value.known == known_storage_types() == ("local",)
    assert "does not know. It knows: local." in str(caught.value)
    assert str(caught.value).endswith("(pip install --upgrade openfactory-storage).")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no valid JSON"),
        ("[]", "no JSON object"),
        ('"local"', "no JSON object"),
        ("7", "no JSON object"),
        ('{"local_path": "/srv"}', "local_path should hold an object"),
        ('{"data": null}', "data should hold an object"),
        ('{"data": {}}', "The store 'data' of STORAGE has no \"type\""),
        ('{"data": {"type": 3}}', 'has no "type"'),
        ('{"data": {"type": "local"}}', "The store 'data' of STORAGE: "),
        ('{"type": "local"}', "^STORAGE: "),
    ],
)
def test_what_cannot_be_used_says_where_and_what_to_do(text: str, said: str) -> None:
    with pytest.raises(StorageConfigurationError, match=said) as caught:
        storage_from_environment(text)
    assert isinstance(caught.value, StorageError)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).endswith(".")


def test_storage_stands_alone() -> None:
    """Importing it loads nothing else of ours."""
    program = (
        "import sys, openfactory.storage\n"
        "print(sorted(n for n in sys.modules if n.startswith('openfactory.') and '.storage' not in n))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
