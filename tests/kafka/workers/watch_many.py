"""A program that watches as many assets over NATS as it is asked to.

    watch_many.py KSQLDB BROKER ROUTER

Each line of its standard input is a number of assets: `MILL-0`, `MILL-1` … are watched then. It answers with a line:
the names of its threads, as JSON. It prints the UUID of each asset whose event arrives.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import ExitStack

from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient


def main(url: str, broker: str, router: str) -> None:
    """Watch, until the input ends."""
    watched = 0
    with ExitStack() as stack:
        client = stack.enter_context(KSQLDBClient(url))
        for line in sys.stdin:
            for number in range(watched, int(line)):
                asset = stack.enter_context(Asset(f"MILL-{number}", client, broker, router))
                asset.subscribe_to_events(lambda subject, _: say(subject.partition(".")[0]))
            watched = max(watched, int(line))
            say(sorted(thread.name for thread in threading.enumerate()))


def say(text: object) -> None:
    """Print one line of JSON, whole, from any thread."""
    sys.stdout.write(json.dumps(text) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
