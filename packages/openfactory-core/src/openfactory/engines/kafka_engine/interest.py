"""The assets whose records an engine takes from the log, and the partitions in which these records are.

An engine asks for an asset when a subscription or a read needs it, and for all assets when a read or a subscription is
about all. What no subscription watches and no read has asked for in five minutes is let go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping

from openfactory.engines.kafka_engine.positions import Partition

__all__ = ["Interest", "key_of_asset"]

# Seconds after the last read for which an asset is kept up.
_KEPT_SECONDS = 300.0


class Interest:
    """The keys of the records that the feed delivers; it skips all others before they are decoded.

    The caller of a method owns the dispatcher's lock.

    Attributes:
        everything: whether the records of all assets are delivered.
        keys: the keys of the assets that are delivered on their own account, whatever their partition.
        whole: by partition that is delivered whole, whatever the keys, the offset from which it is.
        expected: the partitions in which wanted records are expected; in others they are possible.
        changes: number of times at which records were added; it grows after the other attributes have changed, so that
            a reader without the lock that finds it unchanged has not seen the former ones.
        assets: by asset that is delivered on its own account, the partitions in which its records are looked for.
    """

    def __init__(self) -> None:
        self.everything = False
        self.keys: set[bytes] = set()
        self.whole: dict[Partition, int] = {}
        self.expected: set[Partition] = set()
        self.changes = 0
        self.assets: dict[str, frozenset[Partition]] = {}
        self._keys: dict[Partition, dict[bytes, int]] = {}  # each with the offset from which it is delivered
        self._expected: dict[str | None, set[Partition]] = {}  # by asset
        self._asked: dict[str | None, float] = {}  # by asset, or None for all, the time of the last read

    def wants(self, partition: Partition, key: bytes | str | None) -> bool:
        """Return whether a record is delivered."""
        if self.everything or partition in self.whole:
            return True
        keys = self._keys.get(partition)
        return keys is not None and key in keys

    def keys_in(self, partition: Partition) -> frozenset[bytes] | None:
        """Return the keys of the records to look for in a partition; None if it is delivered whole."""
        return None if partition in self.whole else frozenset(self.keys)

    def covers(self, asset_uuid: str, places: Iterable[Partition]) -> bool:
        """Return whether the records of an asset in some partitions are delivered on its own account."""
        return self.assets.get(asset_uuid, frozenset()).issuperset(places) and asset_uuid in self.assets

    def since(self, asset_uuid: str, partition: Partition) -> int | None:
        """Return the offset from which an asset's records in a partition are delivered, or None if they are not."""
        starts = (self.whole.get(partition), self._keys.get(partition, {}).get(key_of_asset(asset_uuid)))
        return min((start for start in starts if start is not None), default=None)

    def ask(self, asset_uuids: Collection[str] | None) -> None:
        """Note that some assets, or all with None, are needed now."""
        self._asked.update(dict.fromkeys([None] if asset_uuids is None else asset_uuids, time.monotonic()))

    def add(self, asset_uuid: str, starts: Mapping[Partition, int], expected: Iterable[Partition]) -> None:
        """Deliver the records of an asset.

        Args:
            asset_uuid: the asset.
            starts: by partition, the offset from which its records are delivered.
            expected: the partitions in which its records are expected.
        """
        key = key_of_asset(asset_uuid)
        for partition, start in starts.items():
            keys = self._keys.setdefault(partition, {})
            keys[key] = min(start, keys.get(key, start))
        self.assets[asset_uuid] = self.assets.get(asset_uuid, frozenset()).union(starts)
        self.keys.add(key)
        self.changes += 1
        for partition in expected:
            self.expect(asset_uuid, partition)

    def expect(self, asset_uuid: str | None, partition: Partition) -> None:
        """Expect records of an asset in a partition."""
        self._expected.setdefault(asset_uuid, set()).add(partition)
        self.expected.add(partition)

    def add_everything(self, starts: Mapping[Partition, int]) -> None:
        """Deliver the records of all assets, in each partition from an offset."""
        self.everything = True
        self.add_whole(starts)

    def add_whole(self, starts: Mapping[Partition, int]) -> None:
        """Deliver all records of some partitions, each from an offset."""
        self.whole = {**starts, **self.whole}
        self._find_keys()

    def partitions(self) -> set[Partition]:
        """Return the partitions with records to deliver."""
        return {*self.whole, *self._keys}

    def let_go(self, watched: Collection[str] | None, topic: str) -> bool:
        """Drop the assets that no subscription watches and no read has asked for lately.

        Args:
            watched: the assets with subscriptions; None if a subscription is to all.
            topic: the topic of all events.

        Returns:
            Whether something was dropped.
        """
        oldest = time.monotonic() - _KEPT_SECONDS
        self._asked = {asset_uuid: at for asset_uuid, at in self._asked.items() if at > oldest}
        if watched is None:
            return False
        kept = {*watched, *self._asked}
        dropped = [asset_uuid for asset_uuid in self.assets if asset_uuid not in kept]
        is_partial = self.everything and None not in kept
        if is_partial:
            self.drop_everything(topic)
        for asset_uuid in dropped:
            self._drop(asset_uuid)
        self._find_keys()
        return is_partial or bool(dropped)

    def drop_everything(self, topic: str) -> None:
        """Deliver only the records of single assets from now on, in the topic of all events."""
        self.everything = False
        self.whole = {partition: start for partition, start in self.whole.items() if partition.topic != topic}
        self._find_keys()

    def narrow(self, places_of: Callable[[str], Iterable[Partition]]) -> None:
        """Deliver the records of each asset only in the partitions in which they are looked for."""
        for asset_uuid, partitions in list(self.assets.items()):
            starts = {place: self.since(asset_uuid, place) or 0 for place in places_of(asset_uuid)}
            if not partitions <= starts.keys():
                expected = self._expected.get(asset_uuid, set()) & starts.keys()
                self._drop(asset_uuid)
                self.add(asset_uuid, starts, expected)
        self._find_keys()

    def _drop(self, asset_uuid: str) -> None:
        key = key_of_asset(asset_uuid)
        del self.assets[asset_uuid]
        self._expected.pop(asset_uuid, None)
        for partition in [partition for partition, keys in self._keys.items() if key in keys]:
            del self._keys[partition][key]
            if not self._keys[partition]:
                del self._keys[partition]

    def _find_keys(self) -> None:
        self.expected = {*self.whole, *(place for places in self._expected.values() for place in places)}
        self.keys = {key for keys in self._keys.values() for key in keys}
        self.changes += 1

    def forget(self, asset_uuid: str) -> None:
        """Deliver the records of an asset no more on its own account."""
        if asset_uuid in self.assets:
            self._drop(asset_uuid)
            self._find_keys()

    def begin_log(
        self,
        starts: Mapping[Partition, int],
        places_of: Callable[[str], Iterable[Partition]],
        expected_of: Callable[[str], Iterable[Partition]],
    ) -> None:
        """Deliver the records of the same assets from another log, which may have other partitions.

        Args:
            starts: by partition, the first offset to deliver.
            places_of: returns the partitions in which an asset's records are looked for.
            expected_of: returns those among them in which they are expected.
        """
        assets, topics = list(self.assets), {partition.topic for partition in self.whole}
        self.assets.clear()
        self._keys.clear()
        self._expected.clear()
        self.whole = {partition: start for partition, start in starts.items() if partition.topic in topics}
        self._find_keys()
        for asset_uuid in assets:
            places = {partition: starts[partition] for partition in places_of(asset_uuid)}
            self.add(asset_uuid, places, expected_of(asset_uuid))


def key_of_asset(asset_uuid: str) -> bytes:
    """Return the key of the records of an asset."""
    return asset_uuid.encode(errors="surrogateescape")
