"""The state of a whole factory in one snapshot, and what many watched assets cost a process."""

from __future__ import annotations

import random
import statistics
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from kafka_bare import BareWriter, message
from kafka_processes import Place, new_place, program
from rounds import Bar, Figure, Pair, alternate, figure_of

__all__ = ["measure_state", "measure_watched"]

ASSETS = 1_000
ATTRIBUTES = 20

#: So often each attribute was written, all of them in a random order.
UPDATES = 10


def measure_state(bootstrap_servers: str, rounds: int) -> list[Figure]:
    """Opening the engine and one snapshot, from the log and from a state file, against a bare read of the log."""
    with TemporaryDirectory(prefix="openfactory-bench-") as folder, ExitStack() as stack:
        place = new_place(bootstrap_servers, "state_")
        _fill(place)
        count = ASSETS * ATTRIBUTES
        state = f"{place.url}&state={Path(folder) / 'state.db'}"
        from_log = stack.enter_context(program("read-engine", place.url, count))
        from_file = stack.enter_context(program("read-engine", state, count))
        bare = stack.enter_context(program("read-bare", place.bootstrap_servers, place.topic, count))
        reads, restarts = alternate(rounds, "state", from_log.round, bare.round, from_file.round)
    # `restarts` has ours as ours, and the restart as what it is compared with: the other way round it is read here.
    to_log = [Pair(one.bare, one.ours) for one in restarts]
    to_bare = [Pair(restart.bare, read.bare) for restart, read in zip(restarts, reads, strict=True)]
    records = ASSETS * ATTRIBUTES * UPDATES
    bytes_each = statistics.mean(len(message(f"sample-{number}", number * 0.1)) for number in range(ATTRIBUTES))
    note = (
        f"{ASSETS:,} assets of {ATTRIBUTES} attributes, {UPDATES} updates of each in a random order: "
        f"{records:,} records of {bytes_each:.0f} bytes in one partition"
    )
    return [
        figure_of("state from the log, open and snapshot / bare read", "ms", reads, Bar(at_most=1.5), [note]),
        figure_of("state from a state file / state from the log", "ms", to_log, Bar(at_most=0.2)),
        figure_of("state from a state file / bare read", "ms", to_bare),
    ]


def measure_watched(bootstrap_servers: str, _rounds: int) -> list[Figure]:
    """Threads and connections of a process that watches many assets, against one that watches one."""
    with ExitStack() as stack:
        one, many = (
            stack.enter_context(program("watch-many", new_place(bootstrap_servers, f"watched{count}_").url, count))
            for count in (1, ASSETS)
        )
        few, much = one.round(), many.round()
    return [
        figure_of(
            f"{what}, {ASSETS:,} watched assets / 1",
            "",
            [Pair(much[what], few[what])],
            Bar(at_least=1, at_most=1),
        )
        for what in ("threads", "connections")
    ]


def _fill(place: Place) -> None:
    writes = [
        (f"ASSET-{asset}", f"sample-{attribute}") for asset in range(ASSETS) for attribute in range(ATTRIBUTES)
    ] * UPDATES
    random.Random(1).shuffle(writes)
    with BareWriter(place.bootstrap_servers, place.topic, queue_buffering_max_messages=len(writes) + 1) as writer:
        for number, (asset, attribute) in enumerate(writes):
            writer.write(asset, message(attribute, number * 0.1))
        writer.flush()
