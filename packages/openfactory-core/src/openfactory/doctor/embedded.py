"""Check of a factory in a file: the file exists, can be written, and the engine opens it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.registry import open_engine
from openfactory.exceptions import OpenFactoryError
from openfactory.settings.redaction import redacted

__all__ = ["examine_embedded"]


def examine_embedded(factory: Factory) -> Iterator[Finding]:
    """Check the file of a factory, and the embedded engine on it. A missing file is not created."""
    path = EmbeddedLocation.of(factory.url).path
    if path is None:
        yield unchecked("file", f"{redacted(factory.url)} exists only in the memory of the process that opened it.")
        return
    if not path.exists():
        yield failed("file", f"{path} does not exist. Start an app with `ofa run FILE`, which creates it.")
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
        yield fine("engine", f"works, registered assets: {assets}")
    else:
        yield failed("engine", health.reason)


def _writable(path: Path) -> Iterator[Finding]:
    locked = next((place for place in (path, path.parent) if not os.access(place, os.W_OK)), None)
    if locked is None:
        yield fine("file", f"{path}, {path.stat().st_size / 1_000_000:.1f} MB")
    else:
        yield failed("file", f"{locked} cannot be written. Grant this user write access to the file and its folder.")
