"""The layer law of packages/LAYERS.toml, and that its checker sees what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributions import distributions
from layer_law import TABLE, Law, Violation, check, modules_below

LAW = Law()


def test_every_import_stands_in_the_table() -> None:
    violations = list(check([member.source.parent for member in distributions()], LAW))
    assert violations == [], "\n" + "\n".join(map(str, violations))


def test_the_checker_reads_every_file() -> None:
    found = modules_below([member.source.parent for member in distributions()])
    assert {"openfactory.storage.local", "openfactory.storage"} <= found.keys()
    assert len(found) == sum(len(list(member.source.rglob("*.py"))) for member in distributions())


def plant(folder: Path, module: str, text: str, *, package: bool = False) -> list[Violation]:
    """What the checker says of a source tree with this one file."""
    path = folder.joinpath(*module.split("."))
    path = path / "__init__.py" if package else path.with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return list(check([folder], LAW))


@pytest.mark.parametrize(
    ("module", "text", "line"),
    [
        # What the law is for: assets know no Kafka, storage knows nothing of ours.
        ("openfactory.assets.asset_class", "import openfactory.kafka.producer", 1),
        ("openfactory.assets.asset_class", "from openfactory import kafka", 1),
        ("openfactory.commands.caller", "\nfrom openfactory.kafka import KSQLDBClient", 2),
        ("openfactory.storage.local", "from openfactory.exceptions import OpenFactoryError", 1),
        ("openfactory.apps.ofaapp", "from openfactory.kafka.producer import AssetProducer", 1),
        ("openfactory.assets.state", "from openfactory.assets.asset_class import Asset", 1),
        # However it is written, and wherever it stands.
        ("openfactory.assets.state", "from .asset_class import Asset", 1),
        ("openfactory.assets.state", "from . import asset_class", 1),
        ("openfactory.assets.state", "from ..kafka.producer import AssetProducer", 1),
        ("openfactory.assets.state", "def late():\n    import openfactory.kafka", 2),
        ("openfactory.assets.state", "async def late():\n    import openfactory.kafka", 2),
        ("openfactory.assets.state", "class A:\n    import openfactory.kafka", 2),
        ("openfactory.assets.state", "try:\n    import openfactory.kafka\nexcept ImportError: ...", 2),
        (
            "openfactory.assets.state",
            "from importlib import import_module\nimport_module('openfactory.kafka')",
            2,
        ),
        ("openfactory.assets.state", "import importlib\nimportlib.import_module('..kafka', __package__)", 2),
        # The type checker is no way round.
        (
            "openfactory.assets.state",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import openfactory.kafka",
            3,
        ),
        (
            "openfactory.assets.state",
            "import typing\nif typing.TYPE_CHECKING:\n    import openfactory.kafka",
            3,
        ),
        # Libraries: each where it belongs, the heavy ones only in functions.
        ("openfactory.engines.registry", "import confluent_kafka", 1),
        ("openfactory.engines.registry", "def late():\n    import httpx", 2),
        ("openfactory.kafka.producer", "import confluent_kafka", 1),
        ("openfactory.kafka.producer", "def late():\n    import nats", 2),
        ("openfactory.apps.ofaapp", "import rich.console", 1),
        ("openfactory.apps.ofaapp", "import click", 1),
        # Extras are imported when they are used.
        ("openfactory.apps.ofaapp", "import openfactory.storage", 1),
        # The ground has no I/O and no threads.
        ("openfactory.assets.event", "import threading", 1),
        ("openfactory.exceptions.tree", "from asyncio import Queue", 1),
        # What the table has forgotten.
        ("openfactory.novelty.thing", "", 1),
        ("openfactory.assets.asset_class", "import openfactory.novelty", 1),
        ("openfactory.assets.asset_class", "import openfactory", 1),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, module: str, text: str, line: int) -> None:
    violations = plant(tmp_path, module, text)
    assert len(violations) == 1, violations
    assert violations[0].line == line
    assert module in violations[0].text
    assert violations[0].path.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("openfactory.assets.asset_class", "from openfactory.engines.base import Engine"),
        (
            "openfactory.assets.asset_class",
            "from openfactory.engines import Engine\nimport msgspec, threading",
        ),
        ("openfactory.assets.event", "from .attribute import AssetAttribute\nimport json"),
        ("openfactory.kafka.producer", "def late():\n    import confluent_kafka"),
        (
            "openfactory.kafka.producer",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import confluent_kafka",
        ),
        ("openfactory.apps.ofaapp", "from openfactory.kafka.ksql import KSQLDBClient"),
        ("openfactory.apps.ofaapp", "from openfactory.kafka import KSQLDBClient"),
        (
            "openfactory.apps.ofaapp",
            "def late():\n    from openfactory.storage import storage_from_environment",
        ),
        ("openfactory.apps.cli.main", "import click, rich"),
        ("openfactory.apps.ofa_flask_app", "import openfactory.flaskapp"),
        ("openfactory.flaskapp.app", "import flask\nfrom openfactory.apps import OpenFactoryApp"),
        ("openfactory.storage.local", "import fsspec"),
        ("openfactory.testing.conformance", "import pytest\nimport openfactory.fanout"),
    ],
)
def test_what_the_table_has_is_allowed(tmp_path: Path, module: str, text: str) -> None:
    assert plant(tmp_path, module, text) == []


def test_the_other_branch_of_type_checking_is_run_time(tmp_path: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rich\nelse:\n    import rich"
    assert [violation.line for violation in plant(tmp_path, "openfactory.apps.ofaapp", text)] == [5]


def test_the_file_of_a_package_itself_may_have_a_layer(tmp_path: Path) -> None:
    # openfactory/engines/__init__.py is the interface, so no client library; one engine may have one.
    text = "import openfactory.kafka.producer"
    assert len(plant(tmp_path / "a", "openfactory.engines", text, package=True)) == 1
    assert plant(tmp_path / "b", "openfactory.engines.kafka_engine", text) == []


def test_an_import_of_a_package_file_is_one_of_its_layer(tmp_path: Path) -> None:
    plant(tmp_path, "openfactory.engines", "", package=True)
    plant(tmp_path, "openfactory.engines.embedded", "", package=True)
    text = "from openfactory.engines import Engine\nfrom openfactory.engines import embedded"
    violations = plant(tmp_path, "openfactory.assets.asset_class", text)
    assert [violation.line for violation in violations] == [2]


def test_the_file_of_a_package_of_several_layers_imports_the_higher_ones_late(tmp_path: Path) -> None:
    # Else `import openfactory.assets.event` would run all of Asset first, and close a circle.
    early = "from openfactory.assets.asset_class import Asset"
    late = "def __getattr__(name):\n    from openfactory.assets.asset_class import Asset"
    assert len(plant(tmp_path, "openfactory.assets", early, package=True)) == 1
    assert plant(tmp_path, "openfactory.assets", late, package=True) == []


def test_a_type_checking_edge_can_be_marked(tmp_path: Path) -> None:
    table = tmp_path / "LAYERS.toml"
    table.write_text(
        '[layers.low]\nmodules = ["openfactory.low"]\ntyping = ["high"]\n'
        '[layers.high]\nmodules = ["openfactory.high"]\nimports = ["low"]\n',
        encoding="utf-8",
    )
    source = tmp_path / "src" / "openfactory" / "low"
    source.mkdir(parents=True)
    (source / "thing.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from openfactory.high import A\n"
        "def late():\n    from openfactory.high import A\n",
        encoding="utf-8",
    )
    assert [violation.line for violation in check([tmp_path / "src"], Law(table))] == [5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[layers.a]\nmodules = ["x"]\n[layers.b]\nmodules = ["x"]\n', "to two layers"),
        ('[layers.a]\nmodules = ["x"]\nimports = ["b"]\n', "unknown layer, b"),
        (
            '[layers.a]\nmodules = ["x"]\nimports = ["b"]\n[layers.b]\nmodules = ["y"]\nimports = ["a"]\n',
            "in a circle",
        ),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / TABLE.name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        Law(tmp_path / TABLE.name)
