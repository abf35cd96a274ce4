"""How an URL becomes an engine: by its scheme, those of other distributions too, and one engine for a place."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import pytest

from openfactory.engines import EngineReference, engine_schemes, open_engine
from openfactory.engines.embedded import EmbeddedEngine
from openfactory.events.event import new_event
from openfactory.exceptions import ConfigurationError, MissingDistributionError


def test_the_schemes_are_known() -> None:
    assert engine_schemes().keys() >= {"http", "https", "memory", "sqlite"}


def test_the_table_of_schemes_cannot_be_written() -> None:
    assert isinstance(engine_schemes(), MappingProxyType)


@pytest.mark.parametrize(
    "url", ["nosuch://host", "factory.db", "/srv/factory.db", "", "sqlite:factory.db", "://", "localhost:8088"]
)
def test_an_unknown_scheme_names_the_known_ones_and_the_way_out(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_engine(url)
    said = str(caught.value)
    assert repr(url) in said
    assert "http, https, kafka, memory, sqlite" in said
    assert said.endswith("Set KSQLDB_URL to sqlite:///factory.db to run without any server.")


def test_an_engine_that_cannot_be_opened_is_tried_anew_the_next_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/later/factory.db"
    with pytest.raises(ConnectionError):
        open_engine(url)
    (tmp_path / "later").mkdir()
    with open_engine(url) as reference:
        assert reference.engine.health().connected


@pytest.mark.parametrize("other", ["", "?keep_events=6", "?keep_events=5&synchronous=full"])
def test_other_options_for_a_place_that_is_open_are_refused(url: str, other: str) -> None:
    with open_engine(f"{url}?keep_events=5") as reference:
        with pytest.raises(ConfigurationError, match=r"is already open in this process.*Use the same options"):
            open_engine(url + other)
        with open_engine(f"{url}?keep_events=5") as same:
            assert same.engine is reference.engine
    with open_engine(url + other) as reference:
        assert reference.engine.url == url + other


def test_a_reference_may_be_given_back_twice_without_harm(url: str) -> None:
    first, second = open_engine(url), open_engine(url)
    first.close()
    first.close()
    with second:
        assert second.engine.health().connected
    assert not second.engine.health().connected


def test_many_threads_share_one_engine(url: str) -> None:
    references: list[EngineReference] = []
    gate = threading.Barrier(8)

    def open_one() -> None:
        gate.wait()
        references.append(open_engine(url))

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(reference.engine) for reference in references}) == 1
    for reference in references[1:]:
        reference.close()
    assert references[0].engine.health().connected
    references[0].close()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str | None) -> None:
    """A distribution of somebody else that adds an engine."""
    info = folder / "acme_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[openfactory.engines]\n{name} = {name}_engine:Engine\n")
    if module is not None:
        (folder / f"{name}_engine.py").write_text(module)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, f"{name}_engine", raising=False)


MODULE = """
from openfactory.engines.embedded import EmbeddedEngine

class Engine(EmbeddedEngine):
    def __init__(self, url, servers):
        super().__init__(url.replace("acme://", "memory://acme-"), servers)
        self.url = url

    @classmethod
    def location(cls, url, servers):
        return url.rstrip("/")
"""


def test_another_distribution_adds_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "acme", MODULE)
    assert engine_schemes()["acme"] == "acme_engine:Engine"
    assert "acme_engine" not in sys.modules  # until it is asked for
    with open_engine("acme://cell") as reference, open_engine("acme://cell/") as same:
        assert type(reference.engine).__module__ == "acme_engine"
        assert isinstance(reference.engine, EmbeddedEngine)
        assert same.engine is reference.engine
        reference.engine.publish(new_event("MILL", "x", 1, "Events", "Test")).wait()


def test_an_engine_that_cannot_be_imported_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "broken", "import a_client_library_that_is_not_here")
    with pytest.raises(
        MissingDistributionError, match=r"broken://.*a_client_library_that_is_not_here.*Install it"
    ) as caught:
        open_engine("broken://x")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ImportError)


def test_an_engine_that_is_not_where_its_entry_point_says_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "hollow", "nothing = 1")
    with pytest.raises(MissingDistributionError, match="hollow://"):
        open_engine("hollow://x")


def test_a_program_that_closes_nothing_loses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/factory.db"
    program = f"""
from openfactory.events.event import new_event
from openfactory.engines import open_engine
engine = open_engine({url!r}).engine
for n in range(5000):
    engine.publish(new_event("MILL", "n", n, "Events", "Test"))
"""
    found = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    with open_engine(url) as reference:
        assert len(reference.engine.history("MILL", "n", limit=10_000)) == 5000


def test_a_program_that_loses_something_all_the_same_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/factory-{uuid4().hex}.db"
    program = f"""
import sqlite3
from openfactory.events.event import new_event
from openfactory.engines import open_engine
engine = open_engine({url!r}).engine
sqlite3.connect({url!r}.removeprefix("sqlite:///")).execute("DROP TABLE log")
engine.publish(new_event("MILL", "n", 1, "Events", "Test"))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "MILL.n" in found.stderr
    assert "Traceback" not in found.stderr
