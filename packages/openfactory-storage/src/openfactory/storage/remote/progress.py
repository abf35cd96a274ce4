"""The progress of an upload."""

from __future__ import annotations

from typing import Any

from fsspec.callbacks import Callback

from openfactory.storage.backend import OnProgress

__all__ = ["Progress"]


class Progress(Callback):  # type: ignore[misc]
    """Callback of fsspec that passes the progress of an upload to `on_progress`.

    Args:
        on_progress: the function to call, or None.

    Attributes:
        callback_error: the exception that `on_progress` raised, or None.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        super().__init__()
        self._on_progress = on_progress
        self._reported = 0
        self.callback_error: Exception | None = None

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Call `on_progress` if more bytes are transferred than at the last call."""
        if self._on_progress is not None and self.value > self._reported:
            self._reported = self.value
            try:
                self._on_progress(self.value, self.size or 0)
            except Exception as error:
                self.callback_error = error
                raise

    def finish(self, size: int) -> None:
        """Report the complete upload of `size` bytes. Some protocols report nothing before."""
        self.size, self.value = size, size
        self.call()
