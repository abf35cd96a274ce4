"""The errors of OpenFactory, each with its facts as attributes and the remedy at the end of its text.

OpenFactoryError, also named OFAException
├── ConfigurationError, also named OFAConfigurationException   (a ValueError)
├── MissingDistributionError                                   (an ImportError)
├── InvalidEventError                                          (a ValueError)
├── UnknownAssetError                                          (a LookupError)
├── UnknownAttributeError                                      (a LookupError)
├── AssetOwnedError
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
    ├── CommandUnknown
    ├── CommandExpired
    ├── CommandCancelled
    └── CommandTimeout                                         (a TimeoutError)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AssetOwnedError",
    "CommandCancelled",
    "CommandError",
    "CommandExpired",
    "CommandFailed",
    "CommandRejected",
    "CommandTimeout",
    "CommandUnknown",
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
    """Base class of all errors that OpenFactory raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the attributes of an error when it is copied or pickled."""
        return _restore, (type(self), self.args, vars(self))


def _restore(kind: type[OpenFactoryError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> OpenFactoryError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


OFAException = OpenFactoryError


class ConfigurationError(OpenFactoryError, ValueError):
    """A setting, a URL or an argument is not valid."""


OFAConfigurationException = ConfigurationError


class MissingDistributionError(OpenFactoryError, ImportError):
    """A required distribution or library is not installed."""


class InvalidEventError(OpenFactoryError, ValueError):
    """An asset UUID, an attribute id, a value or a message is not valid.

    OpenFactory checks events before it writes them, because an event that is not valid can harm other readers.

    Attributes:
        asset_uuid: UUID of the asset, if known.
        attribute_id: id of the attribute, if known.
    """

    def __init__(self, message: str, *, asset_uuid: str | None = None, attribute_id: str | None = None) -> None:
        super().__init__(message)
        self.asset_uuid = asset_uuid
        self.attribute_id = attribute_id


class UnknownAssetError(OpenFactoryError, LookupError):
    """No asset is at this place of the unified namespace.

    Attributes:
        uns_id: the place without an asset.
    """

    def __init__(self, message: str, *, uns_id: str) -> None:
        super().__init__(message)
        self.uns_id = uns_id


class UnknownAttributeError(OpenFactoryError, LookupError):
    """The asset does not have this attribute, and the value `UNAVAILABLE` would be a wrong answer."""


class AssetOwnedError(OpenFactoryError):
    """Another process that lives owns the asset, so its app cannot be started a second time.

    Attributes:
        asset_uuid: UUID of the asset.
        owner: the process that owns it, an `openfactory.events.ownership.Owner`.
    """

    def __init__(self, message: str, *, asset_uuid: str, owner: Any) -> None:
        super().__init__(message)
        self.asset_uuid = asset_uuid
        self.owner = owner


class SubscriptionError(OpenFactoryError):
    """A subscription cannot be made, or it has ended."""


class EngineError(OpenFactoryError):
    """An operation of the engine failed."""


class EngineUnavailableError(EngineError, ConnectionError):
    """The location in a URL cannot be reached or opened.

    Attributes:
        address: the URL or path that was tried.
    """

    def __init__(self, message: str, *, address: str) -> None:
        super().__init__(message)
        self.address = address


class EngineClosedError(EngineError):
    """The engine is closed, or was opened before this process was forked."""


class QueryError(EngineError, ValueError):
    """The engine cannot answer a query.

    Attributes:
        statement: text of the query.
    """

    def __init__(self, message: str, *, statement: str) -> None:
        super().__init__(message)
        self.statement = statement


class DeliveryError(EngineError):
    """Published events could not be written.

    Attributes:
        events: the events that failed, in the order in which they were published.
        told: whether a flush of the writer has raised this error of a receipt, so that no later flush raises it again.
    """

    told = False

    def __init__(self, message: str, *, events: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.events = tuple(events)


class DeliveryTimeout(EngineError, TimeoutError):
    """Published events were not acknowledged in time; they may still be written later.

    Attributes:
        pending: number of events that are not acknowledged.
    """

    def __init__(self, message: str, *, pending: int) -> None:
        super().__init__(message)
        self.pending = pending


class CommandError(OpenFactoryError):
    """A command did not return a result.

    Attributes:
        asset_uuid: UUID of the asset that the command was sent to.
        method: name of the method that was called.
        correlation_id: id of the command in the log lines of both sides.
    """

    def __init__(self, message: str, *, asset_uuid: str, method: str, correlation_id: str) -> None:
        super().__init__(message)
        self.asset_uuid = asset_uuid
        self.method = method
        self.correlation_id = correlation_id


class CommandRejected(CommandError):
    """The asset did not run the method: it is unknown, an argument is not valid, or the command is too old."""


class CommandFailed(CommandError):
    """The method ran and raised an exception."""


class CommandUnknown(CommandError):
    """The method may have run: the app was stopped or killed before it replied. Check the asset, then call again."""


class CommandExpired(CommandError):
    """The asset did not run the method: it took the command up after the time that its caller waits."""


class CommandCancelled(CommandError):
    """The command was cancelled: the method did not run, or was interrupted."""


class CommandTimeout(CommandError, TimeoutError):
    """No reply arrived in time; the method may have run nevertheless.

    Attributes:
        timeout: seconds after which the caller stopped waiting.
    """

    def __init__(self, message: str, *, asset_uuid: str, method: str, correlation_id: str, timeout: float) -> None:
        super().__init__(message, asset_uuid=asset_uuid, method=method, correlation_id=correlation_id)
        self.timeout = timeout
