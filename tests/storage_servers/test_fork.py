"""Children of a process share its sockets, and not its threads: they connect for themselves, and disturb nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).parent / "workers" / "forking.py"


@pytest.fixture(params=["s3", "sftp"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "s3":
        s3: dict[str, Any] = request.getfixturevalue("s3_server").settings(f"{request.getfixturevalue('bucket')}/plant")
        return s3
    sftp: dict[str, Any] = request.getfixturevalue("sftp_server").settings(request.getfixturevalue("shown_folder"))
    return sftp


def test_children_use_the_storage_and_the_parent_goes_on(settings: dict[str, Any]) -> None:
    program = [sys.executable, "-W", "ignore:This process:DeprecationWarning", str(WORKER)]
    environment = os.environ | {"STORAGE": json.dumps(settings)}
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    seen = json.loads(ended.stdout)
    assert seen == {
        "statuses": [0, 0],
        "failed": [],
        "said": [
            8 * 9_999,
            ["900 rpm"] * 4,
            "before\nafter\n",
            [*(f"child-{number}.txt" for number in range(2)), "log.txt", "recipe.txt"],
        ],
    }
