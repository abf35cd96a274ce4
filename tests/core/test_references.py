"""References: which assets stand above and below another, whoever writes them at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.exceptions import InvalidEventError
from openfactory.kafka import KSQLDBClient
from openfactory.utils import register_asset

Open = Callable[..., Asset]
Eventually = Callable[..., None]

_WRITER = """
import sys
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

url, name = sys.argv[1:]
with Asset("CELL", KSQLDBClient(url)) as cell:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(30):
        cell.add_reference_below(f"{name}-{n}")
"""


def test_an_asset_without_references_has_none(open_asset: Open, url: str) -> None:
    cell = open_asset("CELL")
    assert cell.get_references_above_uuid() == cell.get_references_below_uuid() == []
    register_asset("CELL", None, "Device", KSQLDBClient(url))
    assert open_asset("CELL").get_references_above_uuid() == []
    assert open_asset("CELL").get_references_above() == []


def test_the_newest_reference_stands_first(open_asset: Open, eventually: Eventually) -> None:
    cell, other = open_asset("CELL"), open_asset("CELL")
    for mill in ("MILL-1", "MILL-2", "MILL-3"):
        cell.add_reference_below(mill)
    cell.add_reference_above("LINE")
    assert cell.get_references_below_uuid() == ["MILL-3", "MILL-2", "MILL-1"]
    assert cell.get_references_above_uuid() == ["LINE"]
    eventually(lambda: other.get_references_above_uuid() == ["LINE"])
    assert other.get_references_below_uuid() == ["MILL-3", "MILL-2", "MILL-1"]


def test_a_reference_is_written_as_on_the_wire(open_asset: Open) -> None:
    cell = open_asset("CELL")
    cell.add_reference_below("MILL-1")
    cell.add_reference_below("MILL-2")
    said = cell.references_below
    assert (said.value, said.type, said.tag) == ("MILL-2, MILL-1", "OpenFactory", "AssetsReferences")


def test_a_reference_that_is_there_is_not_added_again(open_asset: Open) -> None:
    cell = open_asset("CELL")
    for mill in ("MILL-1", "MILL-2", "MILL-1", "MILL-1"):
        cell.add_reference_below(mill)
    assert cell.get_references_below_uuid() == ["MILL-2", "MILL-1"]
    assert len(cell.history("references_below")) == 2  # what is there already is not even written


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("   ", []),
        (" , ,, ", []),
        ("MILL", ["MILL"]),
        (" MILL ,ROBOT,, MILL , ", ["MILL", "ROBOT"]),
        ("UNAVAILABLE", []),
        (None, []),
        (7, []),
    ],
)
def test_blanks_and_doubles_of_other_writers_are_read_over(
    open_asset: Open, value: object, expected: list[str]
) -> None:
    cell = open_asset("CELL")
    cell.add_attribute(AssetAttribute("references_above", value, "OpenFactory", "AssetsReferences"))
    assert cell.get_references_above_uuid() == expected
    cell.add_reference_above("LINE")
    assert cell.get_references_above_uuid() == ["LINE", *expected]


@pytest.mark.parametrize("reference", ["", " ", "MILL 1", "MILL,ROBOT", "MILL.1", "UNAVAILABLE", None])
def test_what_a_list_of_references_cannot_carry_is_refused(open_asset: Open, reference: str) -> None:
    cell = open_asset("CELL")
    for add in (cell.add_reference_above, cell.add_reference_below):
        with pytest.raises(InvalidEventError, match=r"cannot be an? "):
            add(reference)
    assert cell.attributes() == []


def test_references_are_assets_that_can_be_read(open_asset: Open) -> None:
    open_asset("MILL").add_attribute(AssetAttribute("status", "idle", "Events", "Status"))
    cell = open_asset("CELL")
    cell.add_reference_below("MILL")
    cell.add_reference_above("MILL")
    for found in (cell.get_references_below(), cell.get_references_above()):
        [mill] = found
        with mill:
            assert (mill.asset_uuid, mill.status.value) == ("MILL", "idle")


def test_no_reference_is_lost_between_many_threads(open_asset: Open, eventually: Eventually) -> None:
    begin = threading.Barrier(12)
    cells = [open_asset("CELL") for _ in range(12)]

    def write(number: int, cell: Asset) -> None:
        begin.wait(60)
        for n in range(8):
            cell.add_reference_above(f"LINE-{number}-{n}")
            cell.add_reference_above(f"LINE-{n}")  # which all of them add

    threads = [threading.Thread(target=write, args=pair) for pair in enumerate(cells)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    expected = {f"LINE-{number}-{n}" for number in range(12) for n in range(8)} | {f"LINE-{n}" for n in range(8)}
    references = open_asset("CELL").get_references_above_uuid()
    assert set(references) == expected
    assert len(references) == len(expected)
    for cell in cells:
        eventually(lambda cell=cell: set(cell.get_references_above_uuid()) == expected)


def test_no_reference_is_lost_between_two_processes(file_url: str) -> None:
    with Asset("CELL", KSQLDBClient(file_url)):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, file_url, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in ("A", "B")
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write("go\n")
                writer.stdin.flush()
            for writer in writers:
                assert (writer.communicate(timeout=30), writer.returncode) == (("", ""), 0)
        finally:
            for writer in writers:
                writer.kill()
    with Asset("CELL", KSQLDBClient(file_url)) as cell:
        references = cell.get_references_below_uuid()
        assert sorted(references) == sorted(f"{name}-{n}" for name in "AB" for n in range(30))
        assert len(cell.history("references_below")) > 30  # both have written
