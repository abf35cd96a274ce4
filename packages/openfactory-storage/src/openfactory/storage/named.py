"""Several storages as one storage, each with a name."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn, TypeVar, overload

from openfactory.storage.backend import FileBackend, FileInfo, OnProgress
from openfactory.storage.errors import (
    PathOutsideStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    UnknownStoreError,
)
from openfactory.storage.paths import StoragePath, checked_text, relative
from openfactory.storage.registry import mount_spec_from_settings, storage_from_settings

__all__ = ["NamedStorage"]

T = TypeVar("T")

_STORE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NamedStorage(FileBackend, Mapping[str, FileBackend]):
    """A storage of several stores: a mapping of names to stores, whose paths begin with the name of a store.

    `storage.open("data/today.csv")` and `storage["data"].open("today.csv")` open the same file.

    Args:
        stores: the stores by their names.

    Raises:
        StorageConfigurationError: `stores` is empty.
    """

    config: dict[str, Any]

    def __init__(self, stores: Mapping[str, FileBackend]) -> None:
        if not stores:
            raise StorageConfigurationError(
                "A named storage needs at least one store. Add a name and the settings of a storage."
            )
        super().__init__({name: store.config for name, store in stores.items()})
        self._stores = dict(stores)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NamedStorage:
        """Create the storage from an object of names, each with the settings of a storage.

        Raises:
            StorageConfigurationError: the settings cannot be used, or two stores have the same mount point.
            StorageUnavailableError: the server of a store cannot be reached.
        """
        stores = {name: storage_from_settings(settings, _where(name)) for name, settings in config.items()}
        _check_mount_points({name: store.get_mount_spec() for name, store in stores.items()})
        return cls(stores)

    @classmethod
    def mount_specs_from_config(cls, config: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
        """Return the mount that a container needs for each store, without opening the stores.

        Raises:
            StorageConfigurationError: the settings cannot be used, or two stores have the same mount point.
        """
        specs = {name: mount_spec_from_settings(settings, _where(name)) for name, settings in config.items()}
        _check_mount_points(specs)
        return specs

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
        """Raise an error, because each store has its own root.

        Raises:
            SeveralStoresError: always.
        """
        self._refuse("root")

    @property
    def fs(self) -> NoReturn:
        """Raise an error, because each store has its own filesystem.

        Raises:
            SeveralStoresError: always.
        """
        self._refuse("fs")

    @overload
    def get(self, path: str, /) -> FileBackend | None: ...
    @overload
    def get(self, path: StoragePath, local_file: StoragePath, on_progress: OnProgress | None = None) -> None: ...
    @overload
    def get(self, path: str, default: T, /) -> FileBackend | T: ...
    # The copy must precede the default, which may be anything; pyright expects the overloads of Mapping in a row.
    def get(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, path: StoragePath, local_file: Any = None, on_progress: OnProgress | None = None
    ) -> Any:
        """Return a store by its name, as `Mapping.get` does, or copy a file to this machine, as `FileBackend.get` does.

        The second argument decides: with the path of a local file, the file is copied.
        """
        if isinstance(local_file, (str, os.PathLike)):
            return super().get(path, local_file, on_progress)
        return self._stores.get(os.fspath(path), local_file)

    def read_bytes(self, path: StoragePath) -> bytes:
        """Return the content of a file as bytes, with the method of its store."""
        store, inside = self._in_store(self._inside(path))
        return store.read_bytes(inside)

    def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
        """Return the content of a text file, with the method of its store."""
        store, inside = self._in_store(self._inside(path))
        return store.read_text(inside, encoding=encoding)

    def exists(self, path: StoragePath) -> bool:
        """Return whether a file or folder exists; False if the store does not exist."""
        try:
            return super().exists(path)
        except UnknownStoreError:
            return False

    def get_mount_spec(self) -> NoReturn:
        """Raise an error, because each store has its own mount.

        Raises:
            SeveralStoresError: always.
        """
        self._refuse("get_mount_spec()")

    def compatible_with_swarm(self) -> bool:
        """Return whether all stores are compatible with Docker Swarm."""
        return all(store.compatible_with_swarm() for store in self._stores.values())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(self._stores))})"

    # Each operation goes to a store, which also checks its paths and whether it is read-only

    def _open(self, path: str, mode: str, **text_options: Any) -> IO[Any]:
        store, inside = self._in_store(path)
        return store.open(inside, mode, **text_options)

    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        store, inside = self._in_store(path)
        store._replace(store._writable(inside), chunks)

    def _copy(self, source: str, target: str) -> None:
        (store, old), (other, new) = self._in_store(source), self._in_store(target)
        if store is other:
            store.copy(old, new)  # a server may copy without a transfer
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
            raise IsADirectoryError(errno.EISDIR, "A folder cannot be moved to another store; move its files", source)
        else:
            store._writable(old)  # before the copy, because the file of a read-only store cannot be deleted afterwards
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
        return [entry._replace(path=f"{name}/{entry.path}") for entry in store._list(inside)]

    def _inside(self, path: StoragePath) -> str:
        text = checked_text(path)
        pure = PurePosixPath(text)
        if pure.is_absolute() or pure.parts[:1] == ("..",):
            raise PathOutsideStorageError(
                f"{text!r} does not begin with the name of a store. {self._remedy()}", path=text
            )
        if not pure.parts:
            return ""
        # The rest is a path within the store, so `..` cannot lead into another store.
        return "/".join(filter(None, (pure.parts[0], relative("/".join(pure.parts[1:])))))

    def _in_store(self, path: str) -> tuple[FileBackend, str]:
        """Return the store of a path, and the path within the store."""
        name, _, inside = path.partition("/")
        if not name:
            raise IsADirectoryError(errno.EISDIR, f"It is the root of the storage. {self._remedy()}", path)
        return self[name], inside

    def _remedy(self) -> str:
        names = ", ".join(f"{name}/…" for name in sorted(self._stores))
        return f"Start the path with the name of a store: {names}"

    def _unknown(self, name: str) -> UnknownStoreError:
        known = tuple(sorted(self._stores))
        return UnknownStoreError(
            f"The storage has no store {name!r}. Use one of {', '.join(known)}, or add {name!r} to STORAGE.",
            store=name,
            known=known,
        )

    def _refuse(self, member: str) -> NoReturn:
        example = min(self._stores)
        raise SeveralStoresError(
            f"A named storage has no {member}. Use {member} of one of its stores: storage[{example!r}].{member}"
        )


def _where(name: str) -> str:
    """Return the name of a store in error messages, after a check of its name."""
    where = f"The store {name!r} of STORAGE"
    if not _STORE_NAME.fullmatch(name):
        raise StorageConfigurationError(f"{where} has an invalid name. Use letters, digits, '_' and '-'.")
    return where


def _check_mount_points(specs: Mapping[str, dict[str, Any] | None]) -> None:
    mounted: dict[str, str] = {}
    for name, spec in specs.items():
        target = (spec or {}).get("Target")
        if target is not None and mounted.setdefault(target, name) != name:
            raise StorageConfigurationError(
                f"{_where(name)} has the mount_point {target!r}, and so has the store {mounted[target]!r}. "
                f"Give each store its own mount_point."
            )
