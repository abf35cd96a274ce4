"""Subscriptions to the events of an asset: the callbacks, and the lane in which they run in order."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import weakref
from collections import UserDict
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Protocol

from openfactory.assets.state import AssetState
from openfactory.concurrency import Lane, OrderedExecutor
from openfactory.concurrency.turns import leave_turn
from openfactory.events.event import CANCEL_TAG, COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.message import attributes_of
from openfactory.exceptions import SubscriptionError

__all__ = ["ALL_EVENTS", "AssetCallback", "CaseInsensitiveDict", "Subscriptions"]

#: The topic of callbacks that receive every event of the asset.
ALL_EVENTS = "*"

_logger = logging.getLogger("openfactory.assets")


class CaseInsensitiveDict(UserDict[str, Any]):
    """Dictionary of a message that finds its keys in any case, because writers spell them differently.

    >>> message = CaseInsensitiveDict({"VALUE": 3})
    >>> message["value"], "Value" in message
    (3, True)
    """

    def __getitem__(self, key: str) -> Any:
        return self.data[self._spelling(key)]

    def __setitem__(self, key: str, value: Any) -> None:
        self.data[self._spelling(key)] = value

    def __delitem__(self, key: str) -> None:
        del self.data[self._spelling(key)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._spelling(key) in self.data

    def _spelling(self, key: str) -> str:
        """Return the spelling that the dictionary uses for a key, or the key itself if it is new."""
        if key in self.data:
            return key
        folded = key.casefold()
        return next((known for known in self.data if known.casefold() == folded), key)


#: Callback of a subscription. Its arguments are the subject `<asset uuid>.<attribute id>` and the message, whose keys
#: are VALUE, TAG, TYPE and attributes (with the timestamp, and what the writer and others on the way have added).
AssetCallback = Callable[[str, CaseInsensitiveDict], object]

#: Function that starts a coroutine on an event loop.
Submit = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]


class Listener(Protocol):
    """Receives events on the thread that delivers them, so its methods must return at once."""

    def offer(self, event: AssetEvent) -> None:
        """Receive an event."""

    def end(self) -> None:
        """Handle the end of the subscription; no more events follow."""


class Subscriptions:
    """Callbacks and listeners of one asset.

    Callbacks run in the order of the events. If a callback raises an error, the others still run.

    Args:
        name: UUID of the asset.
        state: state of the asset, the source of current values.
        executor: runs the callbacks.
        submit: starts coroutines on the event loop of an app.
        asset: the asset; it stays as long as a listener that was added here.
        always_kept: whether the asset is kept without callbacks too, until `clear`.

    Attributes:
        kept: contains the asset while it must be kept even if the program has no reference to it.
    """

    def __init__(
        self,
        name: str,
        state: AssetState,
        executor: OrderedExecutor,
        submit: Submit | None = None,
        asset: object = None,
        *,
        always_kept: bool = False,
    ) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._callbacks: dict[str, tuple[AssetCallback, ...]] = {}
        self._state = state
        self._executor = executor
        self._submit = submit
        self._asset = asset
        self._always_kept = always_kept
        self.kept: list[object] = [asset] if always_kept else []
        # The readers keep their listeners. A listener without a reader would receive events for ever.
        self._listeners: tuple[tuple[Collection[str] | None, weakref.ref[Listener]], ...] = ()
        self._ended = False
        self._lane: Lane | None = None  # created with the first callback; most assets have no callbacks

    @property
    def are_heard(self) -> bool:
        """Whether there are callbacks or listeners."""
        return bool(self._callbacks or self._listeners)

    def add(self, topic: str, callback: AssetCallback) -> None:
        """Call `callback` for each event of a topic.

        A coroutine function runs on the event loop that is running in the calling thread, or else on the loop of the
        app. The lane waits for it, to keep the order.

        Args:
            topic: an attribute id as `.id`, an attribute type, or `ALL_EVENTS`.

        Raises:
            SubscriptionError: the callback is not callable, or is a coroutine function without an event loop.
        """
        if not callable(callback):
            raise SubscriptionError(f"{callback!r} is not callable. Pass a function of (subject, message).")
        if inspect.iscoroutinefunction(callback):
            callback = _on_loop(callback, self._submit)
        with self._lock:
            if self._lane is None:
                self._lane = self._executor.lane(self.name)
            self._callbacks[topic] = (*self._callbacks.get(topic, ()), callback)
            self.kept[:] = [self._asset]

    def remove(self, topic: str, callback: AssetCallback | None = None) -> None:
        """Remove a callback of a topic, or all its callbacks; do nothing if they are not subscribed."""
        with self._lock:
            callbacks = () if callback is None else self._callbacks.get(topic, ())
            remaining = tuple(known for known in callbacks if known != callback)
            if remaining:
                self._callbacks[topic] = remaining
            else:
                self._callbacks.pop(topic, None)
            if not self._callbacks and not self._always_kept:
                self.kept.clear()

    def add_listener(
        self, listener: Listener, attribute_ids: Collection[str] | None = None, *, current_values: bool = False
    ) -> list[AssetEvent]:
        """Deliver the events of some attributes, or of all, to a listener; end it at once after `clear`.

        Returns:
            the last event of each attribute, if `current_values` is true. The listener may have received some of them,
            or may receive them again.
        """
        with self._lock:
            if not self._ended:
                self._listeners = (*self._living(), (attribute_ids, weakref.ref(listener)))
        if self._ended:
            listener.end()
        if not current_values:
            return []
        return [event for event in self._state.attribute_events() if attribute_ids is None or event.id in attribute_ids]

    def remove_listener(self, listener: Listener) -> None:
        """Stop the delivery of events to a listener."""
        with self._lock:
            self._listeners = tuple(entry for entry in self._living() if entry[1]() is not listener)

    def clear(self) -> None:
        """Remove all callbacks, and end and remove all listeners."""
        with self._lock:
            self._ended = True
            self._callbacks.clear()
            self.kept.clear()
            listeners, self._listeners = self._listeners, ()
        for _, reference in listeners:
            if (listener := reference()) is not None:
                listener.end()

    def dispatch(self, event: AssetEvent) -> None:
        """Queue the callbacks of an event, and deliver it to its listeners; return at once.

        Args:
            event: the event, as the state of the asset shows it.
        """
        for attribute_ids, reference in self._listeners:
            if (attribute_ids is None or event.id in attribute_ids) and (listener := reference()) is not None:
                listener.offer(event)
        if not self._callbacks:
            return
        callbacks = self._callbacks_of(event)
        if callbacks and self._lane is not None:
            self._lane.submit(_call, callbacks, event)

    def _living(self) -> list[tuple[Collection[str] | None, weakref.ref[Listener]]]:
        return [entry for entry in self._listeners if entry[1]() is not None]

    def _callbacks_of(self, event: AssetEvent) -> list[AssetCallback]:
        if event.type == "Method":
            return []  # an app announces its methods this way; subscribers do not receive them
        callbacks = self._callbacks
        found = [*callbacks.get("." + event.id, ()), *callbacks.get(ALL_EVENTS, ())]
        if event.tag not in (COMMAND_TAG, REPLY_TAG, CANCEL_TAG):
            found += callbacks.get(event.type, ())
        return found


def _on_loop(callback: Callable[..., Coroutine[Any, Any, object]], submit: Submit | None) -> AssetCallback:
    try:
        submit = partial(_submit_to, asyncio.get_running_loop())
    except RuntimeError as error:
        if submit is None:
            raise SubscriptionError(
                f"{callback.__qualname__} is an async def function, and no event loop is running here. "
                "Subscribe inside a coroutine, or pass a plain function."
            ) from error
    submit_here = submit

    @wraps(callback)
    def call(subject: str, message: CaseInsensitiveDict) -> None:
        with suppress(CancelledError):  # the event loop has ended, and the subscription with it
            called = submit_here(callback(subject, message))
            leave_turn()
            called.result()

    return call


def _submit_to(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object]) -> Future[object]:
    if loop.is_closed():
        coroutine.close()
        raise SubscriptionError("The event loop of the callback is closed. End the subscription before the loop.")
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


def _call(callbacks: list[AssetCallback], event: AssetEvent) -> None:
    subject = f"{event.asset_uuid}.{event.id}"
    event = event.as_read()
    for callback in callbacks:
        message = CaseInsensitiveDict()
        message.data = {
            "VALUE": event.value,
            "TAG": event.tag,
            "TYPE": event.type,
            "attributes": attributes_of(event),
        }
        try:
            callback(subject, message)
        except Exception:
            _logger.exception(
                "The callback %s for %s raised an error. The other callbacks still run.",
                getattr(callback, "__qualname__", callback),
                subject,
            )
