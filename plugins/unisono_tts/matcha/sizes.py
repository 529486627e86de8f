"""Sizes: the groups of Matcha's ``model:`` section; defaults are those of the published LJSpeech recipe."""

from dataclasses import dataclass

from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class FieldSizes:
    """Sizes of the U-Net that answers with the flow.

    channels: of each level; every level but the last halves the frames behind it.
    blocks_per_level: transformer blocks behind each residual block.
    mid_levels: residual blocks, with theirs, at the fewest frames.
    norm_groups: of the group normalisation; must divide every entry of ``channels``.
    """

    channels: tuple[int, ...] = (256, 256)
    blocks_per_level: int = 1
    mid_levels: int = 2
    num_heads: int = 2
    head_dim: int = 64
    norm_groups: int = 8
    dropout: float = 0.05

    def __post_init__(self):
        if not self.channels:
            raise RecipeError("model.field.channels is empty: give at least one level", code="empty", path="channels")
        for count in self.channels:
            if count < 1 or count % self.norm_groups:
                message = (
                    f"model.field.channels holds {count}: each must be a multiple of norm_groups={self.norm_groups}"
                )
                raise RecipeError(message, code="shape", path="channels", value=count)


@dataclass(frozen=True, kw_only=True)
class FlowObjective:
    """How the flow is learnt.

    sigma_min: noise that stays on the data, so that the flow is defined at its end.
    crop_frames: frames of an item that the field is trained on, cut out anew at each step; None for all. The encoder
        and the durations always learn from the whole.
    prior_weight, duration_weight: beside the flow's, which counts 1.
    """

    sigma_min: float = 1e-4
    crop_frames: int | None = None
    prior_weight: float = 1.0
    duration_weight: float = 1.0

    def __post_init__(self):
        if not 0 <= self.sigma_min < 1:
            message = f"model.objective.sigma_min={self.sigma_min} must be in [0, 1)"
            raise RecipeError(message, code="range", path="sigma_min", value=self.sigma_min)
        if self.crop_frames is not None and self.crop_frames < 1:
            message = f"model.objective.crop_frames={self.crop_frames} must be at least 1, or null for all"
            raise RecipeError(message, code="range", path="crop_frames", value=self.crop_frames)
