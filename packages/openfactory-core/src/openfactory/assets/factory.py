"""Factory: all assets of a factory, for tools that show, count or record them."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from openfactory.assets.asset_class import Asset
from openfactory.assets.event_buffer import EventBuffer
from openfactory.engines.presence import Sight, Sighting
from openfactory.engines.registry import Client, open_engine, open_engine_of
from openfactory.events.event import AssetEvent
from openfactory.events.period import Bound
from openfactory.settings.redaction import redacted

__all__ = ["Factory"]


@dataclass(slots=True)
class _UrlClient:
    """A client that is only a URL; servers and credentials come from the environment."""

    ksqldb_url: str = field(repr=False)


class Factory:
    """A factory as a whole: its assets, their places, and the events of all of them; also a context manager.

    >>> from openfactory.assets import AssetAttribute
    >>> with Factory("memory://example") as factory:
    ...     with factory.asset("MILL") as mill, factory.watch() as events:
    ...         mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    ...         event = events.get(timeout=5)
    ...     factory.assets()
    {}
    >>> event.asset_uuid, event.id, event.value
    ('MILL', 'status', 'idle')

    An asset is registered while its app runs, or by `register_asset`; a mere write, as above, does not register it.

    Args:
        client: URL of the factory, such as `sqlite:///factory.db`, or a `KSQLDBClient`; KSQLDB_URL by default.

    Raises:
        ConfigurationError: the URL is missing or not valid.
        EngineUnavailableError: the factory cannot be reached or opened.

    Attributes:
        url: URL of the factory.
    """

    def __init__(self, client: str | Client | None = None) -> None:
        self._reference = open_engine(client) if isinstance(client, str) else open_engine_of(client)
        self._engine = self._reference.engine
        self.url = self._engine.url
        self._client: Client = _UrlClient(self.url) if client is None or isinstance(client, str) else client
        self._buffers: weakref.WeakSet[EventBuffer] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({redacted(self.url)!r})"

    def __enter__(self) -> Factory:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def assets(self) -> dict[str, str]:
        """Return the UUIDs of the registered assets, sorted, each with its type."""
        return dict(sorted(self._engine.types().items()))

    def types(self) -> dict[str, list[str]]:
        """Return the types of the registered assets, sorted, each with the UUIDs of its assets."""
        by_type: defaultdict[str, list[str]] = defaultdict(list)
        for asset_uuid, asset_type in self.assets().items():
            by_type[asset_type].append(asset_uuid)
        return dict(sorted(by_type.items()))

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        """Return the last availability of each asset by UUID, of the given assets or of all.

        Assets that are not registered any more are included, assets that have not published an availability are not.
        """
        return self._engine.availability(asset_uuids)

    def last_events(self, asset_uuids: Collection[str] | None = None) -> dict[str, list[AssetEvent]]:
        """Return the last event of each attribute by the UUID of its asset, of the given assets or of all.

        The newest event of an asset is its last. Methods, commands, replies and the registration are included, and so
        are assets that are not registered any more. The value of a sample is a float.
        """
        events = self._engine.snapshot(asset_uuids).events
        return {asset_uuid: [event.normalized().as_read() for event in of_one] for asset_uuid, of_one in events.items()}

    def owners(self, asset_uuids: Collection[str] | None = None) -> dict[str, Sighting]:
        """Return the processes that run the apps of the factory, or have run them last, by the UUID of the asset.

        Each comes with what can be seen of it now, and the time of its last sign as far as the engine knows it. Assets
        that no app has claimed are not included.
        """
        owners = self._engine.snapshot(asset_uuids).owners()
        if self._engine.liveness is None:
            return {asset_uuid: Sighting(owner, Sight.UNKNOWN, None) for asset_uuid, owner in owners.items()}
        return self._engine.liveness.sightings(owners)

    def uns_map(self) -> dict[str, str]:
        """Return the UNS id of each asset that has a place in the unified namespace, by UUID."""
        return self._engine.uns_map()

    def asset(self, asset_uuid: str) -> Asset:
        """Return an asset, which need not exist yet; close it after use."""
        return Asset(asset_uuid, self._client)

    def history(
        self,
        asset_uuid: str,
        attribute_id: str | None = None,
        *,
        since: Bound | None = None,
        until: Bound | None = None,
        limit: int = 1000,
    ) -> list[AssetEvent]:
        """Return the events of an asset that are still in the log, oldest first; the value of a sample is a float.

        Of more than `limit` events, the newest are returned.

        Args:
            attribute_id: id of the attribute; by default all events, including commands and replies.
            since: earliest timestamp of an event, inclusive: a datetime with a time zone, or a text in ISO 8601.
            until: latest timestamp of an event, inclusive.

        Raises:
            ConfigurationError: `since` or `until` is not a time, or is a datetime without a time zone.
        """
        events = self._engine.history(asset_uuid, attribute_id, since=since, until=until, limit=limit)
        return [event.normalized().as_read() for event in events]

    def watch(
        self,
        *,
        attributes: Collection[str] | None = None,
        current_values: bool = False,
        commands: bool = False,
        max_queued: int = 10_000,
    ) -> EventBuffer:
        """Return a buffer that receives the events of all assets, from now on and until it is closed.

        The events of each asset arrive in their order. The buffer ends when the factory is closed.

        Args:
            attributes: ids of the attributes whose events enter the buffer; all attributes by default.
            current_values: begin with the last event of each attribute.
            commands: include commands, replies and the contracts of methods.
            max_queued: maximum number of new events in the buffer.

        Raises:
            SubscriptionError: `attributes` is a string, or `max_queued` is less than 1.
        """
        buffer = EventBuffer(
            self._engine,
            attributes=attributes,
            current_values=current_values,
            commands=commands,
            max_queued=max_queued,
        )
        buffer.open()
        self._buffers.add(buffer)
        return buffer

    def close(self, timeout: float = 5.0) -> None:
        """End the buffers and release the engine; closing twice does nothing.

        Args:
            timeout: seconds to finish pending writes, if no other object of the process uses the engine.

        Raises:
            DeliveryError: no other object uses the engine, and a write has failed.
            DeliveryTimeout: no other object uses the engine, and a write was not acknowledged in time.
        """
        for buffer in list(self._buffers):
            buffer.close()
        self._reference.close(timeout)
