"""Sizes: the groups of a motion tokenizer's ``model:`` section in recipe format 2, and where format 1 had them."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ConvSizes:
    """Sizes of the convolutions.

    width: channels (published: 512).
    downsampling: frames per token, a power of 2.
    depth: residual blocks per stage.
    dilation_growth: of the dilations of a stage's blocks.
    """

    width: int = 512
    downsampling: int = 4
    depth: int = 3
    dilation_growth: int = 3

    @property
    def stages(self) -> int:
        """How many times the rate is halved."""
        return self.downsampling.bit_length() - 1


@dataclass(frozen=True, kw_only=True)
class CodebookSizes:
    """The codebooks of a part of the body.

    code_dim: channels of a code (T2M-GPT and MoMask: 512; MMM: 32).
    codebook_size: codes of each level (T2M-GPT and MoMask: 512; MMM: 8192).
    num_levels: residual levels (MoMask: 6; the others: 1).
    level_dropout: the share of training items coded with fewer levels (MoMask: 0.2).
    ema_decay: of the codebooks.
    dead_below: a code used less than this share of an even use is reset.
    """

    code_dim: int = 512
    codebook_size: int = 512
    num_levels: int = 1
    level_dropout: float = 0.0
    ema_decay: float = 0.99
    dead_below: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ScalarObjective:
    """Weights of the losses beside that of the features.

    velocity_weight: of the distance of velocities.
    way_weight: of the distance, in metres, of the joints along the way walked from the item's first frame.
    """

    velocity_weight: float = 0.5
    way_weight: float = 0.5


@dataclass(frozen=True, kw_only=True)
class CodebookObjective(ScalarObjective):
    """With ``commitment_weight``, that of the encoder's distance from its codes."""

    commitment_weight: float = 0.02


SCALAR_FLAT = {
    **{field.name: f"network.{field.name}" for field in fields(ConvSizes)},
    **{field.name: f"objective.{field.name}" for field in fields(ScalarObjective)},
}
"""Where recipe format 1's arguments of the tokenizer with scalar quantisation are."""
FLAT = {
    **SCALAR_FLAT,
    **{field.name: f"codebook.{field.name}" for field in fields(CodebookSizes)},
    "commitment_weight": "objective.commitment_weight",
}
"""Where recipe format 1's arguments of the tokenizers with codebooks are."""
