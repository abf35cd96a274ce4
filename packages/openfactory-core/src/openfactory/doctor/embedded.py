"""A factory in a file: whether it is there, can be written, and works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.engines.embedded.location import Location
from openfactory.engines.registry import open_engine
from openfactory.exceptions import OpenFactoryError

__all__ = ["examine_embedded"]


def examine_embedded(factory: Factory) -> Iterator[Finding]:
    """What is wrong with the file of a factory; it makes none."""
    path = Location.of(factory.url).path
    if path is None:
        yield unchecked("file", f"{factory.url} is in the memory of the process that keeps it.")
        return
    if not path.exists():
        yield failed("file", f"{path} does not exist. Start an app with `ofa run FILE`, which makes it.")
        return
    yield from _writable(path)
    try:
        with open_engine(factory.url) as reference:
            health = reference.engine.health()
            assets = len(reference.engine.types())
    except OpenFactoryError as error:
        yield failed("engine", error)
        return
    if health.connected:
        yield fine("engine", f"it works, and {assets} assets are registered")
    else:
        yield failed("engine", health.reason)


def _writable(path: Path) -> Iterator[Finding]:
    refused = next((one for one in (path, path.parent) if not os.access(one, os.W_OK)), None)
    if refused is None:
        yield fine("file", f"{path}, {path.stat().st_size / 1_000_000:.1f} MB")
    else:
        yield failed("file", f"{refused} cannot be written. Give yourself the right to write it and its folder.")
