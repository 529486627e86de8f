"""Predictors: how many tokens there are, and an acoustic embedding of each, for a decoder that reads all at once.

    cif   continuous integrate-and-fire: weights of the steps are summed up, and a token fires at each whole
          number (Dong & Xu, arXiv:1905.11235; as in Paraformer, arXiv:2206.08317, §2.2): the core's ``box``
    ctc   CTC's posteriors, compressed to the tokens of a path: the forced one in training, the likeliest one
          in use (Paraformer-v2, arXiv:2409.17746)

In training both are given the number of tokens (``guided``); in use neither is (``free``).

Shapes: b batch, t steps, v units with the blank, n tokens, d channels.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import box
from unisono.nn.fft import keep

from unisono_asr.networks.ctc import Path, forced, greedy

TAIL = 0.45
"""What is added to the weights at the end: a last token fires from a residue of 1 − 0.45 on."""


@dataclass(frozen=True, eq=False)
class Acoustic:
    """Tokens before they are named.

    Attributes:
        embeddings: of each token, 0 behind the last.
        lengths: tokens of each recording.
        count: the sum of a predictor's weights, which should be the number of tokens; None where it has none.
    """

    embeddings: Float[Tensor, "b n d"]
    lengths: Int[Tensor, " b"]
    count: Float[Tensor, " b"] | None = None

    @property
    def mask(self) -> Bool[Tensor, "b n"]:
        """Whether there is a token."""
        return torch.arange(self.embeddings.shape[1], device=self.lengths.device) < self.lengths[:, None]


class Predictor(Protocol):
    """What makes acoustic embeddings."""

    def guided(
        self,
        memory: Float[Tensor, "b t d"],
        log_probs: Float[Tensor, "b t v"],
        lengths: Int[Tensor, " b"],
        targets: Int[Tensor, "b n"],
        target_lengths: Int[Tensor, " b"],
    ) -> Acoustic:
        """Return as many embeddings as there are target tokens."""
        ...

    def free(
        self, memory: Float[Tensor, "b t d"], log_probs: Float[Tensor, "b t v"], lengths: Int[Tensor, " b"]
    ) -> Acoustic:
        """Return as many embeddings as are heard."""
        ...


class IntegrateAndFirePredictor(nn.Module):
    """CIF: ``x ─ (+ depthwise conv 3) ─ ReLU ─ Linear ─ sigmoid ─ α``, a weight of each step; token i is the weighted
    sum of the steps in which Σα goes from i to i + 1.

    Sums are in float64, and out of autocast: in single precision a token of a long recording is lost.
    """

    def __init__(self, dim: int, num_units: int):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, 3, groups=dim)
        self.weight = nn.Linear(dim, 1)

    def weights(self, memory: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t"]:
        """Return α of each step, in (0, 1), and 0 behind a recording's end; float64."""
        mask = torch.arange(memory.shape[1], device=memory.device) < lengths[:, None]
        x = keep(memory, mask)
        hidden = F.relu(x + self.conv(F.pad(x.mT, (1, 1))).mT)
        return self.weight(hidden)[..., 0].double().sigmoid() * mask

    def guided(
        self,
        memory: Float[Tensor, "b t d"],
        log_probs: Float[Tensor, "b t v"],
        lengths: Int[Tensor, " b"],
        targets: Int[Tensor, "b n"],
        target_lengths: Int[Tensor, " b"],
    ) -> Acoustic:
        alpha = self.weights(memory, lengths)
        with torch.autocast(memory.device.type, enabled=False):
            tokens, _ = box(memory.float(), alpha, lengths, total=target_lengths)
        return Acoustic(tokens, target_lengths, alpha.sum(1))

    def free(
        self, memory: Float[Tensor, "b t d"], log_probs: Float[Tensor, "b t v"], lengths: Int[Tensor, " b"]
    ) -> Acoustic:
        alpha = self.weights(memory, lengths)
        with torch.autocast(memory.device.type, enabled=False):
            tokens, alignment = box(memory.float(), alpha, lengths, tail=1 - TAIL)
        return Acoustic(tokens, alignment.tgt_lengths, alpha.sum(1))


class PosteriorPredictor(nn.Module):
    """CTC's posteriors, averaged over the steps of each token of a path, through a linear layer.

    The steps of blanks belong to no token. Gradients go through the posteriors, not through the choice of the path. A
    posterior's embedding is the expected one of its units, so that the weights begin as those of an embedding.
    """

    def __init__(self, dim: int, num_units: int):
        super().__init__()
        self.embed = nn.Linear(num_units, dim)
        nn.init.normal_(self.embed.weight)

    def embeddings(self, log_probs: Float[Tensor, "b t v"], path: Path) -> Acoustic:
        """Return the embeddings of a path's tokens."""
        mask = torch.arange(path.tokens.shape[1], device=path.lengths.device) < path.lengths[:, None]
        return Acoustic(keep(self.embed(path.pool(log_probs.exp())), mask), path.lengths)

    def guided(
        self,
        memory: Float[Tensor, "b t d"],
        log_probs: Float[Tensor, "b t v"],
        lengths: Int[Tensor, " b"],
        targets: Int[Tensor, "b n"],
        target_lengths: Int[Tensor, " b"],
    ) -> Acoustic:
        return self.embeddings(log_probs, forced(log_probs, lengths, targets, target_lengths))

    def free(
        self, memory: Float[Tensor, "b t d"], log_probs: Float[Tensor, "b t v"], lengths: Int[Tensor, " b"]
    ) -> Acoustic:
        return self.embeddings(log_probs, greedy(log_probs, lengths))


PREDICTORS = {"ctc": PosteriorPredictor, "cif": IntegrateAndFirePredictor}
