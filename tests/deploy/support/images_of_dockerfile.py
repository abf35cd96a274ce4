"""The images of the Dockerfile, built by a real Docker on the latest supported Python of this machine."""

from __future__ import annotations

import os

from distributions import ROOT
from python_matrix import candidates, find_interpreter, supported_versions
from servers import DockerEngine, NotOnThisMachineError
from servers.interpreter import Interpreter
from servers.python_image import python_layers

__all__ = ["load_images"]


def load_images(engine: DockerEngine) -> None:
    """Build `openfactory-apps` and `openfactory-fanout`, from a base image with the wheels that pip finds in it.

    Raises:
        NotOnThisMachineError: this machine has no supported Python, or the base image cannot be made.
    """
    for version in reversed(supported_versions()):
        path = find_interpreter(version, candidates(version, dict(os.environ)))
        if path is not None:
            break
    else:
        raise NotOnThisMachineError("This machine has no supported Python. Install one of those in pyproject.toml.")
    engine.load_image(f"python:{version}-slim", python_layers(Interpreter.of(path)))
    for target in ("apps", "fanout"):
        chosen = (f"--build-arg=PYTHON={version}", f"--target={target}", f"--tag=openfactory-{target}")
        try:
            engine.docker("build", *chosen, ROOT, timeout=900)
        except NotOnThisMachineError as error:
            # A machine has all that a build needs by now: its failure is one of the Dockerfile.
            raise AssertionError(str(error)) from error
