"""A class of an app is checked when it is defined, and classes of other libraries may be its bases."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import pytest

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.apps.class_check import reserved_names
from openfactory.assets import Asset

pytestmark = pytest.mark.smoke

Start = Callable[..., Any]

RESERVED = sorted(reserved_names(OpenFactoryApp))
PUBLIC = [name for name in RESERVED if not name.startswith("_")]


def define(**members: Any) -> type[OpenFactoryApp]:
    return type("Plant", (OpenFactoryApp,), members)


def named(name: str) -> Any:
    """A method for others with a name."""

    def function(self: Any) -> str:
        return "mine"

    function.__name__ = function.__qualname__ = name
    return ofa_method()(function)


def test_the_names_that_the_runtime_uses_are_known() -> None:
    assert {"run", "main_loop", "shutdown", "welcome_banner", "logger", "storage", "ksql"} < set(RESERVED)
    assert not {"close", "flush", "attributes", "type", "events"} & set(RESERVED)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_that_the_runtime_uses_is_refused_when_the_class_is_defined(name: str) -> None:
    taken = rf"Plant\.{name} has a name that OpenFactory itself uses on an app\. Choose another name\."
    with pytest.raises(TypeError, match=taken):
        define(**{name: EventAttribute(value="full", tag="Test")})
    with pytest.raises(TypeError, match=taken):
        define(**{name: named(name)})


def test_a_base_that_is_no_app_is_checked_too() -> None:
    class Stored:
        storage = EventAttribute(value="full", tag="Storage")

    with pytest.raises(TypeError, match=r"Warehouse\.storage has a name"):

        class Warehouse(Stored, OpenFactoryApp): ...


FREE = [name for name in dir(Asset) if not name.startswith("_")]


@pytest.mark.parametrize("name", FREE)
def test_the_runtime_calls_no_method_that_takes_the_name_of_an_asset_s(start: Start, name: str) -> None:
    ran = []

    def function(self: Any, *, speed: int = 1) -> str:
        ran.append(speed)
        return "mine"

    function.__name__ = name
    app = start(define(**{name: ofa_method()(function)}))
    OpenFactoryApp.welcome_banner(app)
    assert not OpenFactoryApp.wait_until(app, "avail", "never", timeout=0)
    assert OpenFactoryApp.call(app, name, speed=2, sender_uuid="HMI") == "mine"
    with app:
        pass
    assert ran == [2]
    assert app["avail"].value == "UNAVAILABLE"


@pytest.mark.parametrize("name", FREE)
def test_an_attribute_may_have_the_name_of_a_method_of_an_asset(start: Start, name: str) -> None:
    app = start(define(**{name: EventAttribute(value="full", tag="Test")}))
    OpenFactoryApp.welcome_banner(app)
    assert getattr(app, name).value == "full"
    setattr(app, name, "empty")
    assert app[name].value == "empty"


@pytest.mark.parametrize("value", [None, False, "idle", property(lambda self: 1)])
def test_a_value_in_place_of_a_function_of_the_runtime_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"Plant\.shutdown has a name"):
        define(shutdown=value)


def test_a_value_that_the_constructor_sets_in_place_of_a_function_is_refused(start: Start) -> None:
    class Worker(OpenFactoryApp):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.run = True  # type: ignore[method-assign, assignment]

    with pytest.raises(TypeError, match=r"Worker\.run has a name"):
        start(Worker)


@pytest.mark.parametrize("name", ["_stop", "_write", "_publish", "_receive", "_announce"])
def test_a_private_name_of_the_runtime_is_refused_when_the_class_is_defined(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Plant\.{name} has a name that OpenFactory itself uses"):
        define(**{name: lambda self: None})


@pytest.mark.parametrize("name", ["_state", "_engine", "_clock", "_commands", "_lifecycle"])
@pytest.mark.parametrize("is_early", [True, False])
def test_private_data_of_a_class_and_of_the_runtime_do_not_mix(start: Start, name: str, is_early: bool) -> None:
    class Worker(OpenFactoryApp):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._hall = 3
            if is_early:
                setattr(self, name, "mine")
            super().__init__(*arguments, **options)
            if not is_early:
                setattr(self, name, "mine")

    with pytest.raises(TypeError, match=rf"Worker\.{name} has a name that OpenFactory itself uses"):
        start(Worker)


@pytest.mark.parametrize("name", ["_state", "_submit", "_is_app"])
def test_private_data_at_class_level_is_refused_when_the_class_is_defined(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Plant\.{name} has a name that OpenFactory itself uses"):
        define(**{name: "mine"})


@pytest.mark.parametrize("name", ["_engine", "_clock", "_commands", "_lifecycle", "_reference"])
def test_private_data_at_class_level_that_the_constructor_would_hide_is_refused(start: Start, name: str) -> None:
    with pytest.raises(TypeError, match=rf"Plant\.{name} has a name that OpenFactory itself uses"):
        start(define(**{name: {}, "_hall": 3}))


def test_private_data_of_a_class_that_openfactory_does_not_use_stays(start: Start) -> None:
    class Worker(OpenFactoryApp):
        _parts = 0

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._parts = 3
            super().__init__(*arguments, **options)

    assert start(Worker)._parts == 3


def test_a_function_under_the_name_of_data_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Plant\.storage has a name"):
        define(storage=lambda self: "shelf 1")


def test_overrides_that_the_runtime_calls_are_as_before(start: Start) -> None:
    class Plain(OpenFactoryApp):
        logger = None  # type: ignore[assignment]

        def welcome_banner(self) -> None: ...

        @classmethod
        def app_event_loop_stopped(cls) -> None: ...

        def shutdown(self) -> None:
            super().shutdown()

    assert start(Plain).logger is not None


@pytest.mark.parametrize("name", ["main_loop", "welcome_banner", "app_event_loop_stopped", "shutdown", "run"])
def test_a_function_that_is_not_awaited_cannot_be_async(name: str) -> None:
    async def function(self: Any) -> None: ...

    def generator(self: Any) -> Any:
        yield

    for member in (function, generator):
        with pytest.raises(TypeError, match=rf"Plant\.{name} is async or a generator"):
            define(**{name: member})


def test_a_main_loop_that_returns_a_coroutine_is_no_success(start: Start, log: pytest.LogCaptureFixture) -> None:
    async def loop() -> None: ...

    @functools.wraps(loop)
    def main_loop(self: Any) -> Any:
        return loop()

    del main_loop.__wrapped__
    app = start(define(main_loop=main_loop), app_uuid="MILL")
    with pytest.raises(SystemExit) as ended:
        app.run()
    assert ended.value.code == 1
    assert "main_loop returned an object of type coroutine, and its body has not run" in log.text


@pytest.mark.parametrize("taken", ["avail", "status", "application_version"])
def test_a_method_cannot_have_the_id_of_an_attribute(taken: str) -> None:
    with pytest.raises(TypeError, match=rf"Plant\.do needs the id '{taken}', which another"):
        define(status=EventAttribute(value="", tag="Test"), do=ofa_method(name=taken)(lambda self: None))


def test_a_method_cannot_have_the_id_of_the_commands_of_another() -> None:
    with pytest.raises(TypeError, match="needs the id 'move_CMD'"):
        define(move=named("move"), other=named("move_CMD"))


class Movable(Protocol):
    def move(self) -> str: ...


@runtime_checkable
class Stoppable(Protocol):
    def stop(self) -> str: ...


class Machine(abc.ABC):
    @abc.abstractmethod
    def move(self) -> str: ...


@dataclasses.dataclass
class Place:
    hall: int = 1

    def __post_init__(self) -> None:
        self.checked = True


class Mill(Machine, Movable, Place, OpenFactoryApp):
    status = EventAttribute(value="idle", tag="Status")

    def __init__(self, *arguments: Any, hall: int = 2, **options: Any) -> None:
        Place.__init__(self, hall)
        OpenFactoryApp.__init__(self, *arguments, **options)

    @ofa_method()
    def move(self) -> str:
        return f"moved in hall {self.hall}"


def test_abstract_classes_protocols_and_dataclasses_may_be_bases(start: Start) -> None:
    mill = start(Mill, hall=3)
    assert mill.call("move", sender_uuid="HMI") == "moved in hall 3"
    assert (mill.hall, mill.checked, mill.status.value) == (3, True, "idle")
    assert isinstance(mill, Machine)
    assert isinstance(mill, OpenFactoryApp)
    assert not isinstance(start(OpenFactoryApp), Machine)


def test_an_abstract_method_that_is_missing_is_told(start: Start) -> None:
    class Unfinished(Machine, OpenFactoryApp): ...

    with pytest.raises(TypeError, match="abstract"):
        start(Unfinished)


def test_apps_that_are_equal_each_stop(start: Start) -> None:
    class Equal(OpenFactoryApp):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment]

    first, second = start(Equal, app_uuid="ONE"), start(Equal, app_uuid="OTHER")
    assert first == second
    first.shutdown()
    assert (first["avail"].value, second["avail"].value) == ("UNAVAILABLE", "UNAVAILABLE")
    second.avail = "AVAILABLE"
    assert second.avail.value == "AVAILABLE"


def test_a_dataclass_may_be_an_app() -> None:
    @dataclasses.dataclass
    class Press(OpenFactoryApp):
        force: int
        status = EventAttribute(value="idle", tag="Status")

        def __post_init__(self) -> None:
            super().__init__(None, test_mode=True)

    press = Press(force=5)
    try:
        assert (press.force, press.status.value) == (5, "idle")
        assert press == press
    finally:
        press.shutdown()


def test_a_dataclass_that_builds_no_app_is_told() -> None:
    @dataclasses.dataclass
    class Press(OpenFactoryApp):
        force: int

    with pytest.raises(TypeError, match=r"Press was built without super\(\).__init__\(\)\. Call it"):
        Press(force=5)


def test_attributes_of_a_subclass_may_be_set_before_the_constructor_of_the_app(start: Start) -> None:
    class Early(OpenFactoryApp):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.line = "A"
            with pytest.raises(AttributeError, match=r"'avail' yet\. Call super\(\)\.__init__\(\)"):
                self.avail  # noqa: B018
            super().__init__(*arguments, **options)

    assert start(Early).line == "A"


def test_an_error_within_a_property_is_that_error(start: Start) -> None:
    class Driver: ...

    class Press(OpenFactoryApp):
        driver = Driver()

        @property
        def door(self) -> bool:
            return bool(self.driver.closed)  # type: ignore[attr-defined]

        @functools.cached_property
        def _pump(self) -> bool:
            return bool(self.driver.pump)  # type: ignore[attr-defined]

    press = start(Press)
    with pytest.raises(AttributeError, match="'Driver' object has no attribute 'closed'"):
        press.door  # noqa: B018
    with pytest.raises(AttributeError, match="'Driver' object has no attribute 'pump'"):
        press._pump  # noqa: B018
    Driver.closed = True  # type: ignore[attr-defined]
    assert press.door is True
    assert press.unknown.value == "UNAVAILABLE"


def test_coroutines_are_methods_as_before(start: Start) -> None:
    class Slow(OpenFactoryApp):
        @ofa_method()
        async def close(self) -> str:  # type: ignore[override]
            await asyncio.sleep(0)
            return "closed"

    assert start(Slow).call("close", sender_uuid="HMI") == "closed"
