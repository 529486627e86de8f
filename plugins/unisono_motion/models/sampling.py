"""Which tokens are chosen when: the presets of ``unisono.masked`` by the names that a request gives.

Presets that count steps take ``num_steps`` for the base tokens and one step for each residual level above;
presets that decide by themselves (thresholds, certificates) take as many as they need. Left out are Token-Critic,
which needs a critic, and the locality-aware order, whose step sizes belong to one length.

A preset keeps its own filters and noise; the request's temperature is added where a preset draws from what the
network says, and greedy ones have none. Guidance is put in afterwards, for the draw only, save where the paper
orders by guided scores as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from unisono import masked
from unisono.masked import Layout, Strategy

Steps = int | tuple[int, ...]


@dataclass(frozen=True)
class Sampler:
    """A preset as requests name it: ``make(steps, temperature, layout)``.

    ``warms``: the preset takes the temperature itself. ``by_guided``: its order follows guided scores.
    """

    make: Callable[[Steps, float, Layout], Strategy]
    warms: bool = False
    by_guided: bool = False


def _base(steps: Steps) -> int:
    return steps if isinstance(steps, int) else steps[0]


def _all_levels(steps: Steps, layout: Layout) -> tuple[int, ...]:
    return steps if isinstance(steps, tuple) else (steps,) * max(len(layout.group_sizes), 1)


def halton(steps: Steps, layout: Layout) -> Strategy:
    """Halton-MaskGIT along time: the base-3 sequence, streams of a position side by side.

    The order belongs to a power of two of positions, so that padding does not change it.
    """
    positions = int(layout.coord[:, 0].max()) + 1 if layout.length else 1
    streams = max(layout.length // positions, 1)
    size = max(64, 1 << (positions - 1).bit_length())
    rank = masked.halton_order(1, size)[:positions].repeat_interleave(streams) * streams
    rank = rank + torch.arange(streams).repeat(positions)
    return replace(masked.by_rank(rank, steps, masked.arccos), name="halton")


SAMPLERS: dict[str, Sampler] = {
    "mmm": Sampler(lambda n, t, layout: masked.mmm(_base(n), temperature=t), warms=True),
    "momask": Sampler(
        lambda n, t, layout: masked.momask(_all_levels(n, layout), temperature=t), warms=True, by_guided=True
    ),
    "maskgit": Sampler(lambda n, t, layout: masked.maskgit(n)),
    "choose_then_draw": Sampler(lambda n, t, layout: masked.choose_then_draw(n)),
    "random_order": Sampler(lambda n, t, layout: masked.random_order()),
    "one_pass": Sampler(lambda n, t, layout: masked.one_pass(), warms=True),
    "halton": Sampler(lambda n, t, layout: halton(n, layout)),
    "left_to_right": Sampler(
        lambda n, t, layout: replace(
            masked.by_rank(masked.left_to_right(layout.length), n, masked.linear), name="left_to_right"
        )
    ),
    "arpg": Sampler(lambda n, t, layout: masked.arpg(n)),
    "soundstorm": Sampler(lambda n, t, layout: masked.soundstorm(_all_levels(n, layout), temperature=t), warms=True),
    "group_ipd": Sampler(lambda n, t, layout: masked.group_ipd(_all_levels(n, layout), temperature=t), warms=True),
    "vampnet": Sampler(lambda n, t, layout: masked.vampnet(n, temperature=t), warms=True),
    "maskgct": Sampler(lambda n, t, layout: masked.maskgct(n, temperature=1.5 * t), warms=True),
    "mdlm": Sampler(lambda n, t, layout: masked.mdlm(n)),
    "first_hitting": Sampler(lambda n, t, layout: masked.first_hitting()),
    "remdm": Sampler(lambda n, t, layout: masked.remdm(_base(n))),
    "llada": Sampler(lambda n, t, layout: masked.llada(n, temperature=t), warms=True, by_guided=True),
    "dream": Sampler(lambda n, t, layout: masked.dream(n)),
    "dimple": Sampler(lambda n, t, layout: masked.dimple(n, temperature=t), warms=True),
    "fast_dllm": Sampler(lambda n, t, layout: masked.fast_dllm(), warms=True),
    "frechet": Sampler(lambda n, t, layout: masked.frechet(), warms=True),
    "entropy_bounded": Sampler(lambda n, t, layout: masked.entropy_bounded()),
    "kl_stable": Sampler(lambda n, t, layout: masked.kl_stable(), warms=True),
    "credit": Sampler(lambda n, t, layout: masked.credit(), warms=True),
    "block_diffusion": Sampler(lambda n, t, layout: masked.block_diffusion(n)),
}


def make_strategy(
    name: str, num_steps: int, temperature: float, layout: Layout, scale: float = 1.0, unconditional: object = None
) -> Strategy:
    """Return the strategy of a request; ``scale`` above 1 guides away from the ``unconditional`` model."""
    sampler = SAMPLERS[name]
    groups = max(len(layout.group_sizes), 1)
    steps: Steps = num_steps if groups == 1 else (num_steps, *[1] * (groups - 1))
    strategy = sampler.make(steps, temperature, layout)
    if not sampler.warms and temperature != 1:
        strategy = replace(strategy, warp=masked.Chain(masked.Temperature(temperature), strategy.warp))
    if scale > 1:
        guide = masked.ClassifierFree(scale - 1, unconditional, scores=sampler.by_guided)
        strategy = replace(strategy, guide=guide)
    return strategy
