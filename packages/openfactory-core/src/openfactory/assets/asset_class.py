"""Asset: the class that reads, writes, watches and commands an asset."""

from __future__ import annotations

import inspect
import operator
import re
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Protocol

import msgspec

from openfactory.assets.caller import Caller
from openfactory.assets.commanding import Commanding
from openfactory.assets.producer import EngineProducer
from openfactory.assets.referencing import Referencing
from openfactory.assets.state import AssetState
from openfactory.assets.subscriptions import Submit, Subscriptions
from openfactory.assets.watching import Watching
from openfactory.concurrency import OrderedExecutor
from openfactory.engines.location import Servers
from openfactory.engines.registry import open_engine, open_engine_of
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.receipt import Receipt
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import ConfigurationError, UnknownAttributeError

__all__ = ["Asset"]

# The callbacks of all assets of a process share these threads; each asset has its own lane.
_callback_executor = OrderedExecutor("openfactory-callback")


class _Client(Protocol):
    """The part of a client that an asset needs."""

    ksqldb_url: str


class Asset(Watching, Commanding, Referencing):
    """A machine, sensor or app of the factory, wherever it runs.

    Read and write its attributes as attributes of the object. Use `asset["id"]` for an id that is also a name of this
    class. An attribute that has never been written reads as `UNAVAILABLE`.

    >>> from openfactory.kafka import KSQLDBClient
    >>> with Asset("MILL", KSQLDBClient("memory://example")) as mill:
    ...     mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    ...     mill.status = "busy"
    ...     mill.status.value
    'busy'

    Args:
        asset_uuid: UUID of the asset, which need not exist yet.
        ksqlClient: client whose URL selects the engine; KSQLDB_URL if it is None.
        bootstrap_servers: address of the Kafka broker; by default from the client or KAFKA_BROKER. The embedded engine
            does not use it.
        asset_router_url: address of the asset router; by default from the client or ASSET_ROUTER_URL. The embedded
            engine does not use it.
        test_mode: keep all data in a private memory and ignore the URL of the client.
        clock: returns the timestamp of each value written.

    Raises:
        ConfigurationError: neither the client nor KSQLDB_URL gives a URL, or the URL is not valid.
        EngineUnavailableError: the engine cannot be reached or opened.
    """

    asset_uuid: str
    ksql: Any
    bootstrap_servers: str | None
    asset_router_url: str | None
    producer: EngineProducer
    _submit: Submit | None = None  # an app runs async callbacks on its own loop
    _names: ClassVar[frozenset[str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._names = _own_names(cls)

    def __init__(
        self,
        asset_uuid: str,
        ksqlClient: _Client | None,  # noqa: N803 - the name that apps pass it by
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        test_mode: bool = False,
        *,
        clock: Callable[[], str] = current_timestamp,
    ) -> None:
        self.asset_uuid = asset_uuid
        self.ksql = ksqlClient
        servers = Servers.of(ksqlClient, bootstrap_servers, asset_router_url).resolve()
        self.bootstrap_servers = servers.bootstrap_servers
        self.asset_router_url = servers.asset_router_url
        self._clock = clock
        self._state = AssetState()
        self._test_mode = test_mode
        self._reference = (
            open_engine(f"memory://private-{uuid.uuid4().hex}")
            if test_mode
            else open_engine_of(ksqlClient, self.bootstrap_servers, self.asset_router_url)
        )
        self._engine = self._reference.engine
        self.producer = EngineProducer(self._engine)
        self._subscriptions = Subscriptions(asset_uuid, _callback_executor, self._submit)
        try:
            self._load_and_subscribe(asset_uuid)
        except BaseException:
            self._reference.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.asset_uuid!r})"

    def __enter__(self) -> Asset:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # Reading

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        return self[name]

    def __getitem__(self, attribute_id: str) -> Any:
        """Return an attribute, or a function that calls the method of that id."""
        event = self._state.get(attribute_id)
        if event is None:
            return AssetAttribute(attribute_id, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE)
        if event.type == "Method":
            return partial(self._call_method, attribute_id)
        return event.attribute()

    def __contains__(self, attribute_id: str) -> bool:
        return attribute_id in self._state

    @property
    def type(self) -> str:
        """Type under which the asset is registered, or `UNAVAILABLE`."""
        return self._engine.types([self.asset_uuid]).get(self.asset_uuid, UNAVAILABLE)

    def attributes(self) -> list[str]:
        """Return the ids of the attributes, without methods, commands and replies."""
        return [event.id for event in self._attribute_events()]

    def samples(self) -> list[dict[str, Any]]:
        """Return the samples, each as `{"ID", "VALUE", "TAG"}`."""
        return self._rows("Samples")

    def events(self) -> list[dict[str, Any]]:
        """Return the attributes of type event, each as `{"ID", "VALUE", "TAG"}`."""
        return self._rows("Events")

    def conditions(self) -> list[dict[str, Any]]:
        """Return the conditions, each as `{"ID", "VALUE", "TAG"}`."""
        return self._rows("Condition")

    def methods(self) -> dict[str, Any]:
        """Return the contract of each method by id: its description and its arguments."""
        return {event.id: _contract(event.value) for event in self._state.events() if event.type == "Method"}

    @property
    def ofa_attributes(self) -> dict[str, AssetAttribute]:
        """Attributes by id."""
        return {event.id: event.attribute() for event in self._attribute_events()}

    @property
    def ofa_methods(self) -> dict[str, Any]:
        """Contracts of the methods by id, as they are written to the log."""
        return {event.id: event.value for event in self._state.events() if event.type == "Method"}

    def history(
        self, attribute_id: str, *, since: str | None = None, until: str | None = None, limit: int = 1000
    ) -> list[AssetAttribute]:
        """Return the past values of an attribute that are still in the log, newest last.

        Args:
            since: omit values older than this timestamp.
            until: omit values newer than this timestamp.
            limit: maximum number of values; the newest are returned.
        """
        events = self._engine.history(self.asset_uuid, attribute_id, since=since, until=until, limit=limit)
        return [event.normalized().attribute() for event in events]

    def wait_until(
        self,
        attribute_id: str,
        value: Any,
        comparison: Callable[[Any, Any], bool] | float = operator.eq,
        *,
        timeout: float = 30,
        use_ksqlDB: bool = False,  # noqa: N803, ARG002 - every engine shows its own writes at once
    ) -> bool:
        """Wait until an attribute has a value.

        Args:
            comparison: function of the attribute's value and `value`; a number is used as the timeout.
            timeout: seconds to wait.

        Returns:
            True if the comparison became true in time.

        Raises:
            UnknownAttributeError: the attribute has never been written.
        """
        if isinstance(comparison, (int, float)):
            return self.wait_until(attribute_id, value, timeout=comparison)
        if not callable(comparison):
            raise TypeError(f"{comparison!r} is not callable. Pass a comparison such as operator.gt, or timeout=….")
        if attribute_id not in self._state:
            self.resync_state()  # the attribute may have been written a moment ago
        event = self._state.get(attribute_id)
        if event is None or event.type == "Method":
            known = ", ".join(self.attributes()) or "no attributes"
            raise UnknownAttributeError(f"{self.asset_uuid} has no attribute {attribute_id!r}. It has {known}.")
        return self._state.wait_for(lambda: bool(comparison(self[attribute_id].value, value)), timeout)

    def resync_state(self) -> None:
        """Read the last value of each attribute again; a value that is newer than the snapshot stays."""
        self._state.load(self._engine.snapshot([self.asset_uuid]).events.get(self.asset_uuid, ()))

    # Writing

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_" or name in self._names or name in self.__dict__:
            object.__setattr__(self, name, value)
        elif name in self._state:
            self._write(name, value)
        elif isinstance(value, AssetAttribute):
            raise UnknownAttributeError(f"{self.asset_uuid} has no attribute {name!r}. Add it with add_attribute().")
        else:
            object.__setattr__(self, name, value)

    def __setitem__(self, attribute_id: str, value: Any) -> None:
        self._write(attribute_id, value)

    def add_attribute(
        self, asset_attribute: AssetAttribute, wait_to_become_available: bool = True, *, timeout: float = 10.0
    ) -> None:
        """Add an attribute to the asset, or write all properties of an existing attribute.

        Args:
            wait_to_become_available: return only when every reader can see the attribute.
            timeout: seconds to wait for that.

        Raises:
            InvalidEventError: the id or the value is not valid in a message.
            DeliveryError: the attribute was not written.
            DeliveryTimeout: the write was not acknowledged in time.
        """
        receipt = self._publish(AssetEvent.of(self.asset_uuid, asset_attribute))
        if wait_to_become_available:
            receipt.wait(timeout)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all writes are acknowledged.

        Args:
            timeout: seconds to wait.

        Raises:
            DeliveryError: a write has failed.
            DeliveryTimeout: a write was not acknowledged in time.
        """
        self._engine.flush(timeout)

    # Closing

    def close(self, timeout: float = 5.0) -> None:
        """End all subscriptions and release the engine; closing twice does nothing.

        Args:
            timeout: seconds to finish the pending writes, if no other object of the process uses the engine.

        Raises:
            DeliveryError: no other object uses the engine, and a write has failed.
            DeliveryTimeout: no other object uses the engine, and a write was not acknowledged in time.
        """
        self._subscriptions.clear()
        self._feed.close()
        self._reference.close(timeout)

    # Called by the engine

    def _receive(self, event: AssetEvent) -> None:
        if event.position is not None:
            self._delivered = event.position
        self._state.apply(event)
        if event.tag == REPLY_TAG:
            self._caller.settle(event)
        elif event.tag == COMMAND_TAG:
            self._receive_command(event)
        self._subscriptions.dispatch(event)

    def _receive_command(self, event: AssetEvent) -> None:
        """Handle a command sent to this asset; only an app overrides this."""

    def _on_gap(self) -> int:
        """Read a snapshot after a gap, deliver the events that were missed, and return its position."""
        snapshot = self._engine.snapshot([self.asset_uuid])
        events = snapshot.events.get(self.asset_uuid, [])
        missed = [event for event in events if self._was_missed(event)]
        for event in missed:
            self._receive(event)
        self._state.load(events)
        self._delivered = snapshot.position
        return snapshot.position

    # Internals

    def _was_missed(self, event: AssetEvent) -> bool:
        """Return whether an event of a snapshot was not delivered.

        The row of a table has no position; it counts as missed if it is newer than the known event.
        """
        if event.position is not None:
            return event.position > self._delivered
        known = self._state.get(event.id)
        return known is None or event.timestamp > known.timestamp

    def _load_and_subscribe(self, asset_uuid: str) -> list[AssetEvent]:
        """Load the snapshot of an asset, subscribe from its position, and return its events."""
        self._caller = Caller(asset_uuid, self._publish, self._state)
        snapshot = self._engine.snapshot([asset_uuid])
        events = snapshot.events.get(asset_uuid, [])
        self._state.load(events)
        self._found_at = self._delivered = snapshot.position
        self._feed = self._engine.subscribe(asset_uuid, self._receive, self._on_gap, snapshot.position)
        return events

    def _publish(self, event: AssetEvent) -> Receipt:
        receipt = self._engine.publish(event)
        self._state.write(event, receipt)
        return receipt

    def _write(self, attribute_id: str, value: Any) -> None:
        """Write a known attribute; a value that is not an `AssetAttribute` keeps the type and the tag."""
        known = self._state.get(attribute_id)
        if known is None:
            raise UnknownAttributeError(
                f"{self.asset_uuid} has no attribute {attribute_id!r}. Add it with add_attribute()."
            )
        if known.type == "Method":
            raise ConfigurationError(
                f"{attribute_id!r} is a method of {self.asset_uuid} and has no value. Call it, or use another id."
            )
        if not isinstance(value, AssetAttribute):
            event = new_event(self.asset_uuid, attribute_id, value, known.type, known.tag, self._clock())
        elif value.id == attribute_id:
            event = AssetEvent.of(self.asset_uuid, value)
        else:
            raise ConfigurationError(
                f"The attribute {value.id!r} cannot be written as {attribute_id!r}. "
                f"Set its id to {attribute_id!r}, or write it as {value.id!r}."
            )
        self._publish(event)

    def _attribute_events(self) -> list[AssetEvent]:
        return [event for event in self._state.events() if event.is_attribute]

    def _rows(self, type_name: str) -> list[dict[str, Any]]:
        return [
            {"ID": event.id, "VALUE": event.attribute().value, "TAG": _bare_tag(event.tag)}
            for event in self._attribute_events()
            if event.type == type_name
        ]

    def _call_method(self, method: str, *args: Any, sender_uuid: str = "", **kwargs: Any) -> str:
        if args:
            raise TypeError(
                f"{self.asset_uuid}.{method} takes its arguments by name. Write {method}(sender_uuid=…, x=1)."
            )
        return self.method(method, sender_uuid, kwargs)


def _own_names(asset_class: type) -> frozenset[str]:
    """Return the names that a class defines itself; assigning to them does not write an attribute of the asset."""
    annotated = (name for base in asset_class.__mro__ for name in inspect.get_annotations(base))
    return frozenset((*dir(asset_class), *annotated))


Asset._names = _own_names(Asset)


def _contract(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _bare_tag(tag: str) -> str:
    """Return a tag without the namespace that some machines write before it: `{urn:…}Position` is `Position`."""
    return re.sub(r"\{.*?\}", "", tag).strip()
