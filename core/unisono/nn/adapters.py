"""Adapters: fine-tuning by a few weights beside frozen ones (LoRA, arXiv:2106.09685, and relatives), by ``peft``.

::

    adapters: {rank: 16}                  # a section of the recipe, of any model
    run: {init_from: my-model}            # the frozen weights

A layer with weights W becomes another one, of which W stays as it is:

=======  =================================================  =====================================
kind     what the layer computes                            paper
=======  =================================================  =====================================
lora     W x + (α / r) B A x                                Hu et al. 2021, arXiv:2106.09685
dora     the same, its columns scaled to learnt lengths     Liu et al. 2024, arXiv:2402.09353
loha     W x + (α / r) ((B₁ A₁) ⊙ (B₂ A₂)) x                Hyeon-Woo et al. 2022, arXiv:2108.06098
lokr     W x + (α / r) (C ⊗ (B A)) x                        Yeh et al. 2023, arXiv:2309.14859
ia3      l ⊙ (W x)                                          Liu et al. 2022, arXiv:2205.05638
=======  =================================================  =====================================

At the start each adds nothing, so that training begins at the model that it starts from. Nothing of a model's own code
knows about it: layers are replaced after the model is built (``adapt``), and ``merge`` puts plain layers back, with the
sums as their weights.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unisono.arguments import build
from unisono.errors import RecipeError, did_you_mean
from unisono.extras import optional
from unisono.nn.layers import hidden_layers

RANK = 16
"""Of the kinds that have one, where the recipe gives none."""
_ADAPTED: dict[str, tuple[type[nn.Module], ...]] = {
    "lora": (nn.Linear, nn.Conv1d, nn.Conv2d),
    "dora": (nn.Linear, nn.Conv1d, nn.Conv2d),
    "loha": (nn.Linear, nn.Conv2d),
    "lokr": (nn.Linear, nn.Conv2d),
    "ia3": (nn.Linear, nn.Conv2d),
}


@dataclass(frozen=True)
class AdapterSpec:
    """What is trained beside frozen weights, as in a recipe's ``adapters:`` section.

    kind: ``lora``, ``dora``, ``loha``, ``lokr`` or ``ia3``.
    rank: of the added matrices; 16 where none is given. ``ia3`` has none.
    alpha: what they are added with, over the rank; the rank itself where none is given.
    dropout: of what the added matrices read.
    targets: patterns (``fnmatch``, over the whole names of layers, such as ``net.layers.*.q``) of what is adapted;
        without, what the model declares, or every linear layer inside its repeated layers.
    train: patterns of parameters that are trained themselves, such as ``net.head.*``.
    """

    kind: Literal["lora", "dora", "loha", "lokr", "ia3"] = "lora"
    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    train: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind == "ia3":
            for name, value in (("rank", self.rank), ("alpha", self.alpha), ("dropout", self.dropout or None)):
                if value is not None:
                    raise _refused(name, value, "does not go with kind ia3, which has none: remove it", "conflict")
        if self.rank is not None and self.rank < 1:
            raise _refused("rank", self.rank, "must be at least 1")
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise _refused("alpha", self.alpha, "must be above 0 and finite")
        if not 0 <= self.dropout < 1:
            raise _refused("dropout", self.dropout, "must be in [0, 1)")


def adapt(model: Any, spec: AdapterSpec) -> None:
    """Add adapters to a built model, in place, and freeze all other parameters but those of ``spec.train``.

    Raises ``MissingExtra`` where ``peft`` is not installed, and ``RecipeError`` for patterns that name nothing.
    """
    names = target_names(model, spec)
    peft: Any = _peft()
    rank = spec.rank or RANK
    alpha: Any = rank if spec.alpha is None else spec.alpha  # fractions are taken too, though peft declares integers
    targets = "|".join(map(re.escape, names))  # a list would match the ends of names
    if spec.kind in ("lora", "dora"):
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=spec.dropout, target_modules=targets, use_dora=spec.kind == "dora"
        )
    elif spec.kind == "ia3":
        config = peft.IA3Config(target_modules=targets, feedforward_modules=[])
    else:
        kind = peft.LoHaConfig if spec.kind == "loha" else peft.LoKrConfig
        config = kind(r=rank, alpha=alpha, rank_dropout=spec.dropout, module_dropout=0.0, target_modules=targets)
    before = {id(parameter) for parameter in model.parameters()}
    learnt = {id(parameter) for name in trained_names(model, spec) for parameter in [model.get_parameter(name)]}
    peft.inject_adapter_in_model(config, model)
    model.adapted = frozenset(
        name for name, parameter in model.named_parameters() if id(parameter) not in before or id(parameter) in learnt
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in model.adapted)


def add_adapters(model: Any, section: Mapping[str, Any], origin: str) -> None:
    """Add the adapters of a recipe's section ``adapters`` to a built model; see ``adapt``."""
    try:
        adapt(model, build(AdapterSpec, section, "adapters", origin))
    except RecipeError as error:
        if str(error).startswith(f"{origin}: "):
            raise
        code: Any = error.code
        raise RecipeError(f"{origin}: {error}", code=code, path=error.path, value=error.value) from error


def target_names(model: nn.Module, spec: AdapterSpec) -> list[str]:
    """Return the names of the layers that are adapted.

    Raises ``RecipeError`` for a pattern that names no layer of a kind that can be adapted.
    """
    fit = _ADAPTED[spec.kind]
    outside = tuple(getattr(model, "training_only", ()))
    layers = {
        name: type(module)
        for name, module in model.named_modules()
        if name and not (outside and f"{name}.".startswith(outside))
    }
    known = [name for name, kind in layers.items() if issubclass(kind, fit)]
    patterns = spec.targets or tuple(getattr(model, "adapter_targets", ()))
    if not patterns:
        inside = [name for name in hidden_layers(model) if name in layers]
        if not inside:
            raise _refused(
                "targets", [], f"is needed: {type(model).__name__} has no linear layer inside repeated layers"
                f"{did_you_mean('', known)}", "missing",
            )  # fmt: skip
        return inside
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matched = [name for name in layers if fnmatchcase(name, pattern)]
        usable = [name for name in matched if issubclass(layers[name], fit)]
        if not matched:
            raise _refused(
                "targets", pattern, f"names no layer of this {type(model).__name__}{did_you_mean(pattern, known)}",
                "unknown",
            )  # fmt: skip
        if not usable:
            raise _refused(
                "targets", pattern,
                f"names {matched[0]}, a {layers[matched[0]].__name__}: {spec.kind} adapts "
                f"{', '.join(kind.__name__ for kind in fit)}", "unsupported",
            )  # fmt: skip
        chosen |= dict.fromkeys(usable)
    return list(chosen)


def trained_names(model: nn.Module, spec: AdapterSpec) -> list[str]:
    """Return the parameters that ``spec.train`` names; raises ``RecipeError`` for a pattern that names none."""
    known = [name for name, _ in model.named_parameters()]
    chosen: dict[str, None] = {}
    for pattern in spec.train:
        matched = [name for name in known if fnmatchcase(name, pattern)]
        if not matched:
            raise _refused(
                "train", pattern, f"names no parameter of this {type(model).__name__}{did_you_mean(pattern, known)}",
                "unknown",
            )  # fmt: skip
        chosen |= dict.fromkeys(matched)
    return list(chosen)


def merge(model: Any) -> Any:
    """Put plain layers in the place of adapted ones, in place: the same outputs, and weights that are the sums.

    Returns the model, whose recipe has no adapters any more. Raises ``RecipeError`` for a model without adapters.
    """
    if not model.adapted:
        raise RecipeError(
            f"this {type(model).__name__} has no adapters: there is nothing to merge", code="empty", path="adapters"
        )
    tuner: Any = _peft("peft.tuners.tuners_utils").BaseTunerLayer
    for name, layer in list(model.named_modules()):
        if isinstance(layer, tuner):
            with torch.no_grad():
                layer.merge(safe_merge=True)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
    model.adapted = frozenset()
    model.requires_grad_(True)
    model.recipe = {section: value for section, value in model.recipe.items() if section != "adapters"}
    return model


def beneath_adapters(own: Sequence[str] | Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a plain model under the names that they have beneath adapters."""
    renamed = dict(state)
    for name in own:
        plain = name.replace(".base_layer.", ".")
        if plain != name and plain in renamed and name not in renamed:
            renamed[name] = renamed.pop(plain)
    return renamed


def _peft(module: str = "peft") -> Any:
    return optional("peft", module, extra="peft")


def _refused(name: str, value: Any, why: str, code: Any = "range") -> RecipeError:
    return RecipeError(f"adapters.{name}={value} {why}", code=code, path=f"adapters.{name}", value=value)
