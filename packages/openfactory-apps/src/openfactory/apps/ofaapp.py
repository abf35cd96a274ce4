"""OpenFactoryApp: an asset with methods, a main loop, and an orderly stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
import uuid
from abc import ABCMeta
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from openfactory.apps.app_storage import explain_missing_storage, open_storage
from openfactory.apps.attributes import declared_attributes
from openfactory.apps.banner import banner_text
from openfactory.apps.class_check import (
    check_app,
    check_app_class,
    check_data,
    check_data_of_class,
    check_main_loop_result,
    checked_methods,
    reserved_names,
)
from openfactory.apps.command_handler import CommandHandler
from openfactory.apps.command_memory import REMEMBERED
from openfactory.apps.identity import (
    AppUUID,
    app_uuid_from_environment,
    command_window,
    deployed_generation,
    idle_since,
    registration_of,
    standard_attributes,
    takes_over,
)
from openfactory.apps.lifecycle import Lifecycle, StopRequested, end_process
from openfactory.apps.operations.listener import PortError, listening_socket, operations_port_of
from openfactory.apps.ownership import Ownership
from openfactory.apps.signals import handle_signals
from openfactory.apps.standard_streams import keep_streams_going
from openfactory.assets.asset_class import Asset
from openfactory.concurrency import LoopThread
from openfactory.concurrency.bounded import call_on_thread
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, check_asset_uuid
from openfactory.events.ownership import AVAILABILITY_ID
from openfactory.events.receipt import Receipt
from openfactory.events.registration import Registration
from openfactory.exceptions import (
    AssetOwnedError,
    ConfigurationError,
    DeliveryError,
    DeliveryTimeout,
    OFAException,
)
from openfactory.kafka import KSQLDBClient
from openfactory.logs import configure_library_logger, configure_prefixed_logger
from openfactory.settings import setting
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from openfactory.apps.operations.health import AppHealth, ServerState
    from openfactory.apps.operations.pages import View
    from openfactory.apps.operations.server import OperationsServer

__all__ = ["OpenFactoryApp"]

# Number of characters of the reason why an app has ended.
_LONGEST_REASON = 300

# Type of the asset that collects the targets of Prometheus.
_METRICS_REGISTRY = "Prometheus.Registry"


class _AppMeta(type(Protocol), ABCMeta):  # type: ignore[misc]
    """The metaclass of apps: it accepts commands after all constructors, and stops an app whose constructor fails.

    It derives from the metaclass of protocols, and so of abstract classes, because an app may have both as bases.
    """

    if not TYPE_CHECKING:  # type checkers would lose the signatures of constructors

        def __call__(cls, *args, **kwargs):
            app = cls.__new__(cls, *args, **kwargs)
            try:
                app.__init__(*args, **kwargs)
                if "_built" not in vars(app):
                    raise TypeError(f"{cls.__name__} was built without super().__init__(). Call it in __init__.")
                check_app(app, cls._reserved)
                check_data(app, app._built)
            except BaseException as error:
                explain_missing_storage(app, error)
                if "_engine" in vars(app):
                    vars(app).update(vars(app).get("_built", {}))  # what the class has replaced, so that a stop works
                    app._lifecycle.stop()
                raise
            del app._built
            app._accept_commands()
            return app

    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor, without `self`."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class OpenFactoryApp(Asset, metaclass=_AppMeta):
    """An app of the factory: an asset with attributes, methods, a main loop and an orderly stop.

    >>> from openfactory.apps import EventAttribute, ofa_method
    >>> class Mill(OpenFactoryApp):
    ...     status = EventAttribute(value="idle", tag="App.Status")
    ...
    ...     @ofa_method(description="Start milling")
    ...     def start(self, speed: int = 100):
    ...         self.status = "busy"
    ...         return f"milling at {speed}"
    >>> mill = Mill(None, test_mode=True)
    >>> mill.call("start", speed=200, sender_uuid="HMI")
    'milling at 200'
    >>> mill.status.value
    'busy'
    >>> mill.shutdown()

    Args:
        ksqlClient: client whose URL selects the engine; KSQLDB_URL if it is None.
        bootstrap_servers: address of the Kafka broker; by default from the client or KAFKA_BROKER. The embedded engine
            does not use it.
        asset_router_url: address of the asset router; by default from the client or ASSET_ROUTER_URL. The embedded
            engine does not use it.
        loglevel: level of the app's logger, a name or a number.
        test_mode: keep all data in a private memory and ignore the URL of the client; attributes, callbacks and
            commands work as usual.
        app_uuid: UUID of the app, by default APP_UUID, or the name of the app's file.
        stop_timeout: seconds that a stop may take in all.
        take_over: take the UUID over from a process that owns it: that app stops, and this one goes on; by default only
            if APP_TAKE_OVER is set.
        operations_port: port on which `run` serves `/health/live`, `/health/ready` and `/metrics`, OPERATIONS_PORT by
            default; 0 selects a free port. Without it, the app serves nothing.

    Raises:
        TypeError: the class is not valid; most is told when it is defined. It takes a name that OpenFactory uses on an
            app, two of its ids are the same, a function that is not awaited is `async`, or text cannot be converted to
            the type of an argument.
        AssetOwnedError: another process that lives owns the UUID.
        ConfigurationError: an argument or an environment variable is not valid.
        EngineUnavailableError: the engine cannot be reached or opened.
        DeliveryError, DeliveryTimeout: the attributes of the app could not be written.
    """

    logger: logging.Logger
    storage: Any
    _is_app = True
    _is_protocol = False  # on Python 3.11 the metaclass of protocols asks each class
    _reserved: ClassVar[dict[str, Any]] = {}
    _built: dict[str, Any]

    def __init_subclass__(cls, *, is_runtime: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if is_runtime:  # a base class for apps, which may use what other classes must leave alone
            cls._reserved = {**cls._reserved, **reserved_names(cls)}
        else:
            check_app_class(cls, cls._reserved)

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - apps pass it by this name
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        loglevel: str | int = "INFO",
        test_mode: bool = False,
        *,
        app_uuid: str | None = None,
        stop_timeout: float = 5.0,
        take_over: bool | None = None,
        operations_port: int | None = None,
    ) -> None:
        data_of_class = dict(vars(self))
        chosen = AppUUID(app_uuid) if app_uuid else app_uuid_from_environment(type(self), test_mode=test_mode)
        asset_uuid = check_asset_uuid(chosen.uuid)
        self._own_client = KSQLDBClient(f"memory://test-{uuid.uuid4().hex}") if test_mode else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: LoopThread | None = None
        self._loop_lock = threading.Lock()
        self._disconnected = False
        self._operations_port = operations_port_of(operations_port)
        self._operations_server: OperationsServer | None = None
        self.logger = configure_prefixed_logger(asset_uuid, level=loglevel, prefix=asset_uuid.upper())
        self._lifecycle = Lifecycle(self._stop, stop_timeout, self.signal_handler, self.logger, self._handover_seconds)
        methods = checked_methods(type(self))
        self._commands = CommandHandler(
            self,
            asset_uuid,
            methods,
            self._publish,
            self._run_coroutine,
            lambda event: self._engine.age(event),
            command_window(),
            lambda: self._ownership.may_run_commands(),
        )
        self._submit = self._run_coroutine
        self._end_reason = "stopped"
        if chosen.warning:
            self.logger.warning("%s", chosen.warning)
        super().__init__(asset_uuid, self._own_client or ksqlClient, bootstrap_servers, asset_router_url)
        self.ksql = ksqlClient or self._own_client
        configure_library_logger("openfactory", asset_uuid)
        self._ownership = Ownership(asset_uuid, self._engine, self._state, self.logger, self._lifecycle.fail)
        may_take_over = takes_over() if take_over is None else take_over
        claimed_at = self._ownership.begin(take_over=may_take_over, generation=deployed_generation())
        self._found_at = max(self._found_at, claimed_at)
        earlier = [event for event in self._state.events() if self._predates_app(event)]
        types = self._engine.types([asset_uuid])
        self._found_commands = call_on_thread("openfactory-commands", self._read_commands)
        self._idle_since = idle_since(earlier, types)
        self.storage = open_storage()
        handle_signals(self._lifecycle, self.logger)
        check_data(self, data_of_class)
        check_data_of_class(self, vars(self).keys() - data_of_class.keys(), self._reserved)
        self._announce(
            [attribute for contract in methods.values() for attribute in contract.published()],
            None if types else registration_of(asset_uuid, earlier),
        )
        self._built = dict(vars(self))

    # Overridden by apps

    def main_loop(self) -> None:
        """Do the work of the app, usually in an endless loop; `run` calls it.

        Raises:
            NotImplementedError: the class does not override it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no main_loop. Define it, or use async_run().")

    async def async_main_loop(self) -> None:
        """Do the work of the app as a coroutine; `async_run` awaits it.

        Raises:
            NotImplementedError: the class does not override it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no async_main_loop. Define it, or use run().")

    def app_event_loop_stopped(self) -> None:
        """Clean up at the end of a stop, when the asset is deregistered; by default do nothing.

        It may take one fifth of `stop_timeout`.
        """

    def welcome_banner(self) -> None:
        """Print the name, the version and the data URL of the app when it starts."""
        values = {name: str(self[name].value) for name in super().attributes()}
        try:
            print(banner_text(self.asset_uuid, redacted(self._engine.url), values), flush=True)  # noqa: T201 - the banner
        except (OSError, ValueError) as error:
            self.logger.warning("The banner cannot be printed (%s). Check standard output.", error)

    # Metrics

    def register_prometheus_metrics(self, metrics_port: int | None = None, metrics_path: str = "/metrics") -> None:
        """Register the app with the metrics registry of the factory, from which Prometheus takes its targets.

        The host of the target is the UUID of the app in lower case, the name of its container.

        Args:
            metrics_port: port of the app's metrics; by default the operations port, or the port of the web pages.
            metrics_path: path of the app's metrics.

        Raises:
            OFAException: the factory does not have a metrics registry.
            ConfigurationError: the app does not serve metrics, or the engine does not have a table of targets; only a
                ksqlDB has the table.
            DeliveryError, DeliveryTimeout: the target could not be written.
        """
        if _METRICS_REGISTRY not in self._engine.types().values():
            raise OFAException(
                f"The factory of {self.asset_uuid} does not have a metrics registry, an app whose AssetType is "
                f"{_METRICS_REGISTRY!r}. Start the registry first."
            )
        port = self._metrics_port() if metrics_port is None else metrics_port
        target = {"HOST": self.asset_uuid.lower(), "PORT": str(port), "PATH": metrics_path}
        topic = self._engine.topic_of("METRICS_TARGETS_SOURCE")
        self._writes.produce(topic, self.asset_uuid, msgspec.json.encode(target)).wait()

    def _metrics_port(self) -> int:
        port = self._operations_port if self._operations_server is None else self._operations_server.port
        if not port:
            raise ConfigurationError(
                f"{self.asset_uuid} serves no metrics. Pass operations_port=9100 to its constructor, or metrics_port=…"
                " with the port of your own server. With operations_port=0, register in the main loop."
            )
        return port

    def _served_host(self) -> str:
        """Return the address of this machine on which the app serves."""
        return setting("OPENFACTORY_HOST") or ""

    def _operations_pages(self) -> Mapping[str, View]:
        """Return the pages of the operations port, by their paths."""
        from openfactory.apps.operations.server import plain_pages

        return plain_pages(self._health, self.logger)

    def _health(self) -> AppHealth:
        """Return the state of the app, which the pages of the operations port show."""
        return self._health_of(self._operations_server)

    def _health_of(self, server: ServerState | None, streams: int = 0) -> AppHealth:
        """Return the state of the app with one of its servers, and the number of the open streams."""
        from openfactory.apps.operations.health import AppHealth  # slow to import, and not needed by most apps

        return AppHealth(
            asset_uuid=self.asset_uuid,
            availability=self["avail"].value,
            serving=server is not None and server.serving,
            connections=0 if server is None else server.connections,
            streams=streams,
            commands=dict(self._commands.counters),
            waiting_commands=self._commands.waiting,
            engine=self._engine.health(),
        )

    def _serve_operations(self) -> None:
        """Open the operations port, if the app has one.

        Raises:
            PortError: the port cannot be opened.
        """
        if self._operations_port is None:
            return
        from openfactory.apps.operations.server import OperationsServer  # slow to import, and not needed by most apps

        listener = listening_socket(self._served_host(), self._operations_port, "OPERATIONS_PORT")
        self._operations_server = OperationsServer(listener, self._operations_pages(), self.logger)
        self._operations_server.start()
        self.logger.info("Serving health and metrics on %s", self._operations_server.url)

    # Start and stop

    def __exit__(self, *exc_info: object) -> None:
        self._lifecycle.stop()

    def run(self) -> None:
        """Run the app until its main loop returns, raises, or a signal ends it.

        The app is stopped in each case. The call returns when the main loop returns. A signal ends the process with
        status 0; an error is logged with its traceback and ends the process with status 1, as does an operations port
        that cannot be opened. The status is also 1 if the log does not show that the app has ended, because UNAVAILABLE
        or the deregistration could not be written.
        """
        status: int | None = None
        self._lifecycle.ends_process = True
        try:
            try:
                self._lifecycle.main_loop_begins()
                keep_streams_going()
                self._serve_operations()
                self.welcome_banner()
                self._ownership.wait_until_seen()
                self._become_available()
                check_main_loop_result(self.main_loop())  # type: ignore[func-returns-value]
            except PortError as error:
                status = 1
                self.logger.error("%s", error)
            except Exception as error:
                status = 1
                explain_missing_storage(self, error)
                self._end_reason = _reason_of_crash(error)
                self.logger.exception("%s crashed; stopping.", self.asset_uuid)
            self._lifecycle.main_loop_ended()
        except (StopRequested, KeyboardInterrupt):
            status = 0
        finally:
            self._lifecycle.stop()
        if self._lifecycle.status:
            status = 1
        if status is not None:
            raise SystemExit(status)

    async def async_run(self) -> None:
        """Run the app as a coroutine until its main loop returns, raises, or a signal ends it.

        Raises:
            ConfigurationError: the operations port cannot be opened. The app has not become AVAILABLE.
            DeliveryError: UNAVAILABLE or the deregistration could not be written.
            Exception: the error of the main loop, after the stop.
        """
        task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        try:
            self._lifecycle.main_loop_begins(task)
            keep_streams_going()
            self._serve_operations()
            self.welcome_banner()
            await self._prepare_serving()
            await asyncio.to_thread(self._ownership.wait_until_seen)
            self._become_available()
            await self._work()
        except asyncio.CancelledError:
            if not (self._lifecycle.requested or self._lifecycle.done or self._lifecycle.failed):
                raise
            if task is not None and hasattr(task, "uncancel"):
                task.uncancel()
        except PortError as error:
            self.logger.error("%s", error)
            raise
        except Exception as error:
            explain_missing_storage(self, error)
            self._end_reason = _reason_of_crash(error)
            self.logger.exception("%s crashed; stopping.", self.asset_uuid)
            raise
        finally:
            self._lifecycle.main_loop_ended()
            await asyncio.shield(asyncio.to_thread(self._lifecycle.stop))
        if (owner := self._ownership.lost_to) is not None:
            raise AssetOwnedError(
                f"{self.asset_uuid} was taken over by {owner}, so this app has stopped. "
                "To run it here again, stop that process first.",
                asset_uuid=self.asset_uuid,
                owner=owner,
            )
        if self._lifecycle.status:
            raise DeliveryError(
                f"The log does not show that {self.asset_uuid} has ended: its last writes failed. "
                "The line before says why. Start the app again, or deregister it."
            )

    def signal_handler(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - for signal.signal()
        """End the main loop at the first signal, so that the app stops; end the process at a second one.

        A signal within half a second after the first one repeats it, and does nothing.
        """
        if self._lifecycle.requested:
            if self._lifecycle.is_second():
                end_process(128 + signum)
            return
        if self._lifecycle.request(signum):
            raise StopRequested

    def shutdown(self) -> None:
        """Stop the app: finish its commands, publish UNAVAILABLE, deregister it, and close its connection.

        A second call does nothing.
        """
        self._lifecycle.stop()

    async def _prepare_serving(self) -> None:
        """Prepare the web server, which a plain app does not have."""

    def _become_available(self) -> None:
        self["avail"] = "AVAILABLE"
        self.logger.info("Starting the main loop.")

    async def _work(self) -> None:
        """Run the main loop, and whatever keeps the app running after it."""
        await self.async_main_loop()

    def _stop(self, seconds: float) -> None:
        """Run the steps of a stop in order. An error in one step does not prevent the next.

        Serving, the commands and the hook have a fifth of the time each. Writing and closing have all that is left.
        """
        share = seconds / 5
        steps = [
            ("stop serving", lambda: self._stop_serving(share)),
            ("finish commands", lambda: self._commands.stop(share)),
        ]
        if self._handover_seconds():  # only the pages go on
            self._run_step(*steps.pop())
            seconds = self._lifecycle.hand_over()
            share = seconds / 5
        deadline = time.monotonic() + seconds

        def left(reserve: float = 0) -> float:
            return max(deadline - time.monotonic() - reserve, 0)

        for step in steps:
            self._run_step(*step)
        if self._ownership_or_none() is None:
            self._lifecycle.last_writes = ()
        else:
            self._run_step("publish the end", self._publish_end)
            self._run_step("flush", lambda: self._flush_unless_late(left(share)))
        self._run_step("call app_event_loop_stopped", lambda: _call_with_timeout(self.app_event_loop_stopped, share))
        if self._lifecycle.status:
            self._run_step("flush", lambda: Asset.flush(self, left(share / 5)))
        self._run_step("close", lambda: self._disconnect(left()))

    def _publish_end(self) -> None:
        """Publish UNAVAILABLE and deregister the app, even if one of them fails; nothing if another process has it."""
        ownership = self._ownership
        if not ownership.is_current():
            self._lifecycle.last_writes = ()
            return
        try:
            end = [Asset._publish(self, event) for event in ownership.end(self._end_reason)]
            end = end or [self._write("avail", UNAVAILABLE)]
        finally:
            deregistration = self._writes.deregister(self.asset_uuid, ownership.epoch)
        self._lifecycle.last_writes = (*end, *deregistration)

    def _flush_unless_late(self, timeout: float) -> None:
        with suppress(DeliveryTimeout):  # writing goes on while the hook runs, and the stop flushes again
            super().flush(timeout)

    def _handover_seconds(self) -> float:
        """Return the seconds that the web pages are served after another process has taken over; 0 without them."""
        return 0.0

    def _stop_serving(self, timeout: float) -> None:
        """Stop the server of the operations port, and the web server of an app with web pages."""
        if self._operations_server is not None:
            self._operations_server.stop(timeout)

    def _run_step(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            self.logger.error("Could not %s while stopping: %s", name, error, exc_info=error)

    def close(self, timeout: float = 5.0) -> None:  # noqa: ARG002 - a stop has its own time limit
        """Stop the app, as `shutdown` does."""
        self._lifecycle.stop()

    def _disconnect(self, timeout: float) -> None:
        """Close the connection of the asset, the event loop, and the client of test mode."""
        try:
            if (ownership := self._ownership_or_none()) is not None:
                ownership.release()
            super().close(timeout)
        finally:
            with self._loop_lock:
                self._disconnected = True
            if self._loop_thread is not None:
                self._loop_thread.close(1.0)
            if self._own_client is not None:
                self._own_client.close()

    # Internals

    def _predates_app(self, event: AssetEvent) -> bool:
        """Return whether an event was in the log before the app was built."""
        return (event.position or 0) <= self._found_at

    def _announce(self, methods: list[AssetAttribute], registration: Registration | None) -> None:
        """Publish the methods and attributes of the app, register it, and wait until all is acknowledged."""
        declared = declared_attributes(type(self))
        standard = [attribute for attribute in standard_attributes() if attribute.id not in declared]
        for attribute in (*methods, *standard, *(field.attribute() for field in declared.values())):
            super().add_attribute(attribute, wait_to_become_available=False)
        if registration is not None:
            for receipt in self._writes.register(registration):
                if receipt.event is not None:
                    self._state.write(receipt.event, receipt)
        super().flush()

    def _read_commands(self) -> tuple[list[AssetEvent], list[AssetEvent]]:
        """Return the newest commands and replies in the log, which takes two round trips beside the other steps."""
        commands, replies = (
            self._engine.history(self.asset_uuid, tag=tag, limit=REMEMBERED) for tag in (COMMAND_TAG, REPLY_TAG)
        )
        return commands, replies

    def _accept_commands(self) -> None:
        commands, replies = self._found_commands.result()
        earlier = [event for event in commands if self._predates_app(event)]
        self._commands.start(earlier, replies, self.logger, self._idle_since)

    def _receive_command(self, event: AssetEvent) -> None:
        ownership = self._ownership_or_none()
        if ownership is None or ownership.lost_to is None:  # otherwise they are for the process that has taken over
            self._commands.receive(event)

    def _receive_of_owner(self, event: AssetEvent) -> None:
        super()._receive_of_owner(event)
        if (ownership := self._ownership_or_none()) is not None:
            ownership.receive(event)

    def _receive_void(self, event: AssetEvent) -> None:
        if (ownership := self._ownership_or_none()) is not None:
            ownership.receive_void(event)

    def _publish(self, event: AssetEvent) -> Receipt:
        if event.id == AVAILABILITY_ID or event.tag == REPLY_TAG:
            event = self._ownership.stamped(event)
        return super()._publish(event)

    def _ownership_or_none(self) -> Ownership | None:
        """Return the ownership, or None while the constructor has not created it."""
        return vars(self).get("_ownership")

    def _receive_cancel(self, event: AssetEvent) -> None:
        self._commands.cancel(event)

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine on the event loop of `async_run`, or on a separate event loop of this app.

        After the stop, the coroutine is closed and the future is cancelled.
        """
        with self._loop_lock:
            if self._loop is not None and not self._loop.is_closed():
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            if not self._disconnected:
                if self._loop_thread is None:
                    self._loop_thread = LoopThread(f"openfactory-loop-{self.asset_uuid}")
                return self._loop_thread.submit(coroutine)
        coroutine.close()
        cancelled: Future[Any] = Future()
        cancelled.cancel()
        return cancelled


OpenFactoryApp._reserved = reserved_names(OpenFactoryApp)  # pyright: ignore[reportPrivateUsage]


def _reason_of_crash(error: Exception) -> str:
    """Return how an app has ended whose main loop has raised an error, for the readers of its asset."""
    text = " ".join(f"its main loop raised {type(error).__name__}: {error}".split())
    return text[:_LONGEST_REASON].encode(errors="replace").decode().rstrip(": ")


def _call_with_timeout(hook: Callable[[], None], seconds: float) -> None:
    """Call a function of the user in a thread, and wait for it.

    Raises:
        TimeoutError: the function did not return in time; its thread keeps running.
        RuntimeError: the function raised an error.
    """

    def call() -> None:
        try:
            hook()
        except BaseException as error:
            raise RuntimeError(f"it raised {error!r}.") from error

    try:
        called = call_on_thread("openfactory-stop-hook", call)
    except RuntimeError:  # the interpreter is exiting, and starts no more threads
        call()
        return
    try:
        called.result(seconds)
    except TimeoutError:
        raise TimeoutError(
            f"it did not return within {seconds:g} s. Make it faster, or increase stop_timeout."
        ) from None
