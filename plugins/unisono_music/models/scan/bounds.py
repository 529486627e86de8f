"""Bounds: how likely pieces are to state-space models, exactly or as a bound, in nats.

    ssm     -log p, exact
    vssm    a bound by k draws of the encoder (IWAE, Burda et al., arXiv:1509.00519), tighter with each
            the same by k particles that are chosen anew on the way (FIVO, Maddison et al., arXiv:1705.09279)
            a bound where blocks of bars are written one after the other, each told those before

Pieces are cut at every ``WINDOW`` bars, each part read as a piece with what it has of beginning and end.

Shapes: b batch, n steps, k draws or particles.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import collate_items, derive_seed
from unisono.nn.variational import importance_bound, log_ratio

from unisono_music.corpus.facts import ScoreFacts
from unisono_music.corpus.stored import PADDING, Stored
from unisono_music.models.scan.network import cost
from unisono_music.models.scan.ssm import SSM
from unisono_music.models.scan.steps import Steps, read_steps
from unisono_music.models.scan.vssm import VSSM

WINDOW = 8
AT_ONCE = 16
LEAST_EFFECTIVE = 0.5
"""The share of particles that still count, below which they are chosen anew."""


def windows(
    pieces: Sequence[Stored], facts: ScoreFacts, device: torch.device, at_once: int = AT_ONCE
) -> Iterator[Steps]:
    """Yield the parts of pieces, some at once, those of like length together."""
    parts = []
    for piece in pieces:
        for first in range(0, piece.num_bars, WINDOW):
            last = min(first + WINDOW, piece.num_bars)
            item = piece.cut(first, last).item()
            parts.append({**item, "begins": first == 0, "ends": last == piece.num_bars})
    parts.sort(key=lambda part: part["steps"])
    for at in range(0, len(parts), at_once):
        yield read_steps(collate_items(parts[at : at + at_once], PADDING), facts, device)


@torch.inference_mode()
def exact(model: SSM, pieces: Sequence[Stored]) -> float:
    """Return -log p of pieces."""
    total = 0.0
    for steps in windows(pieces, model.facts, model.device):
        total += float((cost(model.net(steps), steps.tokens) * steps.mask).double().sum())
    return total


@torch.inference_mode()
def importance(model: VSSM, pieces: Sequence[Stored], counts: Sequence[int]) -> dict[int, float]:
    """Return the bound on -log p of pieces by so many draws of each window: all of them of the same draws."""
    total = dict.fromkeys(counts, 0.0)
    for number, steps in enumerate(windows(pieces, model.facts, model.device)):
        weights = log_weights(model, steps, max(counts), derive_seed("importance", number)).double()
        for count in counts:
            groups = weights[: max(counts) // count * count].unflatten(0, (-1, count))
            total[count] -= float(importance_bound(groups.transpose(0, 1)).mean(0).sum())
    return total


def log_weights(model: VSSM, steps: Steps, draws: int, seed: int) -> Float[Tensor, "k b"]:
    """Return log p(x | z) + log p(z) − log q(z | x) of draws of the whole of each row."""
    given = torch.zeros_like(steps.mask)
    posterior = model.encoder(steps, given, steps.mask)
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(draws):
        noise = torch.randn(posterior.mean.shape, generator=generator).to(posterior.mean)
        latents = posterior.draw(noise)
        each = log_ratio(posterior, latents).sum(-1) - cost(model.decoder(latents, steps, given), steps.tokens)
        found.append((each * steps.mask).sum(1))
    return torch.stack(found)


@torch.inference_mode()
def particles(model: VSSM, pieces: Sequence[Stored], count: int) -> float:
    """Return the bound on -log p of pieces by particles: the decoder as a recurrence, its states chosen anew where few
    of them count."""
    total = 0.0
    for number, steps in enumerate(windows(pieces, model.facts, model.device, 1)):
        total -= float(particle_estimate(model, steps, count, derive_seed("particles", number)))
    return total


def particle_estimate(model: VSSM, steps: Steps, count: int, seed: int) -> Float[Tensor, ""]:
    """Return an estimate of log p of one row, whose exponential has p as its mean."""
    generator = torch.Generator().manual_seed(seed)
    given = torch.zeros_like(steps.mask)
    posterior = model.encoder(steps, given, steps.mask)
    noise = torch.randn(count, *posterior.mean.shape[1:], generator=generator).to(posterior.mean)
    latents = posterior.draw(noise)
    ratio = log_ratio(posterior, latents).sum(-1).double()
    rows = torch.zeros(count, dtype=torch.int64, device=given.device)
    many = Steps(steps.tokens[rows], steps.place[rows], steps.bar[rows], steps.length[rows])
    states, weights = model.decoder.stack.begin(count), torch.zeros(count, dtype=torch.float64, device=given.device)
    found = torch.zeros((), dtype=torch.float64, device=given.device)
    for at in range(steps.tokens.shape[1]):
        now = many.cut(at, at + 1)
        none = torch.zeros(count, 1, dtype=torch.bool, device=given.device)
        logits, states = model.decoder.resume(latents[:, at : at + 1], now, none, states, "recurrence")
        weights = weights + ratio[:, at] - cost(logits, now.tokens)[:, 0].double()
        shares = weights.softmax(0)
        if float(1 / shares.square().sum()) < LEAST_EFFECTIVE * count:
            found = found + importance_bound(weights)
            places = (torch.arange(count) + torch.rand((), generator=generator)) / count  # systematic
            chosen = torch.searchsorted(shares.cumsum(0).cpu(), places.double()).clamp(max=count - 1)
            states = [state[chosen.to(state.device)] for state in states]
            weights = torch.zeros_like(weights)
    return found + importance_bound(weights)


@torch.inference_mode()
def blockwise(model: VSSM, pieces: Sequence[Stored], block_bars: int, draws: int = 4) -> float:
    """Return the bound on -log p of pieces that are written in blocks of so many bars."""
    total, size = 0.0, block_bars * model.facts.steps_per_bar
    for number, steps in enumerate(windows(pieces, model.facts, model.device)):
        generator = torch.Generator().manual_seed(derive_seed("blocks", number))
        places = torch.arange(steps.tokens.shape[1], device=model.device)
        for start in range(0, steps.tokens.shape[1], size):
            seen = steps.mask & (places < start + size)
            given = seen & (places < start)
            posterior = model.encoder(steps, given, seen)
            for _ in range(draws):
                noise = torch.randn(posterior.mean.shape, generator=generator).to(posterior.mean)
                latents = posterior.draw(noise)
                each = cost(model.decoder(latents, steps, given), steps.tokens) - log_ratio(posterior, latents).sum(-1)
                total += float((each * (seen & ~given)).double().sum()) / draws
    return total
