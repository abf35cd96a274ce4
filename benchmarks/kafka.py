"""Benchmarks of the engines on a Kafka: every figure is a ratio against a bare equivalent in the same run.

hatch run bench:kafka                       all of them, 10 rounds each, on a broker of their own
hatch run bench:kafka --only latency        one: writes, latency, state, watched, reading
hatch run bench:kafka --json                for a program to read
hatch run bench:kafka --check               exit status 1 where a bar is missed
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from kafka_latency import measure_latency
from kafka_reading import measure_reading
from kafka_state import measure_state, measure_watched
from kafka_writes import measure_writes
from report import options, report
from rounds import Figure

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from servers import KafkaBroker, NotOnThisMachineError, ServerFailedError

BENCHMARKS: dict[str, Callable[[str, int], list[Figure]]] = {
    "writes": measure_writes,
    "latency": measure_latency,
    "state": measure_state,
    "watched": measure_watched,
    "reading": measure_reading,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    asked = options(
        arguments, "Benchmarks of the engines on a Kafka, as ratios against bare equivalents.", names=BENCHMARKS
    )
    try:
        with KafkaBroker() as broker:
            return report(
                asked,
                f"confluent-kafka {version('confluent-kafka')}, a Kafka broker on this machine",
                lambda name, rounds: BENCHMARKS[name](broker.bootstrap_servers, rounds),
            )
    except (NotOnThisMachineError, ServerFailedError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main())
