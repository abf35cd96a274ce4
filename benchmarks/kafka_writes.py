"""How many attributes one asset writes a second to a Kafka, against bare loops over confluent-kafka."""

from __future__ import annotations

import os
from contextlib import ExitStack

from kafka_ksqldb import ksqldb_that_reads_nothing
from kafka_processes import new_place, program
from rounds import Bar, Figure, Pair, alternate, figure_of

__all__ = ["measure_writes"]

WRITES = 50_000
FLUSHED_WRITES = 1_000

_BAR = Bar(at_least=0.8)


def measure_writes(bootstrap_servers: str, rounds: int) -> list[Figure]:
    """An `Asset` against a loop that produces, and against one that flushes each; every writer is a process."""
    with ExitStack() as stack:
        places = [new_place(bootstrap_servers, f"writes{number}_") for number in range(5)]
        ours = stack.enter_context(program("write-asset", places[0].url, WRITES))
        environment = stack.enter_context(ksqldb_that_reads_nothing(places[1]))
        with_ksqldb = stack.enter_context(
            program("write-asset", environment["KSQLDB_URL"], WRITES, environment=os.environ | environment)
        )
        bare, single, no_clock = (
            stack.enter_context(program("write-bare", place.bootstrap_servers, place.topic, count, how))
            for place, count, how in zip(
                places[2:], (WRITES, FLUSHED_WRITES, WRITES), ("", "flush-each", "no-clock"), strict=True
            )
        )
        pairs, no_clock_pairs, flushed, both = alternate(
            rounds, "writes", ours.round, bare.round, no_clock.round, single.round, with_ksqldb.round
        )
        # `both` has our two engines beside each other; what the second one is compared with was measured in that round.
        ksqldb_pairs = [Pair(engines.bare, pair.bare) for pair, engines in zip(pairs, both, strict=True)]
    return [
        figure_of(
            "writes on kafka://, asset / bare loop",
            "writes/s",
            pairs,
            _BAR,
            [
                f"{WRITES:,} writes and the flush in a round, acks=all, idempotent; both make JSON and a timestamp",
                "the bare loop has linger.ms=5, ours its defaults",
                "ours reads and folds what it writes in the same process, the bare one has no consumer",
            ],
        ),
        figure_of(
            "writes on http://, asset / bare loop",
            "writes/s",
            ksqldb_pairs,
            _BAR,
            ["ours hears what it writes from the log in the same process; the ksqlDB is a stand-in that reads nothing"],
        ),
        figure_of("writes on kafka://, asset / bare loop without a clock", "writes/s", no_clock_pairs),
        figure_of("writes on kafka://, asset / bare flush() after each", "writes/s", flushed, Bar(at_least=30)),
    ]
