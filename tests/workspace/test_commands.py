"""The commands that README.md, CI and the workflows give: one text, and what it names is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from distributions import ROOT
from readme_commands import README, commands, fresh_machine_command

ENVIRONMENTS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"][
    "envs"
]
CI_RUN = ROOT / ".ci" / "run"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def script(name: str) -> list[str]:
    """The command lines of a hatch script, `test` or `lint:check`."""
    environment, _, plain = name.rpartition(":")
    lines = ENVIRONMENTS[environment or "default"]["scripts"][plain]
    return [lines] if isinstance(lines, str) else lines


def test_the_two_commands_of_a_fresh_machine() -> None:
    setup = "python3 -m venv .venv && .venv/bin/pip install hatch"
    assert commands()[:2] == [f"{setup} && .venv/bin/hatch run {name}" for name in ("demo", "test")]


def test_ci_runs_the_commands_of_the_readme_and_no_copy() -> None:
    text = CI_RUN.read_text(encoding="utf-8")
    for name in ("test", "demo"):
        assert f"{name}_command=$(python3 scripts/readme_commands.py {name})" in text
        assert f'-c "${name}_command' in text
        found = subprocess.run(
            ["python3", "scripts/readme_commands.py", name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == fresh_machine_command(name)


def test_every_hatch_command_that_is_named_exists() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (README, CI_RUN, *WORKFLOWS)]
    named = {name for text in texts for name in re.findall(r"hatch run ([a-z]+(?::[a-z]+)?)\b(?!\$)", text)}
    assert {"test", "demo", "lint:check", "types:check", "docs:build", "bench:embedded"} <= named
    for name in named:
        assert script(name)


@pytest.mark.parametrize(
    "name", ["demo", "bench:embedded", "bench:flask", "bench:storage", "wheels:build", "wheels:test"]
)
def test_the_files_that_scripts_start_are_there(name: str) -> None:
    for line in script(name):
        program, path, *_ = shlex.split(line)
        assert program == "python"
        assert (ROOT / path).is_file()


def test_ci_refuses_a_step_it_does_not_have() -> None:
    found = subprocess.run(["bash", CI_RUN, "lint", "nosuch"], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr == ("Unknown step: nosuch. The steps are: demo tests lint types docs wheels thorough\n")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_what_they_use(workflow: Path) -> None:
    # A tag can be moved to other code, a commit can't.
    uses = re.findall(r"uses: (\S+)(.*)", workflow.read_text(encoding="utf-8"))
    assert uses
    for action, comment in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_the_ci_workflow_calls_the_steps_of_ci_run() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    called = {step for line in re.findall(r"\.ci/run ([a-z ]+)", text) for step in line.split()}
    assert called == {"tests", "demo", "lint", "types", "docs", "wheels"}


def test_a_readme_without_the_command_says_so(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("```sh\npython3 -m venv .venv && .venv/bin/hatch run testing\n```\n", encoding="utf-8")
    with pytest.raises(LookupError, match="has 0 commands"):
        fresh_machine_command("test", readme)
