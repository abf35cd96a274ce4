"""Environment variables: one documented table, read when asked, and nowhere else."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributions import distributions
from openfactory import settings
from openfactory.engines.location import Servers
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient
from openfactory.settings import VARIABLES, Variable, _check_name, declare, environment, integer, nats_cluster, setting

DEFAULTS = {
    "APP_UUID": "DEV-UUID",
    "ASSET_ROUTER_URL": None,
    "KAFKA_BROKER": None,
    "KSQLDB_URL": None,
}


def test_the_defaults_are_those_of_the_pages() -> None:
    assert {name: variable.default for name, variable in VARIABLES.items() if name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("variable", VARIABLES.values(), ids=lambda variable: variable.name)
def test_every_variable_says_what_it_means(variable: Variable) -> None:
    assert variable.meaning.endswith(".")
    assert len(variable.meaning) > 20
    assert VARIABLES[variable.name] is variable


def test_the_table_is_sorted() -> None:
    assert list(VARIABLES) == sorted(VARIABLES)
    assert len(VARIABLES) == len(set(VARIABLES))


def test_the_environment_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("APP_UUID") == "DEV-UUID"
    assert environment("APP_UUID") is None
    monkeypatch.setenv("APP_UUID", "MILL")
    assert setting("APP_UUID") == environment("APP_UUID") == "MILL"


def test_a_variable_that_is_set_to_nothing_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_UUID", "")
    monkeypatch.setenv("KAFKA_BROKER", "")
    assert setting("APP_UUID") == "DEV-UUID"
    assert setting("KAFKA_BROKER") is None


FAULTS = [
    ("'{}'", "is in quotes. Take the quotes out"),
    ('"{}"', "is in quotes. Take the quotes out"),
    ("\u201c{}\u201d", "is in quotes. Take the quotes out"),
    ("\ufeff{}", "contains a byte order mark (U+FEFF) at position 1. Take it out"),
    ("{}\u00a0", "contains a no-break space (U+00A0) at position "),
    ("{}\u200b", "contains a zero width space (U+200B) at position "),
    ("{}\r", "contains a carriage return (U+000D) at position "),
]


@pytest.mark.parametrize(("form", "words"), FAULTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("APP_UUID", "MILL"), ("KSQLDB_URL", "sqlite:///factory.db"), ("KAFKA_BROKER", "plant:9092"), ("PORT", "4000")],
)
def test_what_an_env_file_or_a_web_page_adds_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, form: str, words: str
) -> None:
    monkeypatch.setenv(name, form.format(value))
    with pytest.raises(ConfigurationError) as caught:
        setting(name)
    assert str(caught.value).startswith(f"{name}={form.format(value)!r} {words}")


@pytest.mark.parametrize(("form", "words"), FAULTS)
def test_it_is_named_too_if_the_program_reads_the_variable(form: str, words: str) -> None:
    url, broker = form.format("kafka://plant:9092"), form.format("plant:9092")
    with pytest.raises(ConfigurationError, match=re.escape(f"The URL {url!r} {words}")):
        KSQLDBClient(url)
    with pytest.raises(ConfigurationError, match=re.escape(f"bootstrap_servers={broker!r} {words}")):
        Servers.of(None, broker)


def test_a_mark_before_the_first_name_of_an_env_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _check_name.cache_clear()  # as in a new process
    monkeypatch.setenv("\ufeffKSQLDB_URL", "sqlite:///factory.db")
    with pytest.raises(ConfigurationError, match=r"'\\ufeffKSQLDB_URL', whose name contains a byte order mark"):
        setting("KSQLDB_URL")


@pytest.mark.parametrize("value", ["'quoted'", "Acme\u00a0GmbH", "\ufeffx"])
@pytest.mark.parametrize("name", ["KSQLDB_PASSWORD", "NATS_TOKEN", "APPLICATION_MANUFACTURER", "STORAGE"])
def test_text_may_contain_anything(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert setting(name) == value


@pytest.mark.parametrize("value", ["MILL-7", "it's", "'", "Fräse 3", "a\u200cb", "a 'b' c"])
def test_other_characters_are_kept(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("APP_UUID", value)
    assert setting("APP_UUID") == value


@pytest.fixture(scope="module", autouse=True)
def replicas() -> Iterator[None]:
    """A variable of another distribution."""
    declare([Variable("ACME_REPLICAS", "1", "Number of replicas of the ACME gateway.")])
    yield
    del settings._variables._declared["ACME_REPLICAS"]


def test_another_distribution_declares_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("ACME_REPLICAS") == "1"
    monkeypatch.setenv("ACME_REPLICAS", "2")
    assert setting("ACME_REPLICAS") == environment("ACME_REPLICAS") == "2"
    assert "ACME_REPLICAS" in VARIABLES


ACME = """
from openfactory.settings import Variable
VARIABLES = [Variable("ACME_SITE", "hall 2", "Site of the gateway.")]
"""
BROKEN = (
    "ConfigurationError The table of settings acme:VARIABLES cannot be loaded (module 'acme' has no attribute "
    "'VARIABLES'). Reinstall the distribution that declares it: acme."
)


@pytest.mark.parametrize(("module", "outcome"), [(ACME, "hall 2"), ("", BROKEN)], ids=["loaded", "broken"])
def test_an_entry_point_adds_a_table(tmp_path: Path, module: str, outcome: str) -> None:
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[openfactory.settings]\nacme = acme:VARIABLES\n")
    (tmp_path / "acme.py").write_text(module)
    program = """
from openfactory.settings import setting
try:
    print(setting("ACME_SITE"))
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert found.stdout == f"{outcome}\n", found.stderr


def test_a_number_is_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert integer("ACME_REPLICAS") == 1
    monkeypatch.setenv("ACME_REPLICAS", " 3 ")
    assert integer("ACME_REPLICAS") == 3


@pytest.mark.parametrize("text", ["many", "1.5", " "])
def test_what_is_no_number_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ACME_REPLICAS", text)
    with pytest.raises(
        ConfigurationError, match=r"ACME_REPLICAS=.* is not a whole number\. Set a number, or unset it to use 1\."
    ):
        integer("ACME_REPLICAS")


def test_the_servers_of_a_nats_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nats_cluster("C1") == ()
    monkeypatch.setenv("NATS_CLUSTER_C1", " nats://one:4222,, nats://two:4222 ,")
    assert nats_cluster("C1") == ("nats://one:4222", "nats://two:4222")
    assert nats_cluster("C2") == nats_cluster("") == ()
    monkeypatch.setenv("NATS_CLUSTER_C1", "'nats://one:4222'")
    with pytest.raises(ConfigurationError, match=r"NATS_CLUSTER_C1=.* is in quotes\. Take the quotes out"):
        nats_cluster("C1")


def test_a_name_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        setting("NOSUCH")


def sources() -> list[Path]:
    names = ("openfactory-core", "openfactory-apps")
    roots = [one.source for one in distributions() if one.name in names]
    found = [(root, path) for root in roots for path in root.rglob("*.py")]
    # The command sets variables for the app it starts.
    return [path for root, path in found if "cli" not in path.relative_to(root).parts]


@pytest.mark.parametrize("path", sources(), ids=lambda path: "/".join(path.parts[-2:]))
def test_only_this_module_reads_the_environment(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    ]
    assert reads == [] or path.parent.name in ("settings", "config")  # config has the names of existing code


def test_what_is_named_in_the_sources_is_in_the_table() -> None:
    calls = [node for path in sources() for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id in ("setting", "environment", "integer")
        and isinstance(call.args[0], ast.Constant)
    }
    assert named
    assert named <= VARIABLES.keys()
