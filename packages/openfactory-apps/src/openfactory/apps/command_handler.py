"""The handling of commands by an app: each command runs at most once, and gets a reply."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from openfactory.apps.app_storage import explain_missing_storage
from openfactory.apps.command_admission import CANCELLED, INTERRUPTED, STOPPING, Admission, Refusal, expired
from openfactory.apps.command_arrival import Arrival
from openfactory.apps.command_events import LONGEST_TEXT, correlation_id_in, shortened, size_of
from openfactory.apps.command_memory import REMEMBERED, CommandMemory, OpenCommand
from openfactory.apps.methods import MethodContract
from openfactory.commands.envelope import CommandCancel, CommandEnvelope, CommandReply, method_of_command
from openfactory.concurrency import Lane, OrderedExecutor
from openfactory.concurrency.strand import new_strand
from openfactory.concurrency.turns import leave_turn
from openfactory.events.event import AssetEvent, carried_value
from openfactory.events.timestamp import aware
from openfactory.exceptions import OpenFactoryError

__all__ = ["CommandHandler"]

# Time in which the cancel of a caller arrives that gave up while its command waited to be written, in seconds.
_CANCEL_SECONDS = 1.0

# The words for each status of a command that does not run to its end, in the log.
_OUTCOMES = {
    "rejected": "was rejected",
    "expired": "is not run",
    "cancelled": "was cancelled",
    "unknown": "is not run, and may have run before",
}

# The apps of a process share these threads; each method has its own lane.
_executor = OrderedExecutor("openfactory-command")


class _NotBegunError(Exception):
    """A method does not begin.

    Attributes:
        refusal: the reason; None if a cancel or a stop replies to the command.
    """

    def __init__(self, refusal: Refusal | None) -> None:
        super().__init__()
        self.refusal = refusal


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
        age: returns the seconds since a command was sent, see `Engine.age`.
        window: seconds after which a command is too old to be run.
        may_run: returns whether a command that has waited may run, and is not for another process now.

    Attributes:
        counters: number of replies by status.
    """

    def __init__(
        self,
        owner: object,
        asset_uuid: str,
        contracts: Mapping[str, MethodContract],
        publish: Callable[[AssetEvent], object],
        submit: Callable[[Coroutine[Any, Any, Any]], Future[Any]],
        age: Callable[[AssetEvent], float | None],
        window: float,
        may_run: Callable[[], bool],
    ) -> None:
        self._owner = owner
        self._asset_uuid = asset_uuid
        self._contracts = contracts
        self._publish = publish
        self._submit = submit
        self._age = age
        self._may_run = may_run
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        # Commands that arrive before `start`; None after it.
        self._early: deque[tuple[AssetEvent, Arrival]] | None = deque()
        self._early_bytes = 0
        self._memory = CommandMemory()
        self._admission = Admission(asset_uuid, contracts, self._memory, window)
        self._stopping = False
        self._logger = logging.getLogger("openfactory.commands")
        self.counters = {"succeeded": 0, "failed": 0, **dict.fromkeys(_OUTCOMES, 0)}

    @property
    def waiting(self) -> int:
        """The number of commands that have no reply yet."""
        return len(self._memory.open)

    def start(
        self,
        commands: Iterable[AssetEvent],
        replies: Iterable[AssetEvent],
        logger: logging.Logger,
        idle_since: int | None = 0,
    ) -> None:
        """Run the commands received since the app was built, and refuse older commands that have no reply.

        Args:
            commands: commands in the log from before the app was built.
            replies: the newest replies in the log, at most `REMEMBERED`.
            logger: logger of the app.
            idle_since: see `Admission`.
        """
        self._logger = logger
        self._admission.idle_since = idle_since
        replies = list(replies)
        answered = self._load_replies(replies)
        # A command may have its reply among those that are not read if it stands before the replies that are.
        decidable = replies[0].position if len(replies) >= REMEMBERED else None
        self._answer_older([event for event in commands if (event.position or 0) > (decidable or 0)], answered)
        while True:
            with self._lock:
                if not self._early:
                    self._early = None  # only when it is empty, so that no command overtakes an early command
                    return
                event, arrival = self._early.popleft()
                self._early_bytes -= size_of(event)
            self._take(event, arrival)

    def receive(self, event: AssetEvent) -> None:
        """Accept a command, and return without waiting for its method."""
        arrival = Arrival.of(event, self._age)
        with self._lock:
            is_early = self._early is not None
            if self._early is not None and self._memory.has_room(self._early_bytes):
                self._early.append((event, arrival))
                self._early_bytes += size_of(event)
                return
        self._take(event, arrival, has_room=not is_early)

    def cancel(self, event: AssetEvent) -> None:
        """Cancel a command that waits or has not arrived, and interrupt a method that may be interrupted."""
        try:
            correlation_id = str(CommandCancel.parse(event.value).correlation_id)
        except (msgspec.MsgspecError, UnicodeError) as error:
            self._logger.warning("%s at position %s is not a cancel: %s.", event.id, event.position, error)
            return
        with self._lock:
            command = self._memory.open.get(correlation_id)
            if command is None:
                if self._memory.reply_to(correlation_id) is None:
                    self._memory.cancel_early(correlation_id)
                return
            command.cancelled = True
            is_running, interrupt = command.running, command.interrupt
        if not is_running:
            self._refuse(command.method, correlation_id, CANCELLED)
        elif interrupt is not None:
            with suppress(RuntimeError):  # the event loop is closed, and the method has ended with it
                interrupt()

    def _take(self, event: AssetEvent, arrival: Arrival, *, has_room: bool = True) -> None:
        """Reply to a command, or put it into the lane of its method."""
        method = method_of_command(event.id)
        envelope = self._parse(event, method)
        if envelope is None:
            return
        correlation_id = str(envelope.header.correlation_id)
        sent = aware(envelope.header.timestamp)
        command = OpenCommand(method, sent, size_of(event), arrival, arrival.is_doubtful(sent))
        refusal = None
        with self._lock:
            reply = self._memory.reply_to(correlation_id)
            if reply is None:
                if correlation_id in self._memory.open:
                    return
                if self._stopping:
                    refusal = STOPPING
                elif has_room:
                    refusal = self._admission.refusal(method, envelope, command.size, arrival)
                else:
                    refusal = self._admission.too_many()
                admissible = refusal is None or refusal.remembered
                if admissible and self._memory.was_cancelled(correlation_id):
                    refusal = CANCELLED  # one that is never admitted gets the same reply as before its cancel
                if admissible:
                    command.size = command.size if refusal is None else 0
                    self._memory.open_command(correlation_id, command)
        if reply is not None:
            self._publish(reply.event(self._asset_uuid, method))
        elif refusal is not None:
            self._refuse(method, correlation_id, refusal)
        else:
            lane = self._lanes.get(method)
            if lane is None:  # two threads may do this at the same moment
                lane = self._lanes.setdefault(method, _executor.lane(f"{self._asset_uuid}.{method}"))
            lane.submit(self._run, self._contracts[method], envelope, correlation_id, command)

    def stop(self, timeout: float) -> None:
        """Reject new commands, and wait for the running ones.

        A command whose method does not end in time gets the reply `unknown`, and one that still waits is rejected.

        Args:
            timeout: seconds to wait for running commands.
        """
        with self._lock:
            self._stopping = True
            self._idle.wait_for(lambda: not self._memory.open, timeout)
            unanswered = [(key, command.method, command.running) for key, command in self._memory.open.items()]
        for correlation_id, method, running in unanswered:
            if running:
                error = "The app stopped before the method ended. Check the asset, start the app, then call again."
                self._logger.warning("Command %s (%s) was not ended: %s", method, correlation_id, error)
                self._reply(method, CommandReply(uuid.UUID(correlation_id), "unknown", error=error))
            else:
                self._refuse(method, correlation_id, STOPPING)

    def _run(
        self, contract: MethodContract, envelope: CommandEnvelope, correlation_id: str, command: OpenCommand
    ) -> None:
        """Run one command, on the lane of its method."""
        if not self._may_run():
            self._close(correlation_id)
            return  # the process that has taken over replies
        try:
            arguments = contract.bind(envelope.arguments)
        except ValueError as error:
            self._refuse(contract.name, correlation_id, Refusal(str(error)))
            return
        try:
            if command.is_doubtful:
                self._await_cancel(command)
            method = partial(getattr(self._owner, contract.attribute), **arguments)
            if contract.is_async:
                with self._lock:  # the event loop of an app that stops may have ended
                    self._check_may_begin(correlation_id, command)
                result = self._awaited(self._coroutine(contract, envelope, correlation_id, command, method))
            else:
                self._begin(envelope, correlation_id, command)
                with new_strand():  # a flush of the method tells of its own writes
                    result = method()
                if asyncio.iscoroutine(result):
                    result = self._awaited(result)
        except _NotBegunError as error:
            if error.refusal is not None:
                self._refuse(contract.name, correlation_id, error.refusal)
        except BaseException as error:  # noqa: BLE001 - any error, SystemExit too, goes to the caller
            is_interrupted = contract.cancellable and command.cancelled
            if is_interrupted and isinstance(error, concurrent.futures.CancelledError):
                self._refuse(contract.name, correlation_id, INTERRUPTED)
            else:
                self._fail(contract, correlation_id, error)
        else:
            self._succeed(contract, envelope.header.correlation_id, result)

    def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the event loop, and return its result."""
        running = self._submit(coroutine)
        leave_turn()
        return running.result()

    def _await_cancel(self, command: OpenCommand) -> None:
        """Wait for a cancel that may be on its way."""
        leave_turn()
        with self._lock:
            patience = min(_CANCEL_SECONDS, -command.arrival.overdue / 2)  # it may be in time, and begins in time
            self._idle.wait_for(lambda: command.cancelled or self._stopping, max(patience, 0))

    async def _coroutine(
        self,
        contract: MethodContract,
        envelope: CommandEnvelope,
        correlation_id: str,
        command: OpenCommand,
        method: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Any:
        """Run an `async def`, which begins only when the event loop has time; its lane waits for its end."""
        interrupt = None
        if contract.cancellable and (task := asyncio.current_task()) is not None:
            interrupt = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
        self._begin(envelope, correlation_id, command, interrupt)
        return await method()

    def _begin(
        self,
        envelope: CommandEnvelope,
        correlation_id: str,
        command: OpenCommand,
        interrupt: Callable[[], object] | None = None,
    ) -> None:
        """Note that the method of a command begins, right before it does.

        Args:
            envelope: content of the command.
            correlation_id: id of the command as text.
            command: the command.
            interrupt: interrupts the method; None if it may not be interrupted.

        Raises:
            _NotBegunError: the method must not begin.
        """
        with self._lock:
            self._check_may_begin(correlation_id, command)
            command.running, command.interrupt = True, interrupt
        self._logger.debug("Command %s %s from %s", command.method, correlation_id, envelope.header.sender_uuid)

    def _check_may_begin(self, correlation_id: str, command: OpenCommand) -> None:
        """Check that a command has no reply, and that its time has not passed; with the lock."""
        if command.cancelled or self._memory.reply_to(correlation_id) is not None:
            raise _NotBegunError(None)
        refusal = STOPPING if self._stopping else expired(command.arrival)
        if refusal is not None:
            raise _NotBegunError(refusal)

    def _succeed(self, contract: MethodContract, correlation_id: uuid.UUID, result: Any) -> None:
        """Reply with the result, or with as much of it as a reply carries: the method has run."""
        carried, missing = carried_value(result)
        reply = CommandReply(correlation_id, "succeeded", carried)
        event = None
        try:
            event = reply.event(self._asset_uuid, contract.name)
        except OpenFactoryError as error:  # the result alone is not too large, but the reply is
            carried, missing = None, str(error)
        if missing:
            note = shortened(f"The method ran, and its result is not carried in full: {missing}")
            self._logger.warning("Method %s (command %s): %s", contract.name, correlation_id, note)
            reply, event = CommandReply(correlation_id, "succeeded", carried, note), None
        self._reply(contract.name, reply, event)

    def _fail(self, contract: MethodContract, correlation_id: str, error: BaseException) -> None:
        hint = ""
        if isinstance(error, RuntimeError) and "no running event loop" in str(error):
            hint = ". A plain method has no event loop: make it an async def"
        explain_missing_storage(self._owner, error)
        kind = type(error).__name__
        self._logger.error(
            "Method %s failed with %s (command %s)%s.", contract.name, kind, correlation_id, hint, exc_info=error
        )
        text = shortened("\n".join((f"{kind}: {error}" if str(error) else kind, *getattr(error, "__notes__", ()))))
        self._reply(contract.name, CommandReply(uuid.UUID(correlation_id), "failed", error=text))

    def _refuse(self, method: str, correlation_id: str, refusal: Refusal) -> None:
        reason, outcome = shortened(refusal.reason), _OUTCOMES[refusal.status]
        level = logging.INFO if refusal.status == "cancelled" else logging.WARNING
        self._logger.log(level, "Command %s (%s) %s: %s", shortened(method), correlation_id, outcome, reason)
        self._reply(method, CommandReply(uuid.UUID(correlation_id), refusal.status, error=reason))

    def _reply(self, method: str, reply: CommandReply, event: AssetEvent | None = None) -> None:
        """Reply to a command once: a method that ends after `stop` has replied for it gets no second reply.

        A command that was refused before it was open is not remembered: it gets the same reply again, and pushes no
        other command out of the memory.

        Args:
            method: method of the command.
            reply: the reply.
            event: the event that carries it, if there is one already.
        """
        correlation_id = str(reply.correlation_id)
        with self._lock:
            if self._memory.reply_to(correlation_id) is not None:
                return
            if correlation_id in self._memory.open:
                self._memory.answer(correlation_id, reply)
        self.counters[reply.status] += 1
        try:
            self._publish(event or reply.event(self._asset_uuid, method))
        except OpenFactoryError as failure:
            self._logger.error("The reply to %s (command %s) was not written: %s", method, correlation_id, failure)
        self._close(correlation_id)

    def _close(self, correlation_id: str) -> None:
        with self._lock:
            self._memory.close(correlation_id)
            self._idle.notify_all()

    def _parse(self, event: AssetEvent, method: str) -> CommandEnvelope | None:
        try:
            return CommandEnvelope.parse(event.value)
        except (msgspec.MsgspecError, UnicodeError) as error:
            reason = shortened(
                f"The command is malformed: {str(error)[: LONGEST_TEXT // 2]}. "
                "Send a header with correlation_id and sender_uuid, and arguments as text."
            )
            correlation_id = correlation_id_in(event.value)
            if correlation_id is None:
                self._logger.warning("%s at position %s was dropped: %s", event.id, event.position, reason)
            else:
                self._refuse(method, correlation_id, Refusal(reason))
            return None

    def _load_replies(self, replies: list[AssetEvent]) -> dict[str, int]:
        """Remember the replies of earlier runs of the app, and return the position of the last one to each command."""
        answered: dict[str, int] = {}
        parsed = []
        for event in replies:
            try:
                reply = CommandReply.parse(event.value)
            except msgspec.MsgspecError:
                continue  # another program wrote it
            parsed.append(reply)
            answered[str(reply.correlation_id)] = event.position or 0
        with self._lock:
            self._memory.load(parsed, complete=len(replies) < REMEMBERED)
        return answered

    def _answer_older(self, commands: Iterable[AssetEvent], answered: Mapping[str, int]) -> None:
        """Answer the commands that were sent before the app's start and have no reply, without running them.

        A command that came again gets its first reply again, so that each command in the log is followed by a reply.

        Args:
            commands: the commands, oldest first.
            answered: by correlation id, the position of the last reply.
        """
        for event in commands:
            correlation_id = correlation_id_in(event.value)
            if correlation_id is None or answered.get(correlation_id, -1) >= (event.position or 0):
                continue
            method = method_of_command(event.id)
            with self._lock:
                reply = self._memory.reply_to(correlation_id)
                if reply is None:
                    self._memory.open_command(correlation_id, OpenCommand(method, datetime.now(UTC), 0, Arrival()))
            if reply is None:
                self._refuse(method, correlation_id, self._admission.refusal_of_older(event))
            else:
                self._publish(reply.event(self._asset_uuid, method))
