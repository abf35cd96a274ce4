"""An asset by its place in the unified namespace: whatever machine stands there now."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.engines.base import Engine
from openfactory.engines.registry import open_engine_of
from openfactory.events.event import AssetEvent
from openfactory.exceptions import UnknownAssetError

__all__ = ["AssetUNS"]

_logger = logging.getLogger("openfactory.assets")

# How often the map is read, in seconds; one thread does it for all of a process.
_POLL_SECONDS = 0.5

_MAP = "SELECT asset_uuid, uns_id, updated_at FROM asset_to_uns_map"


class AssetUNS(Asset):
    """The asset that stands at a place of the namespace.

    When another asset takes that place, its attributes stand in for those of the former one, and callbacks hear their
    values. While nobody stands there all attributes read as `UNAVAILABLE`.

    Args:
        uns_id: the place, such as `plant/hall-1/mill`.
        start_mapping_watcher: follow the place when another asset takes it.

    Raises:
        UnknownAssetError: nobody stands there.
    """

    uns_id: str

    def __init__(
        self,
        uns_id: str,
        ksqlClient: Any,  # noqa: N803 - the name that apps pass it by
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        test_mode: bool = False,  # noqa: ARG002 - a private memory would hold no map; give a client of a memory:// URL
        start_mapping_watcher: bool = True,
    ) -> None:
        self.uns_id = uns_id
        self._place_lock = threading.Lock()
        self._held: list[AssetEvent] | None = None  # what is heard while the asset changes
        self._ended = False
        with open_engine_of(ksqlClient, bootstrap_servers, asset_router_url) as reference:
            asset_uuid = _read_map(reference.engine).get(uns_id)
        if asset_uuid is None:
            raise UnknownAssetError(
                f"No asset stands at {uns_id!r} of the namespace. Register one there by register_asset().",
                uns_id=uns_id,
            )
        super().__init__(asset_uuid, ksqlClient, bootstrap_servers, asset_router_url)
        if start_mapping_watcher:
            _watcher.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uns_id!r})"

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and name not in self._names and name not in self.__dict__ and not self.asset_uuid:
            raise UnknownAssetError(
                f"No asset stands at {self.uns_id!r} of the namespace to write {name!r} to. Register one there.",
                uns_id=self.uns_id,
            )
        super().__setattr__(name, value)

    def close(self, timeout: float = 5.0) -> None:
        _watcher.discard(self)
        with self._place_lock:
            self._ended = True  # a change that is under way closes the feed that it opens
        super().close(timeout)

    def _receive(self, event: AssetEvent) -> None:
        with self._place_lock:
            if event.asset_uuid != self.asset_uuid:
                return  # said by the former asset, and on its way when another took the place
            if self._held is not None:
                self._held.append(event)
                return
            super()._receive(event)

    def _look_at_map(self, uns_map: dict[str, str]) -> None:
        """Follow the place if another asset stands there; on the watcher's thread."""
        asset_uuid = uns_map.get(self.uns_id, "")
        if asset_uuid == self.asset_uuid:
            return
        with self._place_lock:
            if self._ended:
                return
            self.asset_uuid = ""  # should the engine fail below, the next look tries again
            self._state.clear()
        self._feed.close()
        if not asset_uuid:
            _logger.warning("No asset stands at %s any more; its attributes read as UNAVAILABLE.", self.uns_id)
            return
        _logger.info("%s stands at %s of the namespace now.", asset_uuid, self.uns_id)
        self._move_to(asset_uuid)

    def _move_to(self, asset_uuid: str) -> None:
        """Hear another asset: first what it has said before, then what it says meanwhile."""
        with self._place_lock:
            self._held = []
            self.asset_uuid = asset_uuid
        try:
            found = self._follow(asset_uuid)
        except BaseException:
            with self._place_lock:
                self._held, self.asset_uuid = None, ""
                self._state.clear()
            raise
        with self._place_lock:
            held, self._held = self._held, None
            for event in found:
                self._subscriptions.dispatch(event)
            for event in held or ():
                super()._receive(event)
        if self._ended:
            self._feed.close()


class _MappingWatcher:
    """Reads the map for all such assets of the process, on one thread that ends with the last of them."""

    def __init__(self) -> None:
        self._assets: weakref.WeakSet[AssetUNS] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._left = threading.Event()
        self._failing: set[str] = set()

    def add(self, asset: AssetUNS) -> None:
        with self._lock:
            self._assets.add(asset)
            if self._thread is None:
                self._left = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._left,), name="openfactory-uns-map", daemon=True
                )
                self._thread.start()

    def discard(self, asset: AssetUNS) -> None:
        with self._lock:
            self._assets.discard(asset)
            if not self._assets:
                self._left.set()
                self._thread = None

    def _run(self, left: threading.Event) -> None:
        while not left.wait(_POLL_SECONDS):
            with self._lock:
                assets = list(self._assets)
            for engine in {asset._engine for asset in assets}:
                self._look(engine, [asset for asset in assets if asset._engine is engine])

    def _look(self, engine: Engine, assets: list[AssetUNS]) -> None:
        """Read one map; what goes wrong is said once and tried again."""
        try:
            uns_map = _read_map(engine)
            for asset in assets:
                asset._look_at_map(uns_map)
            self._failing.discard(engine.url)
        except Exception as error:  # noqa: BLE001 - the thread serves all such assets of the process
            if engine.url not in self._failing and not all(asset._ended for asset in assets):
                self._failing.add(engine.url)
                _logger.warning("The map of the namespace cannot be read (%s). It is tried again until it can.", error)


_watcher = _MappingWatcher()


def _read_map(engine: Engine) -> dict[str, str]:
    """Which asset stands at each place; where two say that they do, it is the one that came last."""
    rows = sorted(engine.query(_MAP), key=lambda row: int(row["UPDATED_AT"] or 0))
    return {row["UNS_ID"]: row["ASSET_UUID"] for row in rows if row["UNS_ID"] is not None}
