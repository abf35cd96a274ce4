"""Benchmark of the state keeper: the start of an app on a long log and on a short one, and the keeper itself.

hatch run bench:keeper                        10,000,000 records against 100,000, 5 rounds, on a broker of its own
hatch run bench:keeper --records 1000000      fewer records in the long log
hatch run bench:keeper --check                exit status 1 where a bar is missed

The long log takes about 250 bytes of disk a record, in the folder for temporary files (TMPDIR).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kafka_bare import BareWriter, message, records_in
from kafka_processes import Place, new_place, program
from report import Options, report
from rounds import Bar, Figure, Pair, alternate, figure_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from servers import KafkaBroker, NotOnThisMachineError, ServerFailedError

ASSETS = 1_000
ATTRIBUTES = 20
SHORT = 100_000
BYTES_A_RECORD = 250

_START_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    parser = argparse.ArgumentParser(description="Benchmark of the state keeper.")
    parser.add_argument("--records", type=int, default=10_000_000, help="records of the long log")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with status 1 where a bar is missed")
    asked = parser.parse_args(arguments)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 2 * asked.records * BYTES_A_RECORD:
        sys.exit(f"{tempfile.gettempdir()} has {free / 2**30:.1f} GiB. Name a folder with more in TMPDIR.")
    try:
        with KafkaBroker(properties={"log.segment.bytes": str(256 * 1024 * 1024)}) as broker:
            return report(
                Options(["keeper"], asked.rounds, asked.json, asked.check),
                "a Kafka broker on this machine",
                lambda _, rounds: measure(broker.bootstrap_servers, asked.records, rounds),
            )
    except (NotOnThisMachineError, ServerFailedError) as error:
        sys.exit(str(error))


def measure(bootstrap_servers: str, records: int, rounds: int) -> list[Figure]:
    """The start of an app with and without the keeper, on both logs, and how fast the keeper reads the long one."""
    short, long = new_place(bootstrap_servers, "short_"), new_place(bootstrap_servers, "long_")
    _fill(short, SHORT)
    _fill(long, records)
    without = [Pair(_start(long), _start(short))]  # minutes, so only once
    with program("consume-bare", bootstrap_servers, long.topic, records) as bare:
        consumed = bare.round()
    with program("keep", short.url) as keeper:
        keeper.round()
    with program("keep", long.url) as keeper:
        kept = keeper.round()
    kept_records = records_in(bootstrap_servers, f"{long.prefix}ofa_assets_state")
    [starts] = alternate(rounds, "start with the keeper", lambda: _start(long), lambda: _start(short))
    gain = [Pair(start.ours, without[0].ours) for start in starts]
    seconds = max(pair.ours for pair in starts) / 1_000
    note = (
        f"{records:,} records against {SHORT:,}, each of {ASSETS * ATTRIBUTES:,} attributes; a process from its start "
        f"until its app is available, {seconds:.2f} s at most (bar {_START_SECONDS:g} s: "
        f"{'met' if seconds <= _START_SECONDS else 'missed'}); the state topic has {kept_records:,} records"
    )
    return [
        figure_of("start with the keeper, long log / short log", "ms", starts, Bar(at_most=1.2), [note]),
        figure_of("start on the long log, with the keeper / without", "ms", gain, Bar(at_most=0.2)),
        figure_of("start without the keeper, long log / short log", "ms", without),
        figure_of("records a second, keeper / bare consume loop", "1/s", [Pair(records / kept, records / consumed)]),
    ]


def _start(place: Place) -> float:
    """The milliseconds from the start of a process until its app is available."""
    started = time.perf_counter()
    with program("start-app", place.url):
        return (time.perf_counter() - started) * 1_000


def _fill(place: Place, records: int) -> None:
    """Write the attributes in turn, again and again, the bytes of each made once."""
    assets = [f"ASSET-{number}" for number in range(ASSETS)]
    messages = [message(f"sample-{number}", number * 0.1) for number in range(ATTRIBUTES)]
    properties = {"linger_ms": 5, "queue_buffering_max_messages": 1_000_000}
    with BareWriter(place.bootstrap_servers, place.topic, **properties) as writer:
        written = 0
        while written < records:
            for text in messages:
                for asset in assets[: records - written]:
                    writer.write(asset, text)
                written += min(ASSETS, records - written)
            while written - writer.acknowledged > 500_000:
                time.sleep(0.01)
                writer.poll()
        writer.flush()


if __name__ == "__main__":
    sys.exit(main())
