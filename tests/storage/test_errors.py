"""An error of a process in a pool reaches the process that has asked, with its attributes."""

from __future__ import annotations

import pickle

import pytest

from openfactory.storage import (
    PathOutsideStorageError,
    ReadOnlyStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
    UnknownStorageTypeError,
    UnknownStoreError,
)

ERRORS = [
    StorageError("No room. Set TMPDIR."),
    StorageConfigurationError("STORAGE is not valid JSON. Write one storage."),
    UnknownStorageTypeError("STORAGE has the type 'cloud'. Use one of these.", storage_type="cloud", known=("local",)),
    PathOutsideStorageError("'../a' leads out of the storage. Use a path inside.", path="../a"),
    ReadOnlyStorageError("'a' was not written. Write to another store.", path="a"),
    StorageUnavailableError("'a' cannot be reached. Check that it is mounted.", path="a"),
    UnknownStoreError("The storage has no store 'b'. Use one of a.", store="b", known=("a",)),
    SeveralStoresError("A named storage has no root. Use storage['a'].root."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_sent_to_another_process(error: StorageError) -> None:
    received = pickle.loads(pickle.dumps(error))
    assert type(received) is type(error)
    assert (str(received), received.args, vars(received)) == (str(error), error.args, vars(error))
