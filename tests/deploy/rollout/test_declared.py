"""The methods and attributes of an app's file are read without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.deploy.declared import declared_in, dropped
from openfactory.deploy.registered import Argument, RegisteredAsset, User

FILE = """
import sys
from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
import openfactory.apps as ofa

sys.exit("it must not run")

class Base(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="S")

    @ofa_method()
    def start(self, speed: int, program: str = "", *, force: float): ...

class Mill(Base, ofa.Other):
    load: float = SampleAttribute(value=1.0, tag="L")

    @ofa_method(name="jog_axis", description="Jog")
    async def jog(self): ...

    if sys.argv:
        angle = EventAttribute(value=0, tag="A")
    else:
        try:
            import robot
        except ImportError:

            @ofa_method()
            def park(self): ...

    def helper(self):
        self.add_attribute(AssetAttribute(id="late", value=1, type="Events", tag="T"))

class Other:
    @ofa_method()
    def ignored(self): ...
"""


def test_a_file_is_read_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "mill.py"
    file.write_text(FILE)
    declared = declared_in(file)
    assert declared is not None
    assert declared.methods == {
        "start": (Argument("speed", True), Argument("program", False), Argument("force", True)),
        "jog_axis": (),
        "park": (),
    }
    assert {"status", "angle", "load", "late"} <= declared.names


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "class App:\n    pass",
        "from plant import Machine\nclass Mill(Machine):\n    pass",
        "from openfactory.apps import OpenFactoryApp\nfrom plant import Extra\nclass Mill(OpenFactoryApp, Extra): pass",
        "class A(B): pass\nclass B(A): pass",
        "class (",
    ],
)
def test_a_file_whose_classes_are_elsewhere_is_not_known(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mill.py"
    file.write_text(text)
    assert declared_in(file) is None
    assert declared_in(tmp_path / "missing.py") is None


def test_what_a_version_drops_is_told_with_its_users(tmp_path: Path) -> None:
    file = tmp_path / "mill.py"
    file.write_text(FILE)
    declared = declared_in(file)
    assert declared is not None
    old = RegisteredAsset(
        "MILL",
        attributes=frozenset({"status", "late", "depth"}),
        methods={"start": (Argument("speed"), Argument("depth")), "jog_axis": (), "home": ()},
        users=(User("HMI", methods=("home", "start"), commands=3), User("CELL", refers=True)),
    )
    assert dropped(old, declared) == (
        "method home is dropped, which HMI has commanded",
        "method start drops its argument depth, which HMI has commanded",
        "method start requires a new argument force, which HMI has commanded",
        "attribute depth is dropped",
    )
