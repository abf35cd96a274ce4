"""Any document is read, or refused by problems: never another exception."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from openfactory.deploy.files.json_schema import json_schema
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.problems import InvalidFilesError
from openfactory.deploy.reading import read_apps
from openfactory.deploy.uns import UNSSchema

SHAPES = [file.read_text(encoding="utf-8") for file in sorted(Path(__file__).with_name("shapes").glob("*.yml"))]
SECTIONS = (one if "properties" in one else one["anyOf"][1] for one in json_schema()["$defs"].values())
KEYS = sorted(
    {key for one in SECTIONS for key in one["properties"]}
    | {"apps", "x-a", "data", "type", "local_path", "mount_point", "server", "A", "", "a.b", "asset", "inc", "1"}
    | {"namespace_structure", "uns_template"}
)  # fmt: skip
WORDS = """
mill MILL ${NO} ${A} ${A:-b} ${ $$ a=b A 8080 1e999 -1 1Gi 10s nfs local fsspec /mnt s3://a/b true start-first ANY
inc/asset/attribute a/b [a {{.Task.Slot}} 0x10 .inf ~ node.role==a {
"""
ODD_TEXTS = ["", " ", "\0", "9" * 30, "x" * 300, "ü", "\u202e", "\ud800"]
TEXTS = st.sampled_from([*WORDS.split(), *ODD_TEXTS]) | st.text(max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.integers(-2, 70_000) | TEXTS | st.dates() | st.binary()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=5),
    max_leaves=20,
)
APPS = st.fixed_dictionaries(
    {"uuid": TEXTS, "image": TEXTS},
    optional={name: VALUES for name in AppFile.model_fields if name not in ("uuid", "image")},
)
ENVIRON = {"A": "x: y"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


def survive(folder: Path, content: bytes) -> None:
    """Read a file; each problem has a line of the file and a remedy."""
    file = folder / "app_x.yml"
    file.write_bytes(content)
    try:
        read_apps([file], ENVIRON)
    except InvalidFilesError as error:
        lines = (
            content.count(b"\n") + content.count(b"\r") + content.count("\u2028".encode()) + content.count(b"\xc2\x85")
        )
        for problem in error.problems:
            assert 0 <= problem.place.line <= lines + content.count("\u2029".encode()) + 1
            assert problem.text.endswith((".", "?"))
    with suppress(InvalidFilesError):
        UNSSchema.from_file(file, ENVIRON)


def dumped(value: Any) -> bytes:
    return yaml.dump(value, allow_unicode=False, width=1_000).encode()


@given(value=VALUES)
def test_random_documents(folder: Path, value: Any) -> None:
    survive(folder, dumped(value))


@given(apps=st.dictionaries(TEXTS, APPS, max_size=3))
def test_random_apps(folder: Path, apps: dict[str, Any]) -> None:
    survive(folder, dumped({"apps": apps}))


@given(
    values=st.lists(st.dictionaries(TEXTS, SCALARS | st.lists(SCALARS, max_size=3), max_size=2), max_size=4), text=TEXTS
)
def test_random_namespaces(folder: Path, values: list[Any], text: str) -> None:
    survive(folder, dumped({"namespace_structure": values, "uns_template": text}))


@given(content=st.binary(max_size=100) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_bytes(folder: Path, content: bytes) -> None:
    survive(folder, content)


@given(text=st.sampled_from(SHAPES), seed=st.integers(0, 2**32), number=st.integers(1, 4))
def test_mutated_files(folder: Path, text: str, seed: int, number: int) -> None:
    chance = random.Random(seed)
    characters = list(text)
    for _ in range(number):
        place = chance.randrange(len(characters))
        part = characters[place : place + chance.randrange(1, 12)]
        match chance.randrange(3):
            case 0:
                del characters[place : place + len(part)]
            case 1:
                characters[place:place] = chance.choice(
                    ["\t", "\n", ": ", " #", "- ", "&a ", "*a", "<<: ", "${", "'", "\x85"]
                )
            case _:
                goal = chance.randrange(len(characters))
                characters[goal:goal] = part
        characters = characters or [" "]
    survive(folder, "".join(characters).encode())


@given(text=st.sampled_from(SHAPES), data=st.data())
def test_files_with_a_wrong_value(folder: Path, text: str, data: st.DataObject) -> None:
    document = yaml.safe_load(text.replace("${NETWORK}", "net"))
    section = document
    while isinstance(section, dict) and section:
        key = data.draw(st.sampled_from(sorted(section)))
        if not isinstance(section[key], dict) or data.draw(st.booleans()):
            section[key] = data.draw(VALUES)
            break
        section = section[key]
    survive(folder, dumped(document))
