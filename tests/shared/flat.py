"""Objects from arguments by their flat names, as recipe format 1 and the command line have them."""

import inspect
from dataclasses import replace
from typing import Any

from unisono.arguments import nested


def make(kind: Any, **arguments: Any) -> Any:
    """Make an object of a class from arguments by their flat names; types are not checked."""
    given = nested(arguments, kind.flat, "given", "test")
    groups = {path.split(".")[0] for path in kind.flat.values()} & given.keys()
    parameters = inspect.signature(kind).parameters
    return kind(**given | {name: replace(parameters[name].default, **given[name]) for name in groups})
