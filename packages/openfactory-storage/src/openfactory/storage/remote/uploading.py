"""Upload of a whole file to a server."""

from __future__ import annotations

import secrets
from contextlib import suppress
from importlib import import_module
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback

from openfactory.storage.backend import OnProgress

__all__ = ["Progress", "rename", "upload_and_rename"]


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


def upload_and_rename(fs: AbstractFileSystem, local_file: str, full: str, progress: Callback) -> None:
    """Upload to a temporary file in the folder of the target and rename it.

    A server with folders renames a file in one step.
    """
    unfinished = f"{full.rpartition('/')[0]}/.ofa-{secrets.token_hex(8)}.tmp"
    try:
        fs.put_file(local_file, unfinished, callback=progress)
        rename(fs, unfinished, full)
    except BaseException:
        with suppress(Exception):  # the file may not be removable for the same reason
            fs.rm_file(unfinished)
        raise


def rename(fs: AbstractFileSystem, old: str, new: str) -> None:
    """Rename a file or folder. A file replaces an existing file."""
    if "smb" in _protocols(fs):  # fsspec's mv fails if the target exists
        old, new = (f"\\\\{fs.host}{path}".replace("/", "\\") for path in (old, new))
        import_module("smbclient").replace(old, new, port=fs._port)
    elif "webdav" in _protocols(fs):  # fsspec's mv copies and deletes, and cannot replace a file or move a folder
        fs.client.move(old, new, overwrite=True)
    else:
        fs.mv(old, new)


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
