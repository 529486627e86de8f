"""Picture codecs for tests: small networks whose weights are random and large."""

from typing import Any

import torch
from unisono.recipe import Recipe

KINDS = ("qres", "s2lic")


def untrained(kind: str, seed: int = 0) -> Any:
    recipe = Recipe.read(f"codec/{kind}-tiny", [f"--seed={seed}"])
    data = recipe.build_data()
    data.prepare(progress=False)
    model = recipe.build_model(data.describe()).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn(parameter.shape, generator=generator)
    return model
