"""The name of an app without APP_UUID: that of its file, as `ofa run` takes it."""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
from pathlib import Path

__all__ = ["app_file_of", "app_uuid_of"]

# Characters that `check_asset_uuid` rejects.
_NOT_IN_UUIDS = re.compile(r"[\s\x00-\x1f\x7f*>|.\ud800-\udfff]")


def app_uuid_of(file: Path) -> str:
    """Return the UUID of an app that is named after its file, or after its folder if the file is `__main__.py`.

    >>> app_uuid_of(Path("cell 1/press.v2.py")), app_uuid_of(Path("cell 1/__main__.py"))
    ('press-v2', 'cell-1')
    """
    name = file.absolute().parent.name if file.name == "__main__.py" else file.stem
    return _NOT_IN_UUIDS.sub("-", name)


def app_file_of(app_class: type) -> Path | None:
    """Return the file of an app: the file that was started, or None if no file was, as in an interactive session.

    An installed program such as pytest or uvicorn may have loaded the app. Then it is the file that defines its class,
    unless that is installed too.
    """
    if getattr(sys, "frozen", False):
        return Path(sys.executable)
    started, defining = _file_of("__main__"), _file_of(app_class.__module__)
    if defining is not None and (started is None or _is_installed(started)) and not _is_installed(defining):
        return defining
    return started


def _file_of(module: str) -> Path | None:
    """Return the file of a module, or None for a module without a file, and for the classes of OpenFactory."""
    name = getattr(sys.modules.get(module), "__file__", None)
    if not isinstance(name, str) or module.startswith("openfactory."):
        return None
    file = Path(name)
    archive = file.parent  # a program may be in one, as `zipapp` packs it
    return next((place for place in (file, archive) if place.is_file()), None)


def _is_installed(file: Path) -> bool:
    """Return whether a file is a command, or belongs to an installed distribution or to Python."""
    paths = sysconfig.get_paths()
    folders = [os.path.dirname(sys.executable), *(paths[name] for name in ("scripts", "purelib", "platlib", "stdlib"))]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return any(place.is_relative_to(folder) for place in (file.absolute(), file.resolve()) for folder in folders)
