"""Several apps and several files: clashes, dependencies, and all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.deploy.problems import InvalidFilesError
from openfactory.deploy.reading import read_apps
from openfactory.deploy.reading.dependencies import dependencies_of


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    return folder


def problems(folder: Path, *paths: Path) -> list[str]:
    with pytest.raises(InvalidFilesError) as raised:
        read_apps(paths or [folder], {})
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


def app(uuid: str, more: str = "", name: str = "") -> str:
    return f"  {name or uuid}:\n    uuid: {uuid}\n    image: plant/x\n" + (f"    {more}\n" if more else "")


ROUTE = "routing: {expose: true, port: 80}"
CLASHES = {
    "equal UUIDs": (app("mill") + app("mill", name="b"), "The asset mill is also mill of the app mill in"),
    "equal UUIDs with routes": (app("mill", ROUTE) + app("mill", ROUTE, name="b"), "The asset mill is also mill"),
    "UUIDs that differ in case": (app("mill") + app("MILL"), "which differs in capital letters only."),
    "a UUID of a replica": (app("mill", "deploy: {replicas: 3}") + app("mill-3"), "The asset mill-3 is also mill-3"),
    "UUIDs of replicas": (
        app("mill-1", "deploy: {replicas: 2}") + app("Mill-1-2"),
        "The asset Mill-1-2 is also mill-1-2 of the app mill-1",
    ),
    "equal host names": (
        app("my_mill", ROUTE) + app("my-mill", ROUTE),
        "The host name my-mill is also that of the app",
    ),
    "a host name of a replica": (
        app("mill", ROUTE + "\n    deploy: {replicas: 2}") + app("mill_2", ROUTE),
        "The host name mill-2 is also that of the app mill",
    ),
    "equal second host names": (
        app("mill", "routing: {expose: true, port: 80, hostname: panel}")
        + app("saw", "routing: {expose: true, port: 80, hostname: Panel}"),
        "apps.saw.routing.hostname: The host name panel is also that of the app mill",
    ),
    "a second host name that is a UUID": (
        app("mill", "routing: {expose: true, port: 80, hostname: saw}") + app("saw", ROUTE),
        "The host name saw is also that of the app mill",
    ),
    "a circle": (
        app("aa", "depends_on: [bb]") + app("bb", "depends_on: [CC]") + app("cc", "depends_on: [aa]"),
        "The apps depend on each other in a circle: ",
    ),
}


@pytest.mark.parametrize("name", CLASHES)
def test_two_apps_that_clash_are_one_problem(tmp_path: Path, name: str) -> None:
    text, part = CLASHES[name]
    [problem] = problems(write(tmp_path, app_x="apps:\n" + text))
    assert part in problem


@pytest.mark.parametrize(
    "text",
    [
        app("mill") + app("mill-1"),
        app("mill", "deploy: {replicas: 2}") + app("mill-3") + app("mill"[:3]),
        app("my_mill") + app("my-mill", ROUTE),
        app("my_mill") + app("my-mill"),
        app("mill", "routing: {expose: true, port: 80, hostname: MILL}"),
        app("aa", "depends_on: [bb, BB]") + app("bb", "depends_on: [cc]") + app("cc"),
    ],
)
def test_apps_that_do_not_clash_are_taken(tmp_path: Path, text: str) -> None:
    assert read_apps([write(tmp_path, app_x="apps:\n" + text)], {})


def test_clashes_between_files_name_both_places(tmp_path: Path) -> None:
    write(tmp_path, app_a="apps:\n" + app("mill"), app_b="# b\napps:\n" + app("Mill"))
    [problem] = problems(tmp_path)
    assert problem.startswith(
        "app_b.yml:4: apps.Mill.uuid: The asset Mill is also mill of the app mill in app_a.yml:3,"
    )


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        app_a="apps:\n" + app("mill", "networks: 1") + app("saw", ROUTE),
        app_b="apps: [",
        app_c="",
        app_d="apps:\n"
        + app("MILL", "routing: {expose: true}")
        + app("m")
        + app("drill", "depends_on: [mil, mill, m]"),
        app_e="apps:\n  x: {image: ${NO}, uuid: '${NO:?never}', uuid: ''}\n",
    )
    (tmp_path / "app_f.yml").write_bytes(b"\xff\x00")
    found = problems(tmp_path)
    starts = [
        "app_a.yml:5: apps.mill.networks: It is 1.",
        "app_b.yml:1: This is not YAML",
        "app_c.yml: The file is empty.",
        "app_d.yml:3: apps.MILL.uuid: The asset MILL is also mill",
        "app_d.yml:5: apps.MILL.routing.expose: The route has no port.",
        "app_d.yml:7: apps.m.uuid: 'm' is not a UUID",
        "app_d.yml:12: apps.drill.depends_on[0]: The app 'mil' is not in these files. Did you mean mill?",
        "app_e.yml:2: apps.x.image: The app has no program.",
        "app_e.yml:2: apps.x.uuid: The variable NO is not set: never. Set NO.",
        "app_e.yml:2: apps.x.uuid: `uuid` is there twice",
        "app_f.yml:1: The file is not text",
    ]
    assert len(found) == len(starts), found
    for problem, start in zip(found, starts, strict=True):
        assert problem.startswith(start)


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    for folder in ("b", "a/deep", ".hidden"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "b", app_1="apps:\n" + app("b1"), other="not: read")
    write(tmp_path / "a" / "deep", app_2="apps:\n" + app("a2"))
    write(tmp_path / ".hidden", app_3="apps:\n" + app("hidden"))
    (tmp_path / "b" / "app_0.yaml").write_text("apps:\n" + app("b0"), encoding="utf-8")
    (tmp_path / "b" / "app_9.txt").write_text("not read", encoding="utf-8")
    write(tmp_path, mine="apps:\n" + app("mine"))
    (tmp_path / "b" / "app_link.yml").symlink_to("app_1.yml")
    paths = [tmp_path, tmp_path / "mine.yml", tmp_path / "b", tmp_path / "b" / ".." / "b" / "app_1.yml"]
    assert [found.settings.uuid for found in read_apps(paths, {})] == ["a2", "b0", "b1", "mine"]


def test_paths_without_files_are_problems(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty, absent = problems(tmp_path, tmp_path / "empty", tmp_path / "none.yml")
    assert empty.startswith("empty: The folder has no files app_*.yml.")
    assert absent.startswith("none.yml: The file cannot be read: No such file or directory.")


def test_a_name_means_the_app_of_its_own_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        app_a="apps:\n" + app("aa-db", name="db") + app("aa", "depends_on: [db]"),
        app_b="apps:\n" + app("bb-db", name="db") + app("bb", "depends_on: [db, aa]"),
    )
    apps = read_apps([tmp_path], {})
    names = {one.settings.uuid: [other.settings.uuid for other in dependencies_of(one, apps)] for one in apps}
    assert names == {"aa-db": [], "aa": ["aa-db"], "bb-db": [], "bb": ["bb-db", "aa"]}
    write(tmp_path, app_c="apps:\n" + app("cc", "depends_on: [db]"))
    [problem] = problems(tmp_path)
    assert "2 apps of other files have the name 'db'. Write the UUID of the app." in problem


def test_a_dependency_on_an_app_with_problems_is_no_problem_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, app_x="apps:\n  mill: 3\n" + app("saw", "depends_on: [mill]"))
    [problem] = problems(tmp_path)
    assert problem.startswith("app_x.yml:2: apps.mill: It is 3.")


def test_a_name_of_a_secret_that_kubernetes_does_not_take_is_a_problem(tmp_path: Path) -> None:
    def named(length: int) -> Path:
        return write(tmp_path, app_x="apps:\n" + app("mill", f"secrets: {{{'x' * length}: a}}"))

    [problem] = problems(named(254))
    assert "The name has 254 characters. Write at most 253" in problem
    assert read_apps([named(253)], {})
