"""Checks: of what a recipe asks of the degradations; ``DataError`` names the option."""

from typing import Any

from unisono.errors import DataError, did_you_mean


def check_share(options: Any, step: str, name: str = "share") -> None:
    value = getattr(options, name)
    if not 0 <= value <= 1:
        path = f"data.degrade.{step}.{name}"
        raise DataError(f"{path}={value} must be in [0, 1]", code="range", path=path, value=value)


def check_range(value: tuple[float, float], name: str, least: float, most: float) -> None:
    if not least <= value[0] <= value[1] <= most:
        path = f"data.degrade.{name}"
        message = f"{path}={list(value)} must be a lower and an upper number within [{least:g}, {most:g}]"
        raise DataError(message, code="range", path=path, value=list(value))


def check_known(names: tuple[str, ...], known: tuple[str, ...], path: str, least: int = 1) -> None:
    path = f"data.degrade.{path}"
    if strange := [name for name in names if name not in known]:
        message = f"{path} names {strange[0]!r}{did_you_mean(strange[0], known)}"
        raise DataError(message, code="unknown", path=path, value=strange[0])
    if len(names) < least or len(set(names)) < len(names):
        message = f"{path}={list(names)} must name at least {least}, each once; a share of 0 leaves a step out"
        raise DataError(message, code="value", path=path, value=list(names))
