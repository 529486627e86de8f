"""Sizes: the groups of ZipVoice's ``model:`` section; defaults are those of the published 123 M model."""

from dataclasses import dataclass
from typing import Literal

from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """Sizes of a Zipformer's layers.

    dim: channels; feed_dim: of the middle one of three feed-forwards, the others have 3/4 and 5/4 of it.
    query_dim, value_dim, position_dim: channels of a head; code_dim: of the code of a distance.
    dropout: in the feed-forwards, the same channels at all frames.
    """

    dim: int
    feed_dim: int
    num_heads: int = 4
    query_dim: int = 32
    value_dim: int = 12
    position_dim: int = 4
    code_dim: int = 48
    dropout: float = 0.1

    def __post_init__(self):
        for name, value, multiple in (
            ("dim", self.dim, 4),
            ("feed_dim", self.feed_dim, 4),
            ("code_dim", self.code_dim, 2),
        ):
            if value < multiple or value % multiple:
                message = f"{name}={value} must be a multiple of {multiple}"
                raise RecipeError(message, code="shape", path=name, value=value)


@dataclass(frozen=True, kw_only=True)
class ReaderSizes(LayerSizes):
    """Sizes of the text encoder: one stack at the rate of the symbols."""

    dim: int = 192
    feed_dim: int = 512
    num_layers: int = 4
    kernel_size: int = 9


@dataclass(frozen=True, kw_only=True)
class FieldSizes(LayerSizes):
    """Sizes of the field: stacks of ``layers`` each, on one frame in ``rates``, with convolutions of ``kernels``.

    time_dim: channels of the time's code.
    """

    dim: int = 512
    feed_dim: int = 1536
    layers: tuple[int, ...] = (2, 2, 4, 4, 4)
    rates: tuple[int, ...] = (1, 2, 4, 2, 1)
    kernels: tuple[int, ...] = (31, 15, 7, 15, 31)
    time_dim: int = 192

    def __post_init__(self):
        super().__post_init__()
        counts = {name: len(getattr(self, name)) for name in ("layers", "rates", "kernels")}
        if len(set(counts.values())) > 1 or not self.layers:
            message = f"model.field: {counts} must be as many, one of each for a stack"
            raise RecipeError(message, code="shape", path="field.layers", value=len(self.layers))
        for name, least in (("layers", 1), ("rates", 1), ("kernels", 1)):
            for value in getattr(self, name):
                if value < least or (name == "kernels" and value % 2 == 0):
                    wanted = "odd" if name == "kernels" else "at least 1"
                    message = f"model.field.{name} holds {value}: each must be {wanted}"
                    raise RecipeError(message, code="value", path=f"field.{name}", value=value)


@dataclass(frozen=True, kw_only=True)
class Infilling:
    """How the field is learnt.

    durations: ``uniform`` gives every symbol the same number of frames, as published; ``predicted`` gives each its own,
        from the data's times or an aligner.
    least_masked, most_masked: shares of an item's frames that are hidden and to be filled in, one stretch of them.
    drop_text: share of the items whose text is hidden, for classifier-free guidance.
    drop_speaker: share of the items whose speaker is not told, so that a prompt's voice is heard from the prompt.
    duration_weight, align_weight: beside the flow's, which counts 1.
    """

    durations: Literal["uniform", "predicted"] = "uniform"
    least_masked: float = 0.7
    most_masked: float = 1.0
    drop_text: float = 0.2
    drop_speaker: float = 0.5
    duration_weight: float = 1.0
    align_weight: float = 1.0

    def __post_init__(self):
        if not 0 < self.least_masked <= self.most_masked <= 1:
            message = (
                f"model.infilling.least_masked={self.least_masked} and most_masked={self.most_masked} must be in "
                "(0, 1], the least at most the most"
            )
            raise RecipeError(message, code="range", path="infilling.least_masked", value=self.least_masked)
        for name in ("drop_text", "drop_speaker"):
            if not 0 <= getattr(self, name) <= 1:
                message = f"model.infilling.{name}={getattr(self, name)} must be in [0, 1]"
                raise RecipeError(message, code="range", path=f"infilling.{name}", value=getattr(self, name))
