"""For those who test their apps: runs one on a private memory, and plays the rest of the factory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute

__all__ = ["AppClient"]

# So many values of an attribute are told; a test that makes more wants to count, not to see them.
_MOST_SAID = 10_000


class _App(Protocol):
    """What of an app the client needs."""

    asset_uuid: str
    ksql: Any

    def run(self) -> None: ...
    def main_loop(self) -> None: ...
    async def async_main_loop(self) -> None: ...
    def shutdown(self) -> None: ...


App = TypeVar("App", bound=_App)


class AppClient(Generic[App]):
    """An app under test, in this process, with attributes, callbacks and commands as in earnest.

    The app is the real one; only the place of its data is a memory that nobody else sees. `app` is the object itself,
    `asset` is how others see it.

    Args:
        build: the class of the app, or what else builds one; called with `None` and `test_mode=True`.
        keywords: further arguments for it.
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
        self._ending = True  # what the main loop raises from here on comes of the stop
        self._open.close()
        if error is None and self._failure is not None:
            raise self._failure

    def other(self, asset_uuid: str) -> Asset:
        """Another asset of the same factory, for the test to play."""
        return self._open.enter_context(Asset(asset_uuid, self.app.ksql))

    def deliver(self, asset_uuid: str, attribute_id: str, value: Any, *, type: str = "Events", tag: str = "") -> None:
        """Have another asset say something, and come back when it is written."""
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
        """Command the app as another asset would, and give back what it answers.

        Args:
            arguments: those of the method that a keyword cannot carry, such as one named `timeout`.

        Raises:
            CommandRejected, CommandFailed, CommandTimeout: it answers no result.
        """
        return self.asset.call(method, {**(arguments or {}), **keywords}, sender_uuid=sender_uuid, timeout=timeout)

    @property
    def http(self) -> Any:
        """Asks the routes of an app that has some, without a server: Flask's test client, which keeps the cookies.

        Raises:
            TypeError: the app has no web pages.
        """
        if self._http is None:
            if not hasattr(type(self.app), "test_client"):
                raise TypeError(
                    f"{type(self.app).__name__} has no web pages to ask for. Derive it from OpenFactoryFlaskApp."
                )
            self._http = self.app.test_client()  # type: ignore[attr-defined]
        return self._http

    def wait_until(self, attribute_id: str, value: Any, timeout: float = 10.0) -> None:
        """Come back as soon as an attribute of the app has a value.

        Raises:
            AssertionError: it did not come to be within so many seconds; the text tells what it was instead.
        """
        if not self.asset.wait_until(attribute_id, value, timeout=timeout):
            raise AssertionError(
                f"{self.app.asset_uuid}.{attribute_id} did not become {value!r} within {timeout:g} s. "
                f"It was {', '.join(map(repr, self.said(attribute_id)))}."
            )

    def said(self, attribute_id: str) -> list[Any]:
        """The values that the app has said of an attribute, oldest first, from the one it was built with."""
        self.asset.flush()
        return [attribute.value for attribute in self.asset.history(attribute_id, limit=_MOST_SAID)]

    def run(self) -> None:
        """Run the app's main loop on a thread beside the test; one that crashes fails the test at its end."""
        main_loop, async_main_loop = self.app.main_loop, self.app.async_main_loop

        def watched() -> None:
            with self._noting_a_crash():
                main_loop()

        async def async_watched() -> None:
            with self._noting_a_crash():
                await async_main_loop()

        self.app.main_loop = watched  # type: ignore[method-assign]
        self.app.async_main_loop = async_watched  # type: ignore[method-assign]
        threading.Thread(target=self._run, name=f"openfactory-test-{self.app.asset_uuid}", daemon=True).start()

    @contextmanager
    def _noting_a_crash(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._crashed(error)
            raise

    def _run(self) -> None:
        try:
            self.app.run()
        except SystemExit as end:
            if end.code and self._failure is None:
                self._crashed(end)
        except Exception as error:  # noqa: BLE001 - said at the end of the test
            self._crashed(error)

    def _crashed(self, error: BaseException) -> None:
        if not self._ending:
            self._failure = AssertionError(f"{self.app.asset_uuid} crashed: {error!r}. Its traceback is in the log.")
            self._failure.__cause__ = error
