"""Warns of every public name that no page of the reference describes, so that none is forgotten."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

_logger = logging.getLogger(__name__)


def check(app: Sphinx, env: BuildEnvironment) -> None:
    described = set(cast(PythonDomain, env.get_domain("py")).objects)
    for package in app.config.complete_reference_packages:
        for name in import_module(package).__all__:
            if name.startswith("__"):
                continue
            full = f"{package}.{name}"
            if full not in described:
                _logger.warning("%s is public and no page describes it. Add it to docs/reference.", full)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("complete_reference_packages", [], "env", list)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
