"""Every error of OpenFactory, each with the facts as attributes and the remedy at the end of its text.

OpenFactoryError, also named OFAException
├── ConfigurationError, also named OFAConfigurationException   (a ValueError)
├── MissingDistributionError                                   (an ImportError)
├── InvalidEventError                                          (a ValueError)
├── UnknownAssetError                                          (a LookupError)
├── UnknownAttributeError                                      (a LookupError)
├── SubscriptionError
├── EngineError
│   ├── EngineUnavailableError                                 (a ConnectionError)
│   ├── EngineClosedError
│   ├── QueryError                                             (a ValueError)
│   ├── DeliveryError
│   └── DeliveryTimeout                                        (a TimeoutError)
└── CommandError
    ├── CommandRejected
    ├── CommandFailed
    └── CommandTimeout                                         (a TimeoutError)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "CommandError",
    "CommandFailed",
    "CommandRejected",
    "CommandTimeout",
    "ConfigurationError",
    "DeliveryError",
    "DeliveryTimeout",
    "EngineClosedError",
    "EngineError",
    "EngineUnavailableError",
    "InvalidEventError",
    "MissingDistributionError",
    "OFAConfigurationException",
    "OFAException",
    "OpenFactoryError",
    "QueryError",
    "SubscriptionError",
    "UnknownAssetError",
    "UnknownAttributeError",
]


class OpenFactoryError(Exception):
    """The root: catches whatever OpenFactory raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Facts that are given by name go along when an error is copied or sent to another process."""
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[OpenFactoryError], arguments: tuple[Any, ...], facts: dict[str, Any]) -> OpenFactoryError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(facts)
    return error


OFAException = OpenFactoryError


class ConfigurationError(OpenFactoryError, ValueError):
    """A setting, a URL or an argument cannot be used as it is."""


OFAConfigurationException = ConfigurationError


class MissingDistributionError(OpenFactoryError, ImportError):
    """A part of OpenFactory that was asked for is not installed."""


class InvalidEventError(OpenFactoryError, ValueError):
    """An asset UUID, an attribute id or a value that would hurt other readers, refused before it is written.

    Attributes:
        asset_uuid: the asset that was written to, when known.
        attribute_id: the attribute that was written, when known.
    """

    def __init__(self, message: str, *, asset_uuid: str | None = None, attribute_id: str | None = None) -> None:
        super().__init__(message)
        self.asset_uuid = asset_uuid
        self.attribute_id = attribute_id


class UnknownAssetError(OpenFactoryError, LookupError):
    """Nobody stands at a place of the namespace.

    Attributes:
        uns_id: the place.
    """

    def __init__(self, message: str, *, uns_id: str) -> None:
        super().__init__(message)
        self.uns_id = uns_id


class UnknownAttributeError(OpenFactoryError, LookupError):
    """An attribute that the asset does not have, where reading `UNAVAILABLE` would be no answer."""


class SubscriptionError(OpenFactoryError):
    """A subscription that cannot be made or has come to its end."""


class EngineError(OpenFactoryError):
    """The engine, the part that moves and keeps the data, could not do what was asked."""


class EngineUnavailableError(EngineError, ConnectionError):
    """What a URL names cannot be reached or opened.

    Attributes:
        address: the URL or path that was tried.
    """

    def __init__(self, message: str, *, address: str) -> None:
        super().__init__(message)
        self.address = address


class EngineClosedError(EngineError):
    """A verb was used on an engine that is closed, or in a process forked from the one that opened it."""


class QueryError(EngineError, ValueError):
    """A query that this engine cannot answer.

    Attributes:
        statement: the text of the query.
    """

    def __init__(self, message: str, *, statement: str) -> None:
        super().__init__(message)
        self.statement = statement


class DeliveryError(EngineError):
    """Events that were published and could not be written.

    Attributes:
        events: the events that failed, in the order in which they were published.
    """

    def __init__(self, message: str, *, events: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.events = tuple(events)


class DeliveryTimeout(EngineError, TimeoutError):
    """Published events that were not acknowledged in time; they may still be written later.

    Attributes:
        pending: how many events wait.
    """

    def __init__(self, message: str, *, pending: int) -> None:
        super().__init__(message)
        self.pending = pending


class CommandError(OpenFactoryError):
    """A command that gave no result.

    Attributes:
        asset_uuid: the asset that was commanded.
        method: the method that was called.
        correlation_id: the id by which both sides log this command.
    """

    def __init__(self, message: str, *, asset_uuid: str, method: str, correlation_id: str) -> None:
        super().__init__(message)
        self.asset_uuid = asset_uuid
        self.method = method
        self.correlation_id = correlation_id


class CommandRejected(CommandError):
    """The asset refused the command and ran nothing: an unknown method, a bad argument, too old."""


class CommandFailed(CommandError):
    """The method ran and raised."""


class CommandTimeout(CommandError, TimeoutError):
    """No answer came in time; the method may have run all the same.

    Attributes:
        timeout: how long was waited, in seconds.
    """

    def __init__(self, message: str, *, asset_uuid: str, method: str, correlation_id: str, timeout: float) -> None:
        super().__init__(message, asset_uuid=asset_uuid, method=method, correlation_id=correlation_id)
        self.timeout = timeout
