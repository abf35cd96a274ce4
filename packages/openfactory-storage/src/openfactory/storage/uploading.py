"""A whole file on its way to a server."""

from __future__ import annotations

import secrets
from contextlib import suppress
from importlib import import_module
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback

from openfactory.storage.backend import OnProgress

__all__ = ["Progress", "exchange", "rename"]


class Progress(Callback):  # type: ignore[misc]
    """What fsspec says of an upload, for those who asked for it."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        super().__init__()
        self._on_progress = on_progress
        self._said = 0
        self.refused: Exception | None = None

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Hand on how far it is."""
        if self._on_progress is not None and self.value > self._said:
            self._said = self.value
            try:
                self._on_progress(self.value, self.size or 0)
            except Exception as error:
                self.refused = error
                raise

    def end_at(self, size: int) -> None:
        """All is through; some protocols say nothing before."""
        self.size, self.value = size, size
        self.call()


def exchange(fs: AbstractFileSystem, local_file: str, full: str, progress: Callback) -> None:
    """Write beside the target and exchange the names, which a server with folders does in one step."""
    unfinished = f"{full.rpartition('/')[0]}/.ofa-{secrets.token_hex(8)}.tmp"
    try:
        fs.put_file(local_file, unfinished, callback=progress)
        rename(fs, unfinished, full)
    except BaseException:
        with suppress(Exception):  # what keeps it from being written may keep it from being removed
            fs.rm_file(unfinished)
        raise


def rename(fs: AbstractFileSystem, old: str, new: str) -> None:
    """Give a file or folder another name, in the place of a file that is there."""
    if "smb" in _protocols(fs):  # its own refuses where something is
        old, new = (f"\\\\{fs.host}{path}".replace("/", "\\") for path in (old, new))
        import_module("smbclient").replace(old, new, port=fs._port)
    elif "webdav" in _protocols(fs):  # its own copies and deletes, refuses where something is, and moves no folder
        fs.client.move(old, new, overwrite=True)
    else:
        fs.mv(old, new)


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
