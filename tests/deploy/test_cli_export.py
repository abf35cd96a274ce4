"""`ofa apps export` writes the files of other tools."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ofa_apps import ofa_apps

OVEN = """
apps:
  oven:
    uuid: Oven
    image: oven:1
    secrets:
      key: ${KEY}
    routing:
      expose: true
      port: 4000
"""


@pytest.fixture
def oven(tmp_path: Path) -> Path:
    (tmp_path / "app_oven.yml").write_text(OVEN, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("target", ["compose", "swarm", "kubernetes"])
def test_a_file_is_written_without_secrets(oven: Path, target: str) -> None:
    file = oven / "out.yml"
    settings = {"KSQLDB_URL": "kafka://kafka:9092", "KEY": "secret-value"}
    done = ofa_apps("export", "--target", target, "--project", "Hall 2", "-o", file, oven, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = file.read_text(encoding="utf-8")
    assert ofa_apps("export", "--target", target, "--project", "Hall 2", oven, **settings).stdout == text
    assert "secret-value" not in text
    assert "kafka://kafka:9092" in text
    [*documents] = yaml.safe_load_all(text)
    assert all(isinstance(document, dict) for document in documents)
    assert "hall-2" in text


def test_an_app_without_an_image_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mill.py").touch()
    (tmp_path / "app_mill.yml").write_text("apps:\n  mill:\n    uuid: mill\n    file: mill.py\n", encoding="utf-8")
    done = ofa_apps("export", "--target", "compose", tmp_path, KSQLDB_URL="kafka://kafka:9092")
    assert done.returncode == 1
    assert "app_mill.yml:2: mill has no image" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_factory_must_be_named(oven: Path) -> None:
    done = ofa_apps("export", "--target", "compose", oven, KEY="x")
    assert done.returncode == 1
    assert "Set KSQLDB_URL" in done.stderr
