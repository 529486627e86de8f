"""Training: what is hidden of each item, and the losses of filling it in (ZipVoice, arXiv:2506.13053, §3.1).

With predicted durations each symbol's is learnt, by log(1 + d). With uniform ones only their sum is known: its error
is that of its logarithm, as Parallel Tacotron 2 (arXiv:2103.14574) learns lengths by the whole alone.

Shapes: b batch, s symbols, t frames, m mel bins.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import derive_seed
from unisono.diffusion import forgotten
from unisono.duration import Alignment, log_durations

from unisono_tts.zipvoice.infilling import Canvas, hidden


class Draws(NamedTuple):
    """What is drawn for each item: normal ``noise`` [b, t, m], and ``uniform`` numbers [b, 5] of the flow's level, the
    share and place of what is hidden, whether the text is, and whether the speaker is."""

    noise: Float[Tensor, "b t m"]
    uniform: Float[Tensor, "b 5"]


def draws(seeds: Sequence[int], frames: int, width: int) -> Draws:
    """Draw for each item from its own seed."""
    noise = torch.empty(len(seeds), frames, width)
    uniform = torch.empty(len(seeds), 5, dtype=torch.float64)
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(derive_seed(seed, "flow"))
        uniform[row].uniform_(generator=generator)
        noise[row].normal_(generator=generator)
    return Draws(noise, uniform)


def laid_out(
    model: Any, batch: dict[str, Any], target: Float[Tensor, "b t m"]
) -> tuple[Alignment | None, dict[str, Tensor]]:
    """Return how symbols lie on recorded frames, and the aligner's losses; no alignment while it learns alone."""
    symbols, counts, frames = batch["symbols"], batch["symbol_lengths"], batch["mel_lengths"]
    if model.uniform:
        return Alignment.uniform(counts, frames, num_tokens=symbols.shape[1]), {}
    durations, parts = model.align(batch, model.embedding(symbols), target)
    return None if model.aligning else Alignment.from_durations(durations, counts, frames), parts


def infilling_losses(model: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Return the losses of a batch; validation hides by the same numbers at each time, and drops nothing."""
    spec = model.infilling
    target = (batch["mel"] - model.mel_mean) / model.mel_std
    alignment, parts = laid_out(model, batch, target)
    if alignment is None:
        return {**parts, "loss": reduce(add, list(parts.values())) + model.idle()}
    inside, lengths = alignment.tgt_mask, alignment.tgt_lengths
    drawn = draws(model.row_seeds(batch), target.shape[1], target.shape[2])
    noise, (level, share, place, text_out, speaker_out) = drawn.noise.to(target), drawn.uniform.to(target.device).T
    nobody = torch.full_like(batch["speaker"], len(model.voice.speakers))
    unnamed = forgotten(speaker_out, spec.drop_speaker if model.training else 0.0)
    text, predicted = model.encode(
        batch["symbols"], batch["symbol_lengths"], torch.where(unnamed, nobody, batch["speaker"])
    )
    told = ~forgotten(text_out, spec.drop_text if model.training else 0.0)
    share = spec.least_masked + (spec.most_masked - spec.least_masked) * share
    masked = hidden(lengths, share, place, target.shape[1]) & inside
    target = target * inside[..., None]
    known = target * ~masked[..., None]
    noised = model.flow.corrupt(target, noise * inside[..., None], model.flow.level(level))
    seen = torch.cat([noised.x, alignment.expand(text) * told[:, None, None], known], -1)
    error = model.field(seen, lengths, noised.time / 1000).float() - noised.target
    parts["flow"] = model.global_mean(error.square(), masked)
    parts["log_duration"] = spec.duration_weight * duration_loss(model, predicted, alignment)
    return {**parts, "loss": reduce(add, list(parts.values()))}


@torch.no_grad()
def taught(model: Any, batch: dict[str, Any]) -> list[Float[Tensor, "t m"]]:
    """Return log mels that a model draws with the recordings' own lengths, nothing known, from a seed by their ids."""
    target = (batch["mel"] - model.mel_mean) / model.mel_std
    alignment, _ = laid_out(model, batch, target)
    assert alignment is not None  # a model that speaks is not in training
    text, _ = model.encode(batch["symbols"], batch["symbol_lengths"], batch["speaker"])
    seeds = [derive_seed(model.salt, name) for name in batch["id"]]
    start = draws(seeds, alignment.num_frames, target.shape[2]).noise.to(target) * alignment.tgt_mask[..., None]
    requests = [model.Request(text=name) for name in batch["id"]]
    scale = torch.tensor([one.guidance_scale for one in requests], device=target.device)
    lengths = alignment.tgt_lengths
    canvas = Canvas(alignment.expand(text), torch.zeros_like(start), alignment.tgt_mask, lengths, start, scale)
    mel = model.fill(canvas, requests) * model.mel_std + model.mel_mean
    return [row[:length] for row, length in zip(mel, lengths.tolist(), strict=True)]


def duration_loss(model: Any, predicted: Float[Tensor, "b s"], alignment: Alignment) -> Float[Tensor, ""]:
    """Return the mean squared error of log durations: of each symbol, or of each item's sum."""
    inside = alignment.src_mask
    if not model.uniform:
        return model.global_mean((predicted - log_durations(alignment.durations)).square(), inside)
    total = (torch.expm1(predicted.float()).clamp(min=0) * inside).sum(1)
    error = torch.log1p(total) - log_durations(alignment.tgt_lengths)
    return model.global_mean(error.square(), torch.ones_like(total, dtype=torch.bool))
