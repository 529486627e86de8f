"""Posteriors: what a recogniser's encoder hears in recordings, and hypotheses: what is read of it.

Shapes: b batch, t steps of the encoder, v units with the blank, d channels.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Posteriors:
    """What is heard in a batch of recordings.

    Attributes:
        log_probs: of CTC's labels, natural logarithms; id 0 is the blank.
        memory: the encoder's output, which decoders read.
        lengths: steps of each recording; what lies behind them is padding.
        hop_seconds: from one step to the next; step i lies around ``i * hop_seconds``.
    """

    log_probs: Float[Tensor, "b t v"]
    memory: Float[Tensor, "b t d"]
    lengths: Int[Tensor, " b"]
    hop_seconds: float


@dataclass(frozen=True)
class Hypothesis:
    """What is read of one recording.

    Attributes:
        tokens: ids of units, without blanks.
        confidences: the probability of each, in [0, 1].
        spans: the steps [start, stop) in which CTC hears each token.
    """

    tokens: tuple[int, ...]
    confidences: tuple[float, ...]
    spans: tuple[tuple[int, int], ...]
