"""One broker for several test processes: the first to ask for it starts it, and stops it when all others have left."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from servers.certificates import Certificates
from servers.kafka_broker import SECURITIES, KafkaBroker
from servers.ports import free_port

__all__ = ["shared_broker"]

# A broker is fenced when it sends no heartbeat for so long, which happens on a machine with much other work.
_NEVER_KILLED = {"broker.session.timeout.ms": "60000"}


@contextmanager
def shared_broker(folder: Path) -> Generator[KafkaBroker]:
    """Yield a running broker with all secured listeners, which every process that names the same folder gets.

    Only the process that started it can kill or stop it. The kernel holds the locks, so a process that dies leaves too.

    Args:
        folder: a folder of this run alone. It holds the locks and where the broker listens.

    Raises:
        NotOnThisMachineError: the machine lacks what a broker needs.
        ServerFailedError: the broker ended, or did not answer in time.
    """
    place = folder / "kafka.json"
    with (folder / "kafka.users").open("w") as users, (folder / "kafka.start").open("w") as start:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(start, fcntl.LOCK_EX)
        if place.exists():
            fcntl.flock(start, fcntl.LOCK_UN)
            yield _broker_at(place)
            return
        secured = {security: free_port() for security in SECURITIES}
        with KafkaBroker(properties=_NEVER_KILLED, secured=secured) as broker:
            said = {"port": broker.port, "secured": secured, "certificates": [*map(str, broker.certificates)]}
            place.write_text(json.dumps(said), encoding="utf-8")
            fcntl.flock(start, fcntl.LOCK_UN)
            yield broker
            fcntl.flock(users, fcntl.LOCK_UN)
            fcntl.flock(users, fcntl.LOCK_EX)  # granted when nobody else uses the broker
            # Whoever asks from now on starts another one. With one process, pytest has removed the folder already.
            place.unlink(missing_ok=True)


def _broker_at(place: Path) -> KafkaBroker:
    said = json.loads(place.read_text(encoding="utf-8"))
    certificates = Certificates(*map(Path, said["certificates"]))
    return KafkaBroker(port=said["port"], secured=said["secured"], certificates=certificates)
