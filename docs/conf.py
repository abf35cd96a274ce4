"""Sphinx reads this: hatch run docs:build."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from pkgutil import iter_modules

import openfactory

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "OpenFactory"
author = "The OpenFactory developers"
copyright = author
# The distributions have versions of their own; the pages are about apps, so theirs stands in the title.
version = release = version_of("openfactory-apps")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_help",
    "complete_reference",
    "docstrings",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"OpenFactory {release}"
html_static_path = ["_static"]
html_css_files = ["openfactory.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# "Attributes:" in a docstring describes what the class body declares already: one entry, not two.
napoleon_use_ivar = True

# Every public name of every package stands on some page.
complete_reference_packages = sorted(f"openfactory.{module.name}" for module in iter_modules(openfactory.__path__))

# A link to something of ours that leads nowhere is an error; to others there are no links.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!openfactory\.).*"),
    ("py:.*", r"openfactory\..*\.(_?Client|_Asset|App|EngineProducer|Function|Storage|StoredFileResponse|T)"),
]
