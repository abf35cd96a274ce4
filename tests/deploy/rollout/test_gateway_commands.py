"""`ofa apps` with web pages behind a real Traefik: addresses, routes that stay, damaged files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hall import Hall, hall_in
from needed import needed
from servers import free_port
from servers.pinned import traefik

EXPOSED = "    routing: {{expose: true, port: {port}}}\n"


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    """Two apps with web pages, whose Traefik is installed."""
    with needed("Traefik"):
        program = traefik()
    with hall_in(tmp_path / "hall") as hall:
        gateway = free_port()
        hall.environment |= {
            "PATH": f"{program.parent}:{hall.environment['PATH']}",
            "OPENFACTORY_GATEWAY": f"127.0.0.1:{gateway}",
        }
        for name in ("press", "saw"):
            file = hall.folder / f"app_{name}.yml"
            file.write_text(file.read_text() + EXPOSED.format(port=free_port()))
        yield hall


def addresses(hall: Hall) -> dict[str, str]:
    return {uuid: row["address"] for uuid, row in hall.listed().items()}


def routes(hall: Hall) -> dict[str, Any]:
    """The content of the files of the routes."""
    files = (hall.folder / ".openfactory" / "gateway" / "hall" / "routes").iterdir()
    return {file.name: json.loads(file.read_bytes()) for file in files}


def test_the_address_of_an_app_is_the_one_that_browsers_open(hall: Hall) -> None:
    results = hall.json("up")["results"]
    told = {result["uuid"]: result["address"] for result in results}
    assert told["SAW"] == f"http://localhost:{hall.environment['OPENFACTORY_GATEWAY'].rpartition(':')[2]}/saw/"
    assert addresses(hall) == told
    assert told["SAW"] in hall.ofa("ls")[0]
    row = hall.listed()["SAW"]
    assert row["own_address"].startswith("http://127.0.0.1:")
    (hall.folder / ".openfactory" / "gateway" / "hall" / "routes" / "ofa-saw.yaml").unlink()
    assert addresses(hall) == told | {"SAW": row["own_address"]}


def test_the_routes_of_other_apps_stay(hall: Hall) -> None:
    hall.ofa("up")
    before = routes(hall)
    assert before.keys() == {"ofa-press.yaml", "ofa-saw.yaml"}
    hall.ofa("restart", "--app", "SAW")
    hall.ofa("up", "app_press.yml")
    assert routes(hall) == before
    hall.ofa("down", "app_saw.yml")
    assert routes(hall).keys() == {"ofa-press.yaml"}


def test_damaged_files_of_the_gateway_are_repaired_while_it_runs(hall: Hall) -> None:
    before = hall.json("up")["results"]
    folder = hall.folder / ".openfactory" / "gateway" / "hall"
    settings = (folder / "traefik.yaml").read_bytes()
    for damage in (b"", b'{"entry'):
        (folder / "traefik.yaml").write_bytes(damage)
        (folder / "routes" / "ofa-saw.yaml").write_bytes(damage)
        assert hall.listed()["SAW"]["address"] == hall.listed()["SAW"]["own_address"]
        results = hall.json("up")["results"]
        assert [result["outcome"] for result in results] == ["unchanged", "unchanged"]
        assert [result["address"] for result in results] == [result["address"] for result in before]
        assert addresses(hall) == {result["uuid"]: result["address"] for result in before}
    assert len((folder / "traefik.yaml").read_bytes()) == len(settings)
    hall.write("smaller")
    (folder / "traefik.yaml").write_bytes(b"")
    assert hall.outcomes("up") == {"PRESS": "up", "SAW": "unchanged"}
