"""Targets by name: those of installed distributions, by the entry points `openfactory.targets`."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from openfactory.deploy.targets.base import Project, Target
from openfactory.exceptions import ConfigurationError, MissingDistributionError

__all__ = ["ENTRY_POINT_GROUP", "open_target", "target_class", "target_names"]

#: Distributions add targets here: name = name of the target, value = `module:class`.
ENTRY_POINT_GROUP = "openfactory.targets"


def target_names() -> list[str]:
    """Return the names of the targets, sorted."""
    return sorted(_entry_points())


def target_class(name: str) -> type[Target]:
    """Return the class of a target.

    Raises:
        ConfigurationError: no target has this name.
        MissingDistributionError: the target cannot be loaded.
    """
    known = _entry_points()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, 1)
        hint = f"Write {nearest[0]}." if nearest else "Install the distribution that adds it, or select one of these."
        raise ConfigurationError(f"{name!r} is not a target. The targets are {', '.join(sorted(known))}. {hint}")
    try:
        loaded = known[name].load()
    except (ImportError, AttributeError) as error:
        remedy = _remedy(known[name])
        raise MissingDistributionError(f"The target {name} cannot be loaded ({error}). {remedy}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Target)):
        raise ConfigurationError(f"{known[name].value} is not a target. Name a class that derives from Target there.")
    return loaded


def open_target(name: str, project: Project) -> Target:
    """Return a target for a project.

    Raises:
        ConfigurationError: no target has this name.
        MissingDistributionError: the target, or a library that it needs, is not installed.
        TargetError: the target cannot be reached.
    """
    return target_class(name)(project)


def _remedy(entry_point: EntryPoint) -> str:
    """Return how the distribution of a target becomes whole; its own extras are not known here."""
    if entry_point.dist is None:
        return f"Install the distribution of {entry_point.value} anew, with all that it needs."
    name = entry_point.dist.name
    return f"Install {name} anew, with all that it needs: pip install --force-reinstall {name}."


def _entry_points() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}
