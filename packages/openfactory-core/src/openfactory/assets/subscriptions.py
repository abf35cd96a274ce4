"""Who wants to hear of an asset's events: the callbacks, and the lane on which they run in order."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import UserDict
from collections.abc import Callable, Collection, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Protocol

from openfactory.assets.event_stream import EventStream
from openfactory.concurrency import Lane, OrderedExecutor
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.exceptions import SubscriptionError

__all__ = ["ALL_EVENTS", "AssetCallback", "CaseInsensitiveDict", "Subscriptions"]

#: The topic of callbacks that hear every event of the asset.
ALL_EVENTS = "*"

_logger = logging.getLogger("openfactory.assets")


class CaseInsensitiveDict(UserDict[str, Any]):
    """A message's dictionary, read without regard to the case of its keys, because writers differ in it.

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
        """The spelling under which a key stands already, or the given one."""
        if key in self.data:
            return key
        folded = key.casefold()
        return next((known for known in self.data if known.casefold() == folded), key)


#: What a subscriber gives: called with the subject `<asset uuid>.<attribute id>` and the message, whose keys are
#: VALUE, TAG, TYPE and attributes (with the timestamp).
AssetCallback = Callable[[str, CaseInsensitiveDict], object]

#: Starts a coroutine on a loop.
Submit = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]


class Listener(Protocol):
    """Hears events on the thread that brings them, so it returns at once."""

    def offer(self, event: AssetEvent) -> None:
        """Take an event."""

    def end(self) -> None:
        """No more will come."""


class Subscriptions:
    """The callbacks of one asset; they run in the order of the events, and one that raises stops no other."""

    def __init__(self, asset_uuid: str, executor: OrderedExecutor, submit: Submit | None = None) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[str, tuple[AssetCallback, ...]] = {}
        self._asset_uuid = asset_uuid
        self._executor = executor
        self._submit = submit
        self._listeners: tuple[tuple[Collection[str] | None, Listener], ...] = ()
        self._ended = False
        self._lane: Lane | None = None  # made with the first callback: most watched assets only feed their state

    def add(self, topic: str, callback: AssetCallback) -> None:
        """Call back for each event of a topic: an attribute id as `.id`, an attribute type, or `ALL_EVENTS`.

        A coroutine function runs on the loop that is running where it is subscribed, else on that of the app; the
        lane waits for it, so that the order holds.

        Raises:
            SubscriptionError: the callback cannot be called, or is a coroutine function and there is no loop.
        """
        if not callable(callback):
            raise SubscriptionError(f"{callback!r} cannot be called. Pass a function of (subject, message).")
        if inspect.iscoroutinefunction(callback):
            callback = _on_loop(callback, self._submit)
        with self._lock:
            if self._lane is None:
                self._lane = self._executor.lane(self._asset_uuid)
            self._callbacks[topic] = (*self._callbacks.get(topic, ()), callback)

    def remove(self, topic: str, callback: AssetCallback | None = None) -> None:
        """Call back no more for a topic, or this one callback no more; nothing happens when nobody listened."""
        with self._lock:
            left = () if callback is None else tuple(one for one in self._callbacks.get(topic, ()) if one != callback)
            if left:
                self._callbacks[topic] = left
            else:
                self._callbacks.pop(topic, None)

    def open_stream(self, attribute_id: str | None, max_queued: int) -> EventStream:
        """A stream of the events of an attribute, or of all, for the loop that is running here."""
        name = self._asset_uuid if attribute_id is None else f"{self._asset_uuid}.{attribute_id}"
        stream = EventStream(name, max_queued, self.unsubscribe)
        self.tell(stream, None if attribute_id is None else (attribute_id,))
        return stream

    def tell(self, listener: Listener, attribute_ids: Collection[str] | None = None) -> None:
        """Tell a listener of the events of some attributes, or of all; at once that none will come after the end."""
        with self._lock:
            if not self._ended:
                self._listeners = (*self._listeners, (attribute_ids, listener))
                return
        listener.end()

    def unsubscribe(self, listener: Listener) -> None:
        """Tell a listener no more."""
        with self._lock:
            self._listeners = tuple(one for one in self._listeners if one[1] is not listener)

    def clear(self) -> None:
        """Call back no more, and end what listens."""
        with self._lock:
            self._ended = True
            self._callbacks.clear()
            listeners, self._listeners = self._listeners, ()
        for _, listener in listeners:
            listener.end()

    def dispatch(self, event: AssetEvent) -> None:
        """Have the callbacks called that want this event, and tell what listens; returns at once."""
        event = event.normalized()
        for attribute_ids, listener in self._listeners:
            if attribute_ids is None or event.id in attribute_ids:
                listener.offer(event)
        if not self._callbacks:
            return
        callbacks = tuple(self._wanting(event))
        if callbacks and self._lane is not None:
            self._lane.submit(_call, callbacks, event)

    def _wanting(self, event: AssetEvent) -> Iterator[AssetCallback]:
        if event.type == "Method":
            return  # a method that is announced is no event of the machine
        wanted = self._callbacks
        yield from wanted.get("." + event.id, ())
        yield from wanted.get(ALL_EVENTS, ())
        if event.tag not in (COMMAND_TAG, REPLY_TAG):
            yield from wanted.get(event.type, ())


def _on_loop(callback: Callable[..., Coroutine[Any, Any, object]], submit: Submit | None) -> AssetCallback:
    try:
        submit = partial(_submit_to, asyncio.get_running_loop())
    except RuntimeError as error:
        if submit is None:
            raise SubscriptionError(
                f"{callback.__qualname__} is an async def and no event loop is running here to run it on. "
                "Subscribe inside a coroutine, or pass a plain function."
            ) from error
    submit_here = submit

    @wraps(callback)
    def call(subject: str, message: CaseInsensitiveDict) -> None:
        with suppress(CancelledError):  # the loop ends, and so does whoever listened
            submit_here(callback(subject, message)).result()

    return call


def _submit_to(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, object]) -> Future[object]:
    if loop.is_closed():
        coroutine.close()
        raise SubscriptionError("Its event loop has ended. End the subscription before the loop.")
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


def _call(callbacks: tuple[AssetCallback, ...], event: AssetEvent) -> None:
    subject = f"{event.asset_uuid}.{event.id}"
    for callback in callbacks:
        message = CaseInsensitiveDict()
        message.data = {
            "VALUE": event.value,
            "TAG": event.tag,
            "TYPE": event.type,
            "attributes": {"timestamp": event.timestamp},
        }
        try:
            callback(subject, message)
        except Exception:
            _logger.exception(
                "The callback %s for %s raised; the other callbacks run all the same.",
                getattr(callback, "__qualname__", callback),
                subject,
            )
