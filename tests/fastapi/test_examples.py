"""The example app on FastAPI, as its users run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

Eventually = Callable[..., None]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "compressor.py"
OPENER = build_opener(ProxyHandler({}))


@pytest.fixture
def address(tmp_path: Path, file_url: str, eventually: Eventually) -> Iterator[str]:
    """The compressor, run by `ofa run`: its address."""
    log = tmp_path / "compressor.log"
    place = {"KSQLDB_URL": file_url, "APP_UUID": "COMPRESSOR", "OPENFACTORY_HOST": "127.0.0.1", "PORT": "0"}
    command = [sys.executable, "-W", "error", "-P", "-m", "openfactory.apps.cli", "run", str(EXAMPLE)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | place, stdout=output, stderr=output)
    try:
        eventually(lambda: "Serving on" in log.read_text() or process.poll() is not None)
        served = re.search(r"Serving on (\S+)", log.read_text())
        assert served, log.read_text()
        yield served[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def put(address: str, bar: float) -> str:
    body = json.dumps({"bar": bar}).encode()
    request = Request(f"{address}/pressure", body, {"Content-Type": "application/json"}, method="PUT")
    with OPENER.open(request, timeout=60) as answer:
        return str(json.loads(answer.read()))


def test_the_compressor_keeps_a_pressure_by_its_api_and_by_commands(
    address: str, file_url: str, eventually: Eventually
) -> None:
    with KSQLDBClient(file_url) as client, Asset("COMPRESSOR", client) as compressor:
        assert put(address, 1.5) == "keeping 1.5 bar"
        assert compressor.wait_until("motor", "on", timeout=60)
        with pytest.raises(HTTPError, match="422") as refused:
            put(address, 9)
        refused.value.close()
        assert compressor.call("keep", bar=0.5, sender_uuid="TEST") == "keeping 0.5 bar"
        eventually(lambda: compressor.pressure.value > 0)
        with OPENER.open(f"{address}/", timeout=60) as answer:
            state = json.loads(answer.read())
        assert (state["wanted"], state["pressure"] > 0) == (0.5, True)
        with OPENER.open(f"{address}/events", timeout=60) as events:
            assert events.readline().startswith(b": ")
        for page in ("/docs", "/metrics", "/health/ready"):
            with OPENER.open(address + page, timeout=60) as answer:
                assert answer.status == 200
