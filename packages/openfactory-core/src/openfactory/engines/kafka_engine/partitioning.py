"""The partition of a key, as every producer of OpenFactory computes it, and as others do.

Source: `org.apache.kafka.common.utils.Utils.murmur2`; librdkafka's name for it is murmur2_random. Without that setting,
librdkafka uses CRC-32 (consistent_random).
"""

from __future__ import annotations

import zlib
from functools import lru_cache

__all__ = ["murmur2", "partition_of", "usual_partitions_of"]

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_WORD = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return the hash of a key as a signed 32-bit integer.

    >>> murmur2(b"foobar")
    -790332482
    """
    length = len(key)
    hashed = _SEED ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * _MULTIPLIER & _WORD
        word = (word ^ word >> 24) * _MULTIPLIER & _WORD
        hashed = hashed * _MULTIPLIER & _WORD ^ word
    if whole < length:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _WORD
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _WORD
    hashed ^= hashed >> 15
    return hashed - (1 << 32) if hashed >> 31 else hashed


@lru_cache(maxsize=65536)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition of an asset's events.

    Args:
        key: the UUID of the asset.
        partitions: number of partitions of the topic.

    >>> partition_of("DEV-UUID", 10)
    8
    """
    return (murmur2(key.encode(errors="surrogateescape")) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=65536)
def usual_partitions_of(key: str, partitions: int) -> tuple[int, ...]:
    """Return the partitions that producers choose for an asset's events: that of OpenFactory, then that of librdkafka.

    >>> usual_partitions_of("DEV-UUID", 10)
    (8, 3)
    """
    crc32 = zlib.crc32(key.encode(errors="surrogateescape"))
    return tuple(dict.fromkeys((partition_of(key, partitions), crc32 % partitions)))
