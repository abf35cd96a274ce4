"""The images: their files name what there is, and their health check asks the health page. No container is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

from distributions import ROOT
from running_services import StartService

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yml").read_text(encoding="utf-8")
STAGES = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]


def healthy(page: str, port: int) -> tuple[int, str]:
    """The status and the output of the health check of an image."""
    found = subprocess.run(
        [sys.executable, ROOT / "scripts" / "healthy.py", page],
        env={**os.environ, "OPERATIONS_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stderr == ""
    return found.returncode, found.stdout


def test_the_health_check_asks_the_health_page(start_service: StartService) -> None:
    service = start_service("router", "--port", "0", NATS_CLUSTER_C1="nats://one:4222")
    assert healthy("live", service.port) == (0, '{"status": "alive"}\n')
    assert healthy("ready", service.port) == (0, '{"status": "ready"}\n')
    assert healthy("nonsense", service.port)[0] == 1
    service.process.kill()
    service.process.wait()
    status, text = healthy("live", service.port)
    assert status == 1
    assert text.startswith(f"The app does not answer on port {service.port}: ")


def test_the_images_have_distributions_that_exist_and_a_user_without_rights() -> None:
    apps = tomllib.loads((ROOT / "packages" / "openfactory-apps" / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(apps["project"]["optional-dependencies"])
    for target in ("apps", "fanout"):
        [stage] = [stage for stage in STAGES if stage.startswith(f"FROM runtime AS {target}\n")]
        [installed] = re.findall(r'"openfactory-apps\[(.+)\]"', stage)
        assert set(installed.split(",")) <= extras
        assert "\nUSER 10001\n" in stage
    [runtime] = [stage for stage in STAGES if re.match(r"FROM \S+ AS runtime\n", stage)]
    assert "OPERATIONS_PORT=9100" in runtime
    assert 'CMD ["python", "/opt/healthy.py", "live"]' in runtime


def test_compose_and_the_context_have_what_the_images_need() -> None:
    targets = {stage.split()[3] for stage in STAGES}
    assert set(re.findall(r"^    target: (\w+)$", COMPOSE, re.MULTILINE)) <= targets
    included = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    copied = re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE)
    assert sorted(included) == sorted(copied)
    assert all((ROOT / path).exists() for path in copied)
