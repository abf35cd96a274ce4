"""AssetUNS: the asset that has a place in the unified namespace now."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.engines.base import Engine
from openfactory.engines.registry import open_engine_of
from openfactory.events.event import AssetEvent
from openfactory.exceptions import UnknownAssetError
from openfactory.logs.outage import Outage

__all__ = ["AssetUNS"]

_logger = logging.getLogger("openfactory.assets")

# Seconds between two reads of the map; one thread reads it for all assets of a process.
_POLL_SECONDS = 0.5


class AssetUNS(Asset):
    """The asset that has a place in the unified namespace.

    When another asset takes the place, its attributes replace those of the former asset, and callbacks receive their
    values. While no asset has the place, all attributes read as `UNAVAILABLE`.

    Args:
        uns_id: the place, such as `plant/hall-1/mill`.
        start_mapping_watcher: switch to another asset when it takes the place.

    Raises:
        UnknownAssetError: no asset has the place.
    """

    uns_id: str

    def __init__(
        self,
        uns_id: str,
        ksqlClient: Any,  # noqa: N803 - the name that apps pass it by
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        test_mode: bool = False,  # noqa: ARG002 - a private memory has no map; pass a client of a memory:// URL
        start_mapping_watcher: bool = True,
    ) -> None:
        self.uns_id = uns_id
        self._place_lock = threading.Lock()
        self._buffered: list[AssetEvent] | None = None  # events that arrive while the asset changes
        with open_engine_of(ksqlClient, bootstrap_servers, asset_router_url) as reference:
            asset_uuid = _read_map(reference.engine).get(uns_id)
        if asset_uuid is None:
            raise UnknownAssetError(
                f"No asset has the place {uns_id!r} in the namespace. Register an asset there with register_asset().",
                uns_id=uns_id,
            )
        super().__init__(asset_uuid, ksqlClient, bootstrap_servers, asset_router_url)
        self._place = _Place(self._engine, self._apply_map)
        if start_mapping_watcher:
            _watcher.add(self._place)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uns_id!r})"

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and name not in self._names and name not in self.__dict__ and not self.asset_uuid:
            raise UnknownAssetError(
                f"{name!r} was not written: no asset has the place {self.uns_id!r} in the namespace. "
                "Register an asset there with register_asset().",
                uns_id=self.uns_id,
            )
        super().__setattr__(name, value)

    def close(self, timeout: float = 5.0) -> None:
        _watcher.discard(self._place)
        with self._place_lock:
            self._place.ended = True  # _switch_to() closes the subscription that it is opening
        super().close(timeout)

    def _receive(self, event: AssetEvent) -> None:
        with self._place_lock:
            if event.asset_uuid != self.asset_uuid:
                return  # an event of the former asset that arrives late
            if self._buffered is not None:
                self._buffered.append(event)
                return
            super()._receive(event)

    def _apply_map(self, uns_map: dict[str, str]) -> None:
        """Switch to the asset that has the place now; runs on the watcher's thread."""
        asset_uuid = uns_map.get(self.uns_id, "")
        if asset_uuid == self.asset_uuid:
            return
        with self._place_lock:
            if self._place.ended:
                return
            self.asset_uuid = ""  # if the engine fails below, the next read of the map tries again
            self._state.clear()
        self._feed.close()
        if not asset_uuid:
            _logger.warning("No asset has the place %s any more. Its attributes read as UNAVAILABLE.", self.uns_id)
            return
        _logger.info("%s has the place %s in the namespace now.", asset_uuid, self.uns_id)
        self._switch_to(asset_uuid)

    def _switch_to(self, asset_uuid: str) -> None:
        """Switch to another asset: deliver the events of its snapshot, then those that arrived in the meantime."""
        with self._place_lock:
            self._buffered = []
            self.asset_uuid = asset_uuid
        try:
            events, _ = self._start_feed(asset_uuid)
        except BaseException:
            with self._place_lock:
                self._buffered, self.asset_uuid = None, ""
                self._state.clear()
            raise
        with self._place_lock:
            buffered, self._buffered = self._buffered, None
            for event in events:
                self._subscriptions.dispatch(event.normalized())
            for event in buffered or ():
                super()._receive(event)
        if self._place.ended:
            self._feed.close()


@dataclass(eq=False)
class _Place:
    """The place of one asset, for the watcher.

    Attributes:
        engine: engine whose map names the asset of the place.
        apply_map: receives each map that is read.
        ended: whether the asset is closed.
    """

    engine: Engine
    apply_map: Callable[[dict[str, str]], None]
    ended: bool = False


class _MappingWatcher:
    """Reads the map for all `AssetUNS` objects of the process, on one thread that ends with the last of them."""

    def __init__(self) -> None:
        self._places: weakref.WeakSet[_Place] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._outages = defaultdict[str, Outage](
            lambda: Outage(_logger, meanwhile="Reading is retried.", over="The map of the namespace can be read again.")
        )

    def add(self, place: _Place) -> None:
        with self._lock:
            self._places.add(place)
            if self._thread is None:
                self._stopped = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopped,), name="openfactory-uns-map", daemon=True
                )
                self._thread.start()

    def discard(self, place: _Place) -> None:
        with self._lock:
            self._places.discard(place)
            if not self._places:
                self._stopped.set()
                self._thread = None

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(_POLL_SECONDS):
            self._read_all()

    def _read_all(self) -> None:
        """Read the map of each engine; the thread keeps no place afterwards, so that an unused asset can end."""
        with self._lock:
            places = list(self._places)
        for engine in {place.engine for place in places}:
            self._read_and_apply(engine, [place for place in places if place.engine is engine])

    def _read_and_apply(self, engine: Engine, places: list[_Place]) -> None:
        """Read the map of an engine and pass it to the assets of the places."""
        try:
            uns_map = _read_map(engine)
            for place in places:
                place.apply_map(uns_map)
            self._outages[engine.url].end()
        except Exception as error:  # noqa: BLE001 - the thread serves all AssetUNS objects of the process
            if not all(place.ended for place in places):
                self._outages[engine.url].begin(f"The map of the namespace cannot be read ({error}).")


_watcher = _MappingWatcher()


def _read_map(engine: Engine) -> dict[str, str]:
    """Return the asset at each place; of two assets at one place, the one registered last."""
    return {uns_id: asset_uuid for asset_uuid, uns_id in engine.uns_map().items()}
