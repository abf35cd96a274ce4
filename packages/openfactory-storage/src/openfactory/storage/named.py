"""Several storages under one roof, each with a name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from openfactory.storage.backend import FileBackend, StoragePath
from openfactory.storage.errors import (
    PathOutsideStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    UnknownStoreError,
)
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
    def root(self) -> Path:
        """There is none: each store has its own.

        Raises:
            SeveralStoresError: always.
        """
        self._ask_one("root")

    def open(
        self,
        path: StoragePath,
        mode: str = "r",
        *,
        encoding: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file of the store that the first segment names."""
        store, inside = self._split(path)
        if store is None:
            raise IsADirectoryError(f"{os.fspath(path)!r} is the storage itself. {self._how_to_name()}")
        return store.open(inside, mode, encoding=encoding, newline=newline)

    def exists(self, path: StoragePath) -> bool:
        """Whether there is a file or a folder; False also where there is no such store."""
        try:
            store, inside = self._split(path)
        except UnknownStoreError:
            return False
        return store is None or store.exists(inside)

    def delete(self, path: StoragePath) -> None:
        """Remove a file of the store that the first segment names."""
        store, inside = self._split(path)
        if store is None:
            raise IsADirectoryError(f"{os.fspath(path)!r} is the storage itself. {self._how_to_name()}")
        store.delete(inside)

    def listdir(self, path: StoragePath = ".") -> list[str]:
        """The names in a folder, sorted; those of the stores for the storage itself."""
        store, inside = self._split(path)
        return sorted(self._stores) if store is None else store.listdir(inside)

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

    def _split(self, path: StoragePath) -> tuple[FileBackend | None, str]:
        """The store that a path names and the path inside it; None for the storage itself."""
        text = os.fspath(path)
        pure = PurePosixPath(text)
        if pure.is_absolute() or pure.parts[:1] == ("..",):
            raise PathOutsideStorageError(f"{text!r} names no store. {self._how_to_name()}", path=text)
        if not pure.parts:
            return None, "."
        # A `..` further on stays: the store refuses what leads out of it, into a sibling too.
        return self[pure.parts[0]], "/".join(pure.parts[1:]) or "."

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
