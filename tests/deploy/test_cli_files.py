"""`ofa apps init`, `validate` and `schema`, as people and programs use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ofa_apps import ofa_apps
from openfactory.deploy.cli import apps
from openfactory.deploy.files.json_schema import json_schema
from openfactory.exceptions import ConfigurationError

pytestmark = pytest.mark.smoke

BAD = "apps:\n  mill:\n    uuid: mill\n    imge: x\n    routing: {expose: true}\n"


@pytest.fixture
def ofa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in a folder with the file mill.py."""
    monkeypatch.chdir(tmp_path)
    Path("mill.py").write_text("from openfactory.apps import OpenFactoryApp\n", encoding="utf-8")

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(apps, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_the_example_is_valid_and_never_overwritten(ofa: Any) -> None:
    result = ofa("init", "mill.py")
    assert result.exit_code == 0
    assert result.stdout == "app_mill.yml is written. Change it, then check it with `ofa apps validate app_mill.yml`.\n"
    example = Path("app_mill.yml")
    text = example.read_text(encoding="utf-8")
    result = ofa("validate", "app_mill.yml")
    assert result.exit_code == 0
    assert result.stdout == "app   uuid  program  place\nmill  mill  mill.py  app_mill.yml:4\n"
    example.write_text("mine", encoding="utf-8")
    result = ofa("init", "mill.py")
    assert (result.exit_code, result.stderr) == (1, "app_mill.yml exists already. Change it, or remove it first.\n")
    assert example.read_text(encoding="utf-8") == "mine"
    assert "routing" in text


def test_each_line_of_the_example_can_be_used(ofa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ofa("init", "mill.py")
    example = Path("app_mill.yml")
    lines = example.read_text(encoding="utf-8").splitlines()
    used = [f"    {line[6:]}" if line.startswith("    # ") and "image:" not in line else line for line in lines]
    text = "\n".join(used).replace("[another-app]", "[other]")
    example.write_text(f"{text}\n  other: {{uuid: other, image: x}}\n", encoding="utf-8")
    monkeypatch.setenv("DB_PASSWORD", "hidden")
    result = ofa("validate", "app_mill.yml", "--json")
    assert json.loads(result.stdout)["problems"] == []
    assert all(f"\n    {key}:" in text for key in ("environment", "secrets", "storage", "routing", "when", "deploy"))


def test_an_app_with_web_pages_gets_a_route(ofa: Any) -> None:
    Path("page v2.py").write_text("from openfactory.flaskapp import OpenFactoryFlaskApp\n", encoding="utf-8")
    assert ofa("init", "page v2.py").exit_code == 0
    text = Path("app_page-v2.yml").read_text(encoding="utf-8")
    assert "\n    routing:" in text
    assert '\n    file: "page v2.py"' in text
    assert ofa("validate", "app_page-v2.yml").exit_code == 0


@pytest.mark.parametrize("name", ["no.py", "1e3.py", "007.py", "$HOME${X}.py", "ü 😀.py", "#x: y.py", "'q\".py"])
def test_odd_names_of_files_are_quoted(ofa: Any, name: str) -> None:
    Path(name).touch()
    result = ofa("init", name, "--uuid", "no" if name == "no.py" else "1e3")
    assert result.exit_code == 0, result.output
    result = ofa("validate", ".", "--json")
    [app] = json.loads(result.stdout)["apps"]
    assert (app["program"], app["uuid"]) == (name, "no" if name == "no.py" else "1e3")


def test_a_name_that_is_no_uuid_needs_another(ofa: Any) -> None:
    Path("_.py").touch()
    result = ofa("init", "_.py")
    assert result.exit_code == 1
    assert result.stderr.endswith("Give it another name: ofa apps init _.py --uuid NAME.\n")
    assert ofa("init", "_.py", "--uuid", "mill").exit_code == 0
    assert ofa("init", "absent.py").exit_code == 2


def test_problems_are_listed_with_status_1(ofa: Any) -> None:
    Path("app_bad.yml").write_text(BAD, encoding="utf-8")
    Path("app_worse.yml").write_text('apps: {"a\\e[31m": 3}', encoding="utf-8")
    result = ofa("validate", ".")
    assert result.exit_code == 1
    assert result.stdout == ""
    first, second, third, end = result.stderr.splitlines()
    assert first.startswith("app_bad.yml:4: apps.mill.imge: `imge` is not a key of an app. Did you mean image?")
    assert second.startswith("app_bad.yml:5: apps.mill.routing.expose: The route has no port.")
    assert third.startswith(r"app_worse.yml:1: apps.a\x1b[31m: It is 3.")
    assert end == "3 problems."


def test_problems_as_json(ofa: Any) -> None:
    Path("app_bad.yml").write_text(BAD, encoding="utf-8")
    result = ofa("validate", "app_bad.yml", "absent.yml", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["apps"] == []
    assert [(one["file"], one["line"], one["path"]) for one in answer["problems"]] == [
        ("absent.yml", 0, ""),
        ("app_bad.yml", 4, "apps.mill.imge"),
        ("app_bad.yml", 5, "apps.mill.routing.expose"),
    ]
    assert all(one["text"] for one in answer["problems"])


def test_variables_and_the_namespace_come_from_the_environment(ofa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("uns.yml").write_text(
        "namespace_structure: [inc: A, area: [B], asset: ANY, attribute: ANY]\n"
        "uns_template: inc/area/asset/attribute\n",
        encoding="utf-8",
    )
    Path("app_x.yml").write_text("apps: {x: {uuid: ${ID}, image: x, uns: {area: B}}}", encoding="utf-8")
    monkeypatch.setenv("ID", "mill")
    assert json.loads(ofa("validate", "app_x.yml", "--json").stdout)["apps"] == [
        {"name": "x", "uuid": "mill", "file": "app_x.yml", "line": 1, "program": "x", "uns_id": None}
    ]
    monkeypatch.setenv("OPENFACTORY_UNS_SCHEMA", "uns.yml")
    assert json.loads(ofa("validate", "app_x.yml", "--json").stdout)["apps"][0]["uns_id"] == "A/B/mill"
    with pytest.raises(ConfigurationError, match=r"^github://c/d: Only a file of this machine can be read\."):
        ofa("validate", "app_x.yml", "--uns-schema", "github://a:b@c/d")


@pytest.mark.parametrize(
    "words",
    [
        ("validate", "github://org/repo/app_x.yml"),
        ("up", "github://org/repo/app_x.yml"),
        ("init", "github://org/repo/app_x.yml"),
        ("export", "--target=compose", "github://org/repo/app_x.yml"),
        ("export", "--target=compose", "-o", "github://org/repo/app_x.yml"),
    ],
)
def test_an_address_is_refused_as_it_was_written(ofa: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"^github://org/repo/app_x\.yml: Only a file of this"):
        ofa(*words)


def test_an_address_is_an_error_of_the_command() -> None:
    result = ofa_apps("ls", "https://plant.test/app_x.yml")
    assert (result.returncode, result.stdout) == (1, "")
    assert "https://plant.test/app_x.yml: Only a file of this machine can be read. Fetch it" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_schema_is_printed(ofa: Any) -> None:
    assert json.loads(ofa("schema").stdout) == json_schema()


def test_the_command_is_a_part_of_ofa(tmp_path: Path) -> None:
    (tmp_path / "app_bad.yml").write_text(BAD, encoding="utf-8")
    result = ofa_apps("validate", tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 3
    assert "Traceback" not in result.stderr
