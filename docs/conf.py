"""Sphinx: Markdown by MyST, the theme furo. `make docs` builds into docs/_build."""

import unisono

project = "Unisono"
author = "The Unisono authors"
copyright = author
release = version = unisono.__version__

extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
suppress_warnings = ["misc.highlighting_failure"]  # elisions (…) in snippets that show a part only

html_theme = "furo"
html_title = "Unisono"
language = "en"
