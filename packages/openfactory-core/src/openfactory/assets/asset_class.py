"""The asset: read it, write it, watch it, command it."""

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
from openfactory.engines.registry import open_engine, open_engine_of
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.receipt import Receipt
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import ConfigurationError, UnknownAttributeError
from openfactory.settings import setting

__all__ = ["Asset"]

# Callbacks of all assets of a process share these threads; each asset has a lane of its own.
_callback_executor = OrderedExecutor("openfactory-callback")


class _Client(Protocol):
    """What an asset wants of a client: the place of the data."""

    ksqldb_url: str


class Asset(Watching, Commanding, Referencing):
    """One machine, sensor or app of the factory, wherever it runs.

    Its attributes are read and written as attributes of the object; an id that the class itself uses is reached
    by `asset["id"]`. An attribute that nobody has written reads as `UNAVAILABLE`.

    >>> from openfactory.kafka import KSQLDBClient
    >>> with Asset("MILL", KSQLDBClient("memory://example")) as mill:
    ...     mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    ...     mill.status = "busy"
    ...     mill.status.value
    'busy'

    Args:
        asset_uuid: the asset; it need not exist yet.
        ksqlClient: names the place of the data.
        bootstrap_servers: address of the Kafka broker, else from KAFKA_BROKER; the embedded engine needs none.
        asset_router_url: address of the asset router, else from ASSET_ROUTER_URL; the embedded engine needs none.
        test_mode: keep all data in a private memory, whatever the client names.
        clock: tells the timestamp of what is written.

    Raises:
        ConfigurationError: no place of the data is named.
        EngineUnavailableError: it cannot be reached or opened.
    """

    asset_uuid: str
    ksql: Any
    bootstrap_servers: str | None
    asset_router_url: str | None
    producer: EngineProducer
    _submit: Submit | None = None  # an app has a loop for async callbacks
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
        self.bootstrap_servers = (
            bootstrap_servers or getattr(ksqlClient, "bootstrap_servers", None) or setting("KAFKA_BROKER")
        )
        self.asset_router_url = (
            asset_router_url or getattr(ksqlClient, "asset_router_url", None) or setting("ASSET_ROUTER_URL")
        )
        self._clock = clock
        self._state = AssetState()
        self._test_mode = test_mode
        self._reference = (
            open_engine(_private_memory())
            if test_mode
            else open_engine_of(ksqlClient, self.bootstrap_servers, self.asset_router_url)
        )
        self._engine = self._reference.engine
        self.producer = EngineProducer(self._engine)
        self._subscriptions = Subscriptions(asset_uuid, _callback_executor, self._submit)
        try:
            self._follow(asset_uuid)
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
        """The attribute of that id, or for a method what calls it."""
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
        """What the asset is registered as, or `UNAVAILABLE`."""
        return self._engine.types([self.asset_uuid]).get(self.asset_uuid, UNAVAILABLE)

    def attributes(self) -> list[str]:
        """The ids of the attributes; methods, commands and replies are none."""
        return [event.id for event in self._attribute_events()]

    def samples(self) -> list[dict[str, Any]]:
        """The samples, each as `{"ID", "VALUE", "TAG"}`."""
        return self._rows("Samples")

    def events(self) -> list[dict[str, Any]]:
        """The events, each as `{"ID", "VALUE", "TAG"}`."""
        return self._rows("Events")

    def conditions(self) -> list[dict[str, Any]]:
        """The conditions, each as `{"ID", "VALUE", "TAG"}`."""
        return self._rows("Condition")

    def methods(self) -> dict[str, Any]:
        """The contract of each method: its description and its arguments."""
        return {event.id: _contract(event.value) for event in self._state.events() if event.type == "Method"}

    @property
    def ofa_attributes(self) -> dict[str, AssetAttribute]:
        """The attributes by id."""
        return {event.id: event.attribute() for event in self._attribute_events()}

    @property
    def ofa_methods(self) -> dict[str, Any]:
        """The contracts of the methods by id, as they stand on the wire."""
        return {event.id: event.value for event in self._state.events() if event.type == "Method"}

    def history(
        self, attribute_id: str, *, since: str | None = None, until: str | None = None, limit: int = 1000
    ) -> list[AssetAttribute]:
        """What the log still holds of an attribute, newest last.

        Args:
            since: not older than this timestamp.
            until: not newer than this timestamp.
            limit: at most so many, the newest.
        """
        found = self._engine.history(self.asset_uuid, attribute_id, since=since, until=until, limit=limit)
        return [event.normalized().attribute() for event in found]

    def wait_until(
        self,
        attribute_id: str,
        value: Any,
        comparison: Callable[[Any, Any], bool] | float = operator.eq,
        *,
        timeout: float = 30,
        use_ksqlDB: bool = False,  # noqa: N803, ARG002 - every engine tells its own writes at once
    ) -> bool:
        """Wait until an attribute has a value.

        Args:
            comparison: called with the attribute's value and the given one; a number is taken as the timeout.
            timeout: how long to wait, in seconds.

        Returns:
            whether it came to be in time.

        Raises:
            UnknownAttributeError: nobody has ever written that attribute.
        """
        if isinstance(comparison, (int, float)):
            return self.wait_until(attribute_id, value, timeout=comparison)
        if not callable(comparison):
            raise TypeError(f"{comparison!r} cannot compare two values. Pass operator.gt, say, or timeout=… by name.")
        if attribute_id not in self._state:
            self.resync_state()  # it may have been written a moment ago
        event = self._state.get(attribute_id)
        if event is None or event.type == "Method":
            raise UnknownAttributeError(
                f"{self.asset_uuid} has no attribute {attribute_id!r}. It has {', '.join(self.attributes()) or 'none'}."
            )
        return self._state.wait_for(lambda: bool(comparison(self[attribute_id].value, value)), timeout)

    def resync_state(self) -> None:
        """Read the last value of every attribute again; what is newer here stays."""
        self._state.load(self._engine.snapshot([self.asset_uuid]).events.get(self.asset_uuid, ()))

    # Writing

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_" or name in self._names or name in self.__dict__:
            object.__setattr__(self, name, value)
        elif name in self._state:
            self._write(name, value)
        elif isinstance(value, AssetAttribute):
            raise UnknownAttributeError(
                f"{self.asset_uuid} has no attribute {name!r} to write. Add it by add_attribute() first."
            )
        else:
            object.__setattr__(self, name, value)

    def __setitem__(self, attribute_id: str, value: Any) -> None:
        self._write(attribute_id, value)

    def add_attribute(
        self, asset_attribute: AssetAttribute, wait_to_become_available: bool = True, *, timeout: float = 10.0
    ) -> None:
        """Give the asset an attribute, or say a known one anew.

        Args:
            wait_to_become_available: come back only when every reader can see it.
            timeout: how long to wait for that, in seconds.

        Raises:
            InvalidEventError: the id or the value cannot be carried.
            DeliveryError, DeliveryTimeout: it could not be written.
        """
        receipt = self._publish(AssetEvent.of(self.asset_uuid, asset_attribute))
        if wait_to_become_available:
            receipt.wait(timeout)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all that was written is acknowledged.

        Raises:
            DeliveryError, DeliveryTimeout: some of it was not.
        """
        self._engine.flush(timeout)

    # Ending

    def close(self, timeout: float = 5.0) -> None:
        """Hear no more, and give the engine back; closing twice does nothing.

        Args:
            timeout: how long writing what was published may take, in seconds, for the engine's last user.

        Raises:
            DeliveryError, DeliveryTimeout: this was the engine's last user, and not all could be written.
        """
        self._subscriptions.clear()
        self._feed.close()
        self._reference.close(timeout)

    # What the engine calls

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
        """Somebody commands this asset; the app that it is does something about it."""

    def _read_again(self) -> int:
        """After a gap: take in the latest values, and tell subscribers those that they have not heard."""
        snapshot = self._engine.snapshot([self.asset_uuid])
        events = snapshot.events.get(self.asset_uuid, [])
        missed = [event for event in events if self._is_news(event)]
        for event in missed:
            self._receive(event)
        self._state.load(events)
        self._delivered = snapshot.position
        return snapshot.position

    # Inside

    def _is_news(self, event: AssetEvent) -> bool:
        """Whether an event of a snapshot was not heard; a row of a table is news when it is newer."""
        if event.position is not None:
            return event.position > self._delivered
        known = self._state.get(event.id)
        return known is None or event.timestamp > known.timestamp

    def _follow(self, asset_uuid: str) -> list[AssetEvent]:
        """Take in what is known of an asset and hear of it from there on; gives back what is known."""
        self._caller = Caller(asset_uuid, self._publish, self._state)
        snapshot = self._engine.snapshot([asset_uuid])
        events = snapshot.events.get(asset_uuid, [])
        self._state.load(events)
        self._found_at = self._delivered = snapshot.position
        self._feed = self._engine.subscribe(asset_uuid, self._receive, self._read_again, snapshot.position)
        return events

    def _publish(self, event: AssetEvent) -> Receipt:
        receipt = self._engine.publish(event)
        self._state.write(event, receipt)
        return receipt

    def _write(self, attribute_id: str, value: Any) -> None:
        """Write an attribute that is known; a bare value keeps its type and tag."""
        known = self._state.get(attribute_id)
        if known is None:
            raise UnknownAttributeError(
                f"{self.asset_uuid} has no attribute {attribute_id!r}. Add it by add_attribute()."
            )
        if known.type == "Method":
            raise ConfigurationError(
                f"{attribute_id!r} is a method of {self.asset_uuid} and holds no value. Call it, or use another name."
            )
        if not isinstance(value, AssetAttribute):
            event = new_event(self.asset_uuid, attribute_id, value, known.type, known.tag, self._clock())
        elif value.id == attribute_id:
            event = AssetEvent.of(self.asset_uuid, value)
        else:
            raise ConfigurationError(
                f"The attribute {value.id!r} cannot be written as {attribute_id!r}. "
                f"Give it that id, or write it as {value.id!r}."
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
    """The names that belong to a class itself, so that setting them writes no attribute of the asset."""
    annotated = (name for base in asset_class.__mro__ for name in inspect.get_annotations(base))
    return frozenset((*dir(asset_class), *annotated))


Asset._names = _own_names(Asset)


def _private_memory() -> str:
    return f"memory://private-{uuid.uuid4().hex}"


def _contract(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _bare_tag(tag: str) -> str:
    """A tag without the namespace that some machines write before it: `{urn:…}Position` is `Position`."""
    return re.sub(r"\{.*?\}", "", tag).strip()
