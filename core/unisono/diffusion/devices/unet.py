"""UNetPatches: U-Nets over ranks by the types of their layers: convolutions, group norms, attention (DistriFusion).

A rank has a band of the picture's rows, whose upper border is a multiple of all strides, so that every layer's borders
fall between ranks. What a layer needs of other ranks' bands:

    convolution  the rows next to the band, as many as its kernel reaches
    group norm   mean and variance of all rows; where these are old, the band's own change is added to them, as
                 old_all + (new_own − old_own), or new_own where that variance is not positive. The paper corrects the
                 mean of squares instead, which is not exact even where all rows change by the same amount
    attention    keys and values of all rows, at the projections `to_k` and `to_v`; cross-attention needs none
    all others   nothing

After DistriFusion, §3 (arXiv:2402.19481); see patches.py for what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.diffusion.devices.exchange import Group, Policy
from unisono.diffusion.devices.patches import Patches, split_rows
from unisono.errors import UnisonoError

# Layers that look at more than one row in a way of their own, by their classes' names: diffusers is not imported here.
_REFUSED = {
    "AdaGroupNorm",
    "AdaptiveAvgPool2d",
    "BatchNorm2d",
    "Conv3d",
    "ConvTranspose2d",
    "FirDownsample2D",
    "FirUpsample2D",
    "GlobalResponseNorm",
    "InstanceNorm2d",
    "KDownsample2D",
    "KUpsample2D",
    "SpatialNorm",
    "TemporalConvLayer",
}
_WHOLE_PICTURE = (
    "attention_mask",
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
)


class UNetPatches(Patches):
    """Rows of a U-Net's picture over ranks: any network(x [b, c, h, w], timestep, …) of layers that are known here.

    It answers with a tensor, a tuple of one, or an output with the field `sample`, as diffusers' do.

    Raises:
        UnisonoError: if a layer looks at other rows in a way that is not known; it is named.
    """

    def __init__(self, network: nn.Module, group: Group = None, policy: Policy | None = None):
        for name, module in network.named_modules():
            where = f"{name} ({type(module).__name__})"
            if type(module).__name__ in _REFUSED:
                raise UnisonoError(
                    f"{where} looks at rows of other ranks, and is not known: run it in one process",
                    code="unsupported",
                    path=name,
                    value=type(module).__name__,
                )
            if isinstance(module, nn.Conv2d) and _reaches(module):
                if module.padding_mode != "zeros" or isinstance(module.padding, str):
                    raise UnisonoError(
                        f"{where} pads with mode {module.padding_mode!r} by {module.padding!r}: only zeros, by numbers",
                        code="unsupported",
                        path=f"{name}.padding",
                        value=(module.padding_mode, module.padding),
                    )
            if getattr(module, "fused_projections", False):
                raise UnisonoError(
                    f"{where} has fused projections: call unfuse_qkv_projections() first",
                    code="unsupported",
                    path=name,
                    value=type(module).__name__,
                )
        strides = [m.stride for m in network.modules() if isinstance(m, (nn.Conv2d, nn.AvgPool2d))]
        self.multiple = prod(stride[0] if isinstance(stride, tuple) else stride for stride in strides)
        super().__init__(network, group, policy)

    def install(self) -> None:
        # Asymmetric padding, which such a layer does before it calls its convolution.
        below = {
            id(module.conv)
            for module in self.network.modules()
            if type(module).__name__ == "Downsample2D" and module.use_conv and module.padding == 0
        }
        for name, module in self.network.named_modules():
            if isinstance(module, nn.Conv2d) and (_reaches(module) or id(module) in below):
                self.replace(module, self._convolution(name, module, id(module) in below))
            elif isinstance(module, nn.GroupNorm):
                self.replace(module, self._group_norm(name, module))
            elif all(isinstance(getattr(module, part, None), nn.Module) for part in ("to_q", "to_k", "to_v")):
                self._attention(name, module)

    def call(self, forward: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        for name in _WHOLE_PICTURE:
            if kwargs.get(name) is not None:
                raise UnisonoError(
                    f"{name} covers the whole picture and is not split over ranks: leave it out",
                    code="unsupported",
                    path=name,
                )
        each = split_rows(x.shape[2], self.size, self.multiple)
        output = forward(x.split(each, 2)[self.rank], *args, **kwargs)
        if isinstance(output, Tensor):
            return self.whole("picture", output, 2, fresh=True)
        if type(output) is tuple:
            return (self.whole("picture", output[0], 2, fresh=True), *output[1:])
        return type(output)(sample=self.whole("picture", output.sample, 2, fresh=True))

    def _convolution(self, name: str, conv: nn.Conv2d, below: bool) -> Callable[..., Tensor]:
        assert not isinstance(conv.padding, str)  # refused at the start
        top, across = conv.padding
        stride, reach = conv.stride[0], conv.dilation[0] * (conv.kernel_size[0] - 1)
        # The last output row of a band begins at end − stride − top and reaches this far below the band's end.
        bottom = max(0, reach - top - stride + 1)

        def run(forward: Callable[..., Tensor], x: Tensor) -> Tensor:
            if below:
                x = x[:, :, :-1]
            if x.shape[2] < max(top, bottom):
                raise UnisonoError(
                    f"{name} reaches {max(top, bottom)} rows beyond a band of {x.shape[2]}: use fewer ranks",
                    code="limit",
                    path=name,
                    value=x.shape[2],
                )
            edges = torch.cat([x[:, :, :bottom], x[:, :, x.shape[2] - top :]], 2)
            found = self.gather(name, edges, 2)
            zeros = x.new_zeros(*x.shape[:2], int(below) if below else top, x.shape[3])
            upper = found[self.rank - 1][:, :, bottom:] if self.rank else zeros[:, :, :top]
            lower = found[self.rank + 1][:, :, :bottom] if self.rank < self.size - 1 else zeros
            x = torch.cat([upper, x, lower], 2)
            return F.conv2d(x, conv.weight, conv.bias, conv.stride, (0, across), conv.dilation, conv.groups)

        return run

    def _group_norm(self, name: str, norm: nn.GroupNorm) -> Callable[..., Tensor]:
        def run(forward: Callable[..., Tensor], x: Tensor) -> Tensor:
            values = x.reshape(x.shape[0], norm.num_groups, -1)
            values = values if values.dtype == torch.float64 else values.float()
            variance, mean = torch.var_mean(values, -1, correction=0)
            own = torch.stack([mean, variance, torch.full_like(mean, values.shape[-1])])
            mean, variance = _moments(self.gather(name, own[None], 0), own, self.rank)
            out = (values - mean[..., None]) * (variance[..., None] + norm.eps).rsqrt()
            out = out.reshape(x.shape).to(x.dtype)
            if norm.weight is None:
                return out
            wide = (-1, *[1] * (x.ndim - 2))
            return out * norm.weight.reshape(wide) + norm.bias.reshape(wide)

        return run

    def _attention(self, name: str, attention: Any) -> None:
        within = [True]

        def enter(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            text = args[1] if len(args) > 1 else kwargs.get("encoder_hidden_states")
            # With projections of its own for the text, to_k and to_v see the picture in any case.
            within[0] = text is None or getattr(attention, "added_kv_proj_dim", None) is not None
            return forward(*args, **kwargs)

        def project(part: str) -> Callable[..., Tensor]:
            def run(forward: Callable[..., Tensor], tokens: Tensor) -> Tensor:
                out = forward(tokens)
                return self.whole(f"{name}.{part}", out, 1) if within[0] else out

            return run

        self.replace(attention, enter)
        self.replace(attention.to_k, project("to_k"))
        self.replace(attention.to_v, project("to_v"))


def _moments(found: list[Tensor], own: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of all rows from each rank's [1, (mean, variance, count), b, groups], corrected by the own."""
    mean, variance, count = torch.cat(found).unbind(1)
    share = count / count.sum(0)
    old_mean = (share * mean).sum(0)
    old_variance = (share * (variance + (mean - old_mean).square())).sum(0)
    shift = own[0] - mean[rank]
    new_mean = old_mean + shift
    new_variance = old_variance + own[1] - variance[rank]
    return new_mean, torch.where(new_variance <= 0, own[1], new_variance)


def _reaches(conv: nn.Conv2d) -> bool:
    """Whether an output row depends on more than the rows between its stride's borders."""
    return conv.kernel_size[0] > conv.stride[0] or conv.padding[0] != 0
