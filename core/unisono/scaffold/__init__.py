"""Scaffold: a package to begin a plugin with, of one of three kinds, for ``unisono new-plugin``.

names.py       the names of a new plugin, and which are refused
write.py       from the templates to a folder
templates/     shared/ and one folder for each kind: whole packages as they are written, by the name ``sketch``

The templates are code of a plugin, not of the core: lint, types and imports are held to what plugins are.
"""

from unisono.scaffold.names import Names
from unisono.scaffold.write import KINDS, new_plugin

__all__ = ["KINDS", "Names", "new_plugin"]
