"""Sizes: the groups of a picture tokenizer's ``model:`` section, and the quantiser that a name stands for."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from unisono.errors import RecipeError, UnisonoError
from unisono.nn.quantize import (
    BinaryQuantizer,
    IndexQuantizer,
    Quantizer,
    ScalarQuantizer,
    SphericalQuantizer,
    VectorQuantizer,
)

QuantizerName = Literal["vq", "vq-ema", "fsq", "lfq", "ibq"]
KINDS: dict[str, Any] = {
    "vq": SphericalQuantizer,
    "vq-ema": VectorQuantizer,
    "fsq": ScalarQuantizer,
    "lfq": BinaryQuantizer,
    "ibq": IndexQuantizer,
}
FIELDS = {
    "vq": ("codebook_size", "code_dim", "decay", "dead_below"),
    "vq-ema": ("codebook_size", "decay", "dead_below"),
    "fsq": ("levels",),
    "lfq": ("codebook_size", "temperature", "group_bits"),
    "ibq": ("codebook_size", "temperature"),
}
"""What each quantiser can be told; the first is what it must be told."""


@dataclass(frozen=True, kw_only=True)
class QuantizerSpec:
    """The quantiser, and what it is told; what is left out is the quantiser's own default, what it does not know an
    error.

    name: ``vq`` learns codes on a sphere by gradient (LlamaGen), ``vq-ema`` codes by moving averages, ``fsq`` rounds,
        ``lfq`` takes signs (Open-MAGVIT2), ``ibq`` learns all codes at each step.
    codebook_size: codes; of all but ``fsq``; of ``lfq`` a power of 2.
    levels: of each rounded channel, whose product is the number of codes (``fsq``).
    code_dim: channels of a code (``vq``; published: 8).
    decay: of the moving averages (``vq``, ``vq-ema``).
    dead_below: a code that is used less than this share of an even use is replaced (``vq``, ``vq-ema``).
    temperature: of the soft assignment whose entropies count (``lfq``, ``ibq``; published: 0.01).
    group_bits: bits whose mean assignment is taken together (``lfq``; published: 9).
    """

    name: QuantizerName = "vq"
    codebook_size: int | None = None
    levels: tuple[int, ...] | None = None
    code_dim: int | None = None
    decay: float | None = None
    dead_below: float | None = None
    temperature: float | None = None
    group_bits: int | None = None

    def __post_init__(self):
        known, given = FIELDS[self.name], self.given
        for name, value in given.items():
            if name not in known:
                raise RecipeError(
                    f"model.quantizer.{name}={value} means nothing to {self.name}, which takes {', '.join(known)}",
                    code="conflict",
                    path=f"model.quantizer.{name}",
                    value=value,
                )
        if known[0] not in given:
            raise RecipeError(
                f"model.quantizer.{known[0]} is missing: {self.name} needs it",
                code="missing",
                path=f"model.quantizer.{known[0]}",
                value=self.name,
            )

    @property
    def given(self) -> dict[str, Any]:
        """Return what is not left out, the name aside."""
        return {name: value for name, value in vars(self).items() if name != "name" and value is not None}

    def make(self, dim: int) -> Quantizer:
        """Make the quantiser of vectors of ``dim`` channels."""
        try:
            return KINDS[self.name](dim, **self.given)
        except UnisonoError as error:
            where = "network.latent_channels" if error.path == "dim" else f"quantizer.{error.path}"
            raise RecipeError(
                f"model.quantizer: {error}", code=error.code, path=f"model.{where}", value=error.value
            ) from None


@dataclass(frozen=True, kw_only=True)
class GridSizes:
    """Sizes of the convolutions.

    channels: of the first convolution (published: 128).
    multipliers: of these channels at each resolution; every further one halves height and width.
    num_blocks: residual blocks at each resolution; the decoder has one more (published: 2; Open-MAGVIT2: 4).
    attention: whether places see one another at the lowest resolution (LlamaGen: yes; Open-MAGVIT2: no).
    adaptive_norm: whether the decoder's norms are told what the codes are like (Open-MAGVIT2: yes).
    latent_channels: between the networks and the quantiser.
    norm_groups: of the group norms.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_blocks: int = 2
    attention: bool = True
    adaptive_norm: bool = False
    latent_channels: int = 256
    norm_groups: int = 32

    def __post_init__(self):
        least = {"channels": 1, "num_blocks": 1, "latent_channels": 1, "norm_groups": 1}
        for name, value in ((name, getattr(self, name)) for name in least):
            if value < 1:
                raise RecipeError(
                    f"model.network.{name}={value} must be at least 1",
                    code="range",
                    path=f"model.network.{name}",
                    value=value,
                )
        if not self.multipliers or min(self.multipliers) < 1:
            raise RecipeError(
                f"model.network.multipliers={list(self.multipliers)} must be one or more whole numbers of at least 1",
                code="range",
                path="model.network.multipliers",
                value=list(self.multipliers),
            )
        if self.channels % self.norm_groups:
            raise RecipeError(
                f"model.network.channels={self.channels} must be a multiple of norm_groups={self.norm_groups}",
                code="shape",
                path="model.network.channels",
                value=self.channels,
            )

    @property
    def downsampling(self) -> int:
        """Pixels a side of a token."""
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class LineSizes:
    """Sizes of the transformers of a line of tokens.

    patch_size: side of a patch, and of a token of the proxy (published: 16).
    dim, num_layers, num_heads: of each transformer (published, S: 512, 8, 8; B: 768, 12, 12; L: 1024, 24, 16).
    num_tokens: of a picture (published: 32, 64, 128).
    num_codes: of the proxy (published: 1,024).
    """

    patch_size: int = 16
    dim: int = 512
    num_layers: int = 8
    num_heads: int = 8
    num_tokens: int = 32
    num_codes: int = 1024

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise RecipeError(
                    f"model.network.{name}={value} must be at least 1",
                    code="range",
                    path=f"model.network.{name}",
                    value=value,
                )
        if self.dim % self.num_heads:
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of num_heads={self.num_heads}",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )

    @property
    def latent_channels(self) -> int:
        """Channels of the vectors that are quantised."""
        return self.dim


@dataclass(frozen=True, kw_only=True)
class TokenizerObjective:
    """Weights of the losses beside the game.

    absolute_weight, square_weight: of the two distances of pixels (LlamaGen: squares alone; the others: absolute
        alone).
    perceptual_weight: of the distance of a classifier's features (published, LPIPS: 1).
    commitment_weight: of the vectors' distance from their codes (published: 0.25; IBQ: 1).
    codebook_weight: of the codes' distance from their vectors, where codes learn by gradient (published: 1; IBQ: 0.25).
    joint_weight: of the distance that draws vectors and all codes to each other (``ibq`` alone; published: 1).
    entropy_weight: of the entropy terms (``lfq``, published: 0.1; ``ibq``, published: 0.05): each vector's assignment
        is to be sharp, the mean one even.
    evenness: how much the second of these counts beside the first (published: 1).
    """

    absolute_weight: float = 1.0
    square_weight: float = 0.0
    perceptual_weight: float = 1.0
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    joint_weight: float = 0.0
    entropy_weight: float = 0.0
    evenness: float = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise RecipeError(
                    f"model.objective.{name}={value} must be at least 0",
                    code="range",
                    path=f"model.objective.{name}",
                    value=value,
                )
        if not self.absolute_weight and not self.square_weight:
            raise RecipeError(
                "model.objective.absolute_weight and square_weight are both 0: nothing asks for the picture",
                code="range",
                path="model.objective.absolute_weight",
                value=0.0,
            )

    def check_quantizer(self, name: str) -> None:
        """Raise ``RecipeError`` for a weight of a term that this quantiser does not have."""
        for term, known in (("joint_weight", ("ibq",)), ("entropy_weight", ("lfq", "ibq"))):
            value = getattr(self, term)
            if value and name not in known:
                raise RecipeError(
                    f"model.objective.{term}={value:g} is for {' and '.join(known)}; quantizer.name is {name}: "
                    "set it to 0",
                    code="conflict",
                    path=f"model.objective.{term}",
                    value=value,
                )
