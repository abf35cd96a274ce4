"""The places at which a forwarder begins: its commits, and never a guess in their place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from openfactory.engines.kafka_engine.log_reader import Partition
from openfactory.fanout.starts import starts_of

TOPIC = "ofa_assets"


class Member:
    """A consumer whose broker tells the commits of a group, and keeps those that it gets."""

    def __init__(self, *told: SimpleNamespace) -> None:
        self.told = told
        self.commits: list[Any] = []

    def committed(self, places: list[Any], timeout: float) -> list[SimpleNamespace]:
        return list(self.told)

    def commit(self, offsets: list[Any], asynchronous: bool) -> None:
        self.commits += offsets


def told(number: int, offset: int, error: KafkaError | None = None) -> SimpleNamespace:
    return SimpleNamespace(partition=number, offset=offset, error=error)


def starts(member: Any) -> dict[int, int]:
    source: Any = SimpleNamespace(
        topic=TOPIC,
        partitions=lambda: [Partition(TOPIC, number) for number in (0, 1)],
        bounds=lambda numbers: dict.fromkeys(numbers, (0, 100)),
    )
    found = starts_of(member, source, "group", [0, 1], from_begin=False)
    return {number: one.position for number, one in found.items()}


def test_a_group_goes_on_at_its_commits_and_reads_new_partitions_from_the_begin() -> None:
    assert starts(Member(told(0, 40), told(1, -1001))) == {0: 40, 1: 0}


def test_a_group_without_commits_begins_at_the_end_and_commits_that() -> None:
    member = Member(told(0, -1001), told(1, -1001))
    assert starts(member) == {0: 100, 1: 100}
    assert [place.offset for place in member.commits] == [100, 100]


@pytest.mark.parametrize("others", [-1001, 40])
def test_a_broker_that_does_not_tell_a_commit_is_an_error_and_no_missing_commit(others: int) -> None:
    """A group that is believed to be new would begin at the end, and pass the records before it."""
    member = Member(told(0, others), told(1, -1001, KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)))
    with pytest.raises(KafkaException, match="COORDINATOR_LOAD_IN_PROGRESS"):
        starts(member)
    assert not member.commits
