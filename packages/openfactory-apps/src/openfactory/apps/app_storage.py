"""The storage of an app: opened from STORAGE, and explained where code of the app uses it and it is None."""

from __future__ import annotations

import traceback
from typing import Any

from openfactory.exceptions import MissingDistributionError
from openfactory.settings import setting

__all__ = ["explain_missing_storage", "open_storage"]


def open_storage() -> Any:
    """Return the storage that STORAGE describes, or None if it is not set.

    Raises:
        MissingDistributionError: STORAGE is set, and openfactory-storage is not installed.
        StorageError: the storage cannot be opened.
    """
    text = setting("STORAGE")
    if not text:
        return None
    try:
        from openfactory.storage import storage_from_environment
    except ImportError as error:
        raise MissingDistributionError(
            "STORAGE is set and openfactory-storage is not installed. "
            "Install it: pip install 'openfactory-apps[storage]'."
        ) from error
    return storage_from_environment(text)


def explain_missing_storage(app: object, error: BaseException) -> None:
    """Add a note to an error of an app's code, if it is the use of `app.storage` while that is None.

    Python's own text, "'NoneType' object has no attribute 'get'", does not name STORAGE.
    """
    if not isinstance(error, (AttributeError, TypeError)) or "NoneType" not in str(error):
        return
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    if "storage" in line and vars(app).get("storage", ...) is None:
        error.add_note(
            "app.storage is None, because STORAGE is not set. Set STORAGE to the storage that the app needs, or check "
            "`self.storage is not None` before you use it."
        )
