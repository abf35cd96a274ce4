"""One broker for several test processes: the first to ask for it starts it, and stops it when all others have left."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from servers.kafka_broker import KafkaBroker

__all__ = ["shared_broker"]

# A broker is fenced when it sends no heartbeat for so long, which happens on a machine with much other work.
_NEVER_KILLED = {"broker.session.timeout.ms": "60000"}


@contextmanager
def shared_broker(folder: Path) -> Generator[KafkaBroker]:
    """Yield a running broker, which every process that names the same folder gets.

    Only the process that started it can kill or stop it. The kernel holds the locks, so a process that dies leaves too.

    Args:
        folder: a folder of this run alone. It holds the locks and the broker's port.

    Raises:
        NotOnThisMachineError: the machine lacks what a broker needs.
        ServerFailedError: the broker ended, or did not answer in time.
    """
    port = folder / "kafka.port"
    with (folder / "kafka.users").open("w") as users, (folder / "kafka.start").open("w") as start:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(start, fcntl.LOCK_EX)
        if port.exists():
            fcntl.flock(start, fcntl.LOCK_UN)
            yield KafkaBroker(port=int(port.read_text(encoding="utf-8")))
            return
        with KafkaBroker(properties=_NEVER_KILLED) as broker:
            port.write_text(str(broker.port), encoding="utf-8")
            fcntl.flock(start, fcntl.LOCK_UN)
            yield broker
            fcntl.flock(users, fcntl.LOCK_UN)
            fcntl.flock(users, fcntl.LOCK_EX)  # granted when nobody else uses the broker
            port.unlink()  # whoever asks from now on starts another one
