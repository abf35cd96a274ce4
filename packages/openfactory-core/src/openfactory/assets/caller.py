"""The caller's side of commands: sends and cancels them, waits for replies, and explains a missing reply."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from openfactory.assets.state import AssetState
from openfactory.commands.envelope import CommandCancel, CommandEnvelope, CommandReply
from openfactory.commands.waiting import SENT, TIMEOUT, seconds_text, text_in
from openfactory.concurrency import Lane, OrderedExecutor
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.concurrency.turns import leave_turn
from openfactory.engines.room import waiting_for_room
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import (
    CommandCancelled,
    CommandError,
    CommandExpired,
    CommandFailed,
    CommandRejected,
    CommandTimeout,
    CommandUnknown,
    DeliveryTimeout,
    OpenFactoryError,
)
from openfactory.settings import environment, seconds

__all__ = ["Caller", "CommandArguments"]

#: Arguments of a command: a mapping, or pairs of name and value.
CommandArguments = Mapping[str, Any] | Iterable[tuple[str, Any]]

_logger = logging.getLogger("openfactory.commands")

# Number of commands without a time of sending whose write is awaited, and the longest wait for a write, in seconds.
_MAX_WATCHED = 1_000
_WRITE_SECONDS = 180.0

_executor = OrderedExecutor("openfactory-written-command")

# The error for each status of a reply, and the words that begin its text.
_ERRORS: Mapping[str, tuple[type[CommandError], str]] = {
    "rejected": (CommandRejected, "was rejected"),
    "expired": (CommandExpired, "came too late"),
    "cancelled": (CommandCancelled, "was cancelled"),
    "failed": (CommandFailed, "failed"),
    "unknown": (CommandUnknown, "may have run"),
}


@dataclass(slots=True)
class _Command:
    """A command to the asset, whose reply may be awaited.

    Attributes:
        event: the event that carries it.
        timeout: seconds that the caller waits in all.
        deadline: end of these seconds, as `time.monotonic()` has it.
        receipt: outcome of its write; None until it is in the queue.
    """

    method: str
    correlation_id: str
    event: AssetEvent
    timeout: float
    deadline: float
    receipt: Receipt | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds that the caller still waits."""
        return max(self.deadline - time.monotonic(), 0.0)


class Caller:
    """Sends commands to one asset.

    Args:
        asset_uuid: UUID of the asset.
        publish: writes a command to the log.
        stamp: returns the attributes of a command to an asset that tell when it was sent, see `Engine.stamp`.
        state: state of the asset, from which a timeout is explained.
    """

    def __init__(
        self,
        asset_uuid: str,
        publish: Callable[[AssetEvent], Receipt],
        stamp: Callable[[str], Mapping[str, str]],
        state: AssetState,
    ) -> None:
        self._asset_uuid = asset_uuid
        self._publish = publish
        self._stamp = stamp
        self._state = state
        self._waiting: dict[str, Future[CommandReply]] = {}
        self._lane: Lane | None = None  # waits for the writes of commands that do not tell when they were sent

    def send(self, method: str, sender_uuid: str, arguments: CommandArguments, timeout: float | None = None) -> str:
        """Send a command and return its correlation id.

        Args:
            timeout: seconds after which the app no longer begins it; COMMAND_TIMEOUT by default.

        Raises:
            ValueError: `sender_uuid` is empty.
        """
        if timeout is None:
            timeout = seconds("COMMAND_TIMEOUT") or math.inf
        command = self._command(method, sender_uuid, arguments, timeout)
        receipt = self._publish(command.event)
        if math.isfinite(timeout) and text_in(command.event, SENT) is None and not receipt.settled:
            self._cancel_if_late(command.correlation_id, receipt, timeout)
        return command.correlation_id

    def cancel(self, correlation_id: str) -> None:
        """Cancel a command, which need not be one of this caller.

        Raises:
            ValueError: it is not the id of a command.
        """
        self._publish(CommandCancel.of(correlation_id).event(self._asset_uuid))

    def send_named(self, method: str, *args: Any, sender_uuid: str = "", **kwargs: Any) -> str:
        """Send a command, as `asset.start(sender_uuid="HMI", speed=900)` does, and return its correlation id.

        Raises:
            TypeError: an argument is passed by position.
            ValueError: `sender_uuid` is empty.
        """
        if args:
            raise TypeError(
                f"{self._asset_uuid}.{method} takes its arguments by name. Write {method}(sender_uuid=…, x=1)."
            )
        return self.send(method, sender_uuid, kwargs)

    def call(self, method: str, sender_uuid: str | None, arguments: CommandArguments, timeout: float) -> Any:
        """Send a command and wait for its result, at most `timeout` seconds; the sender defaults to APP_UUID."""
        command = self._command(method, sender_uuid or environment("APP_UUID"), arguments, timeout)
        with self._replied(command) as reply:
            with waiting_for_room(timeout):
                command.receipt = self._publish(command.event)
            leave_turn()
            return self._result(method, reply.result(command.seconds_left))

    async def call_async(
        self, method: str, sender_uuid: str | None, arguments: CommandArguments, timeout: float
    ) -> Any:
        """Send a command and wait for its result, like `call`, without blocking the event loop."""
        command = self._command(method, sender_uuid or environment("APP_UUID"), arguments, timeout)
        with self._replied(command) as reply:
            command.receipt = await self._publish_async(command)
            return self._result(method, await asyncio.wait_for(asyncio.wrap_future(reply), command.seconds_left))

    def settle(self, event: AssetEvent) -> None:
        """Deliver a reply to the call that waits for it; ignore replies to other callers."""
        if not self._waiting:
            return
        try:
            reply = CommandReply.parse(event.value)
        except msgspec.MsgspecError as error:
            _logger.warning(
                "%s.%s at position %s is not a reply: %s. It is skipped.",
                event.asset_uuid,
                event.id,
                event.position,
                error,
            )
            return
        future = self._waiting.pop(str(reply.correlation_id), None)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_result(reply)

    def _command(self, method: str, sender_uuid: str | None, arguments: CommandArguments, timeout: float) -> _Command:
        if not sender_uuid:
            raise ValueError(
                f"{self._asset_uuid}.{method} needs a sender. Pass sender_uuid=, the UUID of your own asset."
            )
        envelope = CommandEnvelope.addressed(sender_uuid, dict(arguments))
        waits = {TIMEOUT: seconds_text(timeout)} if math.isfinite(timeout) else {}
        event = envelope.event(self._asset_uuid, method, {**waits, **self._stamp(self._asset_uuid)})
        return _Command(method, str(envelope.header.correlation_id), event, timeout, time.monotonic() + timeout)

    async def _publish_async(self, command: _Command) -> Receipt:
        """Write a command; while the queue is full, wait in a thread, so that the event loop continues."""
        try:
            with waiting_for_room(0):
                return self._publish(command.event)
        except DeliveryTimeout:
            with waiting_for_room(command.seconds_left):  # the thread gets a copy of the context
                return await asyncio.to_thread(self._publish, command.event)

    @contextmanager
    def _replied(self, command: _Command) -> Generator[Future[CommandReply]]:
        """Yield the future reply of a command; a timeout inside the block becomes a `CommandTimeout`.

        The command is cancelled if the block ends before the reply.
        """
        reply = self._waiting[command.correlation_id] = Future()  # before sending: the reply may arrive at once
        try:
            yield reply
        except TimeoutError as error:
            if isinstance(error, OpenFactoryError) and not isinstance(error, DeliveryTimeout):
                raise
            reason = self._timeout_reason(command) if command.receipt else f"the command was not sent: {error}"
            raise CommandTimeout(
                f"{self._asset_uuid} did not reply to {command.method} within {command.timeout:g} s: {reason}",
                asset_uuid=self._asset_uuid,
                method=command.method,
                correlation_id=command.correlation_id,
                timeout=command.timeout,
            ) from error
        finally:
            is_waiting = self._waiting.pop(command.correlation_id, None) is not None  # else the reply has arrived
            if is_waiting:
                self._give_up(command.correlation_id, command.receipt)

    def _give_up(self, correlation_id: str, receipt: Receipt | None) -> None:
        """Cancel a command that is not wanted any more, without waiting for the write of the cancel."""
        if receipt is not None and receipt.error is not None:
            return
        try:
            with waiting_for_room(0):
                self.cancel(correlation_id)
        except OpenFactoryError as error:  # the deadline of the command still holds
            _logger.debug("The command %s to %s was not cancelled: %s", correlation_id, self._asset_uuid, error)

    def _cancel_if_late(self, correlation_id: str, receipt: Receipt, timeout: float) -> None:
        """Cancel a command that does not tell when it was sent, if it is written after its time."""
        expires = boot_seconds() + timeout

        def wait_for_write() -> None:
            receipt.settles(_WRITE_SECONDS)
            if boot_seconds() >= expires:
                self._give_up(correlation_id, receipt)

        if self._lane is None:
            self._lane = _executor.lane(f"commands to {self._asset_uuid}")
        if len(self._lane) < _MAX_WATCHED:
            self._lane.submit(wait_for_write)

    def _timeout_reason(self, command: _Command) -> str:
        receipt = command.receipt
        if receipt is not None and receipt.error is not None:
            return f"the command could not be written: {receipt.error}"
        if receipt is not None and not receipt.settled:
            return "the command has not been written yet. Check the engine's health()."
        availability = self._state.get("avail")
        methods = [event.id for event in self._state.events() if event.type == "Method"]
        if availability is None and not methods:
            return "nothing is known of this asset. Check its UUID, or start its app."
        if availability is not None and availability.value == UNAVAILABLE:
            return "it is UNAVAILABLE. Start its app."
        if command.method not in methods:
            return f"it has no method of this name. It has {', '.join(methods) or 'no methods'}."
        return "it is AVAILABLE but does not answer. Check that its app still runs, or pass a longer timeout=."

    def _result(self, method: str, reply: CommandReply) -> Any:
        name = f"{self._asset_uuid}.{method}"
        if reply.status == "succeeded":
            if reply.error:
                _logger.warning("%s (command %s) %s", name, reply.correlation_id, reply.error)
            return reply.result
        kind, outcome = _ERRORS[reply.status]
        raise kind(
            f"{name} {outcome}: {reply.error or 'no reason was given.'}",
            asset_uuid=self._asset_uuid,
            method=method,
            correlation_id=str(reply.correlation_id),
        )
