"""What importing the core loads, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.smoke

# What is heavy, or belongs to one engine or one use.
HEAVY = ("confluent_kafka", "httpx", "nats", "flask", "fastapi", "click", "rich", "pytest", "hypothesis")


def loaded_by(program: str) -> list[str]:
    code = f"import sys\n{program}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return list(eval(found.stdout))


@pytest.mark.parametrize(
    "program",
    [
        "from openfactory.assets import Asset",
        "from openfactory.assets.asset_class import Asset",
        "from openfactory.assets.utils import AssetAttribute, current_timestamp",
        "from openfactory.kafka import KSQLDBClient, CaseInsensitiveDict",
        "from openfactory.kafka import AssetProducer, KafkaAssetConsumer, KafkaAssetUNSConsumer, delete_consumer_group",
        "from openfactory.engines import open_engine",
        "from openfactory.exceptions import OFAException",
        "from openfactory.kafka import KSQLDBClient\nwith KSQLDBClient('memory://') as ksql: ksql.tables()",
    ],
)
def test_importing_the_core_loads_nothing_heavy(program: str) -> None:
    assert loaded_by(program) == []


def test_the_suite_for_engines_says_what_installs_its_runner() -> None:
    program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pytest":
            raise ModuleNotFoundError("No module named 'pytest'", name="pytest")
sys.meta_path.insert(0, Absent())
try:
    import openfactory.testing
except ImportError as error:
    print(type(error).__name__, error)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.stdout == (
        "MissingDistributionError openfactory.testing needs pytest. Install it: pip install pytest\n"
    ), found.stderr
