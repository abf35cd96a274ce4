"""Several storages under one roof, each with a name."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn, overload

from openfactory.storage.backend import FileBackend, FileInfo, OnProgress
from openfactory.storage.errors import (
    PathOutsideStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    UnknownStoreError,
)
from openfactory.storage.paths import StoragePath, checked_text, relative
from openfactory.storage.registry import storage_from_settings

__all__ = ["NamedStorage"]

_STORE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NamedStorage(FileBackend, Mapping[str, FileBackend]):
    """A storage whose first path segment is the name of a store, and a mapping of names to stores.

    `storage.open("data/today.csv")` and `storage["data"].open("today.csv")` are the same file.
    """

    config: dict[str, Any]

    def __init__(self, stores: Mapping[str, FileBackend]) -> None:
        if not stores:
            raise StorageConfigurationError("A named storage needs at least one store. Give it a name and a backend.")
        super().__init__({name: store.config for name, store in stores.items()})
        self._stores = dict(stores)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NamedStorage:
        """Make it from an object of names, each with the settings of a storage."""
        stores: dict[str, FileBackend] = {}
        mounted: dict[str, str] = {}
        for name, settings in config.items():
            where = f"The store {name!r} of STORAGE"
            if not _STORE_NAME.fullmatch(name):
                raise StorageConfigurationError(f"{where} needs another name. Use letters, digits, '_' and '-'.")
            store = stores[name] = storage_from_settings(settings, where)
            target = (store.get_mount_spec() or {}).get("Target")
            if target is not None and mounted.setdefault(target, name) != name:
                raise StorageConfigurationError(
                    f"{where} mounts at {target!r}, where the store {mounted[target]!r} is already. "
                    f"Give each store a mount_point of its own."
                )
        return cls(stores)

    def __getitem__(self, name: str) -> FileBackend:
        try:
            return self._stores[name]
        except KeyError:
            raise self._unknown(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)

    @property
    def root(self) -> NoReturn:
        """There is none: each store has its own.

        Raises:
            SeveralStoresError: always.
        """
        self._ask_one("root")

    @property
    def fs(self) -> NoReturn:
        """There is none: each store has its own.

        Raises:
            SeveralStoresError: always.
        """
        self._ask_one("fs")

    @overload  # type: ignore[override]
    def get(self, path: str, /) -> FileBackend | None: ...
    @overload
    def get(self, path: str, default: FileBackend | None, /) -> FileBackend | None: ...
    @overload
    def get(self, path: StoragePath, local_file: StoragePath, on_progress: OnProgress | None = None) -> None: ...
    def get(self, path: StoragePath, local_file: Any = None, on_progress: OnProgress | None = None) -> Any:
        """A store by its name, as of any mapping; with a file of this machine, copy a file of the storage to it."""
        if isinstance(local_file, (str, os.PathLike)):
            return super().get(path, local_file, on_progress)
        return self._stores.get(os.fspath(path), local_file)

    def read_bytes(self, path: StoragePath) -> bytes:
        """All of a file, as its store reads it."""
        store, inside = self._in_store(self._inside(path))
        return store.read_bytes(inside)

    def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
        """All of a text file, as its store reads it."""
        store, inside = self._in_store(self._inside(path))
        return store.read_text(inside, encoding=encoding)

    def exists(self, path: StoragePath) -> bool:
        """Whether there is a file or a folder; False also where there is no such store."""
        try:
            return super().exists(path)
        except UnknownStoreError:
            return False

    def get_mount_spec(self) -> NoReturn:
        """There is none: each store has its own mount.

        Raises:
            SeveralStoresError: always.
        """
        self._ask_one("get_mount_spec()")

    def compatible_with_swarm(self) -> bool:
        """Whether every store is."""
        return all(store.compatible_with_swarm() for store in self._stores.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(self._stores))})"

    # Each store does it for itself; it also says what it refuses

    def _open(self, path: str, mode: str, **as_text: Any) -> IO[Any]:
        store, inside = self._in_store(path)
        return store.open(inside, mode, **as_text)

    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        store, inside = self._in_store(path)
        store._replace(store._writable(inside), chunks)

    def _copy(self, source: str, target: str) -> None:
        (store, old), (other, new) = self._in_store(source), self._in_store(target)
        if store is other:
            store.copy(old, new)  # its server may do it
        else:
            super()._copy(source, target)

    def _put(self, local_file: Path, path: str, on_progress: OnProgress | None) -> None:
        store, inside = self._in_store(path)
        store.put(local_file, inside, on_progress)

    def _info(self, path: str) -> FileInfo:
        if not path:
            return FileInfo("", 0, None, True)
        store, inside = self._in_store(path)
        return store.info(inside)._replace(path=path)

    def _exists(self, path: str) -> bool:
        if not path:
            return True
        store, inside = self._in_store(path)
        return store.exists(inside)

    def _delete(self, path: str) -> None:
        store, inside = self._in_store(path)
        store.delete(inside)

    def _move(self, source: str, target: str) -> None:
        (store, old), (other, new) = self._in_store(source), self._in_store(target)
        if store is other:
            store.move(old, new)
        elif store.info(old).is_folder:
            raise IsADirectoryError(errno.EISDIR, "A folder is not moved to another store; move its files", source)
        else:
            store._writable(old)  # before it is there twice
            self.copy(source, target)
            store.delete(old)

    def _mkdir(self, path: str) -> None:
        if not path:
            return
        store, inside = self._in_store(path)
        store.mkdir(inside)

    def _list(self, path: str) -> Iterable[FileInfo]:
        if not path:
            return [FileInfo(name, 0, None, True) for name in self._stores]
        name = path.partition("/")[0]
        store, inside = self._in_store(path)
        return [entry._replace(path=f"{name}/{entry.path}") for entry in store._list(store._inside(inside))]

    def _inside(self, path: StoragePath) -> str:
        text = checked_text(path)
        pure = PurePosixPath(text)
        if pure.is_absolute() or pure.parts[:1] == ("..",):
            raise PathOutsideStorageError(f"{text!r} names no store. {self._how_to_name()}", path=text)
        if not pure.parts:
            return ""
        # What follows the name is a path of its own, so that `..` leads into no other store.
        return "/".join(filter(None, (pure.parts[0], relative("/".join(pure.parts[1:])))))

    def _in_store(self, path: str) -> tuple[FileBackend, str]:
        """The store that a path names, and the path inside it."""
        name, _, inside = path.partition("/")
        if not name:
            raise IsADirectoryError(errno.EISDIR, f"It is the storage itself. {self._how_to_name()}", path)
        return self[name], inside

    def _how_to_name(self) -> str:
        names = ", ".join(f"{name}/…" for name in sorted(self._stores))
        return f"Start the path with the name of a store: {names}"

    def _unknown(self, name: str) -> UnknownStoreError:
        known = tuple(sorted(self._stores))
        return UnknownStoreError(
            f"The storage has no store {name!r}. It has {', '.join(known)}: use one of these, or add "
            f"{name!r} to STORAGE.",
            store=name,
            known=known,
        )

    def _ask_one(self, what: str) -> NoReturn:
        example = min(self._stores)
        raise SeveralStoresError(
            f"A named storage has no {what} of its own. Ask one of its stores: storage[{example!r}].{what}"
        )
