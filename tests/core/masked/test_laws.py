"""Every preset against its own law, enumerated: no Monte Carlo on the oracle's side.

The oracle is `law_kernels`. The sampler runs on many rows, and Pearson's χ² must not be surprised. The
same sampler with one token in ten replaced by a random one must surprise it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import unisono.masked as um
from law_kernels import (
    JOINT,
    above,
    by_credit,
    by_entropy_bound,
    by_factor,
    by_frechet,
    by_order,
    by_score,
    by_stability,
    chained,
    choose_then_draw,
    cooled,
    criticised,
    diffusion,
    draw_then_choose,
    entropy,
    even,
    everything,
    fills,
    fixed,
    greedy,
    law,
    margin,
    nucleus,
    opened,
    remasked,
    same,
    scheduled,
    tempered,
    top,
    typical,
    uniformly,
)
from unisono.masked import Canvas, Layout, Strategy, decode, random
from unisono.masked.stages.draw import invert
from unisono.testing.oracles.masked import MASK, Joint, surprise

ROWS = 40_000
SMALL = Joint.random(3, 3, seed=1)  # where a sampler remembers so much that its states are many
FLAT = Layout.sequence(4, 3)
BLOCKS = Layout.blocks(4, 2, 3)
LEVELS = Layout.levels(2, 2, 3)

CRITIC = np.random.default_rng(5).normal(size=(3, 3, 3, 3, 4))


class TableCritic:
    """A critic that knows every sequence by heart."""

    def __call__(self, tokens, known, query):
        assert known.all()
        return torch.from_numpy(CRITIC)[tuple(tokens.unbind(1))][..., None]


class Tilted:
    """Another model than the joint: the guide's second opinion, a function of what is known."""

    table = np.random.default_rng(6).normal(size=(4, 4, 4, 4, 4, 3)) / 2

    def __call__(self, tokens, known, query):
        return torch.from_numpy(self.table)[tuple(torch.where(known, tokens, 3).unbind(1))]


def guided(combine, count, warp=same):
    """Random choice, tokens from the combined logits."""

    def kernel(x, memory, n):
        window, group, step, total, extra = opened(x, memory or (-1, 0, 0, None), (0, 0, 0, 0))
        k, progress = count(group, step, total, len(window))
        p = JOINT.marginals(x)
        other = Tilted.table[tuple(3 if t == MASK else t for t in x)]
        q = np.zeros_like(p)
        for i in window:
            logits = combine(np.log(p[i]), other[i], progress, x, i)
            q[i] = np.exp(logits - logits.max())
            q[i] /= q[i].sum()
        for where, w, after in uniformly(p, window, k, progress, extra):
            for y, mass in fills(x, where, q):
                yield y, (group, step + 1, total, after), w * mass

    return kernel


def contrast(weight, ramp):
    def combine(own, other, progress, x, i):
        w = weight * progress if ramp else weight
        return own + w * (own - other)

    return combine


def past(weight):
    def combine(own, other, progress, x, i):
        if any(t == MASK for t in x[:i]):
            return own
        return own + weight * (other - np.log(np.exp(other).sum()))

    return combine


@dataclass(frozen=True)
class Case:
    name: str
    strategy: Strategy
    law: Callable[[], np.ndarray]
    layout: Layout = FLAT
    joint: Joint = JOINT


def rolled(height, width, count):
    rank = um.halton_order(height, width).numpy()
    n = height * width
    return sum(law(choose_then_draw(by_order((rank - start) % n), count)) for start in range(n)) / n


def log(p):
    return math.log(p)


def plainly(p):
    return p


def sampled(strategy):
    """A greedy preset with categorical draws, so that its choices meet more than one sequence."""
    return replace(strategy, draw=um.Categorical(), name=f"{strategy.name}, sampled")


GAMMA: dict[str, Callable[[float], float]] = {
    "linear": lambda r: 1 - r,
    "cosine": lambda r: math.cos(math.pi * r / 2),
    "square": lambda r: 1 - r * r,
    "cubic": lambda r: 1 - r**3,
    "square_root": lambda r: 1 - math.sqrt(r),
    "arccos": lambda r: math.acos(r) * 2 / math.pi,
    "logarithmic": lambda r: min(1.0, -math.log(r) / math.log(4)),
    "exponential": lambda r: 1 - 4 ** (r - 1),
}

ONE, TWO = fixed(1), fixed(2)
LATE = tuple(LEVELS.group.tolist())
HALVES = (0, 0, 1, 1)
PAIRS = Layout.streams(1, [3] * 4, groups=HALVES, shared=True)
NEAR = um.locality_aware(Layout.grid(2, 2, 3), (1, 1, 2)).numpy()


def cases() -> list[Case]:
    c, d = choose_then_draw, draw_then_choose
    rows: list[tuple[str, Strategy, Any]] = [
        ("random order", um.random_order(), c(uniformly, ONE)),
        ("random order, 2 a step", um.random_order(2), c(uniformly, TWO)),
        ("one pass", um.one_pass(), c(uniformly, everything, greedy)),
        *(
            (f"MaskGIT {name}", um.maskgit(3, um.SCHEDULES[name]), d(log, scheduled(3, gamma), 4.5))
            for name, gamma in GAMMA.items()
        ),
        ("MaskGIT choice temperature 0", um.maskgit(4, choice_temperature=0.0), d(log, scheduled(4))),
        ("MaskGIT choice temperature 1", um.maskgit(4, choice_temperature=1.0), d(log, scheduled(4), 1.0)),
        ("choose then draw", um.choose_then_draw(2), c(by_score(np.max), scheduled(2))),
        ("Token-Critic", um.token_critic(TableCritic(), 3), criticised(3, CRITIC, 1.0)),
        ("ARPG", um.arpg(2), c(uniformly, scheduled(2, GAMMA["arccos"]))),
        ("G-IPD", um.group_ipd((2, 1)), d(log, scheduled((2, 1)), groups=HALVES)),
        ("SoundStorm", um.soundstorm((2, 1)), d(log, scheduled((2, 1)), 1.0, tempered((1.0, 0.0)), LATE)),
        ("VampNet", um.vampnet(3, typical=0.8), d(log, scheduled(3), 10.5, typical(0.8))),
        (
            "MaskGCT",
            um.maskgct((2, 1), share=0.6),
            d(plainly, scheduled((2, 1)), 1.0, chained(top(2), cooled(1.5)), LATE),
        ),
        ("MMM", um.mmm(3, per=4), d(plainly, scheduled(3))),
        ("MoMask", um.momask((2, 1), share=0.6), d(plainly, scheduled((2, 1)), warp=top(2), groups=LATE)),
        ("MDLM", um.mdlm(4), diffusion(4)),
        (
            "MDLM, cosine noise",
            um.mdlm(4, alpha=lambda t: 1 - torch.sin(t * math.pi / 2)),
            diffusion(4, lambda t: 1 - math.sin(t * math.pi / 2)),
        ),
        ("first hitting", um.first_hitting(), c(uniformly, ONE)),
        ("LLaDA", um.llada(2), d(plainly, even(2), warp=greedy, groups=HALVES)),
        ("LLaDA, temperature 1", um.llada(2, temperature=1.0), d(plainly, even(2), groups=HALVES)),
        ("Dream, top probability", um.dream(2, "max_prob"), c(by_score(np.max), scheduled(2, GAMMA["linear"]))),
        ("Dream, margin", um.dream(2, "margin"), c(by_score(margin), scheduled(2, GAMMA["linear"]))),
        ("Dream, entropy", um.dream(2), c(by_score(lambda p: -entropy(p)), scheduled(2, GAMMA["linear"]))),
        (
            "Dream, choice temperature",
            um.dream(2, "entropy", choice_temperature=0.4, temperature=0.7, nucleus=0.9),
            c(
                by_score(lambda p: -entropy(p), 0.4),
                scheduled(2, GAMMA["linear"]),
                chained(tempered(0.7), nucleus(0.9)),
            ),
        ),
        ("Dimple", um.dimple(2, 0.6), c(above(0.6, True), scheduled(2, GAMMA["linear"]))),
        ("Fast-dLLM, threshold", um.fast_dllm(0.6), c(above(0.6), warp=greedy)),
        ("Fast-dLLM, threshold, sampled", sampled(um.fast_dllm(0.6)), c(above(0.6))),
        ("Fast-dLLM, factor", um.fast_dllm(None, 1.2), c(by_factor(1.2), warp=greedy)),
        ("Fast-dLLM, factor, sampled", sampled(um.fast_dllm(None, 1.2)), c(by_factor(1.2))),
        ("Fréchet", um.frechet(), c(by_frechet, warp=greedy)),
        ("Fréchet, sampled", sampled(um.frechet()), c(by_frechet)),
        ("entropy bound 0.3", um.entropy_bounded(0.3), c(by_entropy_bound(0.3))),
        ("entropy bound 1", um.entropy_bounded(1.0), c(by_entropy_bound(1.0))),
        ("KL-stable", um.kl_stable(0.05, 0.4, 1), c(by_stability(0.05, 0.4, 1), warp=greedy)),
        ("KL-stable, sampled", sampled(um.kl_stable(0.05, 0.4, 1)), c(by_stability(0.05, 0.4, 1))),
        ("credit", um.credit(0.75), c(by_credit(0.75), warp=greedy)),
        ("credit, sampled", sampled(um.credit(0.75)), c(by_credit(0.75))),
        ("block diffusion", um.block_diffusion(2), diffusion(2, groups=HALVES)),
        ("block diffusion, nucleus", um.block_diffusion(3, 0.8), diffusion(3, groups=HALVES, warp=nucleus(0.8))),
        (
            "guidance",
            replace(um.random_order(2), guide=um.ClassifierFree(1.7, Tilted())),
            guided(contrast(0.7, False), TWO),
        ),
        (
            "guidance, ramp",
            replace(um.by_rank(torch.arange(4), 3), score=um.Random(), guide=um.ClassifierFree(1.7, Tilted(), True)),
            guided(contrast(0.7, True), scheduled(3)),
        ),
        (
            "autoregressive guide",
            replace(um.random_order(), guide=um.Autoregressive(Tilted(), 0.8)),
            guided(past(0.8), ONE),
        ),
        ("fixed noise", replace(um.random_order(2), draw=um.FixedNoise()), c(uniformly, TWO)),
        ("arithmetic codes", replace(um.random_order(2), draw=um.ArithmeticCodes(1)), c(uniformly, TWO)),
    ]
    layouts = {
        "G-IPD": PAIRS,
        "SoundStorm": LEVELS,
        "MaskGCT": LEVELS,
        "MoMask": LEVELS,
        "LLaDA": BLOCKS,
        "LLaDA, temperature 1": BLOCKS,
        "block diffusion": BLOCKS,
        "block diffusion, nucleus": BLOCKS,
    }
    made = [
        Case(name, strategy, lambda kernel=kernel: law(kernel), layouts.get(name, FLAT))
        for name, strategy, kernel in rows
    ]
    for kind, eta, steps in (("cap", 0.2, 6), ("rescale", 0.5, 6), ("conf", 1.0, 3), ("loop", 0.1, 10)):
        joint, layout = (SMALL, Layout.sequence(3, 3)) if kind == "conf" else (JOINT, FLAT)
        strategy = um.remdm(steps, kind, eta, nucleus=0.9 if kind == "cap" else 1.0)
        kernel = remasked(steps, kind, eta, nucleus(0.9) if kind == "cap" else same, joint)
        made.append(Case(f"ReMDM {kind}", strategy, lambda k=kernel, j=joint, n=steps: law(k, j, n), layout, joint))
    in_time = by_order(um.halton_order(1, 64)[:4].tolist())
    made.append(
        Case(
            "Halton in time",
            um.halton_in_time(2),
            lambda: law(choose_then_draw(in_time, scheduled(2, GAMMA["arccos"]))),
        )
    )
    made.append(Case("Halton, rolled", um.halton(2, 2, 2), lambda: rolled(2, 2, scheduled(2, GAMMA["arccos"]))))
    made.append(
        Case(
            "locality",
            um.locality(Layout.grid(2, 2, 3), (1, 1, 2)),
            lambda: law(choose_then_draw(by_order(NEAR), lambda g, i, n, left: ((1, 1, 2)[i], 1.0))),
        )
    )
    return made


CASES = cases()


@dataclass(frozen=True)
class Careless:
    """A draw that takes any token at all once in ten times: what the test must notice."""

    exact: ClassVar[bool] = True

    def __call__(self, logits, sites, live, at):
        u, v = at.uniform(random.ACCEPT, sites), at.uniform(random.PROPOSE, sites)
        token = invert(logits, at.uniform(random.DRAW, sites))
        return torch.where(u < 0.1, (v * logits.shape[-1]).long(), token)


def counts(case, strategy, rows=ROWS):
    done = decode(case.joint, Canvas.blank(case.layout, torch.arange(rows)), strategy)
    assert done.canvas.known.all()
    return case.joint.counts(done.tokens)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_preset_follows_its_enumerated_law(case):
    expected = case.law()
    assert abs(expected.sum() - 1) < 1e-12
    seen = counts(case, case.strategy)
    assert surprise(seen, expected) < 6
    broken = counts(case, replace(case.strategy, draw=Careless()), ROWS // 3)
    assert surprise(broken, expected) > 6


def test_every_preset_has_a_case():
    rooms = (um.presets.general, um.presets.images, um.presets.sound, um.presets.in_time, um.presets.text)
    own = [
        (name, f) for room in rooms for name, f in vars(room).items() if getattr(f, "__module__", "") == room.__name__
    ]
    shipped = sorted((name for name, _ in own if name[0] != "_"), key=len, reverse=True)
    covered = {case.strategy.name.partition(",")[0] for case in CASES}
    covered = {next((name for name in shipped if c == name or c.startswith(f"{name}_")), c) for c in covered}
    assert covered >= set(shipped) and len(shipped) >= 27
