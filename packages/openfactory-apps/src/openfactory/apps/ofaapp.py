"""OpenFactoryApp: an app that is an asset, from its start to its stop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Any

from openfactory.apps.attributes import declared_attributes
from openfactory.apps.banner import banner_text
from openfactory.apps.command_handler import REMEMBERED, CommandHandler
from openfactory.apps.identity import app_uuid_from_environment, registration_of, standard_attributes
from openfactory.apps.lifecycle import Lifecycle, StopRequested, end_process, handle_signals
from openfactory.apps.methods import published_methods
from openfactory.assets.asset_class import Asset
from openfactory.concurrency import LoopThread
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, check_asset_uuid
from openfactory.exceptions import MissingDistributionError
from openfactory.kafka import KSQLDBClient
from openfactory.logs import configure_prefixed_logger
from openfactory.settings import setting
from openfactory.settings.credentials import redacted

__all__ = ["OpenFactoryApp"]


class _StartsWhenBuilt(type):
    """Lets commands in when every constructor is through, and takes an app that cannot be built off the register."""

    if not TYPE_CHECKING:  # which would no longer see what a constructor takes and gives

        def __call__(cls, *args, **kwargs):
            app = cls.__new__(cls, *args, **kwargs)
            try:
                app.__init__(*args, **kwargs)
            except BaseException:
                if "_engine" in vars(app):
                    app.shutdown()
                raise
            app._accept_commands()
            return app

    @property
    def __signature__(cls) -> inspect.Signature:
        """What the constructor takes, for those who ask."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class OpenFactoryApp(Asset, metaclass=_StartsWhenBuilt):
    """An app of the factory: an asset with attributes, methods, a main loop and an orderly end.

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
        ksqlClient: names the place of the data; may be None in test mode.
        bootstrap_servers: address of the Kafka broker, else from KAFKA_BROKER; the embedded engine needs none.
        asset_router_url: address of the asset router, else from ASSET_ROUTER_URL; the embedded engine needs none.
        loglevel: level of the app's logger, a name or a number.
        test_mode: keep all data in a private memory, with attributes, callbacks and commands as in earnest.
        app_uuid: the app's UUID, else from APP_UUID.
        stop_timeout: how long a stop may take in all, in seconds.

    Raises:
        ConfigurationError: an argument or an environment variable cannot be used.
        EngineUnavailableError: the place of the data cannot be reached or opened.
        DeliveryError, DeliveryTimeout: what the app says of itself could not be written.
    """

    logger: logging.Logger
    storage: Any

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - the name that apps pass it by
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        loglevel: str | int = "INFO",
        test_mode: bool = False,
        *,
        app_uuid: str | None = None,
        stop_timeout: float = 5.0,
    ) -> None:
        asset_uuid = check_asset_uuid(app_uuid or app_uuid_from_environment())
        self._own_client = KSQLDBClient(f"memory://test-{uuid.uuid4().hex}") if test_mode else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: LoopThread | None = None
        self._loop_lock = threading.Lock()
        self._disconnected = False
        self._lifecycle = Lifecycle(self._stop, stop_timeout)
        methods = published_methods(type(self))
        self._commands = CommandHandler(self, asset_uuid, methods, self._publish, self._submit)
        self._announced = False
        self.logger = configure_prefixed_logger(asset_uuid, level=loglevel, prefix=asset_uuid.upper())
        super().__init__(asset_uuid, self._own_client or ksqlClient, bootstrap_servers, asset_router_url)
        self.ksql = ksqlClient or self._own_client
        _show_library_lines(asset_uuid)
        found = [event for event in self._state.events() if self._was_found(event)]
        self.storage = _storage_from_environment()
        handle_signals(self, self.logger)
        self._announce([contract.published() for contract in methods.values()], found)

    # What an app does

    def main_loop(self) -> None:
        """What the app does, usually without end; `run` calls it.

        Raises:
            NotImplementedError: the class has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no main_loop. Define it, or use async_run().")

    async def async_main_loop(self) -> None:
        """What the app does, as a coroutine; `async_run` awaits it.

        Raises:
            NotImplementedError: the class has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no async_main_loop. Define it, or use run().")

    def app_event_loop_stopped(self) -> None:
        """Called at the end of a stop, when the asset is off the register; it gets a share of the stop's time."""

    def welcome_banner(self) -> None:
        """Print who starts here."""
        said = {name: str(self[name].value) for name in self.attributes()}
        print(banner_text(self.asset_uuid, redacted(self._engine.url), said), flush=True)  # noqa: T201 - the banner

    # From start to stop

    def run(self) -> None:
        """Run the app until its main loop returns, raises, or a signal ends it.

        Returns when the main loop returns. A signal ends the process with status 0, an error with status 1 after its
        traceback is logged; the stop is the same in all three.
        """
        status: int | None = None
        try:
            try:
                self._lifecycle.main_loop_begins()
                self._open_for_business()
                self.main_loop()
            except Exception:
                status = 1
                self.logger.exception("%s crashed; it stops.", self.asset_uuid)
            self._lifecycle.main_loop_ended()
        except (StopRequested, KeyboardInterrupt):
            status = 0
        finally:
            self._lifecycle.stop()
        if status is not None:
            raise SystemExit(status)

    async def async_run(self) -> None:
        """Run the app as a coroutine: returns when its main loop returns or a signal ends it.

        Raises:
            Exception: what the main loop raised, after the stop.
        """
        task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        try:
            self._lifecycle.main_loop_begins(task)
            self._open_for_business()
            await self.async_main_loop()
        except asyncio.CancelledError:
            if not (self._lifecycle.requested or self._lifecycle.done):
                raise
            if task is not None and hasattr(task, "uncancel"):
                task.uncancel()
        except Exception:
            self.logger.exception("%s crashed; it stops.", self.asset_uuid)
            raise
        finally:
            self._lifecycle.main_loop_ended()
            await asyncio.shield(asyncio.to_thread(self._lifecycle.stop))

    def signal_handler(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signals are handed on
        """End the main loop, so that the app stops; the second signal ends the process at once."""
        if self._lifecycle.requested:
            end_process(128 + signum)
        self.logger.info("Received %s, stopping.", signal.Signals(signum).name)
        if self._lifecycle.request():
            raise StopRequested

    def shutdown(self) -> None:
        """Stop the app: commands, availability, registration, then the connection. Doing it twice does nothing."""
        self._lifecycle.stop()

    def _open_for_business(self) -> None:
        self.welcome_banner()
        self["avail"] = "AVAILABLE"
        self.logger.info("Starting the main loop.")

    def _stop(self, seconds: float) -> None:
        """The steps of a stop, in order, each guarded and each with its share of the time."""
        share = seconds / 5
        self._step("stop serving", lambda: self._stop_serving(share))
        self._step("finish commands", lambda: self._commands.stop(share))
        if self._announced:
            self._step("say that it is unavailable", lambda: self._write("avail", UNAVAILABLE))
            self._step("deregister", lambda: self._engine.deregister(self.asset_uuid))
            self._step("flush", lambda: self.flush(share))
        self._step("call app_event_loop_stopped", lambda: _bounded(self.app_event_loop_stopped, share))
        self._step("close", lambda: self._disconnect(share))

    def _stop_serving(self, timeout: float) -> None:
        """Take no more requests from outside and finish those that run; a plain app has none."""

    def _step(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            self.logger.error("The stop could not %s: %s", name, error, exc_info=error)

    def close(self, timeout: float = 5.0) -> None:  # noqa: ARG002 - the stop has its own budget
        """Stop the app, as `shutdown` does."""
        self._lifecycle.stop()

    def _disconnect(self, timeout: float) -> None:
        """Give back what the app holds; after this it is no longer an asset."""
        super().close(timeout)
        with self._loop_lock:
            self._disconnected = True
        if self._loop_thread is not None:
            self._loop_thread.close(1.0)
        if self._own_client is not None:
            self._own_client.close()

    # Inside

    def _was_found(self, event: AssetEvent) -> bool:
        """Whether an event was there before the app was built."""
        return (event.position or 0) <= self._found_at

    def _announce(self, methods: list[AssetAttribute], found: list[AssetEvent]) -> None:
        """Say what the app is and can, and come back when every reader can see it."""
        self._announced = True
        declared = declared_attributes(type(self))
        said = [attribute for attribute in standard_attributes() if attribute.id not in declared]
        for attribute in (*methods, *said, *(field.attribute() for field in declared.values())):
            self.add_attribute(attribute, wait_to_become_available=False)
        if not self._engine.types([self.asset_uuid]):
            self._engine.register(registration_of(self.asset_uuid, found))
        self.flush()
        self.resync_state()  # what the registration has said of this app

    def _accept_commands(self) -> None:
        commands, replies = (self._found_with_tag(tag) for tag in (COMMAND_TAG, REPLY_TAG))
        self._commands.start(commands, replies, self.logger)

    def _found_with_tag(self, tag: str) -> list[AssetEvent]:
        events = self._engine.history(self.asset_uuid, tag=tag, limit=REMEMBERED)
        return [event for event in events if self._was_found(event)]

    def _receive_command(self, event: AssetEvent) -> None:
        self._commands.receive(event)

    def _submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine on the loop of async_run, or on a loop of the app's own; after the stop it is cancelled."""
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


def _bounded(hook: Callable[[], None], seconds: float) -> None:
    """Call what a user wrote, and wait for it no longer than it may take."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    thread = threading.Thread(target=call, name="openfactory-stop-hook", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter ends, and starts no more threads
        call()
    else:
        thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"it did not return within {seconds:g} s. Make it quicker, or raise stop_timeout.")
    if raised:
        raise RuntimeError(f"it raised {raised[0]!r}.") from raised[0]


def _show_library_lines(asset_uuid: str) -> None:
    """What the library has to say looks like what the app says, unless somebody has set it up otherwise."""
    if not logging.getLogger("openfactory").handlers:
        configure_prefixed_logger("openfactory", level="WARNING", prefix=asset_uuid.upper())


def _storage_from_environment() -> Any:
    text = setting("STORAGE")
    if not text:
        return None
    try:
        from openfactory.storage import storage_from_environment
    except ImportError as error:
        raise MissingDistributionError(
            "STORAGE is set and openfactory-storage is not installed. "
            "Install it: pip install 'openfactory-apps[storage]'."
        ) from error
    return storage_from_environment(text)
