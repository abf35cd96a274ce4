"""The apps that an app depends on, found by their names or UUIDs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from openfactory.deploy.app import App

__all__ = ["apps_meant", "cycle_among", "dependencies_of"]


def apps_meant(wanted: str, file: Path, apps: Iterable[App]) -> list[App]:
    """Return the apps that an item of `depends_on` may mean: one, if the item is right.

    A name of the same file goes before a UUID, and a UUID before a name of another file.

    Args:
        wanted: name or UUID of an app.
        file: file with the item.
        apps: all apps.
    """
    apps = list(apps)
    for meant in (
        [app for app in apps if app.name == wanted and app.place.file == file],
        [app for app in apps if app.settings.uuid.lower() == wanted.lower()][:1],
        [app for app in apps if app.name == wanted],
    ):
        if meant:
            return meant
    return []


def dependencies_of(app: App, apps: Sequence[App]) -> tuple[App, ...]:
    """Return the apps that are available before an app starts, in the order of `depends_on`.

    Args:
        app: one of the apps.
        apps: all apps, as `read_apps` returns them.
    """
    return tuple(one for wanted in app.settings.depends_on for one in apps_meant(wanted, app.place.file, apps))


def cycle_among(apps: Sequence[App]) -> list[App]:
    """Return apps that depend on each other in a circle, the first one again at the end, or an empty list."""
    by_key = {(app.place.file, app.name): app for app in apps}
    graph = {key: [(one.place.file, one.name) for one in dependencies_of(app, apps)] for key, app in by_key.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [by_key[key] for key in reversed(error.args[1])]
    return []
