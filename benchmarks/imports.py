"""How long the import of an app's base class takes, against the three modules that it can't do without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory

from rounds import Bar, Figure, alternate, figure_of

__all__ = ["measure_imports"]

_OURS = "from openfactory.apps import OpenFactoryApp"
_BARE = "import msgspec, asyncio, sqlite3"

#: What an app on the embedded engine must not load.
UNWANTED = ("confluent_kafka", "httpx", "nats", "flask", "click", "rich")

_PROGRAM = """\
import sys, time
started = time.perf_counter()
{statement}
seconds = time.perf_counter() - started
import json
print(json.dumps({{"ms": seconds * 1000, "modules": sorted(sys.modules)}}))
"""


class _Interpreter:
    """Starts fresh interpreters that all keep their bytecode in one folder, as installed packages have theirs."""

    def __init__(self, bytecode: str) -> None:
        self._environment = os.environ | {"PYTHONPYCACHEPREFIX": bytecode}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.modules: set[str] = set()

    def timing(self, statement: str) -> Callable[[], float]:
        """What times a statement in a new interpreter, in ms."""

        def run() -> float:
            command = [sys.executable, "-c", _PROGRAM.format(statement=statement)]
            done = subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=True)
            said = json.loads(done.stdout)
            self.modules.update(said["modules"])
            return float(said["ms"])

        return run


def measure_imports(rounds: int) -> list[Figure]:
    """The import of `OpenFactoryApp`, and which modules it must not bring along."""
    with TemporaryDirectory(prefix="openfactory-bench-") as bytecode:
        interpreter = _Interpreter(bytecode)
        (pairs,) = alternate(rounds, "import", interpreter.timing(_OURS), interpreter.timing(_BARE))
    loaded = [name for name in UNWANTED if name in interpreter.modules]
    said = f"loaded: {', '.join(loaded)}" if loaded else f"none of {', '.join(UNWANTED)} is loaded"
    count = float(len(loaded))
    return [
        figure_of(f"{_OURS} / {_BARE}", "ms", pairs, Bar(at_most=2)),
        Figure("unwanted modules (a count)", "", count, 0, count, (count, count), 1, Bar(at_most=0), (said,)),
    ]
