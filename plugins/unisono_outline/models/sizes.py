"""Sizes: the groups of a ``model:`` section that say how large networks are, and what is learnt."""

from dataclasses import dataclass
from typing import Literal

from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes of what both models have, and of the decoder over vertices.

    ``dim``: channels of all transformers. ``channels``: of the first convolution; doubled where pixels are halved, up
    to ``dim``. ``stride``: pixels a side of a token of the picture, a power of 2. ``text_encoder``: ``small``, or
    ``clip:`` and a folder or hub id. ``fusion_layers`` read the phrase into the picture's tokens, ``decoder_layers``
    read these into vertices. ``spell_share`` of the known words are spelled in training, so that others can be read.
    """

    dim: int = 128
    num_heads: int = 4
    channels: int = 32
    stride: int = 8
    text_encoder: str = "small"
    text_layers: int = 2
    fusion_layers: int = 2
    decoder_layers: int = 4
    dropout: float = 0.0
    spell_share: float = 0.05

    def __post_init__(self) -> None:
        least = {"dim": 8, "num_heads": 1, "channels": 8, "text_layers": 1, "fusion_layers": 1, "decoder_layers": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise _wrong(f"network.{name}", getattr(self, name), f"must be at least {bound}", "range")
        if self.dim % (2 * self.num_heads):
            limit = f"must be a multiple of twice num_heads={self.num_heads}"
            raise _wrong("network.dim", self.dim, limit, "shape")
        if self.channels % 8:
            raise _wrong("network.channels", self.channels, "must be a multiple of 8", "value")
        if self.stride not in (2, 4, 8, 16, 32):
            raise _wrong("network.stride", self.stride, "must be one of 2, 4, 8, 16 and 32", "value")
        for name in ("dropout", "spell_share"):
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(f"network.{name}", getattr(self, name), "must be in [0, 1)", "range")


@dataclass(frozen=True, kw_only=True)
class VertexObjective:
    """What parallel vertex diffusion learns.

    ``vertices``, ``angle``, ``centre``: weights of the losses. ``num_points`` are sampled of each item for the angle
    sum, ``softness`` of it is in units of the outlines' spread; see ``geometry.winding``. ``start``: ``top`` compares
    vertex by vertex, ``any`` up to the shift of the start that fits best.
    """

    vertices: float = 1.0
    angle: float = 1.0
    centre: float = 0.5
    num_points: int = 64
    softness: float = 0.25
    start: Literal["top", "any"] = "top"
    schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"

    def __post_init__(self) -> None:
        for name in ("angle", "centre"):
            if getattr(self, name) < 0:
                raise _wrong(f"objective.{name}", getattr(self, name), "must be at least 0", "range")
        if self.vertices <= 0:
            raise _wrong("objective.vertices", self.vertices, "must be above 0", "range")
        if self.num_points < 1:
            raise _wrong("objective.num_points", self.num_points, "must be at least 1", "range")
        if self.softness <= 0:
            limit = "must be above 0: the gradient of exact angle sums is zero"
            raise _wrong("objective.softness", self.softness, limit, "range")


def _wrong(key: str, value: object, limit: str, code: Literal["range", "shape", "value"]) -> RecipeError:
    return RecipeError(f"model.{key}={value} {limit}", code=code, path=f"model.{key}", value=value)
