"""Apps frozen to one program: the hooks by which PyInstaller finds the modules that are imported by their name.

PyInstaller asks for them by the entry point `hook-dirs` of the group `pyinstaller40`: nothing needs to be configured.
"""

from __future__ import annotations

import os

__all__ = ["hook_directories"]


def hook_directories() -> list[str]:
    """Return the folders with the hooks for PyInstaller."""
    return [os.path.dirname(__file__)]
