"""The same work by our library and by others that somebody might choose, in one table.

hatch run bench:peers                    all of them, 10 rounds each
hatch run bench:peers --only kafka       one: kafka, embedded
hatch run bench:peers --json             for a program to read

The peers are in an environment of their own, see `peers.txt`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

from kafka_processes import Program, new_place, program
from report import options, report
from rounds import Figure, Pair, alternate, figure_of, percentile

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from servers import KafkaBroker, free_port

WRITES = 10_000
CHANGES = 200

_PROGRAMS = "peer_programs.py"

_PEERS = ("faststream", "quixstreams", "faust-streaming", "aiokafka", "labthings-fastapi", "asyncua", "confluent-kafka")


def measure_kafka(rounds: int) -> list[Figure]:
    """Measure writes to a Kafka, all of them acknowledged in the end, and their CPU."""
    with ExitStack() as stack:
        broker = stack.enter_context(KafkaBroker())
        place = new_place(broker.bootstrap_servers, "ours_")
        ours = stack.enter_context(program("write-ours", place.url, WRITES, file=_PROGRAMS))
        peers: dict[str, Program] = {}
        for name, kind, how in (
            ("bare confluent-kafka, linger 5", "bare", ()),
            ("quixstreams", "quixstreams", ()),
            ("aiokafka", "aiokafka", ()),
            ("faust-streaming", "faust", ()),
            ("faststream, gathered", "faststream", ("gathered",)),
            ("faststream, awaited", "faststream", ("awaited",)),
        ):
            peer = new_place(broker.bootstrap_servers, f"{kind}{len(peers)}_")
            peers[name] = stack.enter_context(
                program(f"write-{kind}", broker.bootstrap_servers, peer.topic, WRITES, *how, file=_PROGRAMS)
            )
        return _compared(rounds, "writes", "writes/s", ours, peers)


def measure_embedded(rounds: int) -> list[Figure]:
    """Measure from a write in one process to a callback in another, and the CPU of both, without a server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, *peers = (
            _Changing(stack, kind, address)
            for kind, address in (
                ("ours", f"sqlite:///{folder}/factory.db"),
                ("labthings", str(free_port())),
                ("asyncua", str(free_port())),
            )
        )
        pairs = alternate(rounds, "embedded", ours.round, *(peer.round for peer in peers))
        figures = []
        for name, list_of_pairs, peer in zip(("labthings-fastapi", "asyncua"), pairs, peers, strict=True):
            figures.append(figure_of(f"write to callback, p50, sqlite:// / {name}", "ms", list_of_pairs))
            figures.append(_cpu(f"CPU for 10,000, writer and watcher, sqlite:// / {name}", ours.cpu, peer.cpu))
        return figures


class _Changing:
    """A process that writes now and then, and one that hears of it."""

    def __init__(self, stack: ExitStack, kind: str, address: str) -> None:
        self._changing = stack.enter_context(program(f"change-{kind}", address, CHANGES, file=_PROGRAMS))
        self._watching = stack.enter_context(program(f"watch-{kind}", address, CHANGES, file=_PROGRAMS))
        self.cpu: list[float] = []

    def round(self) -> float:
        """Write, and return the median age in ms."""
        changed, heard = self._changing.round(), self._watching.answer()
        self.cpu.append(changed["cpu"] + heard["cpu"] / CHANGES * 10_000)
        return percentile(heard["ages"], 50) / 1e6


def _compared(rounds: int, what: str, unit: str, ours: Program, peers: Mapping[str, Program]) -> list[Figure]:
    cpu: dict[Program, list[float]] = {one: [] for one in (ours, *peers.values())}

    def rate_of(one: Program) -> float:
        answer = one.round()
        cpu[one].append(answer["cpu"])
        return float(answer["rate"])

    pairs = alternate(rounds, what, partial(rate_of, ours), *(partial(rate_of, peer) for peer in peers.values()))
    figures = []
    for (name, peer), list_of_pairs in zip(peers.items(), pairs, strict=True):
        figures.append(figure_of(f"{what}, kafka:// / {name}", unit, list_of_pairs))
        figures.append(_cpu(f"CPU for 10,000, kafka:// / {name}", cpu[ours], cpu[peer]))
    return figures


def _cpu(name: str, ours: Sequence[float], peer: Sequence[float]) -> Figure:
    return figure_of(name, "s", [Pair(*both) for both in zip(ours[1:], peer[1:], strict=True)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    benchmarks = {"kafka": measure_kafka, "embedded": measure_embedded}
    asked = options(arguments, "The same work by our library and by others.", names=benchmarks)
    versions = ", ".join(f"{name} {version(name)}" for name in _PEERS)
    return report(asked, versions, lambda name, rounds: benchmarks[name](rounds))


if __name__ == "__main__":
    sys.exit(main())
