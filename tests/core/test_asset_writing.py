"""Asset: writing attributes, and what is refused before it can hurt others."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.exceptions import ConfigurationError, InvalidEventError, UnknownAttributeError
from openfactory.kafka import KSQLDBClient

Open = Callable[..., Asset]
Eventually = Callable[..., None]

NAN, INF = float("nan"), float("inf")

# The bound is on the value as JSON: quotes count, and what takes several bytes counts so.
HALF = 128 * 1024
LARGEST = {
    "text": "x" * (2 * HALF - 2),
    "letters": "é" * (HALF - 1),
    "quotes": '"' * (HALF - 1),
    "list": [0] * (HALF - 1),
}
TOO_LARGE = {"text": "x" * (2 * HALF - 1), "letters": "é" * HALF, "quotes": '"' * HALF, "list": [0] * HALF}


def attribute(id: Any = "x", value: Any = 1, **fields: Any) -> AssetAttribute:
    return AssetAttribute(**{"id": id, "value": value, "type": "Events", "tag": "Test", **fields})


def test_an_own_write_shows_at_once(mill: Asset) -> None:
    for n in range(200):
        mill.status = n
        assert mill.status.value == n


def test_a_bare_value_keeps_type_and_tag_and_gets_a_new_timestamp(open_asset: Open) -> None:
    times = iter(["2026-11-21T07:30:00.000Z", "2026-11-21T07:30:01.000Z"])
    mill = open_asset(clock=lambda: next(times))
    mill.add_attribute(attribute(timestamp="2026-01-01T00:00:00.000Z"))
    mill.x = 2
    assert mill.x == attribute(value=2, timestamp="2026-11-21T07:30:00.000Z")
    mill["x"] = 3
    assert mill.x == attribute(value=3, timestamp="2026-11-21T07:30:01.000Z")


def test_a_whole_attribute_may_be_written(mill: Asset, open_asset: Open) -> None:
    new = attribute(id="status", value="busy", tag="Other.Tag", type="Condition", timestamp="2026-11-21T07:30:00.000Z")
    mill.status = new
    mill.flush()
    assert mill.status == open_asset().status == new


def test_a_whole_attribute_of_another_id_is_refused(mill: Asset) -> None:
    with pytest.raises(ConfigurationError, match="'x' cannot be written as 'status'"):
        mill.status = attribute(id="x")
    assert mill.status.value == "idle"


def test_a_method_cannot_be_written(mill: Asset) -> None:
    with pytest.raises(ConfigurationError, match="'move' is a method of MILL"):
        mill.move = 3
    with pytest.raises(ConfigurationError, match="'move' is a method of MILL"):
        mill["move"] = 3


def test_an_unknown_id_is_not_made_by_writing(mill: Asset) -> None:
    with pytest.raises(UnknownAttributeError, match="add_attribute"):
        mill.nosuch = attribute(id="nosuch")
    with pytest.raises(UnknownAttributeError, match="add_attribute"):
        mill["nosuch"] = 3
    assert "nosuch" not in mill.attributes()


def test_a_name_that_is_no_attribute_is_pythons(mill: Asset, open_asset: Open) -> None:
    mill.helper = 3
    mill._private = 4
    assert (mill.helper, mill._private) == (3, 4)
    assert open_asset().attributes() == ["status", "speed"]


def test_an_added_attribute_is_there_for_every_reader(open_asset: Open) -> None:
    reader = open_asset()
    open_asset().add_attribute(attribute(value="new"))
    assert open_asset().x.value == "new"
    assert reader.wait_until("x", "new", timeout=60)


def test_adding_may_come_back_before_it_is_written(open_asset: Open) -> None:
    mill = open_asset()
    mill.add_attribute(attribute(), wait_to_become_available=False)
    assert mill.x.value == 1
    mill.flush()
    assert open_asset().x.value == 1


def test_a_list_is_written_as_it_was(mill: Asset) -> None:
    value = [1, {"a": 2}]
    mill.status = value
    value.append(3)
    assert mill.status.value == [1, {"a": 2}]


@pytest.mark.parametrize("value", [NAN, INF, -INF, [1, NAN], {"a": {"b": INF}}])
def test_not_a_number_is_refused(mill: Asset, value: Any) -> None:
    said = r"MILL\.status was not written: .* cannot be written as JSON\. Write 'UNAVAILABLE'"
    with pytest.raises(InvalidEventError, match=said) as caught:
        mill.status = value
    assert (caught.value.asset_uuid, caught.value.attribute_id) == ("MILL", "status")
    assert mill.status.value == "idle"


@pytest.mark.parametrize("name", LARGEST)
def test_a_value_of_256_kib_is_carried(mill: Asset, open_asset: Open, name: str) -> None:
    value = LARGEST[name]
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    assert 256 * 1024 - 2 <= size <= 256 * 1024
    mill.status = value
    mill.flush()
    assert open_asset().status.value == value


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_larger_value_is_refused(mill: Asset, name: str) -> None:
    said = r"MILL\.status was not written: .*262,144.*app\.storage"
    with pytest.raises(InvalidEventError, match=said) as caught:
        mill.status = TOO_LARGE[name]
    assert (caught.value.asset_uuid, caught.value.attribute_id) == ("MILL", "status")
    assert mill.status.value == "idle"


@pytest.mark.parametrize("value", [object(), lambda: None, 1j, {1, object()}, "\ud800", ["\ud800"], {"\ud800": 1}])
def test_what_json_cannot_say_is_refused(mill: Asset, value: Any) -> None:
    with pytest.raises(InvalidEventError, match=r"MILL\.status was not written: .* cannot be written as JSON"):
        mill.status = value
    assert mill.status.value == "idle"


def test_an_endless_value_is_refused(mill: Asset) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidEventError, match="cannot be written as JSON"):
        mill.status = value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, [2**70]])
def test_a_number_that_no_table_can_hold_is_refused_or_kept(mill: Asset, open_asset: Open, value: Any) -> None:
    """Never changed without a word."""
    try:
        mill.status = value
    except InvalidEventError:
        assert mill.status.value == "idle"
    else:
        mill.flush()
        assert open_asset().status.value == mill.status.value == value


@pytest.mark.parametrize(
    "name", ["", "a b", "a\tb", "a\nb", "a*", ">", "a|b", "\x7f", "\x00", "\ud800", "n" * 256, 7, None]
)
def test_an_id_that_a_message_cannot_carry_is_refused(open_asset: Open, name: Any) -> None:
    mill = open_asset()
    with pytest.raises(InvalidEventError, match="cannot be an attribute id"):
        mill.add_attribute(attribute(id=name))
    assert mill.attributes() == []


def test_an_empty_id_is_refused_however_it_is_written(mill: Asset) -> None:
    with pytest.raises(InvalidEventError, match="An empty string cannot be an attribute id"):
        setattr(mill, "", 1)
    with pytest.raises(UnknownAttributeError):
        mill[""] = 1
    assert "" not in mill


@pytest.mark.parametrize("name", [".a", "a.", "a..b", "."])
def test_an_id_with_an_empty_part_is_refused(open_asset: Open, name: str) -> None:
    with pytest.raises(InvalidEventError, match="Name every part, or use '_'") as caught:
        open_asset().add_attribute(attribute(id=name))
    assert caught.value.attribute_id == name


@pytest.mark.parametrize("uuid", ["", "a b", "a.b", "a*", "a>", "a|b", "a\n", "n" * 256])
def test_a_uuid_that_a_message_cannot_carry_is_refused(open_asset: Open, uuid: str) -> None:
    with pytest.raises(InvalidEventError, match="cannot be an asset UUID"):
        open_asset(uuid).add_attribute(attribute())


def test_a_refusal_knows_the_uuid_and_the_id(open_asset: Open) -> None:
    with pytest.raises(InvalidEventError) as caught:
        open_asset("cell.mill").add_attribute(attribute())
    assert caught.value.asset_uuid == "cell.mill"
    with pytest.raises(InvalidEventError) as caught:
        open_asset().add_attribute(attribute(id="a b"))
    assert (caught.value.asset_uuid, caught.value.attribute_id) == ("MILL", "a b")


@pytest.mark.parametrize("fields", [{"tag": None}, {"tag": "\ud800"}, {"tag": "a\x00b"}, {"timestamp": object()}])
def test_a_tag_or_timestamp_that_cannot_be_carried_harms_no_other(open_asset: Open, fields: dict[str, Any]) -> None:
    mill, robot = open_asset(), open_asset("ROBOT")
    robot.add_attribute(attribute())
    for n in range(100):  # so many that they share a commit
        robot.x = n
        with contextlib.suppress(InvalidEventError):
            mill.add_attribute(attribute(**fields), wait_to_become_available=False)
    robot.flush()
    assert robot.x == open_asset("ROBOT").x
    mill.flush()
    assert mill.x == open_asset().x  # refused, or written as it was given


def test_a_type_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'Sample' is not an attribute type\. Use one of Samples, Condition"):
        attribute(type="Sample")


def test_types_of_other_writers_are_read_without_case() -> None:
    assert attribute(type="samples").type == "Samples"
    assert attribute(type="OPENFACTORY").type == "OpenFactory"


def test_a_write_that_is_refused_leaves_the_engine_well(url: str) -> None:
    with Asset("MILL", KSQLDBClient(url)) as mill:
        mill.add_attribute(attribute())
        with pytest.raises(InvalidEventError):
            mill.x = float("nan")
        mill.x = 2
        mill.flush()
        assert mill.x.value == 2


def test_writers_of_one_attribute_agree_in_the_end(mill: Asset, open_asset: Open, eventually: Eventually) -> None:
    """What stands last in the log holds, for those who wrote it and for those who did not."""
    writers, reader = [mill, mill, open_asset(), open_asset()], open_asset()

    def write(number: int, asset: Asset) -> None:
        for n in range(200):
            asset.status = [number, n]

    threads = [threading.Thread(target=write, args=one) for one in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for asset in writers:
        asset.flush()
    last = open_asset().status
    eventually(lambda: all(asset.status == last for asset in (*writers, reader)))
