"""MWER: training on the expected number of wrong units (Paraformer, arXiv:2206.08317, §2.4).

Hypotheses are made of the likeliest transcript: in each but the first, tokens lose their place to the runner-up with a
given probability. All have the length of the target, so that one pass makes them all::

    L = Σ_k P̂_k (W_k − W̄),   P̂ = softmax of the hypotheses' log-probabilities,   W_k edits to the target

Shapes: b batch, u units, v units, k hypotheses.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono_asr.networks.ctc import distance


def mwer_loss(
    logits: Float[Tensor, "b u v"],
    targets: Int[Tensor, "b u"],
    lengths: Int[Tensor, " b"],
    num_hypotheses: int,
    share: float,
    seeds: Sequence[int],
) -> Float[Tensor, " b"]:
    """Return the expected number of wrong units of each transcript, less its mean; gradients go through P̂."""
    log_probs = logits.float().log_softmax(-1)
    best = log_probs.topk(2, -1)
    losses = []
    for row, (count, seed) in enumerate(zip(lengths.tolist(), seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        lost = torch.rand(num_hypotheses, count, generator=generator) < share
        lost[0] = False
        values = best.values[row, :count].mT
        chances = torch.where(lost.to(values.device), values[1], values[0]).sum(1).softmax(0)
        names = best.indices[row, :count].cpu().mT
        wanted = targets[row, :count].tolist()
        made = torch.where(lost, names[1], names[0]).tolist()
        wrong = torch.tensor([distance(one, wanted) for one in made], dtype=chances.dtype, device=chances.device)
        losses.append((chances * (wrong - wrong.mean())).sum())
    return torch.stack(losses)
