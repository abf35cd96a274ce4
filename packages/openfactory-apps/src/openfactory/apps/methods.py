"""Methods that other assets may call: the decorator, the published contract, and the conversion of arguments."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from openfactory.apps.conversion import check_annotation, converted
from openfactory.apps.limits import limited, published_limits, unlimited
from openfactory.commands.contract import contract_attributes
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import check_attribute_id

__all__ = ["MethodContract", "UnknownAnnotationError", "is_published", "ofa_method", "published_methods"]

Function = TypeVar("Function", bound=Callable[..., Any])

_METADATA = "_ofa_method_metadata"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class UnknownAnnotationError(TypeError):
    """The annotation of an argument names a type that is not defined, or not defined yet."""


class Argument(NamedTuple):
    """One argument of a method.

    Attributes:
        annotation: type of the argument, `str` if it has no annotation.
        default: value if the argument is omitted; None for a required argument.
    """

    name: str
    annotation: Any
    required: bool
    default: Any
    description: str


class MethodContract(NamedTuple):
    """The published description of a method: its name, its purpose, and its arguments.

    Attributes:
        name: name in commands.
        attribute: name in the class.
        is_async: whether the method runs on the app's event loop.
        cancellable: whether a cancel interrupts the method.
    """

    name: str
    attribute: str
    description: str
    arguments: tuple[Argument, ...]
    is_async: bool
    cancellable: bool = False

    def published(self) -> list[AssetAttribute]:
        """Return the attributes that publish this method."""
        arguments = [_published_argument(argument) for argument in self.arguments]
        return contract_attributes(self.name, {"description": self.description, "arguments": arguments})

    def bind(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Convert the arguments of a command to the types of the method.

        Raises:
            ValueError: an argument is missing, unknown or cannot be converted; the message names it.
        """
        known = [argument.name for argument in self.arguments]
        for name in texts:
            if name not in known:
                raise ValueError(f"Unknown argument {name!r}. {self.name} takes {', '.join(known) or 'no arguments'}.")
        values = {}
        for argument in self.arguments:
            if argument.name in texts:
                values[argument.name] = _convert(argument, texts[argument.name])
            elif argument.required:
                raise ValueError(f"Missing required argument {argument.name!r}. {self.name} takes {', '.join(known)}.")
        return values


def ofa_method(
    name: str | None = None,
    description: str | None = None,
    param_description: Mapping[str, str] | None = None,
    *,
    cancellable: bool = False,
) -> Callable[[Function], Function]:
    """Let other assets call this method of an app.

    Arguments arrive as text and are converted to the annotated types. The return value is the result in the reply. A
    plain method runs on a separate thread, an `async def` on the app's event loop.

    >>> @ofa_method(description="Move to a position")
    ... def move_axis(self, x: float, y: float, speed: int = 100): ...

    Args:
        name: name in commands; the name of the function by default.
        description: purpose of the method; its docstring by default.
        param_description: meaning of each argument by name; by default the text in its `Annotated` type.
        cancellable: interrupt the method when its caller gives up or cancels the command: `asyncio.CancelledError` is
            raised in it. Only an `async def` can be interrupted.

    Raises:
        TypeError: the decorator is used without parentheses, an argument cannot be passed by name, the function is a
            generator, or a plain function is `cancellable`.
        InvalidEventError: the name cannot be the id of an attribute.
    """
    if callable(name):
        raise TypeError("ofa_method is used without parentheses. Write @ofa_method().")

    def mark(function: Function) -> Function:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator, and has no result to reply. Return a list.")
        _check_cancellable(function, cancellable)
        parameters = _parameters(function)
        check_attribute_id(name or function.__name__)
        metadata = {
            "cancellable": cancellable,
            "method_name": name or function.__name__,
            "description": inspect.cleandoc(description or function.__doc__ or "").strip(),
            "parameters": {
                parameter.name: {
                    "annotation": None if parameter.annotation is parameter.empty else parameter.annotation,
                    "default": None if parameter.default is parameter.empty else parameter.default,
                    "required": parameter.default is parameter.empty,
                    "description": (param_description or {}).get(parameter.name, "").strip(),
                }
                for parameter in parameters
            },
        }
        setattr(function, _METADATA, metadata)
        return function

    return mark


def is_published(member: object) -> bool:
    """Return whether a member of a class is marked by `ofa_method`."""
    return getattr(member, _METADATA, None) is not None


def published_methods(app_class: type) -> dict[str, MethodContract]:
    """Return the methods that other assets may call, with inherited methods, by their name in commands.

    Raises:
        TypeError: two methods have the same name, or text cannot be converted to the type of an argument.
        UnknownAnnotationError: the type of an argument is not defined yet.
    """
    found: dict[str, MethodContract] = {}
    names = dict.fromkeys(name for base in reversed(app_class.__mro__) for name in vars(base))
    for attribute in names:
        function = inspect.getattr_static(app_class, attribute)
        metadata = getattr(function, _METADATA, None) or _inherited_metadata(app_class, attribute, function)
        if metadata is not None:
            contract = _contract(attribute, function, metadata)
            if contract.name in found:
                raise TypeError(
                    f"{app_class.__name__} has two methods with the name {contract.name!r} in commands: "
                    f"{found[contract.name].attribute} and {attribute}. Give one of them another: @ofa_method(name=…)."
                )
            found[contract.name] = contract
    return found


def _inherited_metadata(app_class: type, attribute: str, function: Any) -> Any:
    """Return the metadata of the method that an undecorated method overrides."""
    if not isinstance(function, types.FunctionType):
        return None
    for base in app_class.__mro__:
        metadata = getattr(vars(base).get(attribute), _METADATA, None)
        if metadata is not None:
            return {**metadata, "parameters": {}}
    return None


def _check_cancellable(function: Any, cancellable: bool) -> None:
    if cancellable and not inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{function.__qualname__} is a plain function, which a cancel cannot interrupt. "
            "Make it an async def, or leave out cancellable=True."
        )


def _contract(attribute: str, function: Any, metadata: Mapping[str, Any]) -> MethodContract:
    cancellable = metadata["cancellable"]
    _check_cancellable(function, cancellable)
    annotations = _annotations(function)
    arguments = []
    for parameter in _parameters(function):
        described = metadata["parameters"].get(parameter.name, {})
        try:
            annotation, description = _split_annotation(annotations.get(parameter.name, str))
            check_annotation(annotation)
        except TypeError as error:
            raise TypeError(f"{function.__qualname__} has an argument {parameter.name!r} {error}") from error
        required = parameter.default is parameter.empty
        arguments.append(
            Argument(
                parameter.name,
                annotation,
                required,
                None if required else parameter.default,
                described.get("description") or description,
            )
        )
    is_async = inspect.iscoroutinefunction(function)
    name, description = metadata["method_name"], metadata["description"]
    return MethodContract(name, attribute, description, tuple(arguments), is_async, cancellable)


def _annotations(function: Any) -> dict[str, Any]:
    """Return the annotations of the parameters; the annotation of the result may name types that are not imported."""
    inner = inspect.unwrap(function)
    written = {name: value for name, value in getattr(inner, "__annotations__", {}).items() if name != "return"}
    owner = types.SimpleNamespace(__annotations__=written, __type_params__=getattr(inner, "__type_params__", ()))
    try:
        return typing.get_type_hints(owner, getattr(inner, "__globals__", {}), include_extras=True)
    except NameError as error:
        raise UnknownAnnotationError(
            f"{function.__qualname__} has an annotation that is not known: {error}. "
            "Import the type where the method is defined, outside of `if TYPE_CHECKING`."
        ) from error


def _parameters(function: Any) -> list[inspect.Parameter]:
    """Return the parameters after `self`.

    Raises:
        TypeError: the first parameter is not `self`, or a parameter cannot be passed by name.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "self":
        raise TypeError(f"{function.__qualname__} is not a method. Give it `self` as its first parameter.")
    for parameter in parameters[1:]:
        if parameter.kind not in _NAMED:
            raise TypeError(
                f"{function.__qualname__} cannot be called by others: {parameter} cannot be passed by name. "
                "Use named parameters only."
            )
    return parameters[1:]


def _split_annotation(annotation: Any) -> tuple[Any, str]:
    """Split an annotation into its type with its limits, and the first text that `Annotated` adds to it."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return annotation, ""
    kind, *extras = typing.get_args(annotation)
    texts = [extra.strip() for extra in extras if isinstance(extra, str)]
    texts += [extra.description for extra in extras if isinstance(getattr(extra, "description", None), str)]
    return limited(kind, extras), next(filter(None, texts), "")


def _published_argument(argument: Argument) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": argument.name,
        "description": argument.description,
        "type": inspect.formatannotation(unlimited(argument.annotation)),
        "required": argument.required,
    }
    if limits := published_limits(argument.annotation):
        fields["limits"] = limits
    if not argument.required:
        try:
            fields["default"] = msgspec.to_builtins(argument.default)
        except TypeError:
            fields["default"] = repr(argument.default)
    return fields


def _convert(argument: Argument, text: str) -> Any:
    try:
        return converted(text, argument.annotation)
    except Exception as error:  # the annotated type may run code of the user
        type_name = inspect.formatannotation(unlimited(argument.annotation))
        raise ValueError(f"Failed to convert argument {argument.name!r} to {type_name}: {text!r} ({error}).") from error
