"""Outputs as numbers: any media object becomes named arrays, and two of them have a distance."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def numbers(value: Any, name: str = "output") -> dict[str, np.ndarray]:
    """Flatten a media object into named arrays: its fields, theirs, and so on; text becomes text arrays."""
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
    if isinstance(value, np.ndarray | np.generic | bool | int | float | str):
        return {name: np.asarray(value)}
    if value is None:
        return {}
    if isinstance(value, Mapping):
        parts = {f"{name}.{key}": item for key, item in value.items()}
    elif is_dataclass(value):
        parts = {f"{name}.{field.name}": getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, Sequence):
        parts = {f"{name}[{index}]": item for index, item in enumerate(value)}
    else:
        parts = {f"{name}.{key}": item for key, item in vars(value).items()}
    return {key: array for part, item in parts.items() for key, array in numbers(item, part).items()}


def distance(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """Return how far two outputs are apart, and in what, relative to each array's own peak.

    Another number of arrays, another shape, other text or other whole numbers are infinitely far.
    """
    if one.keys() != other.keys():
        return float("inf"), sorted(one.keys() ^ other.keys())[0]
    worst, where = 0.0, ""
    for name, left in one.items():
        right = other[name]
        if left.shape != right.shape:
            return float("inf"), f"{name} of shape {left.shape} and {right.shape}"
        if np.array_equal(left, right, equal_nan=left.dtype.kind in "fc"):
            continue
        if left.dtype.kind not in "fc" or (np.isnan(left) != np.isnan(right)).any():
            return float("inf"), name
        far = np.nanmax(np.abs(left - right)) / max(np.nanmax(np.abs(left)), np.finfo(np.float32).tiny)
        if far > worst:
            worst, where = float(far), name
    return worst, where


def farthest(one: Sequence[Mapping[str, np.ndarray]], other: Sequence[Mapping[str, np.ndarray]]) -> tuple[float, str]:
    """Return the largest distance of outputs that stand in the same place, and in what it is."""
    return max((distance(left, right) for left, right in zip(one, other, strict=True)), default=(0.0, ""))


def sizes(output: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    """Return the shapes of an output's arrays, and the lengths of its texts: what differs where padding is needed."""
    return tuple(
        (name, len(str(array)) if array.dtype.kind == "U" and not array.ndim else array.shape)
        for name, array in sorted(output.items())
    )
