"""The handling of commands by an app: each command runs at most once, and gets a reply."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import msgspec

from openfactory.apps.methods import MethodContract
from openfactory.commands.envelope import CommandEnvelope, CommandReply, method_of_command
from openfactory.concurrency import Lane, OrderedExecutor
from openfactory.events.decoding import decode_json
from openfactory.events.event import AssetEvent, wire_value
from openfactory.exceptions import OpenFactoryError

__all__ = ["REMEMBERED", "CommandHandler"]

#: Number of correlation ids to remember. A command that arrives again is not run again, and gets the same reply.
REMEMBERED = 4_096

# Number of characters of an error in a reply; the log has the whole text.
_LONGEST_ERROR = 2_000

# The apps of a process share these threads; each method has its own lane.
_executor = OrderedExecutor("openfactory-command")


class CommandHandler:
    """The commands of one app: their execution, and their replies.

    Calls of the same method run in order. Different methods run in parallel, so that `stop_axis` can interrupt
    `move_axis`.

    Args:
        owner: app whose methods are called.
        asset_uuid: UUID of the app.
        contracts: methods of the app by their name in commands.
        publish: writes a reply.
        submit: starts a coroutine on the app's event loop.
    """

    def __init__(
        self,
        owner: object,
        asset_uuid: str,
        contracts: Mapping[str, MethodContract],
        publish: Callable[[AssetEvent], object],
        submit: Callable[[Coroutine[Any, Any, Any]], Future[Any]],
    ) -> None:
        self._owner = owner
        self._asset_uuid = asset_uuid
        self._contracts = contracts
        self._publish = publish
        self._submit = submit
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._early: deque[AssetEvent] | None = deque()  # commands that arrive before `start`; None after it
        self._open: dict[str, str] = {}  # method by correlation id, of commands that have no reply yet
        self._replies: OrderedDict[str, CommandReply | None] = OrderedDict()
        self._stopping = False
        self._logger = logging.getLogger("openfactory.commands")
        self.counters = {"succeeded": 0, "failed": 0, "rejected": 0}

    @property
    def waiting(self) -> int:
        """The number of commands that have no reply yet."""
        return len(self._open)

    def start(self, commands: Iterable[AssetEvent], replies: Iterable[AssetEvent], logger: logging.Logger) -> None:
        """Run the commands received since the app was built, and reject older commands that have no reply.

        Args:
            commands: commands in the log from before the app was built.
            replies: replies in the log from before the app was built.
            logger: logger of the app.
        """
        self._logger = logger
        self._load_replies(replies)
        self._reject_older(commands)
        while True:
            with self._lock:
                if not self._early:
                    self._early = None  # only when it is empty, so that no command overtakes an early command
                    return
                event = self._early.popleft()
            self._take(event)

    def receive(self, event: AssetEvent) -> None:
        """Accept a command, and return without waiting for its method."""
        with self._lock:
            if self._early is not None:
                self._early.append(event)
                return
        self._take(event)

    def _take(self, event: AssetEvent) -> None:
        method = method_of_command(event.id)
        envelope = self._parse(event, method)
        if envelope is None:
            return
        correlation_id = str(envelope.header.correlation_id)
        with self._lock:
            is_new = correlation_id not in self._replies
            reply = self._replies.get(correlation_id)
            if is_new:
                self._remember(correlation_id, None)
                self._open[correlation_id] = method
        if reply is not None:
            self._publish(reply.event(self._asset_uuid, method))
        elif is_new:
            self._admit(method, envelope)

    def stop(self, timeout: float) -> None:
        """Reject new commands, and wait for the running ones.

        A command whose method does not end in time gets the reply `failed`.

        Args:
            timeout: seconds to wait for running commands.
        """
        with self._lock:
            self._stopping = True
            self._idle.wait_for(lambda: not self._open, timeout)
            unanswered = dict(self._open)
        for correlation_id, method in unanswered.items():
            self._reply(
                method,
                correlation_id,
                "failed",
                error="The app stopped before the method ended. Start it, then call again.",
            )

    def _admit(self, method: str, envelope: CommandEnvelope) -> None:
        correlation_id = str(envelope.header.correlation_id)
        contract = self._contracts.get(method)
        if self._stopping:
            self._reject(method, correlation_id, "The app is stopping. Call again when it is AVAILABLE.")
        elif contract is None:
            names = ", ".join(self._contracts) or "no methods"
            self._reject(method, correlation_id, f"{self._asset_uuid} has no method {method!r}. It has {names}.")
        else:
            lane = self._lanes.setdefault(method, _executor.lane(f"{self._asset_uuid}.{method}"))
            lane.submit(self._run, contract, envelope)

    def _run(self, contract: MethodContract, envelope: CommandEnvelope) -> None:
        """Run one command, on the lane of its method."""
        correlation_id = str(envelope.header.correlation_id)
        if self._stopping:
            self._reject(contract.name, correlation_id, "The app is stopping. Call again when it is AVAILABLE.")
            return
        try:
            arguments = contract.bind(envelope.arguments)
        except ValueError as error:
            self._reject(contract.name, correlation_id, str(error))
            return
        self._logger.debug("Command %s %s from %s", contract.name, correlation_id, envelope.header.sender_uuid)
        try:
            result = getattr(self._owner, contract.attribute)(**arguments)
            if asyncio.iscoroutine(result):
                result = self._submit(result).result()
            result = wire_value(msgspec.to_builtins(result, str_keys=True))
        except BaseException as error:  # noqa: BLE001 - any error, SystemExit too, goes to the caller
            self._fail(contract, correlation_id, error)
        else:
            self._reply(contract.name, correlation_id, "succeeded", result=result)

    def _fail(self, contract: MethodContract, correlation_id: str, error: BaseException) -> None:
        hint = ""
        if isinstance(error, RuntimeError) and "no running event loop" in str(error):
            hint = ". A plain method has no event loop: make it an async def"
        kind = type(error).__name__
        text = _sendable(f"{kind}: {error}" if str(error) else kind)
        self._logger.error(
            "Method %s failed with %s (command %s)%s.", contract.name, kind, correlation_id, hint, exc_info=error
        )
        self._reply(contract.name, correlation_id, "failed", error=text)

    def _reject(self, method: str, correlation_id: str, reason: str) -> None:
        self._logger.warning("Command %s (%s) was rejected: %s", method, correlation_id, reason)
        self._reply(method, correlation_id, "rejected", error=reason)

    def _reply(
        self, method: str, correlation_id: str, status: Any, *, result: Any = None, error: str | None = None
    ) -> None:
        """Reply to a command once: a method that ends after `stop` has replied for it gets no second reply."""
        reply = CommandReply(uuid.UUID(correlation_id), status, result, error)
        try:
            event = reply.event(self._asset_uuid, method)
        except (OpenFactoryError, TypeError, ValueError) as failure:  # the result is not valid as a value
            text = "The reply to %s (command %s) cannot be sent."
            self._logger.error(text, method, correlation_id, exc_info=failure)
            reply = CommandReply(uuid.UUID(correlation_id), "failed", None, _sendable(str(failure)))
            event = reply.event(self._asset_uuid, method)
        with self._lock:
            if self._replies.get(correlation_id) is not None:
                return
            self._remember(correlation_id, reply)
        self.counters[reply.status] += 1
        try:
            self._publish(event)
        except OpenFactoryError as failure:
            self._logger.error("The reply to %s (command %s) was not written: %s", method, correlation_id, failure)
        with self._lock:
            self._open.pop(correlation_id, None)
            self._idle.notify_all()

    def _remember(self, correlation_id: str, reply: CommandReply | None) -> None:
        self._replies[correlation_id] = reply
        while len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)

    def _parse(self, event: AssetEvent, method: str) -> CommandEnvelope | None:
        try:
            return CommandEnvelope.parse(event.value)
        except (msgspec.MsgspecError, UnicodeError) as error:
            reason = (
                f"The command is malformed: {error}. "
                "Send a header with correlation_id and sender_uuid, and arguments as text."
            )
            correlation_id = _correlation_id_in(event.value)
            if correlation_id is None:
                self._logger.warning("%s at position %s was dropped: %s", event.id, event.position, reason)
            else:
                self._reject(method, correlation_id, reason)
            return None

    def _load_replies(self, replies: Iterable[AssetEvent]) -> None:
        """Remember the replies of earlier runs of the app, so that no command runs a second time."""
        for event in replies:
            try:
                reply = CommandReply.parse(event.value)
            except msgspec.MsgspecError:
                continue  # another program wrote it
            self._remember(str(reply.correlation_id), reply)

    def _reject_older(self, commands: Iterable[AssetEvent]) -> None:
        """Reject the commands that were sent before the app's start and have no reply."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for event in commands:
            correlation_id = _correlation_id_in(event.value)
            if correlation_id is not None and correlation_id not in self._replies:
                reason = (
                    f"The command was sent before the app's start at {when} and is not run. "
                    "An earlier run of the app may have run it: check the asset, then call again."
                )
                self._reject(method_of_command(event.id), correlation_id, reason)


def _sendable(text: str) -> str:
    """Return the text of an error, shortened, with characters replaced that UTF-8 cannot encode."""
    return text[:_LONGEST_ERROR].encode(errors="replace").decode()


def _correlation_id_in(value: Any) -> str | None:
    """Return the correlation id of a command that may be malformed, or None."""
    try:
        command = decode_json(value) if isinstance(value, str) else value
        return str(uuid.UUID(command["header"]["correlation_id"]))
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None
