"""Switches: groups of values in a recipe's ``run:`` section. What is kept, what ends a run early, what speeds it up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unisono.errors import RecipeError, did_you_mean, shown

LOGGERS = ("tensorboard", "csv", "wandb", "mlflow", "none")


@dataclass(frozen=True)
class KeepBest:
    """States that are kept beside the newest: the ``k`` best by a logged value.

    monitor: its name, such as ``val/loss``.
    mode: whether less is better (``min``) or more (``max``).
    """

    monitor: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    k: int = 1

    def __post_init__(self):
        _check_monitor(self.monitor, "run.keep_best.monitor")
        if self.k < 1:
            raise RecipeError(
                f"run.keep_best.k={self.k} must be at least 1", path="run.keep_best.k", value=self.k, code="range"
            )


@dataclass(frozen=True)
class EarlyStopping:
    """The run ends when a logged value has not improved for so long.

    monitor, mode: as in ``KeepBest``.
    patience: validations in a row without an improvement after which the run ends.
    min_delta: what a value must be better by, to count as an improvement.
    """

    monitor: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self):
        _check_monitor(self.monitor, "run.early_stopping.monitor")
        path = "run.early_stopping.patience"
        if self.patience < 1:
            raise RecipeError(
                f"{path}={self.patience} must be at least 1", path=path, value=self.patience, code="range"
            )
        path = "run.early_stopping.min_delta"
        if not 0 <= self.min_delta < math.inf:
            raise RecipeError(
                f"{path}={self.min_delta} must be in [0, ∞)", path=path, value=self.min_delta, code="range"
            )


@dataclass(frozen=True)
class Compile:
    """What ``torch.compile`` is given. Training steps are compiled; validation, previews and exports are not.

    mode: of ``torch.compile``.
    dynamic: true for shapes that change, false for fixed ones, null lets it find out.
    regions: patterns of names of submodules, ``["net.blocks.*"]``; empty takes the blocks that the model repeats.
    backend: ``inductor``, or another that torch knows.
    """

    mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default"
    dynamic: bool | None = None
    regions: tuple[str, ...] = ()
    backend: str = "inductor"


@dataclass(frozen=True)
class ActivationCheckpointing:
    """Blocks whose activations are computed again in the backward pass instead of being kept.

    every: 1 takes every block, 2 every second one, and so on.
    """

    every: int = 1

    def __post_init__(self):
        path = "run.activation_checkpointing.every"
        if self.every < 1:
            raise RecipeError(f"{path}={self.every} must be at least 1", path=path, value=self.every, code="range")


def check_loggers(given: Any) -> list[str | dict[str, Any]]:
    """Return ``run.logger`` as a list of names and of ``{class_path, init_args}``; raises ``RecipeError``.

    ``none`` and an empty list are an empty list.
    """
    items = list(given) if isinstance(given, list | tuple) else [given]
    seen: list[str] = []
    for item in items:
        if isinstance(item, Mapping):
            unknown = [key for key in item if key not in ("class_path", "init_args")]
            arguments = item.get("init_args") or {}
            if unknown or not isinstance(item.get("class_path"), str) or not isinstance(arguments, Mapping):
                raise RecipeError(
                    f"run.logger={shown(item)} must be {{class_path: NAME, init_args: {{…}}}}, with a name of "
                    f"{', '.join(LOGGERS[:-1])} or package.module.Class",
                    path="run.logger",
                    value=item,
                    code="type",
                )
            name = item["class_path"]
        elif isinstance(item, str):
            name = item
        else:
            raise RecipeError(
                f"run.logger={shown(item)} must be a name, a mapping with class_path, or a list of these",
                path="run.logger",
                value=item,
                code="type",
            )
        if name not in LOGGERS and (isinstance(item, str) or "." not in name):
            raise RecipeError(
                f"run.logger={shown(name)} is not known{did_you_mean(name, LOGGERS)}; another logger is given as "
                "{class_path: package.module.Class}",
                path="run.logger",
                value=name,
                code="unknown",
            )
        if name in LOGGERS and name in seen:
            raise RecipeError(f"run.logger names {name} twice", path="run.logger", value=given, code="conflict")
        seen.append(name)
    if "none" in seen and len(seen) > 1:
        raise RecipeError(
            f"run.logger={shown(given)}: none stands alone", path="run.logger", value=given, code="conflict"
        )
    return [dict(item) if isinstance(item, Mapping) else item for item in items if item != "none"]


def _check_monitor(name: str, path: str) -> None:
    if not name.strip():
        raise RecipeError(
            f"{path} is empty: name a logged value, such as val/loss", path=path, value=name, code="empty"
        )
