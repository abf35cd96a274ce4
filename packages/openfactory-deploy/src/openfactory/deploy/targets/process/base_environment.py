"""The variables of the system that apps need beside those of their release."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["base_environment"]

# A process needs these to find programs, libraries and certificates, to write text, and to measure coverage of tests.
# Settings are not among them: an app has those of its release alone, as in a container.
_NAMES = (
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "PYTHONPATH",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_RUNTIME_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_PREFIXES = ("COVERAGE_", "LC_")


# Variables of the user; without them, programs look the user up.
_OF_USER = ("HOME", "LOGNAME", "SHELL", "USER", "XDG_RUNTIME_DIR")


def base_environment(uid: int | None = None) -> dict[str, str]:
    """Return the variables of the system for an app; the programs of this Python environment are found first.

    Args:
        uid: id of the user of the app, or None for the user of this process.
    """
    variables = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    if uid not in (None, os.geteuid()):
        variables = {name: value for name, value in variables.items() if name not in _OF_USER}
    programs = str(Path(sys.executable).parent)
    path = variables.get("PATH", os.defpath)
    variables["PATH"] = path if path.split(os.pathsep)[0] == programs else programs + os.pathsep + path
    variables["PYTHONUNBUFFERED"] = "1"  # lines are in the log when they are printed
    return variables
