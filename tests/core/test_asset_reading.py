"""Asset: reading attributes, and an object that behaves in spite of answering to every name."""

from __future__ import annotations

import copy
import operator
import pickle
import threading
from collections.abc import Callable

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.exceptions import ConfigurationError, EngineClosedError, UnknownAttributeError
from openfactory.kafka import KSQLDBClient

Open = Callable[..., Asset]


def test_an_attribute_reads_as_it_was_written(mill: Asset) -> None:
    attribute = mill.status
    assert (attribute.id, attribute.value, attribute.type, attribute.tag) == ("status", "idle", "Events", "Status")
    assert attribute == mill["status"]
    assert "status" in mill


def test_another_asset_object_reads_the_same(mill: Asset, open_asset: Open) -> None:
    assert open_asset().status == mill.status


def test_an_unknown_attribute_reads_as_unavailable(mill: Asset) -> None:
    missing = mill.nosuch
    assert isinstance(missing, AssetAttribute)
    assert missing.id == "nosuch"
    assert {missing.value, missing.type, missing.tag, missing.timestamp} == {"UNAVAILABLE"}
    assert mill["no.such"].value == "UNAVAILABLE"
    assert "nosuch" not in mill


def test_names_with_a_leading_underscore_are_no_attributes(mill: Asset) -> None:
    assert not hasattr(mill, "_x")
    assert not hasattr(mill, "__deepcopy__")
    with pytest.raises(AttributeError, match="_x"):
        _ = mill._x


def test_a_copy_reads_the_same(mill: Asset) -> None:
    assert copy.copy(mill).status == mill.status


def test_pickling_an_asset_says_that_it_cannot_be(mill: Asset) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(mill)


def test_an_attribute_can_be_copied_and_pickled(mill: Asset) -> None:
    assert copy.deepcopy(mill.status) == pickle.loads(pickle.dumps(mill.status)) == mill.status


def test_an_id_that_the_class_hides_is_reached_by_brackets(mill: Asset) -> None:
    mill.add_attribute(AssetAttribute(id="type", value="5-axis", type="Events", tag="Kind"))
    assert mill["type"].value == "5-axis"
    assert mill.type == "UNAVAILABLE"
    mill["type"] = "3-axis"
    assert mill["type"].value == "3-axis"


@pytest.mark.parametrize(
    ("written", "read"),
    [(3, 3.0), ("3.5", 3.5), (2.5, 2.5), (True, True), ("UNAVAILABLE", "UNAVAILABLE"), (None, None)],
)
def test_a_sample_reads_as_a_float_when_it_can_be_one(
    mill: Asset, open_asset: Open, written: object, read: object
) -> None:
    mill.speed = written
    mill.flush()
    for asset in (mill, open_asset()):
        assert repr(asset.speed.value) == repr(read)
        assert repr(asset.samples()[0]["VALUE"]) == repr(read)


def test_the_lists_of_attributes(mill: Asset) -> None:
    mill.add_attribute(AssetAttribute(id="coolant", value="NORMAL", type="Condition", tag="Coolant"))
    mill.method("move", sender_uuid="HMI")
    assert mill.attributes() == ["status", "speed", "coolant"]
    assert mill.events() == [{"ID": "status", "VALUE": "idle", "TAG": "Status"}]
    assert mill.samples() == [{"ID": "speed", "VALUE": 100.0, "TAG": "Speed"}]
    assert mill.conditions() == [{"ID": "coolant", "VALUE": "NORMAL", "TAG": "Coolant"}]


def test_methods_are_listed_with_their_contract(mill: Asset) -> None:
    mill.add_attribute(AssetAttribute(id="odd", value="no JSON", type="Method", tag="Method"))
    mill.add_attribute(AssetAttribute(id="bare", value=None, type="Method", tag="Method"))
    move = {"description": "Move", "arguments": [{"name": "x", "description": "where"}]}
    assert mill.methods() == {"move": move, "odd": "no JSON", "bare": None}


def test_a_class_of_its_own_keeps_its_python_attributes(url: str) -> None:
    class Gauge(Asset):
        limit: int

    with Gauge("GAUGE", KSQLDBClient(url)) as gauge:
        gauge.limit = 3
        gauge.plain = "Python's"
        assert (gauge.limit, gauge.plain) == (3, "Python's")
        assert gauge.attributes() == []


def test_wait_until_comes_back_at_once_when_it_is_so(mill: Asset) -> None:
    assert mill.wait_until("status", "idle", timeout=0)
    assert mill.wait_until(attribute_id="status", value="idle", use_ksqlDB=True)


def test_wait_until_hears_another_writer(mill: Asset, open_asset: Open) -> None:
    other = open_asset()
    waiting = threading.Timer(0.05, lambda: setattr(other, "status", "busy"))
    waiting.start()
    assert mill.wait_until("status", "busy", timeout=60)
    waiting.join()


def test_wait_until_compares_as_it_is_told(mill: Asset) -> None:
    assert mill.wait_until("speed", 50, operator.gt, timeout=0)
    assert mill.wait_until("speed", 50, comparison=lambda current, given: current == 2 * given, timeout=0)
    assert not mill.wait_until("speed", 100, operator.gt, timeout=0.01)


def test_wait_until_gives_up_after_its_timeout(mill: Asset) -> None:
    assert not mill.wait_until("status", "busy", timeout=0.01)
    assert not mill.wait_until("status", "busy", 0.01)  # the third argument was the timeout once


def test_wait_until_refuses_what_cannot_compare(mill: Asset) -> None:
    with pytest.raises(TypeError, match="timeout="):
        mill.wait_until("status", "idle", "soon")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["nosuch", "move"])
def test_wait_until_refuses_what_is_no_attribute(mill: Asset, name: str) -> None:
    with pytest.raises(UnknownAttributeError, match=f"MILL has no attribute '{name}'. It has status, speed"):
        mill.wait_until(name, "x")


def test_wait_until_finds_an_attribute_that_was_written_a_moment_ago(mill: Asset, open_asset: Open) -> None:
    open_asset().add_attribute(AssetAttribute(id="new", value=1, type="Events", tag="New"))
    assert mill.wait_until("new", 1, timeout=60)


def test_the_type_is_what_the_asset_is_registered_as(mill: Asset) -> None:
    assert mill.type == "UNAVAILABLE"
    mill.add_attribute(AssetAttribute(id="AssetType", value="Device", type="OpenFactory", tag="AssetType"))
    assert mill.type == "Device"


def test_an_asset_shows_its_uuid(mill: Asset) -> None:
    assert repr(mill) == "Asset('MILL')"


def test_the_place_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSQLDB_URL", url)
    with Asset("MILL", None) as mill, Asset("MILL", KSQLDBClient(url)) as same:
        mill.add_attribute(AssetAttribute(id="x", value=1, type="Events", tag="X"))
        assert same.wait_until("x", 1, timeout=60)


def test_without_a_place_an_asset_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"Pass ksqlClient=KSQLDBClient\(.*set KSQLDB_URL"):
        Asset("MILL", None)


def test_in_test_mode_an_asset_is_alone(url: str) -> None:
    client = KSQLDBClient(url)
    with Asset("MILL", client, test_mode=True) as alone, Asset("MILL", client) as other:
        alone.add_attribute(AssetAttribute(id="x", value=1, type="Events", tag="X"))
        assert alone.x.value == 1
        assert "x" not in other
    with Asset("MILL", None, test_mode=True) as asset:
        assert asset.attributes() == []


def test_a_closed_asset_gives_its_engine_back(url: str) -> None:
    with Asset("MILL", KSQLDBClient(url)) as mill:
        mill.add_attribute(AssetAttribute(id="x", value=1, type="Events", tag="X"))
    mill.close()
    with pytest.raises(EngineClosedError):
        mill.x = 2
