"""Extras: optional packages, imported where they are used."""

from importlib import import_module
from types import ModuleType

from unisono.errors import MissingExtra


def optional(
    package: str, module: str | None = None, extra: str = "evaluate", distribution: str = "unisono"
) -> ModuleType:
    """Import an optional package of an extra, or raise ``MissingExtra`` with the line that installs it."""
    try:
        return import_module(module or package)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] != (module or package).partition(".")[0]:
            raise MissingExtra(f"{error.name} (for {package})", extra, distribution) from error
        raise MissingExtra(package, extra, distribution) from None
