"""The commands that README.md gives to a newcomer, so that CI runs those very lines and not a copy.

python3 scripts/readme_commands.py test     prints the one command that ends in `hatch run test`
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from distributions import ROOT

README = ROOT / "README.md"
_SHELL_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(readme: Path = README) -> list[str]:
    """Every command of a shell block, without comments, one an entry."""
    blocks = _SHELL_BLOCK.findall(readme.read_text(encoding="utf-8"))
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def fresh_machine_command(script: str, readme: Path = README) -> str:
    """The command that makes an environment and runs this script of hatch's default environment."""
    found = [line for line in commands(readme) if line.startswith("python3 ") and line.endswith(f"hatch run {script}")]
    if len(found) != 1:
        raise LookupError(
            f"{readme} has {len(found)} commands from `python3 …` to `hatch run {script}`, and CI needs one. "
            f"Put it on a line of its own in a block that starts with ```sh."
        )
    return found[0]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the script: python3 scripts/readme_commands.py test")
    print(fresh_machine_command(sys.argv[1]))
