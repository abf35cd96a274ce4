"""The partition of a key is the one that every producer of OpenFactory chooses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.engines.kafka_engine.partitioning import murmur2, partition_of


@pytest.mark.parametrize(("key", "hashed"), [("21", -973932308), ("foobar", -790332482)])
def test_hash_is_murmur2_as_kafka_has_it(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) == hashed


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        ("banana", 9),
        ("apple", 7),
        ("carrot", 3),
        ("A", 8),
        ("Zebra", 3),
        ("DEV-UUID", 8),
        ("PROVER3018", 0),
    ],
)
def test_partitions_of_keys_that_are_known(key: str, partition: int) -> None:
    assert partition_of(key, 10) == partition


@given(st.text(), st.integers(1, 1_000))
def test_every_key_has_a_partition_that_exists(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key.encode(errors="replace").decode(), partitions) < partitions


@given(st.binary(max_size=70))
def test_hash_has_32_bits(key: bytes) -> None:
    assert -(2**31) <= murmur2(key) < 2**31


def test_librdkafka_chooses_the_same_partitions() -> None:
    """Its mock cluster has topics of four partitions."""
    confluent_kafka = pytest.importorskip("confluent_kafka")
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": "x", "test.mock.num.brokers": 1, "partitioner": "murmur2_random", "log_level": 0}
    )
    chosen: dict[str, int] = {}
    keys = [f"ASSET-{number}-ü" for number in range(200)] + list("abcdefg")
    for key in keys:
        producer.produce(
            "t", b"", key, on_delivery=lambda error, message, key=key: chosen.update({key: message.partition()})
        )
    assert producer.flush(timeout=60) == 0
    assert chosen == {key: partition_of(key, 4) for key in keys}
    assert len(set(chosen.values())) == 4
