"""Asset: the class that reads, writes, watches and commands an asset."""

from __future__ import annotations

import inspect
import operator
import uuid
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar

from openfactory.assets.asset_feed import AssetFeed
from openfactory.assets.caller import Caller, CommandArguments
from openfactory.assets.event_stream import EventStream
from openfactory.assets.producer import EngineProducer
from openfactory.assets.references import ABOVE, BELOW, add_reference, references_in
from openfactory.assets.shared_name import SharedName
from openfactory.assets.state import AssetState
from openfactory.assets.subscriptions import ALL_EVENTS, AssetCallback, Submit, Subscriptions
from openfactory.assets.values import changed_event, contracts, rows
from openfactory.assets.writes import Writes
from openfactory.commands.envelope import method_of_command
from openfactory.concurrency import OrderedExecutor
from openfactory.engines.location import Servers
from openfactory.engines.registry import Client, open_engine, open_engine_of
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import (
    CANCEL_TAG,
    COMMAND_TAG,
    OWNER_TAG,
    REPLY_TAG,
    AssetEvent,
    check_attribute_id,
)
from openfactory.events.ownership import OWNER_ID, Owner, is_by_owner
from openfactory.events.period import Bound
from openfactory.events.receipt import Receipt
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import SubscriptionError, UnknownAttributeError

__all__ = ["Asset"]

# The callbacks of all assets of a process share these threads; each asset has its own lane.
_callback_executor = OrderedExecutor("openfactory-callback")


class Asset:
    """A machine, sensor or app of the factory, wherever it runs.

    Read and write its attributes as attributes of the object. Use `asset["id"]` for an id that is also a name of this
    class. An attribute that has never been written reads as `UNAVAILABLE`.

    Close an asset after use, with `close` or a `with` block. An asset that is not closed ends when the program has no
    more references to it. An asset with callbacks receives events until it is closed.

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
        clock: returns the timestamp of each value written. Reading does not use it.

    Raises:
        ConfigurationError: neither the client nor KSQLDB_URL gives a URL, or the URL is not valid.
        EngineUnavailableError: the engine cannot be reached or opened.
    """

    asset_uuid: str
    ksql: Any
    bootstrap_servers: str | None
    asset_router_url: str | None
    _submit: Submit | None = None  # an app runs async callbacks on its own loop
    _is_app: ClassVar[bool] = False  # an app is kept although no variable refers to it, and owns its attributes
    _state = AssetState()  # empty until the constructor has run: a subclass may set attributes of its own before
    _names: ClassVar[frozenset[str]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._names = _own_names(cls)

    def __init__(
        self,
        asset_uuid: str,
        ksqlClient: Client | None,  # noqa: N803 - the name that apps pass it by
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
        self._subscriptions = Subscriptions(
            asset_uuid, self._state, _callback_executor, self._submit, self, always_kept=self._is_app
        )
        try:
            _, self._found_at = self._start_feed(asset_uuid)
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
        if name in self._names and any(name in vars(base) for base in type(self).__mro__):
            return object.__getattribute__(self, name)  # a property has raised the AttributeError: it raises it again
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        if "_state" not in vars(self):
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r} yet. Call super().__init__() before you read it."
            )
        return self[name]

    def __getitem__(self, attribute_id: str) -> Any:
        """Return an attribute, or a function that calls the method of that id."""
        event = self._state.get(attribute_id)
        if event is None:
            return AssetAttribute(attribute_id, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE)
        if event.type == "Method":
            return partial(self._caller.send_named, attribute_id)
        return event.attribute()

    def __contains__(self, attribute_id: str) -> bool:
        return attribute_id in self._state

    @property
    def type(self) -> str:
        """Type under which the asset is registered, or `UNAVAILABLE`."""
        return self._engine.types([self.asset_uuid]).get(self.asset_uuid, UNAVAILABLE)

    @property
    def owner(self) -> Owner | None:
        """The process that runs the app of this asset, or has run it last; None if no app has claimed the asset.

        An app claims its UUID when it starts. `ended` of the owner tells how it has ended, and is None while it lives.
        """
        return self._state.owner

    def attributes(self) -> list[str]:
        """Return the ids of the attributes, without methods, commands and replies."""
        return [event.id for event in self._state.attribute_events()]

    def samples(self) -> list[dict[str, Any]]:
        """Return the samples, each as `{"ID", "VALUE", "TAG"}`."""
        return rows(self._state, "Samples")

    def events(self) -> list[dict[str, Any]]:
        """Return the attributes of type event, each as `{"ID", "VALUE", "TAG"}`."""
        return rows(self._state, "Events")

    def conditions(self) -> list[dict[str, Any]]:
        """Return the conditions, each as `{"ID", "VALUE", "TAG"}`."""
        return rows(self._state, "Condition")

    def methods(self) -> dict[str, Any]:
        """Return the contract of each method by id: its description, and the arguments with all that is known of them.

        An argument of an app has a name, a description, a type, whether it is required, its default and its limits. The
        methods of other programs may have less.
        """
        return contracts(self._state)

    @property
    def ofa_attributes(self) -> dict[str, AssetAttribute]:
        """Attributes by id."""
        return {event.id: event.attribute() for event in self._state.attribute_events()}

    @property
    def ofa_methods(self) -> dict[str, Any]:
        """Contracts of the methods by id, as the log has them for every program: without types, defaults and limits."""
        return {event.id: event.value for event in self._state.events() if event.type == "Method"}

    def history(
        self, attribute_id: str, *, since: Bound | None = None, until: Bound | None = None, limit: int = 1000
    ) -> list[AssetAttribute]:
        """Return the past values of an attribute that are still in the log, newest last.

        Of more than `limit` values, the newest are returned. `since` and `until` bound the timestamps of the values,
        inclusively. Each is a datetime with a time zone, or a text in ISO 8601, which is in UTC if it has no zone.

        Raises:
            ConfigurationError: `since` or `until` is not a time, or is a datetime without a time zone.
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
        """Wait until an attribute has a value, and return whether it had it within `timeout` seconds.

        Args:
            comparison: function of the attribute's value and `value`; a number is used as the timeout.

        Raises:
            UnknownAttributeError: the attribute has never been written.
        """
        if isinstance(comparison, (int, float)):
            return Asset.wait_until(self, attribute_id, value, timeout=comparison)
        if not callable(comparison):
            raise TypeError(f"{comparison!r} is not callable. Pass a comparison such as operator.gt, or timeout=….")
        if attribute_id not in self._state:
            Asset.resync_state(self)  # the attribute may have been written a moment ago
        event = self._state.get(attribute_id)
        if event is None or event.type == "Method":
            known = ", ".join(Asset.attributes(self)) or "no attributes"
            raise UnknownAttributeError(f"{self.asset_uuid} has no attribute {attribute_id!r}. It has {known}.")
        return self._state.wait_for(lambda: bool(comparison(self[attribute_id].value, value)), timeout)

    def resync_state(self) -> None:
        """Read the last value of each attribute again; a value that is newer than the snapshot stays."""
        self._state.load(self._engine.snapshot([self.asset_uuid]).events.get(self.asset_uuid, ()))

    # Writing

    @cached_property
    def producer(self) -> EngineProducer:
        """Producer of events of any asset, whose failures `flush` of this asset reports."""
        return EngineProducer(self._engine, self._writes)

    @cached_property
    def _writes(self) -> Writes:
        """Writes of this object, created at the first write: most assets are only watched."""
        writes: Writes = vars(self).setdefault("_writes", Writes(self._engine))  # two threads may write first
        return writes

    def __setattr__(self, name: str, value: Any) -> None:
        if name[:1] == "_" or name in self._names or name in self.__dict__:
            object.__setattr__(self, name, value)
        elif (known := self._state.get(name)) is not None:
            self._publish(changed_event(self.asset_uuid, name, known, value, self._clock))
        elif isinstance(value, str) and self._before_first_command(name) is not None:
            self._write(name, value)
        elif isinstance(value, AssetAttribute):
            raise UnknownAttributeError(f"{self.asset_uuid} has no attribute {name!r}. Add it with add_attribute().")
        elif isinstance(value, str) and method_of_command(name) != name and not self._is_app:
            method, methods = method_of_command(name), ", ".join(Asset.methods(self)) or "no methods"
            raise UnknownAttributeError(
                f"{self.asset_uuid} has no method {method!r}, so the command is not sent. It has {methods}."
            )
        elif not name:
            check_attribute_id(name)
        else:
            object.__setattr__(self, name, value)

    def __setitem__(self, attribute_id: str, value: Any) -> None:
        self._write(attribute_id, value)

    def add_attribute(
        self, asset_attribute: AssetAttribute, wait_to_become_available: bool = True, *, timeout: float = 10.0
    ) -> None:
        """Add an attribute to the asset, or write all properties of an existing attribute.

        The type and the tag of an app's attribute belong to the app: a write of another program changes its value only.

        Args:
            wait_to_become_available: return only when every reader can see the attribute.
            timeout: seconds to wait for that.

        Raises:
            InvalidEventError: the id or the value is not valid in a message.
            DeliveryError: the attribute was not written.
            DeliveryTimeout: the write was not acknowledged in time.
        """
        if self._is_app:
            self._state.keep(asset_attribute.id, asset_attribute.type, asset_attribute.tag)
        receipt = self._publish(AssetEvent.of(self.asset_uuid, asset_attribute))
        if wait_to_become_available:
            receipt.wait(timeout)
            self._writes.forget(receipt)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all writes of this object are acknowledged, at most `timeout` seconds.

        Each thread, task and request is told of the failures of its own writes. A thread that has written nothing since
        its last flush is told of the failures of all.

        Raises:
            DeliveryError: a write has failed.
            DeliveryTimeout: a write was not acknowledged in time.
        """
        self._writes.flush(timeout)

    # Watching

    def subscribe_to_attribute(self, attribute_id: str, callback: AssetCallback) -> None:
        """Call `callback(subject, message)` for each event of an attribute, which may have several callbacks.

        The subject is `<asset uuid>.<attribute id>`. The message has VALUE, TAG, TYPE and attributes, in any case.
        Callbacks run in the order of the events, one at a time. An error in a callback is logged; the others still run.
        """
        self._subscriptions.add(f".{attribute_id}", callback)

    def subscribe_to_messages(self, callback: AssetCallback) -> None:
        """Call `callback` for each event of the asset, including commands and replies."""
        self._subscriptions.add(ALL_EVENTS, callback)

    def subscribe_to_samples(self, callback: AssetCallback) -> None:
        """Call `callback` for each sample."""
        self._subscriptions.add("Samples", callback)

    def subscribe_to_events(self, callback: AssetCallback) -> None:
        """Call `callback` for each event of the attributes of type event."""
        self._subscriptions.add("Events", callback)

    def subscribe_to_conditions(self, callback: AssetCallback) -> None:
        """Call `callback` for each condition."""
        self._subscriptions.add("Condition", callback)

    def stop_attribute_subscription(self, attribute_id: str) -> None:
        """End all subscriptions to an attribute."""
        self._subscriptions.remove(f".{attribute_id}")

    def stop_messages_subscription(self) -> None:
        """End the subscriptions to all events."""
        self._subscriptions.remove(ALL_EVENTS)

    def stop_samples_subscription(self) -> None:
        """End the subscriptions to samples."""
        self._subscriptions.remove("Samples")

    def stop_events_subscription(self) -> None:
        """End the subscriptions to attributes of type event."""
        self._subscriptions.remove("Events")

    def stop_conditions_subscription(self) -> None:
        """End the subscriptions to conditions."""
        self._subscriptions.remove("Condition")

    def watch(self, attribute_id: str | None = None, *, max_queued: int = 1000) -> EventStream:
        """Return the events of an attribute, or of the whole asset, for `async for` on the running event loop.

        When more than `max_queued` events wait, the oldest is dropped; the first drop is logged, and each is counted in
        the stream's `lost`.

        Raises:
            SubscriptionError: no event loop is running, or `max_queued` is less than 1.
        """
        name = self.asset_uuid if attribute_id is None else f"{self.asset_uuid}.{attribute_id}"
        try:
            stream = EventStream(name, max_queued, self._subscriptions.remove_listener)
        except RuntimeError as error:
            raise SubscriptionError(
                "watch() needs a running event loop. "
                "Call it in a coroutine, or subscribe a plain function with subscribe_to_attribute()."
            ) from error
        self._subscriptions.add_listener(stream, None if attribute_id is None else (attribute_id,))
        return stream

    # Commanding

    def method(
        self, method: str, sender_uuid: str, args: CommandArguments | None = None, *, timeout: float | None = None
    ) -> str:
        """Send a command without waiting for its result; `call` waits.

        Args:
            timeout: seconds after which the app no longer begins the method; COMMAND_TIMEOUT by default, and
                `math.inf` for no limit.

        Returns:
            the correlation id, which both sides write to their logs, and which `cancel` takes.

        Raises:
            ValueError: `sender_uuid` is empty.
        """
        return self._caller.send(method, sender_uuid, args or {}, timeout)

    def call(
        self,
        method: str,
        args: CommandArguments | None = None,
        /,
        *,
        sender_uuid: str | None = None,
        timeout: float = 10.0,
        **kwargs: Any,
    ) -> Any:
        """Send a command and wait for the method's result, at most `timeout` seconds.

        The app does not begin the method after these seconds. A call that ends before the reply cancels its command.

        Args:
            args: arguments whose names are also parameters of `call`, such as `timeout`.
            sender_uuid: UUID of the asset that sends the command; APP_UUID by default.
            **kwargs: all other arguments of the method.

        Raises:
            CommandRejected: the method was not run: it is unknown, an argument is wrong, or the app is stopping.
            CommandExpired: the method was not run, because the app took the command up too late.
            CommandCancelled: somebody has cancelled the command.
            CommandFailed: the method raised an error.
            CommandUnknown: the method may have run; the app was stopped or killed before it replied.
            CommandTimeout: the reply did not arrive in time; the method may have run.
            ValueError: `sender_uuid` and APP_UUID are empty.
        """
        return self._caller.call(method, sender_uuid, dict(args or (), **kwargs), timeout)

    async def call_async(
        self,
        method: str,
        args: CommandArguments | None = None,
        /,
        *,
        sender_uuid: str | None = None,
        timeout: float = 10.0,
        **kwargs: Any,
    ) -> Any:
        """Send a command and wait for its result, like `call`, without blocking the event loop."""
        return await self._caller.call_async(method, sender_uuid, dict(args or (), **kwargs), timeout)

    @SharedName
    def cancel(self, correlation_id: str) -> None:
        """Cancel a command that is not wanted any more, by the correlation id that sending it has returned.

        A method that has not begun does not run, and one of `@ofa_method(cancellable=True)` is interrupted. Another
        method that runs is not stopped. An asset with an attribute or a method of this name keeps it: write
        `Asset.cancel(asset, correlation_id)`.

        Raises:
            ValueError: it is not the id of a command.
        """
        self._caller.cancel(correlation_id)

    # References to other assets

    def get_references_above_uuid(self) -> list[str]:
        """Return the UUIDs of the assets above, the newest first."""
        return references_in(self._state.get(ABOVE))

    def get_references_below_uuid(self) -> list[str]:
        """Return the UUIDs of the assets below, the newest first."""
        return references_in(self._state.get(BELOW))

    def get_references_above(self) -> list[Asset]:
        """Return the assets above; close each of them after use."""
        return self._open_assets(self.get_references_above_uuid())

    def get_references_below(self) -> list[Asset]:
        """Return the assets below; close each of them after use."""
        return self._open_assets(self.get_references_below_uuid())

    def add_reference_above(self, reference: str) -> None:
        """Add a reference to an asset above, unless it exists already.

        Two processes may add references at the same time; both references are kept.

        Raises:
            InvalidEventError: the UUID is not valid in a message, contains a comma, or is `UNAVAILABLE`.
            DeliveryError: the reference was not written.
            DeliveryTimeout: the write was not acknowledged in time.
        """
        add_reference(self._engine, self._publish, self.asset_uuid, ABOVE, reference)

    def add_reference_below(self, reference: str) -> None:
        """Add a reference to an asset below, like `add_reference_above`."""
        add_reference(self._engine, self._publish, self.asset_uuid, BELOW, reference)

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
        if event.attributes is not None and is_by_owner(event):  # most events have no attributes
            if not self._state.counts(event):
                self._receive_void(event)
                return
            event = self._state.apply(event)
            if event.tag != REPLY_TAG:  # a reply changes no owner
                self._receive_of_owner(event)
        else:
            event = self._state.apply(event)
        if event.tag == REPLY_TAG:
            self._caller.settle(event)
        elif event.tag == COMMAND_TAG:
            self._receive_command(event)
        elif event.tag == CANCEL_TAG:
            self._receive_cancel(event)
        self._subscriptions.dispatch(event)

    def _receive_of_owner(self, event: AssetEvent) -> None:
        """Handle an event that the owner of this asset has written as the owner, or another process in its place."""
        if event.tag == OWNER_TAG and self._engine.liveness is not None:
            self._engine.liveness.note(self.asset_uuid, event)

    def _receive_void(self, event: AssetEvent) -> None:
        """Handle an event of a process that has lost this asset; only an app overrides this."""

    def _receive_command(self, event: AssetEvent) -> None:
        """Handle a command sent to this asset; only an app overrides this."""

    def _receive_cancel(self, event: AssetEvent) -> None:
        """Handle the cancel of a command sent to this asset; only an app overrides this."""

    # Internals

    def _start_feed(self, asset_uuid: str) -> tuple[list[AssetEvent], int]:
        """Load the last events of an asset, receive each event that follows, and return the last and their position."""
        self._caller = Caller(asset_uuid, self._publish, self._engine.stamp, self._state)
        self._feed = AssetFeed(self._reference, asset_uuid, self, self._subscriptions.kept)
        found = self._feed.start()
        claim = self._state.get(OWNER_ID)
        if claim is not None and self._engine.liveness is not None:
            self._engine.liveness.note(asset_uuid, claim)
        return found

    def _publish(self, event: AssetEvent) -> Receipt:
        receipt = self._writes.publish(event)
        self._state.write(event, receipt)
        return receipt

    def _before_first_command(self, attribute_id: str) -> AssetEvent | None:
        """Return an empty command if the id is that of the commands to a known method, which has never had one."""
        method = self._state.get(method_of_command(attribute_id))
        if method is None or method.id == attribute_id or method.type != "Method":
            return None
        return AssetEvent(self.asset_uuid, attribute_id, "", "OpenFactory", COMMAND_TAG, UNAVAILABLE)

    def _write(self, attribute_id: str, value: Any) -> Receipt:
        known = self._state.get(attribute_id) or self._before_first_command(attribute_id)
        return self._publish(changed_event(self.asset_uuid, attribute_id, known, value, self._clock))

    def _open_assets(self, asset_uuids: list[str]) -> list[Asset]:
        return [Asset(uuid, self.ksql, self.bootstrap_servers, self.asset_router_url) for uuid in asset_uuids]


def _own_names(asset_class: type) -> frozenset[str]:
    """Return the names that a class defines itself; assigning to them does not write an attribute of the asset."""
    annotated = (name for base in asset_class.__mro__ for name in inspect.get_annotations(base))
    own = (name for name in dir(asset_class) if not isinstance(inspect.getattr_static(asset_class, name), SharedName))
    return frozenset((*own, *annotated))


Asset.__init_subclass__()  # its own names: Python calls this for subclasses only
