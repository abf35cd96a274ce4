"""What a process costs that watches one asset of a busy factory, against a bare consumer of its partition."""

from __future__ import annotations

from contextlib import ExitStack

from kafka_processes import new_place, program
from rounds import Bar, Figure, alternate, figure_of

from openfactory.engines.kafka_engine.partitioning import usual_partitions_of

__all__ = ["measure_reading"]

PARTITIONS = 8

#: Events a second of the other assets.
RATE = 5_000

ASSETS = 1_000

#: Seconds of a round.
SECONDS = 4


def measure_reading(bootstrap_servers: str, rounds: int) -> list[Figure]:
    """CPU of a process that watches one asset, while others write to all partitions."""
    asset = next(uuid for n in range(100) if len(usual_partitions_of(uuid := f"BENCH-{n}", PARTITIONS)) == 2)
    partition = usual_partitions_of(asset, PARTITIONS)[0]
    with ExitStack() as stack:
        place = new_place(bootstrap_servers, "reading_", PARTITIONS)
        stack.enter_context(program("write-crowd", place.bootstrap_servers, place.topic, ASSETS, RATE))
        ours = stack.enter_context(program("watch-one", place.url, asset, SECONDS))
        bare = stack.enter_context(
            program("skip-bare", place.bootstrap_servers, place.topic, partition, asset, SECONDS)
        )
        idle = stack.enter_context(program("watch-none", place.url, SECONDS))
        cpu, no_cpu = alternate(rounds, "reading", lambda: ours.round()["cpu"], bare.round, lambda: idle.round()["cpu"])
        read, unread = ours.round(), idle.round()
    if unread["read"]:
        raise AssertionError(f"A process that watches nothing has read {unread['read']} records.")
    note = (
        f"{RATE:,} events a second of {ASSETS:,} other assets in {PARTITIONS} partitions; our process reads "
        f"{read['read'] / SECONDS:,.0f} records a second: all the time those of the asset's partition, and once a "
        "second those of the partition to which librdkafka's own partitioner would write the asset"
    )
    return [
        figure_of("CPU of a process that watches one asset / bare consumer", "ms/s", cpu, Bar(at_most=1.3), [note]),
        figure_of("CPU of a process that watches one asset / one that watches nothing", "ms/s", no_cpu),
    ]
