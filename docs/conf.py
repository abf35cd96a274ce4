"""Sphinx reads this: hatch run docs:build."""

from importlib.metadata import version as version_of

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
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"OpenFactory {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# "Attributes:" in a docstring describes what the class body declares already: one entry, not two.
napoleon_use_ivar = True
