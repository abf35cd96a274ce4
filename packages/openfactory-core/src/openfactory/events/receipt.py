"""The receipt of a publish: what has become of one event."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from openfactory.exceptions import DeliveryTimeout, OpenFactoryError

__all__ = ["Receipt"]

_Await = Callable[["Receipt", float], bool]


class Receipt(msgspec.Struct, eq=False, gc=False):
    """Tells whether a published event was acknowledged, and where it stands.

    Attributes:
        number: counts what this process published to the engine; a higher number was published later.
        position: the event's place in the log once it is acknowledged, else None.
        error: why it could not be written, else None.
    """

    number: int
    _await: _Await
    position: int | None = None
    error: OpenFactoryError | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known what became of the event."""
        return self.position is not None or self.error is not None

    def wait(self, timeout: float = 10.0) -> int:
        """The event's position, as soon as it is acknowledged.

        Args:
            timeout: how long to wait, in seconds.

        Raises:
            DeliveryError: the event could not be written.
            DeliveryTimeout: nothing is known of it yet.
        """
        if not self.settled and not self._await(self, timeout):
            raise DeliveryTimeout(
                f"A published event was not acknowledged within {timeout:g} s. "
                "Wait longer, or look at the engine's health() for what holds it up.",
                pending=1,
            )
        if self.error is not None:
            raise self.error
        assert self.position is not None
        return self.position
