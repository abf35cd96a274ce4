"""The file of the unified namespace, and the places of apps in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.deploy.environment import releases_of
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.problems import InvalidFilesError, Place
from openfactory.deploy.reading import read_apps
from openfactory.deploy.uns import UNSSchema
from openfactory.exceptions import ConfigurationError

SCHEMA = """\
namespace_structure:
  - inc: Demofactory
  - area: [Machining, Assembly, 3]
  - station: ANY
  - cell: ANY
  - asset: ANY
  - attribute: ANY
uns_template: inc/area/station/asset/attribute
"""
SMALLEST = (
    "namespace_structure:\n - inc: OpenFactory\n - asset: ANY\n - attribute: ANY\nuns_template: inc/asset/attribute\n"
)
HERE = Place(Path("app_x.yml"), 7)


def schema(tmp_path: Path, text: str = SCHEMA) -> UNSSchema:
    file = tmp_path / "uns.yml"
    file.write_text(text, encoding="utf-8")
    return UNSSchema.from_file(file)


@pytest.mark.parametrize(
    ("values", "uns_id", "levels"),
    [
        ({}, "Demofactory/mill", ["inc", "asset"]),
        ({"area": "Machining"}, "Demofactory/Machining/mill", ["inc", "area", "asset"]),
        ({"inc": "Demofactory", "area": "3"}, "Demofactory/3/mill", ["inc", "area", "asset"]),
        ({"area": "Assembly", "station": "S1"}, "Demofactory/Assembly/S1/mill", ["inc", "area", "station", "asset"]),
        (
            {"asset": "the mill", "cell": "c", "station": "S1", "area": "Assembly"},
            "Demofactory/Assembly/S1/the mill",  # the template leaves cell out
            ["inc", "area", "station", "cell", "asset"],
        ),
    ],
)
def test_an_asset_has_a_place(tmp_path: Path, values: dict[str, str], uns_id: str, levels: list[str]) -> None:
    place = schema(tmp_path).place_of("mill", values, HERE)
    assert place.uns_id == uns_id
    assert list(place.levels) == levels
    assert place.levels["asset"] == values.get("asset", "mill")


def test_the_smallest_schema_and_another_separator(tmp_path: Path) -> None:
    assert schema(tmp_path, SMALLEST).place_of("mill", {}, HERE).uns_id == "OpenFactory/mill"
    dotted = schema(tmp_path, SMALLEST.replace("inc/asset/", "inc.asset."))
    assert dotted.place_of("mill", {}, HERE).uns_id == "OpenFactory.mill"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"zone": "a"}, "zone: `zone` is not a level of an asset. Allowed are inc, area, station,"),
        ({"aera": "a"}, "Did you mean area?"),
        ({"attribute": "a"}, "attribute: `attribute` is not a level of an asset."),
        ({"inc": "Other"}, "inc: It is 'Other'. Write Demofactory, or leave it out."),
        ({"area": "machining"}, "area: It is 'machining'. Write one of Machining, Assembly, 3. Did you mean"),
        ({"station": "S1"}, "station: The level area above it has no value."),
        ({"area": "Assembly", "cell": "c"}, "cell: The level station above it has no value."),
        ({"area": "Assembly", "station": "a/b"}, "station: It is 'a/b', with the separator '/'."),
        ({"asset": "a/b"}, "asset: It is 'a/b', with the separator '/'."),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path: Path, values: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidFilesError) as raised:
        schema(tmp_path).place_of("mill", values, HERE)
    [problem] = raised.value.problems
    assert text in str(problem)
    assert problem.place == HERE


def test_a_separator_in_a_uuid_is_refused(tmp_path: Path) -> None:
    uns = schema(tmp_path, SMALLEST.replace("inc/asset/", "inc-asset-"))
    with pytest.raises(InvalidFilesError, match="asset: The UUID mill-1 has the separator '-'"):
        uns.place_of("mill-1", {}, HERE)
    assert uns.place_of("mill-1", {"asset": "mill1"}, HERE).uns_id == "OpenFactory-mill1"


def test_a_level_below_the_asset_is_refused(tmp_path: Path) -> None:
    below = SMALLEST.replace(" - attribute", " - part: ANY\n - attribute")
    with pytest.raises(InvalidFilesError, match="part: The level is below the asset"):
        schema(tmp_path, below).place_of("mill", {"part": "x"}, HERE)


LEVELS = "namespace_structure:\n - inc: A\n - asset: ANY\n - attribute: ANY\n"
WRONG = {
    "": ": The file is empty.",
    "- a": ":1: The file is a list.",
    "namespace_structure: [": ":1: This is not YAML",
    "uns_template: inc/asset/attribute": ": namespace_structure: It is empty.",
    LEVELS: ": uns_template: It is empty.",
    "namespace_structure: {inc: A}\nuns_template: inc/asset/attribute": ":1: namespace_structure: It is a mapping.",
    SMALLEST + "uns_tempalte: x": ":6: uns_tempalte: `uns_tempalte` is not known. Did you mean uns_template?",
    SMALLEST + "uns_template: x": ":6: uns_template: `uns_template` is there twice",
    SMALLEST.replace("inc: OpenFactory", "inc"): ":2: namespace_structure[0]: It is 'inc'. Write one level",
    SMALLEST.replace(
        "inc: OpenFactory", "inc: A\n   b: C"
    ): ":2: namespace_structure[0]: It is a mapping. Write one level",
    SMALLEST.replace("inc: OpenFactory", "inc:"): ":2: namespace_structure[0]: inc: The key has no value.",
    SMALLEST.replace("inc: OpenFactory", "inc: []"): ":2: namespace_structure[0]: The list of inc is empty.",
    SMALLEST.replace("inc: OpenFactory", "inc: [a, {}]"): ":2: namespace_structure[0]: inc: It is an empty mapping.",
    SMALLEST.replace("inc: OpenFactory", "in-c: A"): ":2: namespace_structure[0]: 'in-c' is not a name of a level.",
    SMALLEST.replace(
        "inc: OpenFactory", "inc: A/B"
    ): ":2: namespace_structure[0]: The value 'A/B' of inc has the separator",
    SMALLEST.replace("inc: OpenFactory", "inc: [A/B]"): "The value 'A/B' of inc has the separator '/'",
    SMALLEST.replace("asset: ANY", "asset: mill"): ":3: namespace_structure[1]: Each asset would have the value mill.",
    SMALLEST.replace(
        "inc/asset", "inc"
    ): ":5: uns_template: The template does not have asset: all assets would be in one",
    SMALLEST.replace("inc/asset/attribute", "inc/asset"): ":5: uns_template: The template does not end in attribute.",
    SMALLEST.replace(
        "inc/asset", "ink/asset"
    ): ":5: uns_template: 'ink' is not a level of namespace_structure. Did you",
    SMALLEST.replace("inc/asset", "asset/inc"): ":5: uns_template: The levels are not in the order",
    SMALLEST.replace("inc/asset", "inc/inc/asset"): ":5: uns_template: The levels are not in the order",
    SMALLEST.replace("inc/asset", "inc//asset"): ":5: uns_template: '' is not a level",
    SMALLEST.replace("inc/asset", "inc.asset"): ":5: uns_template: 'asset/attribute' is not a level",
    SMALLEST.replace(
        " - attribute", " - inc: B\n - attribute"
    ): ":4: namespace_structure[2]: The level inc is there twice.",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_schema_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFilesError) as raised:
        schema(tmp_path, text)
    assert WRONG[text] in str(raised.value)


def test_a_schema_in_the_web_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigurationError, match="Fetch it, such as with git clone, and write its path") as raised:
        UNSSchema.from_file("github://plant:token@main/uns.yml")
    assert str(raised.value).startswith("github://main/uns.yml: ")
    with pytest.raises(InvalidFilesError, match="cannot be read: No such file"):
        UNSSchema.from_file("/nowhere/uns.yml")


def apps(tmp_path: Path, *apps: str) -> Path:
    file = tmp_path / "app_x.yml"
    file.write_text("apps:\n" + "".join(f"  {app}\n" for app in apps), encoding="utf-8")
    return file


def test_apps_have_their_places(tmp_path: Path) -> None:
    file = apps(
        tmp_path,
        "a: {uuid: mill, image: x, uns: {area: Machining}}",
        "b: {uuid: saw, image: x, uns: {area: '${NO}'}}",
        "c: {uuid: lathe, image: x, deploy: {replicas: 2}, uns: {area: 3}}",
    )
    uns = schema(tmp_path)
    found = read_apps([file], {}, uns)
    assert [app.uns.uns_id for app in found if app.uns] == [
        "Demofactory/Machining/mill",
        "Demofactory/saw",
        "Demofactory/3/lathe",
    ]
    factory = FactoryEnvironment({}, {})
    releases = [release for app in found for release in releases_of(app, factory, target="process")]
    assert [release.uns.uns_id for release in releases if release.uns] == [
        "Demofactory/Machining/mill",
        "Demofactory/saw",
        "Demofactory/3/lathe-1",
        "Demofactory/3/lathe-2",
    ]
    assert releases[-1].uns == uns.place_of("lathe-2", found[2].settings.uns or {}, found[2].place)
    assert [app.uns for app in read_apps([file], {})] == [None] * 3


def test_an_app_with_wrong_levels_is_in_no_place(tmp_path: Path) -> None:
    file = apps(tmp_path, "a: {uuid: mill, image: x, uns: 3}", "b: {uuid: saw, image: x, uns: {asset: mill}}")
    with pytest.raises(InvalidFilesError) as raised:
        read_apps([file], {}, schema(tmp_path))
    assert [problem.path for problem in raised.value.problems] == ["apps.a.uns"]


def test_places_that_are_wrong_are_problems_with_their_lines(tmp_path: Path) -> None:
    file = apps(
        tmp_path,
        "a:\n    uuid: mill\n    image: x\n    uns:\n      area: Machining\n      zone: x",
        "b: {uuid: saw, image: x, uns: {area: Machining, asset: a}}",
        "c: {uuid: lathe, image: x, uns: {area: Machining, asset: a}}",
        "d: {uuid: drill, image: x, deploy: {replicas: 2}, uns: {asset: b}}",
        "e: {uuid: press, image: x, uns: {station: a}, networks: 1}",
    )
    with pytest.raises(InvalidFilesError) as raised:
        read_apps([file], {}, schema(tmp_path))
    found = [str(problem).removeprefix(f"{file}") for problem in raised.value.problems]
    starts = [
        ":7: apps.a.uns.zone: `zone` is not a level",
        f":9: apps.c.uns: The asset saw ({file}:8) is in the place Demofactory/Machining/a too.",
        f":10: apps.d.uns: The asset drill-1 ({file}:10) is in the place Demofactory/b too.",
        ":11: apps.e.networks: It is 1.",
        ":11: apps.e.uns.station: The level area above it has no value.",
    ]
    assert len(found) == len(starts), found
    for problem, start in zip(found, starts, strict=True):
        assert problem.startswith(start)
