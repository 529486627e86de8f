"""Adapters: fine-tuning by low-rank updates (Hu et al., 2021, LoRA, arXiv:2106.09685), by the package ``peft``.

::

    model:
      name: text/llada
      network: {…}                      # as of the model that is fine-tuned
      adapters: {rank: 16}
    run:
      init_from: my-llada               # its export

Every linear layer inside the network's layers becomes W x + (α / r) B A x, of which W stays as it is and A and B are
trained; embeddings, norms and head are frozen. B begins as 0, so that training begins at the model that it starts from.

An export of such a run keeps both, side by side. ``merged`` returns the plain model, with the sum of both as its
weights; ``save_export`` of that is an export as any other.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from unisono.errors import MissingExtra, RecipeError
from unisono.recipe import Recipe


@dataclass(frozen=True)
class Adapters:
    """What is added to each linear layer.

    Args:
        rank: of the added matrices, the width between A and B; 0 is no adapters.
        alpha: what they are added with, over the rank.
        dropout: of what A reads.
    """

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self):
        if self.rank < 0:
            raise RecipeError(
                f"model.adapters.rank={self.rank} must be at least 0",
                code="range",
                path="model.adapters.rank",
                value=self.rank,
            )
        if not self.alpha > 0:
            raise RecipeError(
                f"model.adapters.alpha={self.alpha} must be above 0",
                code="range",
                path="model.adapters.alpha",
                value=self.alpha,
            )
        if not 0 <= self.dropout < 1:
            raise RecipeError(
                f"model.adapters.dropout={self.dropout} must be from 0 up to, not including, 1",
                code="range",
                path="model.adapters.dropout",
                value=self.dropout,
            )


NO_ADAPTERS = Adapters()


def adapt(net: nn.Module, adapters: Adapters) -> None:
    """Add adapters to a network's layers, in place, and freeze all else.

    Raises ``MissingExtra`` where ``peft`` is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtra("peft", "peft") from None
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    names = [name for name in linear if "layers" in name.split(".")]
    alpha: Any = adapters.alpha  # fractions are taken too, though LoraConfig declares a whole number
    config = LoraConfig(
        r=adapters.rank, lora_alpha=alpha, lora_dropout=adapters.dropout, target_modules=names, bias="none"
    )
    inject_adapter_in_model(config, net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def source_names(own: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a plain model under the names that they have beneath adapters."""
    renamed = dict(state)
    for name in own:
        plain = name.replace(".base_layer.", ".")
        if plain != name and plain in renamed and name not in renamed:
            renamed[name] = renamed.pop(plain)
    return renamed


def merged(model: Any) -> Any:
    """Return the plain model of one with adapters: the same outputs, and weights that are the sums.

    Raises ``RecipeError`` for a model without adapters.
    """
    if not model.adapters.rank:
        raise RecipeError(
            f"this {type(model).__name__} has no adapters: there is nothing to merge",
            code="missing",
            path="model.adapters.rank",
            value=0,
        )
    raw = {**model.recipe, "model": {**model.recipe["model"], "adapters": asdict(NO_ADAPTERS)}}
    plain = Recipe.from_dict({"data": {"name": "text/toy"}, **raw}).build_model(model.facts)
    plain.recipe = raw
    state = {}
    layers = dict(model.named_modules())
    for name, value in model.state_dict().items():
        if ".lora_" in name:
            continue
        if name.endswith(".base_layer.weight"):
            layer = layers[name.removesuffix(".base_layer.weight")]
            with torch.no_grad():
                value = value + layer.get_delta_weight("default").to(value)
        state[name.replace(".base_layer.", ".")] = value
    plain.load_state_dict(state)
    return plain.eval()
