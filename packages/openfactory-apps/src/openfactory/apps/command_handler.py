"""The app's side of commands: each is run once, and each is answered."""

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
from openfactory.events.event import AssetEvent, wire_value
from openfactory.exceptions import OpenFactoryError

__all__ = ["REMEMBERED", "CommandHandler"]

#: So many correlation ids are remembered: a command that comes again gets its reply again.
REMEMBERED = 4_096

# A reply tells so many characters of an error; the log has all of it.
_LONGEST_ERROR = 2_000

# Methods of all apps of a process share these threads; each method has a lane of its own.
_executor = OrderedExecutor("openfactory-command")


class CommandHandler:
    """Runs the commands of one app.

    The calls of one method run one after the other; different methods run beside each other, so that `stop_axis` gets
    through while `move_axis` moves.

    Args:
        owner: the app, whose methods are called.
        asset_uuid: its UUID.
        contracts: its methods by the name they are called by.
        publish: writes a reply.
        submit: starts a coroutine on the app's loop.
        logger: gives the logger of the app.
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
        self._early: deque[AssetEvent] | None = deque()
        self._open: dict[str, str] = {}  # correlation id → method, of commands that have no reply yet
        self._replies: OrderedDict[str, CommandReply | None] = OrderedDict()
        self._stopping = False
        self._logger = logging.getLogger("openfactory.commands")
        self.counters = {"succeeded": 0, "failed": 0, "rejected": 0}

    @property
    def waiting(self) -> int:
        """How many commands have no answer yet."""
        return len(self._open)

    def start(self, commands: Iterable[AssetEvent], replies: Iterable[AssetEvent], logger: logging.Logger) -> None:
        """Run what has come since the app is built, and refuse what was sent before.

        Args:
            commands: those that the log still held before the app was built.
            replies: the same of their replies.
            logger: what it says goes here.
        """
        self._logger = logger
        self._recall(replies)
        self._reject_older(commands)
        while True:
            with self._lock:
                if not self._early:
                    self._early = None  # from now on they come one by one, and none overtakes another
                    return
                event = self._early.popleft()
            self._take(event)

    def receive(self, event: AssetEvent) -> None:
        """Take a command; returns at once."""
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
            answered = self._replies.get(correlation_id)
            if is_new:
                self._remember(correlation_id, None)
                self._open[correlation_id] = method
        if answered is not None:
            self._publish(answered.event(self._asset_uuid, method))
        elif is_new:
            self._admit(method, envelope)

    def stop(self, timeout: float) -> None:
        """Take no more commands, wait for those that run, and answer those that do not end in time, in seconds."""
        with self._lock:
            self._stopping = True
            self._idle.wait_for(lambda: not self._open, timeout)
            left = dict(self._open)
        for correlation_id, method in left.items():
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
            names = ", ".join(self._contracts) or "none"
            self._reject(method, correlation_id, f"{self._asset_uuid} has no method {method!r}. It has {names}.")
        else:
            lane = self._lanes.setdefault(method, _executor.lane(f"{self._asset_uuid}.{method}"))
            lane.submit(self._run, contract, envelope)

    def _run(self, contract: MethodContract, envelope: CommandEnvelope) -> None:
        """Run one command; on its lane."""
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
        except BaseException as error:  # noqa: BLE001 - whatever it raises, sys.exit() too, is the caller's answer
            self._fail(contract, correlation_id, error)
        else:
            self._reply(contract.name, correlation_id, "succeeded", result=result)

    def _fail(self, contract: MethodContract, correlation_id: str, error: BaseException) -> None:
        hint = ""
        if isinstance(error, RuntimeError) and "no running event loop" in str(error):
            hint = "; a plain method runs without an event loop, make it an async def"
        kind = type(error).__name__
        text = _carriable(f"{kind}: {error}" if str(error) else kind)
        self._logger.error(
            "Method %s failed with %s (command %s)%s.", contract.name, kind, correlation_id, hint, exc_info=error
        )
        self._reply(contract.name, correlation_id, "failed", error=text)

    def _reject(self, method: str, correlation_id: str, reason: str) -> None:
        self._logger.warning("Command %s (%s) is rejected: %s", method, correlation_id, reason)
        self._reply(method, correlation_id, "rejected", error=reason)

    def _reply(
        self, method: str, correlation_id: str, status: Any, *, result: Any = None, error: str | None = None
    ) -> None:
        """Answer a command, once: after a stop has answered for a method, the method's own end says no more."""
        reply = CommandReply(uuid.UUID(correlation_id), status, result, error)
        try:
            event = reply.event(self._asset_uuid, method)
        except (OpenFactoryError, TypeError, ValueError) as failure:  # what it says cannot be carried
            text = "The reply to %s (command %s) cannot be sent."
            self._logger.error(text, method, correlation_id, exc_info=failure)
            reply = CommandReply(uuid.UUID(correlation_id), "failed", None, _carriable(str(failure)))
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

    def _remember(self, correlation_id: str, answer: CommandReply | None) -> None:
        self._replies[correlation_id] = answer
        while len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)

    def _parse(self, event: AssetEvent, method: str) -> CommandEnvelope | None:
        try:
            return CommandEnvelope.parse(event.value)
        except (msgspec.MsgspecError, UnicodeError) as error:
            reason = (
                f"It is no command: {error}. Send a header with correlation_id and sender_uuid, and arguments as text."
            )
            correlation_id = _correlation_id_in(event.value)
            if correlation_id is None:
                self._logger.warning("%s at position %s is dropped: %s", event.id, event.position, reason)
            else:
                self._reject(method, correlation_id, reason)
            return None

    def _recall(self, replies: Iterable[AssetEvent]) -> None:
        """Remember what was answered in an earlier life, so that no command is run a second time."""
        for event in replies:
            try:
                reply = CommandReply.parse(event.value)
            except msgspec.MsgspecError:
                continue  # somebody else wrote it; it answers nothing
            self._remember(str(reply.correlation_id), reply)

    def _reject_older(self, commands: Iterable[AssetEvent]) -> None:
        """Answer the commands that were sent before the app's start and that nobody has answered."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for event in commands:
            correlation_id = _correlation_id_in(event.value)
            if correlation_id is not None and correlation_id not in self._replies:
                reason = (
                    f"It was sent before the app's start at {when} and is not run now. "
                    "Whether an earlier run of the app ran it is not known: look at the asset, then call again."
                )
                self._reject(method_of_command(event.id), correlation_id, reason)


def _carriable(text: str) -> str:
    """An error's text without what a message cannot carry, and no longer than anybody reads."""
    return text[:_LONGEST_ERROR].encode(errors="replace").decode()


def _correlation_id_in(value: Any) -> str | None:
    """The correlation id of what may be a command, proper or not."""
    try:
        said = msgspec.json.decode(value) if isinstance(value, str) else value
        return str(uuid.UUID(said["header"]["correlation_id"]))
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None
