"""The JSON Schema for editors: it takes what the reader takes, and knows each key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from openfactory.deploy.files.json_schema import json_schema
from openfactory.deploy.files.schema import AppFile

SHAPES = sorted(Path(__file__).with_name("shapes").glob("*.yml"))


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", SHAPES, ids=lambda file: file.stem)
def test_files_of_the_existing_system_are_valid(validator: Any, file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8").replace("[${NETWORK}", "['${NETWORK}'"))
    assert [error.message for error in validator.iter_errors(document)] == []


def test_keys_of_ours_are_valid(validator: Any) -> None:
    app = {
        "uuid": "mill",
        "file": "mill.py",
        "restart": "${RESTART}",
        "environment": {"A": 1, "B": True},
        "secrets": {"db": "${PW}", "token": {"file": "x"}},
        "when": "mill.status == idle",
        "env_file": "x",
        "routing": {"expose": "${EXPOSE:-true}", "port": "8080"},
        "metrics": {"port": "${PORT}"},
        "labels": ["a=b"],
        "stop_grace_period": "${GRACE}",
        "depends_on": ["drill"],
        "deploy": {"resources": {"limits": {"cpus": "${CPUS}", "memory": "1.5g"}}, "x-note": 1},
        "x-owner": {"any": "thing"},
    }
    assert [error.message for error in validator.iter_errors({"apps": {"mill": app}, "x-a": 1, "devices": {}})] == []


@pytest.mark.parametrize(
    "keys",
    [
        {"imge": "x"},
        {"uuid": "a b"},
        {"uuid": 3},
        {"routing": {"port": 70_000}},
        {"deploy": {"replicas": None}},
        {"restart": None},
        {"health": {"path": "x"}},
        {"secrets": {"a": {"fil": "x"}}},
        {"runtime_uid": 0},
        {"routing": {"port": 0}},
        {"routing": {"port": "http"}},
        {"routing": {"prot": 80}},
        {"metrics": {}},
        {"restart": "never"},
        {"deploy": {"replicas": 0}},
        {"deploy": {"resources": {"limits": {"memory": "lots"}}}},
        {"deploy": {"placement": {"constraints": ["manager"]}}},
        {"environment": ["NAME"]},
        {"stop_grace_period": "10"},
        {"storage": {"a b": {"type": "local"}}},
        {"storage": {"a": {}}},
        {"networks": "a"},
        {"image": None},
    ],
    ids=str,
)
def test_wrong_keys_and_values_are_not(validator: Any, keys: dict[str, Any]) -> None:
    base: dict[str, Any] = {"uuid": "mill", "image": "x"}
    assert validator.is_valid({"apps": {"mill": base}})
    if keys == {"image": None}:
        del base["image"], keys["image"]
    assert not validator.is_valid({"apps": {"mill": base | keys}})


def properties(schema: Any) -> Iterator[tuple[str, Any]]:
    for section in schema["$defs"].values():
        yield from (section if "properties" in section else section["anyOf"][1])["properties"].items()


def test_each_key_has_a_description() -> None:
    schema = json_schema()
    assert set(AppFile.model_fields) == set(schema["$defs"]["App"]["properties"])
    for name, key in properties(schema):
        assert key.get("description"), name
    assert "description" in schema["$defs"]["App"]


def test_choices_are_listed() -> None:
    keys = dict(properties(json_schema()))
    assert keys["restart"]["anyOf"][0]["enum"] == ["no", "on-failure", "always", "unless-stopped"]
    assert keys["order"]["anyOf"][0]["enum"] == ["start-first", "stop-first"]
