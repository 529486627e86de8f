"""Network of MotionAGFormer: attention and graph convolution side by side, over joints and over frames.

Mehraban et al., "MotionAGFormer" (arXiv:2310.16288), §3.1–3.3::

    keypoints ─ linear ─(+ joint, + time)─ layer × num_layers ─ norm ─ linear ─ tanh ─ linear ─ poses

    layer    ┌─ attention over joints ─ attention over frames ─┐
           x ┤                                                 ├ adaptive fusion
             └─ graph over joints ───── graph over frames ─────┘
    block    x + s₁ · mixer(norm x), then x + s₂ · MLP(norm x); s₁ and s₂ begin at 1e-5

Differences: the graph's batch norm over nodes (over the frames of a window in the temporal graph) is a layer norm over
channels, since statistics of a batch make N processes differ from one and a window's length fixed. That norm's weights
told the frames apart, which nothing else in the published network does, so frames are told their place by sinusoids.
The temporal graph has exactly k neighbours, the first of equal ones; published, all that equal the k-th.

Shapes: b batch, t frames, j joints, d channels, n nodes (joints or frames). Masks are True where kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import Code, RecipeError
from unisono.nn.attention import attend, split_parts
from unisono.nn.fft import sinusoids

TIME_GAIN = 0.1
"""How much the sinusoids count at first."""


@dataclass(frozen=True, kw_only=True)
class LifterSizes:
    """Sizes of the network, those of MotionAGFormer-XS as published.

    dim: channels of a joint in a frame.
    num_layers: of two streams each.
    num_heads: of the attention.
    neighbours: frames that the temporal graph joins each frame with, itself among them as a rule.
    head_dim: channels before the last linear.
    layer_scale: what a block's branches count at first.
    streams: ``both`` as published; one of them is a baseline.
    """

    dim: int = 64
    num_layers: int = 12
    num_heads: int = 8
    neighbours: int = 2
    head_dim: int = 512
    layer_scale: float = 1e-5
    streams: Literal["both", "attention", "graph"] = "both"

    def __post_init__(self):
        for name in ("dim", "num_layers", "num_heads", "neighbours", "head_dim"):
            if getattr(self, name) < 1:
                raise _refused(name, getattr(self, name), "must be at least 1", "range")
        if self.dim % 2 or self.dim % self.num_heads:
            raise _refused("dim", self.dim, f"must be even and divisible by num_heads={self.num_heads}", "value")
        if not 0 < self.layer_scale <= 1:
            raise _refused("layer_scale", self.layer_scale, "must be above 0 and at most 1", "range")


class Attention(nn.Module):
    """Attention of each row's nodes to one another, without biases of queries, keys and values."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n d"]:
        queries, keys, values = split_parts(self.qkv(x), self.num_heads)
        return self.out(attend(queries, keys, values, None if mask is None else mask[:, None, None]))


class GraphConvolution(nn.Module):
    """ReLU(x + norm(A V x + U x)): what neighbours say and what a node says itself."""

    def __init__(self, dim: int):
        super().__init__()
        self.own, self.others = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for linear in (self.own, self.others):
            nn.init.normal_(linear.weight, std=math.sqrt(2 / dim))
        self.norm = nn.LayerNorm(dim)

    def convolve(self, x: Float[Tensor, "b n d"], adjacency: Float[Tensor, "... n n"]) -> Float[Tensor, "b n d"]:
        """Return the nodes after one exchange along a normalised adjacency."""
        return F.relu(x + self.norm(adjacency @ self.others(x) + self.own(x)))


class SkeletonGraph(GraphConvolution):
    """A graph whose edges are bones."""

    def __init__(self, dim: int, parents: Sequence[int]):
        super().__init__(dim)
        self.adjacency: Tensor
        self.register_buffer("adjacency", skeleton_adjacency(parents), persistent=False)

    def forward(self, x: Float[Tensor, "b j d"], mask: None) -> Float[Tensor, "b j d"]:
        return self.convolve(x, self.adjacency.to(x.dtype))


class FrameGraph(GraphConvolution):
    """A graph that joins each frame with the ``neighbours`` that are most like it; the choice has no gradient."""

    def __init__(self, dim: int, neighbours: int):
        super().__init__(dim)
        self.neighbours = neighbours

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        return self.convolve(x, nearest_adjacency(x.detach(), self.neighbours, mask))


class MixingBlock(nn.Module):
    """A mixer over nodes and an MLP, each scaled and added to what went in."""

    def __init__(self, dim: int, mixer: nn.Module, layer_scale: float, expansion: int = 4):
        super().__init__()
        self.mixer_norm, self.mixer = nn.LayerNorm(dim), mixer
        self.mixer_scale = nn.Parameter(torch.full((dim,), layer_scale))
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_in, self.feed_out = nn.Linear(dim, expansion * dim), nn.Linear(expansion * dim, dim)
        self.feed_scale = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n d"]:
        x = x + self.mixer_scale * self.mixer(self.mixer_norm(x), mask)
        return x + self.feed_scale * self.feed_out(F.gelu(self.feed_in(self.feed_norm(x))))


class Stream(nn.Module):
    """A block over the joints of each frame, then one over the frames of each joint."""

    def __init__(self, spatial: MixingBlock, temporal: MixingBlock):
        super().__init__()
        self.spatial, self.temporal = spatial, temporal

    def forward(self, x: Float[Tensor, "b t j d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t j d"]:
        b, _, j, _ = x.shape
        x = self.spatial(rearrange(x, "b t j d -> (b t) j d"), None)
        x = rearrange(x, "(b t) j d -> (b j) t d", b=b)
        x = self.temporal(x, None if mask is None else mask.repeat_interleave(j, 0))
        return rearrange(x, "(b j) t d -> b t j d", b=b)


class TwoStreams(nn.Module):
    """Two streams of the same input, weighed against each other at each joint of each frame; 1/2 each at first."""

    def __init__(self, dim: int, attention: Stream, graph: Stream):
        super().__init__()
        self.attention, self.graph = attention, graph
        self.fusion = nn.Linear(2 * dim, 2)
        nn.init.zeros_(self.fusion.weight)
        nn.init.constant_(self.fusion.bias, 0.5)

    def forward(self, x: Float[Tensor, "b t j d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t j d"]:
        seen, passed = self.attention(x, mask), self.graph(x, mask)
        share = self.fusion(torch.cat([seen, passed], -1)).softmax(-1)
        return seen * share[..., :1] + passed * share[..., 1:]


class LiftingNetwork(nn.Module):
    """Keypoints with confidences to poses, all frames at once; see the module's drawing."""

    def __init__(self, parents: Sequence[int], sizes: LifterSizes):
        super().__init__()
        dim = sizes.dim
        self.embed = nn.Linear(3, dim)
        self.joint = nn.Parameter(torch.zeros(len(parents), dim))
        self.time_gain = nn.Parameter(torch.full((dim,), TIME_GAIN))

        def block(mixer: nn.Module) -> MixingBlock:
            return MixingBlock(dim, mixer, sizes.layer_scale)

        def attention() -> Stream:
            return Stream(*(block(Attention(dim, sizes.num_heads)) for _ in range(2)))

        def graph() -> Stream:
            return Stream(block(SkeletonGraph(dim, parents)), block(FrameGraph(dim, sizes.neighbours)))

        layers = {"both": lambda: TwoStreams(dim, attention(), graph()), "attention": attention, "graph": graph}
        self.layers = nn.ModuleList(layers[sizes.streams]() for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(dim)
        self.head_in, self.head_out = nn.Linear(dim, sizes.head_dim), nn.Linear(sizes.head_dim, 3)

    def forward(
        self, keypoints: Float[Tensor, "b t j 3"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t j 3"]:
        """Return poses; frames that ``mask`` does not keep are seen by nobody. None keeps all."""
        time = sinusoids(keypoints.shape[1], self.time_gain.shape[0], keypoints.device).to(keypoints.dtype)
        x = self.embed(keypoints) + self.joint + (self.time_gain * time)[:, None]
        for layer in self.layers:
            x = layer(x, mask)
        return self.head_out(self.head_in(self.norm(x)).tanh())


class FrameNetwork(nn.Module):
    """Each frame by itself: a linear map, or Martinez et al.'s residual MLP (arXiv:1705.03098).

    ::

        keypoints ─ linear ─ (norm ─ ReLU ─ dropout ─ linear ─ norm ─ ReLU ─ dropout ─ linear, +) × num_blocks ─ linear

    Without blocks it is one linear map. Differences: layer norms in front of the branches, where the published ones
    are batch norms behind linears.
    """

    def __init__(self, num_joints: int, width: int, num_blocks: int, dropout: float):
        super().__init__()
        size = 3 * num_joints

        def half() -> list[nn.Module]:
            return [nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)]

        self.first = nn.Linear(size, width if num_blocks else size)
        self.blocks = nn.ModuleList(nn.Sequential(*half(), *half()) for _ in range(num_blocks))
        self.last = nn.Linear(width, size) if num_blocks else nn.Identity()

    def forward(
        self, keypoints: Float[Tensor, "b t j 3"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t j 3"]:
        """Return poses; the mask changes nothing."""
        x = self.first(rearrange(keypoints, "b t j c -> b t (j c)"))
        for block in self.blocks:
            x = x + block(x)
        return rearrange(self.last(x), "b t (j c) -> b t j c", c=3)


def _refused(name: str, value: Any, what: str, code: Code) -> RecipeError:
    path = f"model.network.{name}"
    return RecipeError(f"{path}={value} {what}", code=code, path=path, value=value)


def skeleton_adjacency(parents: Sequence[int]) -> Float[Tensor, "j j"]:
    """Return D^-1/2 A D^-1/2 of a skeleton's bones, without loops: a joint's own part goes another way."""
    bones = torch.zeros(len(parents), len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            bones[joint, parent] = bones[parent, joint] = 1
    scale = bones.sum(1).clamp(min=1) ** -0.5
    return scale[:, None] * bones * scale


@torch.no_grad()
def nearest_adjacency(
    x: Float[Tensor, "b t d"], neighbours: int, mask: Bool[Tensor, "b t"] | None = None
) -> Float[Tensor, "b t t"]:
    """Return each frame's share of its nearest frames by inner product, the first of equal ones: 1 / their number.

    Where a row keeps fewer frames than ``neighbours``, those are all. What the mask does not keep is nobody's.
    """
    similarity = x @ x.mT
    if mask is not None:
        similarity = similarity.masked_fill(~mask[:, None], -math.inf)
    chosen = torch.zeros_like(similarity)
    for _ in range(min(neighbours, x.shape[1])):
        nearest = similarity.argmax(-1, keepdim=True)
        chosen.scatter_(-1, nearest, 1)
        similarity.scatter_(-1, nearest, -math.inf)
    if mask is not None:
        chosen = chosen * mask[:, None]
    return chosen / chosen.sum(-1, keepdim=True).clamp(min=1)
