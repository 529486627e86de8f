"""Losses: cross-entropy of what is hidden, and the bound of masked diffusion.

Letters: b batch, l positions, v vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas
from unisono.masked.stages.marginals import readable
from unisono.masked.training.corrupt import Corrupted


def masked_cross_entropy(
    logits: Float[Tensor, "b l v"],
    corrupted: Corrupted,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Float[Tensor, ...]:
    """−log p of the targets times the weights: their weighted mean, or with reduction "none" each, [b, l].

    Smoothed labels spread over the tokens that a position may hold. Over several processes, take "none" and
    `Model.global_mean(values, corrupted.weights > 0)`.

    Raises:
        UnisonoError: for logits of another shape, or a smoothing outside of [0, 1).
    """
    if reduction not in ("mean", "none"):
        raise UnisonoError(f"reduction {reduction!r}: mean or none", code="unknown", path="reduction", value=reduction)
    if not (is_real(label_smoothing, 0, 1) and label_smoothing < 1):
        raise UnisonoError(
            f"label_smoothing {label_smoothing!r}: give one in [0, 1)",
            code=fault_of(label_smoothing),
            path="label_smoothing",
            value=label_smoothing,
        )
    losses = _surprise(logits, corrupted, label_smoothing)
    if reduction == "none":
        return losses
    return losses.sum() / corrupted.weights.sum().clamp_min(1e-12).to(losses)


def negative_elbo(logits: Float[Tensor, "b l v"], corrupted: Corrupted) -> Float[Tensor, " b"]:
    """One sample of the bound on −log p(tokens) of each row, in nats: Σ −α′/(1 − α) · −log p over what is hidden.

    MDLM (arXiv:2406.07524, eq. 10), whose SUBS is this layout's: no foreign token, such as a mask, has any
    probability, and known tokens cost nothing. Its expectation is at least the negative log-likelihood of
    first-hitting decoding, and equal to it for a network whose conditionals fit one joint law. Divide by the
    rows' lengths for nats per token.

    Weights are those of the corruption: −α′/(1 − α) at its times for `Diffusion` and `BlockDiffusion`, n/k for
    `Counted`, which has the same expectation and a bounded variance. A `min_time` or `clip` that leaves out times
    leaves out their share of the bound.

    Raises:
        UnisonoError: for any other corruption, such as `PlanMasking`, whose weights give no bound.
    """
    if corrupted.time is None:
        raise UnisonoError(
            "the bound needs weights of diffusion: corrupt with Diffusion, BlockDiffusion or Counted",
            code="missing",
            path="corrupted.time",
        )
    return _surprise(logits, corrupted, 0.0).sum(1)


def subs(logits: Float[Tensor, "b l v"], canvas: Canvas) -> Float[Tensor, "b l v"]:
    """Log-probabilities with MDLM's substitutions: none for foreign tokens, all on the token that is known."""
    foreign = None if canvas.layout.one_vocabulary else canvas.layout.foreign()
    log_p = readable(logits, foreign).log_softmax(-1)
    is_it = torch.arange(logits.shape[-1], device=logits.device) == canvas.tokens[:, :, None]
    known = torch.where(is_it, 0.0, -torch.inf).to(log_p)
    return torch.where(canvas.known[:, :, None], known, log_p)


def _surprise(logits: Tensor, corrupted: Corrupted, smoothing: float) -> Float[Tensor, "b l"]:
    layout = corrupted.canvas.layout
    expected = (*corrupted.targets.shape, layout.vocab_size)
    if logits.shape != expected:
        raise UnisonoError(
            f"logits of shape {tuple(logits.shape)}: {expected} [rows, positions, vocabulary] expected",
            code="shape",
            path="logits",
            value=tuple(logits.shape),
        )
    foreign = None if layout.one_vocabulary else layout.foreign()
    counts = corrupted.weights > 0
    # Where nothing counts, targets may be padding and logits anything: NaN times a gradient of 0 is NaN.
    log_p = readable(logits.masked_fill(~counts[:, :, None], 0.0), foreign).log_softmax(-1)
    targets = torch.where(counts, corrupted.targets, layout.vocab[:, 0])
    losses = -log_p.gather(2, targets[:, :, None])[:, :, 0]
    if smoothing:
        allowed = log_p if foreign is None else log_p.masked_fill(foreign, 0.0)
        uniform = -allowed.sum(2) / (layout.vocab[:, 1] - layout.vocab[:, 0])
        losses = (1 - smoothing) * losses + smoothing * uniform
    return torch.where(counts, losses * corrupted.weights.to(losses), 0.0)
