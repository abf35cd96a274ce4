"""Parts that are loaded when they are used, and what an app says when one is missing; each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfactory.kafka import KSQLDBClient

HEAVY = (
    *("confluent_kafka", "httpx", "nats", "click", "rich", "fsspec", "openfactory.storage"),
    *("fastapi", "flask", "prometheus_client", "uvicorn", "werkzeug"),
    "openfactory.apps.operations.health",
)

BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {names!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    "program",
    [
        "import openfactory.apps",
        "from openfactory.apps import OpenFactoryApp, EventAttribute, SampleAttribute, ofa_method",
        "from openfactory.apps.ofaapp import OpenFactoryApp",
        "from openfactory.apps import OpenFactoryApp\nOpenFactoryApp(None, test_mode=True).shutdown()",
    ],
)
def test_an_app_loads_nothing_that_it_does_not_use(program: str) -> None:
    found = run(f"import sys\n{program}\nprint([name for name in {HEAVY!r} if name in sys.modules])")
    assert (found.stdout, found.returncode) == ("[]\n", 0), found.stderr


def test_storage_that_is_asked_for_and_not_installed_says_what_installs_it(tmp_path: Path) -> None:
    storage = json.dumps({"type": "local", "local_path": str(tmp_path), "mount_point": "/mnt/data"})
    program = BLOCK.format(names=["openfactory.storage"]) + (
        "from openfactory.apps import OpenFactoryApp\n"
        "try:\n    OpenFactoryApp(None, test_mode=True)\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    found = run(program, STORAGE=storage)
    assert found.stdout == (
        "MissingDistributionError STORAGE is set and openfactory-storage is not installed. "
        "Install it: pip install 'openfactory-apps[storage]'.\n"
    ), found.stderr
    assert found.stderr == ""


def test_without_storage_nothing_of_it_is_needed() -> None:
    program = BLOCK.format(names=["openfactory.storage"]) + (
        "from openfactory.apps import OpenFactoryApp\n"
        "app = OpenFactoryApp(None, test_mode=True)\nprint(app.storage)\napp.shutdown()"
    )
    found = run(program, STORAGE="")
    assert (found.stdout, found.returncode) == ("None\n", 0), found.stderr


@pytest.mark.parametrize(
    ("framework", "name", "absent"),
    [
        ("flask", "OpenFactoryFlaskApp", "flask"),
        ("flask", "OpenFactoryFlaskApp", "werkzeug"),
        ("flask", "OpenFactoryFlaskApp", "openfactory.flaskapp"),
        ("fastapi", "OpenFactoryFastAPIApp", "fastapi"),
        ("fastapi", "OpenFactoryFastAPIApp", "uvicorn"),
        ("fastapi", "OpenFactoryFastAPIApp", "openfactory.fastapiapp"),
    ],
)
@pytest.mark.parametrize(
    "program",
    [
        "import openfactory.apps.ofa_{0}_app",
        "from openfactory.apps.ofa_{0}_app import {1}",
        "from openfactory.apps import {1}",
    ],
)
def test_an_app_without_its_framework_says_what_installs_it(
    framework: str, name: str, absent: str, program: str
) -> None:
    statement = program.format(framework, name)
    guarded = f"try:\n    {statement}\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    found = run(BLOCK.format(names=[absent]) + guarded)
    assert found.stdout == (
        f"MissingDistributionError {name} needs openfactory-{framework}. "
        f"Install it: pip install openfactory-{framework}\n"
    ), found.stderr


def test_a_name_that_does_not_exist_is_missed_as_usual() -> None:
    found = run("from openfactory import apps\nprint(hasattr(apps, 'Nosuch'))\nfrom openfactory.apps import Nosuch")
    assert found.stdout == "False\n"
    assert "ImportError: cannot import name 'Nosuch'" in found.stderr


def test_an_app_that_is_never_stopped_is_off_the_register_when_the_program_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/factory.db"
    found = run("from openfactory.apps import OpenFactoryApp\napp = OpenFactoryApp(None)", KSQLDB_URL=url)
    assert (found.returncode, found.stderr) == (0, "")
    with KSQLDBClient(url) as ksql:
        assert ksql.query("SELECT * FROM assets_type") == []
        assert ksql.query("SELECT value FROM assets WHERE id = 'avail'") == [{"VALUE": "UNAVAILABLE"}]


@pytest.mark.parametrize(
    "end", ["app.shutdown()", "app.close()", "app.shutdown(); app.close()", "app.close(); app.shutdown()"]
)
def test_a_program_that_ended_its_app_ends_without_a_word(end: str) -> None:
    found = run(f"from openfactory.apps import OpenFactoryApp\napp = OpenFactoryApp(None, test_mode=True)\n{end}")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_an_app_in_a_with_statement_is_off_the_register_behind_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/factory.db"
    program = (
        "from openfactory.apps import OpenFactoryApp\n"
        "from openfactory.engines import open_engine\n"
        f"with open_engine({url!r}) as reference:\n"
        "    with OpenFactoryApp(None) as app: print(reference.engine.types())\n"
        "    print(reference.engine.types())"
    )
    found = run(program, KSQLDB_URL=url)
    assert found.stderr == ""
    assert found.stdout == "{'DEV-UUID': 'OpenFactoryApp'}\n{}\n"


@pytest.mark.parametrize(
    ("body", "options", "said"),
    [
        ("pass", "loglevel='LOUD'", "ConfigurationError 'LOUD' is not a log level."),
        ("x = EventAttribute(value=float('nan'), tag='X')", "", "InvalidEventError DEV-UUID.x was not written"),
        ("def __init__(self, *a, **k): super().__init__(*a, **k); raise ValueError('mine')", "", "ValueError mine"),
    ],
)
def test_an_app_that_cannot_be_built_leaves_nothing_behind(tmp_path: Path, body: str, options: str, said: str) -> None:
    url = f"sqlite:///{tmp_path}/factory.db"
    program = f"""
import threading
from openfactory.apps import EventAttribute, OpenFactoryApp
class Mill(OpenFactoryApp):
    {body}
try:
    Mill(None, {options})
except ValueError as error:
    print(type(error).__name__, error)
print([thread.name for thread in threading.enumerate() if "writer" in thread.name or "tail" in thread.name])
"""
    found = run(program, KSQLDB_URL=url)
    first, threads = found.stdout.splitlines()
    assert first.startswith(said)
    assert threads == "[]"
    assert found.stderr == ""
    with KSQLDBClient(url) as ksql:
        assert ksql.query("SELECT * FROM assets_type") == []


def test_an_app_with_an_async_callback_stops_without_a_word() -> None:
    """Also when the callback hears of the stop itself."""
    program = """
import asyncio, gc, threading
from openfactory.apps import OpenFactoryApp
async def hear(subject, message):
    await asyncio.sleep(0)
for _ in range(30):
    app = OpenFactoryApp(None, test_mode=True)
    app.subscribe_to_messages(hear)
    app.avail = "AVAILABLE"
    app.shutdown()
gc.collect()  # a coroutine that was taken and never awaited would be told of now
print([thread.name for thread in threading.enumerate() if "loop" in thread.name])
"""
    found = run(program)
    assert (found.returncode, found.stdout, found.stderr) == (0, "[]\n", "")
