"""Run an app under test on a private memory, and play the rest of its factory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute

__all__ = ["AppClient"]

# The most values that `said` returns.
_MAX_VALUES = 10_000


class _App(Protocol):
    """The part of an app that the client uses."""

    asset_uuid: str
    ksql: Any

    def run(self) -> None: ...
    def main_loop(self) -> None: ...
    async def async_main_loop(self) -> None: ...
    def shutdown(self) -> None: ...


App = TypeVar("App", bound=_App)


class AppClient(Generic[App]):
    """A context manager that runs an app under test, with its attributes, callbacks and commands.

    The app runs in this process as it does in a factory, but keeps its data in a private memory.

    Args:
        build: class of the app, or a function that returns an app; called with `None` and `test_mode=True`.
        keywords: further arguments for `build`.

    Attributes:
        app: the app itself.
        asset: the app as other assets see it.
    """

    def __init__(self, build: Callable[..., App], /, **keywords: Any) -> None:
        self._build = build
        self._keywords = keywords
        self._open = ExitStack()
        self._http: Any = None
        self._failure: AssertionError | None = None
        self._ending = False

    def __enter__(self) -> AppClient[App]:
        self.app = self._build(None, test_mode=True, **self._keywords)
        self._open.callback(self.app.shutdown)
        self.asset = self.other(self.app.asset_uuid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True  # the stop itself may make the main loop raise from here on
        self._open.close()
        if error is None and self._failure is not None:
            raise self._failure

    def other(self, asset_uuid: str) -> Asset:
        """Return another asset of the same factory, for the test to read and write."""
        return self._open.enter_context(Asset(asset_uuid, self.app.ksql))

    def deliver(self, asset_uuid: str, attribute_id: str, value: Any, *, type: str = "Events", tag: str = "") -> None:
        """Write an attribute of another asset, and return when it is written."""
        with Asset(asset_uuid, self.app.ksql) as asset:
            asset.add_attribute(AssetAttribute(id=attribute_id, value=value, type=type, tag=tag))

    def call(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        sender_uuid: str = "TEST",
        timeout: float = 10.0,
        **keywords: Any,
    ) -> Any:
        """Call a method of the app by a command, and return its result.

        Args:
            method: name of the method.
            arguments: arguments whose names are also parameters of `call`, such as `timeout`.
            sender_uuid: UUID of the asset that sends the command.
            timeout: seconds to wait for the reply.
            keywords: further arguments of the method.

        Raises:
            CommandRejected: the app rejected the command.
            CommandExpired: the app took the command up after `timeout` seconds.
            CommandCancelled: the command was cancelled.
            CommandFailed: the method raised an error.
            CommandUnknown: the app stopped before the method ended.
            CommandTimeout: the app did not reply in time.
        """
        return self.asset.call(method, {**(arguments or {}), **keywords}, sender_uuid=sender_uuid, timeout=timeout)

    @property
    def http(self) -> Any:
        """The test client of Flask or FastAPI, which requests the app's routes without a server and keeps the cookies.

        Raises:
            TypeError: the app has no web pages.
        """
        if self._http is None:
            if not hasattr(type(self.app), "test_client"):
                raise TypeError(
                    f"{type(self.app).__name__} has no web pages. "
                    "Derive it from OpenFactoryFlaskApp or OpenFactoryFastAPIApp."
                )
            self._http = self.app.test_client()  # type: ignore[attr-defined]
        return self._http

    def wait_until(self, attribute_id: str, value: Any, timeout: float = 10.0) -> None:
        """Wait until an attribute of the app has a value.

        Args:
            attribute_id: id of the attribute.
            value: the expected value.
            timeout: seconds to wait.

        Raises:
            AssertionError: the attribute did not get the value in time. The text lists the values that it had.
        """
        if not self.asset.wait_until(attribute_id, value, timeout=timeout):
            raise AssertionError(
                f"{self.app.asset_uuid}.{attribute_id} did not become {value!r} within {timeout:g} s. "
                f"It was {', '.join(map(repr, self.said(attribute_id)))}."
            )

    def said(self, attribute_id: str) -> list[Any]:
        """Return the values that the app has written to an attribute, oldest first, from its initial value on.

        At most the last 10,000 values are returned.
        """
        self.asset.flush()
        return [attribute.value for attribute in self.asset.history(attribute_id, limit=_MAX_VALUES)]

    def run(self) -> None:
        """Run the app's main loop on a thread beside the test. A crash of the main loop fails the test at its end."""
        main_loop, async_main_loop = self.app.main_loop, self.app.async_main_loop

        def run_main_loop() -> None:
            with self._recording_crash():
                main_loop()

        async def run_async_main_loop() -> None:
            with self._recording_crash():
                await async_main_loop()

        self.app.main_loop = run_main_loop  # type: ignore[method-assign]
        self.app.async_main_loop = run_async_main_loop  # type: ignore[method-assign]
        threading.Thread(target=self._run, name=f"openfactory-test-{self.app.asset_uuid}", daemon=True).start()

    @contextmanager
    def _recording_crash(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            self._record_crash(error)
            raise

    def _run(self) -> None:
        try:
            self.app.run()
        except SystemExit as end:
            if end.code and self._failure is None:
                self._record_crash(end)
        except Exception as error:  # noqa: BLE001 - reported at the end of the test
            self._record_crash(error)

    def _record_crash(self, error: BaseException) -> None:
        if not self._ending:
            self._failure = AssertionError(f"{self.app.asset_uuid} crashed: {error!r}. Its traceback is in the log.")
            self._failure.__cause__ = error
