"""Every engine of ours keeps the promises of openfactory.testing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from openfactory.engines import Engine, open_engine, tables
from openfactory.engines.embedded import EmbeddedEngine, tail
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import QueryError
from openfactory.testing import EngineConformance, SharedEngineConformance, eventually

pytestmark = pytest.mark.smoke

pytest_plugins = ["pytester"]


class TestMemory(EngineConformance):
    @pytest.fixture
    def engine_url(self) -> str:
        return f"memory://{uuid4().hex}"


class TestFile(SharedEngineConformance):
    @pytest.fixture
    def engine_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/factory.db"


@pytest.mark.parametrize("statement", ["DELETE FROM log", "INSERT INTO trimmed VALUES (7)"])
def test_a_query_cannot_write_the_tables_behind_the_views(url: str, statement: str) -> None:
    with open_engine(url) as reference:
        engine = reference.engine
        engine.publish(new_event("MILL", "x", 1, "Events", "Test")).wait()
        with pytest.raises(QueryError, match="readonly"):
            engine.query(f"WITH one AS (SELECT 1) {statement}")
        assert engine.query("SELECT count(*) AS n FROM log") == [{"N": 1}]
        engine.publish(new_event("MILL", "x", 2, "Events", "Test")).wait()


# A function that SQLite cannot interrupt: it compares each of many characters with each of many others.
UNINTERRUPTIBLE = "SELECT length(trim(printf('%.*c', 15000, 'x'), printf('%.*c', 15000, 'y') || 'x')) AS n"
ENDLESS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT {} FROM numbers"


@pytest.mark.parametrize("statement", [UNINTERRUPTIBLE, ENDLESS.format("count(*)"), ENDLESS.format("*")])
def test_a_query_that_takes_too_long_ends_with_an_error(
    url: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_QUERY_SECONDS", 0.05)
    monkeypatch.setattr(tables, "_NOTICE_SECONDS", 0.05)
    with open_engine(url) as reference:
        engine = reference.engine
        engine.publish(new_event("MILL", "x", 1, "Events", "Test")).wait()
        with pytest.raises(QueryError, match="did not end within"):
            engine.query(statement)
        monkeypatch.undo()
        if url.startswith("sqlite"):  # it has a connection of its own
            assert engine.snapshot().events.keys() == {"MILL"}
            assert engine.query("SELECT value FROM assets") == [{"VALUE": "1"}]


def test_a_query_cannot_fill_the_memory(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_RESULT_BYTES", 2**20)
    with open_engine(url) as reference, pytest.raises(QueryError, match="its result has more than 1 MiB"):
        reference.engine.query(ENDLESS.format("hex(zeroblob(9999))"))


class TestFileOfAnotherProcess:
    """A second engine on the same file, as another process has it: the registry would share the first one."""

    @pytest.fixture
    def engines(self, file_url: str) -> Iterator[tuple[Engine, Engine]]:
        first, second = EmbeddedEngine(file_url), EmbeddedEngine(file_url)
        yield first, second
        first.close()
        second.close()

    def test_it_reads_what_the_other_acknowledged(self, engines: tuple[Engine, Engine]) -> None:
        writer, reader = engines
        event = new_event("MILL", "x", [1, "🏭"], "Events", "Test")
        position = writer.publish(event).wait()
        read = reader.snapshot(["MILL"]).events["MILL"]
        assert read == reader.history("MILL", "x") == [event.with_position(position)]
        assert reader.query("SELECT value FROM assets") == [{"VALUE": '[1,"🏭"]'}]

    def test_it_sees_the_register_of_the_other(self, engines: tuple[Engine, Engine]) -> None:
        writer, reader = engines
        writer.register(Registration("MILL", "Device", uns_id="ACME/mill"))
        writer.flush()
        assert reader.types() == {"MILL": "Device"}
        assert reader.uns_map() == {"MILL": "ACME/mill"}
        reader.deregister("MILL")
        reader.flush()
        assert writer.types() == writer.uns_map() == {}

    def test_it_hears_the_other_in_the_one_order_of_the_log(self, engines: tuple[Engine, Engine]) -> None:
        heard: list[list[AssetEvent]] = [[], []]
        for engine, events in zip(engines, heard, strict=True):
            engine.subscribe("MILL", events.append)
        for n in range(200):
            for name, engine in zip("ab", engines, strict=True):
                engine.publish(new_event("MILL", name, n, "Events", "Test"))
        eventually(lambda: all(len(events) >= 400 for events in heard))
        assert heard[0] == heard[1]
        assert [event.position for event in heard[0]] == list(range(1, 401))
        for name in "ab":
            assert [event.value for event in heard[0] if event.id == name] == list(range(200))

    def test_it_is_woken_and_does_not_wait_to_look_by_itself(
        self, engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tail, "_POLL_SECONDS", 600.0)
        writer, reader = engines
        seen: list[object] = []
        reader.subscribe("MILL", lambda event: seen.append(event.value))
        for n in range(50):
            writer.publish(new_event("MILL", "x", n, "Events", "Test"))
            eventually(partial(seen.__contains__, n))

    def test_it_goes_on_when_the_other_closes(self, engines: tuple[Engine, Engine]) -> None:
        first, second = engines
        first.publish(new_event("MILL", "x", 1, "Events", "Test"))
        first.close()
        second.publish(new_event("MILL", "x", 2, "Events", "Test")).wait()
        assert [event.value for event in second.history("MILL", "x")] == [1, 2]


def test_a_failing_assert_of_the_suite_shows_the_values_that_it_compared(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # pytest would prepare what is installed as editable
    pytester.makepyfile(
        """
        import sys
        from _pytest.assertion.rewrite import AssertionRewritingHook
        from openfactory.testing import SharedEngineConformance

        def test_that_the_asserts_are_rewritten():
            loaders = {kind.__module__: sys.modules[kind.__module__].__loader__
                       for kind in SharedEngineConformance.__mro__ if kind is not object}
            assert [name for name, loader in loaders.items() if not isinstance(loader, AssertionRewritingHook)] == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_subclass_that_names_no_engine_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from openfactory.testing import EngineConformance
        class TestNothing(EngineConformance): pass
        """
    )
    result = pytester.runpytest_inprocess("-k", "closing_twice", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TestNothing does not name an engine. Override the fixture engine_url.*"])
