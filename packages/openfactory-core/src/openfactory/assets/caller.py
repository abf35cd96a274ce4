"""The caller's side of commands: sends them, waits for replies, and explains a missing reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import msgspec

from openfactory.assets.state import AssetState
from openfactory.commands.envelope import CommandEnvelope, CommandReply
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import CommandFailed, CommandRejected, CommandTimeout, OpenFactoryError
from openfactory.settings import environment

__all__ = ["Caller", "CommandArguments"]

#: Arguments of a command: a mapping, or pairs of name and value.
CommandArguments = Mapping[str, Any] | Iterable[tuple[str, Any]]

_logger = logging.getLogger("openfactory.commands")


class Caller:
    """Sends commands to one asset.

    Args:
        asset_uuid: UUID of the asset.
        publish: writes a command to the log.
        state: state of the asset, from which a timeout is explained.
    """

    def __init__(self, asset_uuid: str, publish: Callable[[AssetEvent], Receipt], state: AssetState) -> None:
        self._asset_uuid = asset_uuid
        self._publish = publish
        self._state = state
        self._waiting: dict[str, Future[CommandReply]] = {}

    def send(self, method: str, sender_uuid: str, arguments: CommandArguments) -> str:
        """Send a command and return its correlation id.

        Raises:
            ValueError: `sender_uuid` is empty.
        """
        envelope = self._envelope(method, sender_uuid, arguments)
        self._publish(envelope.event(self._asset_uuid, method))
        return str(envelope.header.correlation_id)

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
        with self._sent(method, sender_uuid or environment("APP_UUID"), arguments, timeout) as reply:
            return self._result(method, reply.result(timeout))

    async def call_async(
        self, method: str, sender_uuid: str | None, arguments: CommandArguments, timeout: float
    ) -> Any:
        """Send a command and wait for its result, like `call`, without blocking the event loop."""
        with self._sent(method, sender_uuid or environment("APP_UUID"), arguments, timeout) as reply:
            return self._result(method, await asyncio.wait_for(asyncio.wrap_future(reply), timeout))

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

    def _envelope(self, method: str, sender_uuid: str | None, arguments: CommandArguments) -> CommandEnvelope:
        if not sender_uuid:
            raise ValueError(
                f"{self._asset_uuid}.{method} needs a sender. Pass sender_uuid=, the UUID of your own asset."
            )
        return CommandEnvelope.addressed(sender_uuid, dict(arguments))

    @contextmanager
    def _sent(
        self, method: str, sender_uuid: str | None, arguments: CommandArguments, timeout: float
    ) -> Generator[Future[CommandReply]]:
        """Send a command and yield its future reply; a timeout inside the block becomes a `CommandTimeout`."""
        envelope = self._envelope(method, sender_uuid, arguments)
        correlation_id = str(envelope.header.correlation_id)
        reply = self._waiting[correlation_id] = Future()  # before sending: the reply may arrive at once
        try:
            receipt = self._publish(envelope.event(self._asset_uuid, method))
            try:
                yield reply
            except TimeoutError as error:
                if isinstance(error, OpenFactoryError):
                    raise
                reason = self._timeout_reason(method, receipt)
                raise CommandTimeout(
                    f"{self._asset_uuid} did not reply to {method} within {timeout:g} s: {reason}",
                    asset_uuid=self._asset_uuid,
                    method=method,
                    correlation_id=correlation_id,
                    timeout=timeout,
                ) from error
        finally:
            self._waiting.pop(correlation_id, None)

    def _timeout_reason(self, method: str, receipt: Receipt) -> str:
        if receipt.error is not None:
            return f"the command could not be written: {receipt.error}"
        if not receipt.settled:
            return "the command has not been written yet. Check the engine's health()."
        availability = self._state.get("avail")
        methods = [event.id for event in self._state.events() if event.type == "Method"]
        if availability is None and not methods:
            return "nothing is known of this asset. Check its UUID, or start its app."
        if availability is not None and availability.value == UNAVAILABLE:
            return "it is UNAVAILABLE. Start its app."
        if method not in methods:
            return f"it has no method of this name. It has {', '.join(methods) or 'no methods'}."
        return "it is AVAILABLE but does not answer. Check that its app still runs, or pass a longer timeout=."

    def _result(self, method: str, reply: CommandReply) -> Any:
        if reply.status == "succeeded":
            return reply.result
        kind = CommandRejected if reply.status == "rejected" else CommandFailed
        raise kind(
            f"{self._asset_uuid}.{method} was {reply.status}: {reply.error or 'no reason was given.'}"
            if reply.status == "rejected"
            else f"{self._asset_uuid}.{method} failed: {reply.error or 'no reason was given.'}",
            asset_uuid=self._asset_uuid,
            method=method,
            correlation_id=str(reply.correlation_id),
        )
