"""Rewrites: layers in the form that small runtimes run and quantise well, with the same weights.

Shapes: b batch, c channels, t time.
"""

import copy
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NeighbourLinear", "for_graph"]


class NeighbourLinear(nn.Module):
    """A convolution over time as a linear layer of neighbours side by side; quantisers know linear layers."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.reach = conv.kernel_size[0] // 2
        self.register_buffer("weight", conv.weight.detach().permute(0, 2, 1).flatten(1))
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b d t"]:
        x, t = F.pad(x.mT, (0, 0, self.reach, self.reach)), x.shape[2]
        near = torch.cat([x[:, i : i + t] for i in range(2 * self.reach + 1)], dim=2)
        return F.linear(near, self.weight, self.bias).mT


def for_graph(module: nn.Module) -> Any:
    """Return a copy that shares the weights, in evaluation mode, its dense convolutions over time as linear layers.

    Convolutions with strides, dilation, groups or an even width stay what they are.
    """
    return _twin(module, {})


def _twin(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """Return a module with submodules of its own and the same parameters; what is there twice stays one."""
    if id(module) not in made:
        made[id(module)] = twin = copy.copy(module)
        twin.training = False
        for name in ("_parameters", "_buffers"):
            twin.__dict__[name] = dict(getattr(module, name))
        twin.__dict__["_modules"] = {
            name: child if child is None else NeighbourLinear(child) if _is_dense(child) else _twin(child, made)
            for name, child in module._modules.items()
        }
    return made[id(module)]


def _is_dense(conv: nn.Module) -> TypeGuard[nn.Conv1d]:
    if not isinstance(conv, nn.Conv1d):
        return False
    (width,) = conv.kernel_size
    plain = conv.stride == conv.dilation == (1,) and conv.groups == 1 and conv.padding_mode == "zeros"
    return plain and width % 2 == 1 and conv.padding == (width // 2,)
