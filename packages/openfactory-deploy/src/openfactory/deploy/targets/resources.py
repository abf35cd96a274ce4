"""Limits and reservations of CPUs and memory, by the names and units of a target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.files.sizes import bytes_of

__all__ = ["resource_amounts"]


def resource_amounts(
    release: Release,
    kinds: tuple[str, str],
    cpus: tuple[str, Callable[[float], object]],
    memory: tuple[str, Callable[[int], object]],
) -> dict[str, Any]:
    """Return the resources that the file of a release names.

    Args:
        release: the release.
        kinds: names of the limits and of the reservations.
        cpus: name of the CPUs, and their amount from a number of them.
        memory: name of the memory, and its amount from a number of bytes.
    """
    deploy = release.app.settings.deploy
    found = {}
    for kind, given in zip(kinds, (deploy.limits, deploy.reservations), strict=True):
        amounts = {}
        if given.cpus is not None:
            amounts[cpus[0]] = cpus[1](given.cpus)
        if given.memory is not None:
            amounts[memory[0]] = memory[1](bytes_of(given.memory))
        if amounts:
            found[kind] = amounts
    return found
