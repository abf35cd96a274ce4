"""The name of an app without APP_UUID: that of its file, as `ofa run` takes it."""

from __future__ import annotations

import os
import re
import site
import sys
from pathlib import Path

__all__ = ["app_file_of", "app_uuid_of"]

# Files that have the name of their folder.
_OF_FOLDERS = ("__init__.py", "__main__.py")

# Characters that `check_asset_uuid` rejects.
_NOT_IN_UUIDS = re.compile(r"[\s\x00-\x1f\x7f*>|.\ud800-\udfff]")


def app_uuid_of(file: Path) -> str:
    """Return the UUID of an app that is named after its file, or after its folder if all packages have such a file.

    >>> app_uuid_of(Path("cell 1/press.v2.py")), app_uuid_of(Path("cell 1/__main__.py"))
    ('press-v2', 'cell-1')
    """
    name = file.absolute().parent.name if file.name in _OF_FOLDERS else file.stem
    return _NOT_IN_UUIDS.sub("-", name)


def app_file_of(app_class: type) -> Path | None:
    """Return the file of an app: the file that was started, or None if no file was, as in an interactive session.

    An installed program such as pytest or uvicorn may have loaded the app. Then it is the file that defines its class,
    unless the program belongs to the package of the class.
    """
    if getattr(sys, "frozen", False):
        return Path(sys.executable)
    started, defining = _file_of("__main__"), _file_of(app_class.__module__)
    if started is not None and not _is_installed(started):
        return started
    if app_class.__module__ == "__main__":
        return _profiled_file() or started
    if defining is not None and _is_installed(defining) and started is not None and _is_of_package(started, app_class):
        return started
    return defining or started


def _profiled_file() -> Path | None:
    """Return the file that a program of Python such as cProfile runs in its own place, or None if it runs no file."""
    file = Path(sys.argv[0])
    return file if file.is_file() and not _is_installed(file) else None


def _is_of_package(program: Path, app_class: type) -> bool:
    """Return whether the package of an app defines the program: as a module for `python -m`, or as a command."""
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    started = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "")
    commands = entry_points(group="console_scripts", name=program.name)
    packages = {module.partition(".")[0] for module in (started, *(command.module for command in commands))}
    return app_class.__module__.partition(".")[0] in packages


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
    import sysconfig  # slow to import, and not needed by an app with APP_UUID

    paths = sysconfig.get_paths()
    folders = [os.path.dirname(sys.executable), *(paths[name] for name in ("scripts", "purelib", "platlib", "stdlib"))]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return any(place.is_relative_to(folder) for place in (file.absolute(), file.resolve()) for folder in folders)
