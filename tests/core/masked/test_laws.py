"""Every preset against its own law, enumerated: no Monte Carlo on the oracle's side.

The oracle is written in plain Python from the papers, with none of the library's stages: a kernel yields
every outcome of one step with its probability, and `push` follows them all. The sampler then runs on many
rows, and Pearson's χ² must not be surprised. The same sampler with one token in twenty replaced by a
random one must surprise it.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import unisono.masked as um
from unisono.masked import Canvas, Layout, Strategy, decode
from unisono.masked.draw import invert
from unisono.testing.joint import MASK, Joint, push, surprise

ROWS = 40_000
JOINT = Joint.random(4, 3, seed=0)
SMALL = Joint.random(3, 3, seed=1)  # where a sampler remembers so much that its states are many
FLAT = Layout.sequence(4, 3)
BLOCKS = Layout.blocks(4, 2, 3)
LEVELS = Layout.levels(2, 2, 3)

# --- the oracle: schedules, warps, selections and kernels in plain Python


def kept(i, steps, total, left, gamma):
    """MaskGIT's count of masks after step i."""
    if i + 1 >= steps:
        return 0
    return min(max(1, math.floor(total * gamma((i + 1) / steps) + 1e-9)), left - 1)


def scheduled(steps, gamma=lambda r: math.cos(math.pi * r / 2)):
    def rule(group, i, total, left):
        t = steps[group] if isinstance(steps, tuple) else steps
        return left - kept(i, t, total, left, gamma), min(1.0, (i + 1) / t)

    return rule


def even(steps):
    def rule(group, i, total, left):
        share = total // steps + (1 if i < total % steps else 0)
        return min(left, max(1, share)), (i + 1) / steps

    return rule


def fixed(k):
    return lambda group, i, total, left: (min(k, left), 1.0)


def everything(group, i, total, left):
    return left, 1.0


def tempered(temperature):
    def warp(p, group, progress):
        t = temperature[group] if isinstance(temperature, tuple) else temperature
        if t == 0:
            return np.eye(len(p))[p.argmax()]
        q = p ** (1 / t)
        return q / q.sum()

    return warp


def cooled(temperature):
    return lambda p, group, progress: tempered(temperature * (1 - progress))(p, group, progress)


def top(k):
    def warp(p, group, progress):
        q = np.where(np.argsort(np.argsort(-p)) < k, p, 0)
        return q / q.sum()

    return warp


def nucleus(mass):
    def warp(p, group, progress):
        q, total = np.zeros_like(p), 0.0
        for v in np.argsort(-p):
            q[v] = p[v]
            total += p[v]
            if total >= mass:
                break
        return q / q.sum()

    return warp


def typical(mass):
    def warp(p, group, progress):
        surprisal = -np.log(np.maximum(p, 1e-300))
        h = (p * surprisal).sum()
        q, total = np.zeros_like(p), 0.0
        for v in np.argsort(np.abs(surprisal - h)):
            q[v] = p[v]
            total += p[v]
            if total >= mass:
                break
        return q / q.sum()

    return warp


def chained(*warps):
    def warp(p, group, progress):
        for w in warps:
            p = w(p, group, progress)
        return p

    return warp


greedy = tempered(0)


def same(p, group, progress):
    return p


def fills(x, where, p):
    """All ways to fill positions independently, with their probabilities."""
    for values in itertools.product(range(p.shape[1]), repeat=len(where)):
        y, q = list(x), 1.0
        for i, v in zip(where, values, strict=True):
            y[i] = v
            q *= p[i, v]
        if q > 0:
            yield tuple(y), q


def lottery(positions, scores, k, temperature):
    """The k first of positions: by score, or without replacement ∝ exp(score/temperature)."""
    if temperature == 0:
        order = sorted(range(len(positions)), key=lambda j: (-scores[j], positions[j]))[:k]
        return {frozenset(positions[j] for j in order): 1.0}
    weight = np.exp((np.array(scores) - max(scores)) / temperature)
    out: dict[frozenset, float] = {}
    for order in itertools.permutations(range(len(positions)), k):
        q, rest = 1.0, weight.sum()
        for j in order:
            q *= weight[j] / rest
            rest -= weight[j]
        chosen = frozenset(positions[j] for j in order)
        out[chosen] = out.get(chosen, 0.0) + q
    return out


def opened(x, memory, groups):
    """The window, group, step in the group and masks at its opening; memory is (group, step, total, extra)."""
    free = [i for i, t in enumerate(x) if t == MASK]
    group = min((groups[i] for i in free), default=memory[0])
    window = [i for i in free if groups[i] == group]
    _, step, total, extra = memory if memory[0] == group else (group, 0, len(window), memory[3])
    return window, group, step, total, extra


def choose_then_draw(choose, count=everything, warp=same, groups=(0, 0, 0, 0)):
    """`choose(p, window, k, progress, extra)` gives (positions, probability, extra) of every choice."""

    def kernel(x, memory, n):
        window, group, step, total, extra = opened(x, memory or (-1, 0, 0, None), groups)
        k, progress = count(group, step, total, len(window))
        p = JOINT.marginals(x)
        q = np.stack([warp(row, group, progress) for row in p])
        for where, w, after in choose(p, window, k, progress, extra):
            for y, mass in fills(x, sorted(where), q):
                yield y, (group, step + 1, total, after), w * mass

    return kernel


def draw_then_choose(score, count, temperature=0.0, warp=same, groups=(0, 0, 0, 0)):
    """Draw at the whole window, then rank draws by `score(p of the drawn token)` with annealed Gumbel noise."""

    def kernel(x, memory, n):
        window, group, step, total, extra = opened(x, memory or (-1, 0, 0, None), groups)
        k, progress = count(group, step, total, len(window))
        p = JOINT.marginals(x)
        q = np.stack([warp(row, group, progress) for row in p])
        for y, mass in fills(x, window, q):
            scores = [score(p[i, y[i]]) for i in window]
            for where, w in lottery(window, scores, k, temperature * (1 - progress)).items():
                z = tuple(y[i] if i in where else x[i] for i in range(len(x)))
                yield z, (group, step + 1, total, extra), mass * w

    return kernel


def uniformly(p, window, k, progress, extra):
    sets = list(itertools.combinations(window, k))
    return [(s, 1 / len(sets), extra) for s in sets]


def by_score(score, temperature=0.0):
    def choose(p, window, k, progress, extra):
        scores = [score(p[i]) for i in window]
        return [(s, w, extra) for s, w in lottery(window, scores, k, temperature).items()]

    return choose


def by_order(rank):
    return lambda p, window, k, progress, extra: [(sorted(window, key=lambda i: rank[i])[:k], 1.0, extra)]


def entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


def margin(p):
    return np.sort(p)[-1] - np.sort(p)[-2]


def sure(p, window):
    return sorted(window, key=lambda i: (-p[i].max(), i))


def above(threshold, scheduled_fallback=False):
    def choose(p, window, k, progress, extra):
        chosen = [i for i in window if p[i].max() > threshold]
        return [(chosen or sure(p, window)[: k if scheduled_fallback else 1], 1.0, extra)]

    return choose


def by_factor(f):
    def choose(p, window, k, progress, extra):
        order = sure(p, window)
        n = max((n for n in range(1, len(order) + 1) if (n + 1) * (1 - p[order[n - 1]].max()) < f), default=1)
        return [(order[:n], 1.0, extra)]

    return choose


def by_frechet(p, window, k, progress, extra):
    order = sure(p, window)
    n = 1
    while n < len(order):
        errors = [1 - p[i].max() for i in order[: n + 1]]
        if sum(errors) + max(errors) > 1:
            break
        n += 1
    return [(order[:n], 1.0, extra)]


def by_entropy_bound(gamma):
    def choose(p, window, k, progress, extra):
        order = sorted(window, key=lambda i: (entropy(p[i]), i))
        n = 1
        while n < len(order):
            h = [entropy(p[i]) for i in order[: n + 1]]
            if sum(h) - max(h) > gamma:
                break
            n += 1
        return [(order[:n], 1.0, extra)]

    return choose


def by_stability(epsilon, confidence, patience):
    """Memory: the marginals of the step before, and how often each position was calm."""

    def choose(p, window, k, progress, extra):
        calm = [0] * len(p)
        if extra is not None:
            before = np.array(extra[0])
            for i in window:
                inside = p[i] > 0
                moved = (p[i][inside] * np.log(p[i][inside] / before[i][inside])).sum()
                calm[i] = extra[1][i] + 1 if moved < epsilon else 0
        chosen = [i for i in window if calm[i] >= patience and p[i].max() > confidence]
        after = (tuple(map(tuple, p)), tuple(calm[i] if i in window else 0 for i in range(len(p))))
        return [(chosen or sure(p, window)[:1], 1.0, after)]

    return choose


def by_credit(threshold, strength=0.7, gamma=0.2, decay=0.8):
    """Memory: the likeliest token of each position and its credit."""

    def choose(p, window, k, progress, extra):
        token, value, raised = [-1] * len(p), [0.0] * len(p), {}
        for i in window:
            best = int(p[i].argmax())
            old = decay * extra[1][i] if extra is not None and extra[0][i] == best else 0.0
            token[i], value[i] = best, old + p[i].max() ** gamma
            logit = np.log(np.maximum(p[i], 1e-300))
            logit[best] += strength * math.log(1 + value[i])
            raised[i] = (np.exp(logit) / np.exp(logit).sum())[best]
        chosen = [i for i in window if raised[i] > threshold]
        chosen = chosen or [max(window, key=lambda i: (raised[i], -i))]
        return [(chosen, 1.0, (tuple(token), tuple(value)))]

    return choose


def diffusion(steps, alpha=lambda t: 1 - t, groups=(0, 0, 0, 0), warp=same, edit=None):
    def kernel(x, memory, n):
        window, group, step, total, extra = opened(x, memory or (-1, 0, 0, None), groups)
        t, s = 1 - step / steps, 1 - (step + 1) / steps
        rate = 1.0 if step + 1 >= steps else (alpha(s) - alpha(t)) / (1 - alpha(t))
        p = JOINT.marginals(x)
        q = np.stack([warp(row, group, 0.0) for row in p])
        for size in range(len(window) + 1):
            for where in itertools.combinations(window, size):
                w = rate**size * (1 - rate) ** (len(window) - size)
                for y, mass in fills(x, where, q):
                    yield y, (group, step + 1, total, extra), w * mass

    return kernel


def remasked(steps, kind, eta, warp=same, joint=JOINT, t_on=0.55, t_off=0.05, alpha_on=0.9):
    """ReMDM; memory: each known token's probability when it was committed."""

    def alpha(t):
        if kind != "loop":
            return 1 - t
        if t > t_on:
            return alpha_on * (1 - t) / (1 - t_on)
        return alpha_on if t > t_off else 1 - (1 - alpha_on) * t / t_off

    def kernel(x, memory, n):
        confidence = memory or (1.0,) * len(x)
        t, s = 1 - n / steps, 1 - (n + 1) / steps
        a_t, a_s = alpha(t), alpha(max(s, 0.0))
        most = min(1.0, (1 - a_s) / a_t) if a_t > 0 else 1.0
        sigma = {"cap": min(eta, most), "rescale": eta * most, "conf": eta * most, "loop": min(eta, most)}[kind]
        if kind == "loop" and not (t <= t_on and s >= t_off - 1e-9):
            sigma = 0.0
        rate = (a_s - (1 - (0 if kind == "conf" else sigma)) * a_t) / (1 - a_t)
        rate = 1.0 if n + 1 >= steps else min(1.0, max(0.0, rate))
        p = joint.marginals(x)
        known = [i for i, v in enumerate(x) if v != MASK]
        share = sum(math.exp(-confidence[i]) for i in known)
        options = []
        for i, v in enumerate(x):
            if v == MASK:
                q = warp(p[i], 0, 0.0)
                options.append([(MASK, 1 - rate), *((w, rate * q[w]) for w in range(len(q)))])
            else:
                own = sigma * (math.exp(-confidence[i]) / share if kind == "conf" else 1.0)
                options.append([(MASK, own), (v, 1 - own)])
        for outcome in itertools.product(*([o for o in options_ if o[1] > 0] for options_ in options)):
            y = tuple(v for v, _ in outcome)
            new = [i for i in range(len(x)) if x[i] == MASK and y[i] != MASK]
            after = tuple(1.0 if y[i] == MASK else p[i, y[i]] if i in new else confidence[i] for i in range(len(x)))
            yield y, after if kind == "conf" else None, math.prod(q for _, q in outcome)

    return kernel


def criticised(steps, critic, temperature):
    """Token-Critic: fill everything, keep the best by the critic, with annealed noise."""
    rule = scheduled(steps)

    def kernel(x, memory, n):
        window, group, step, total, extra = opened(x, memory or (-1, 0, 0, None), (0, 0, 0, 0))
        take, progress = rule(group, step, total, len(window))
        left = len(window) - take
        for y, mass in fills(x, window, JOINT.marginals(x)):
            scores = [critic[y][i] for i in range(len(x))]
            for stay, w in lottery(list(range(len(x))), scores, len(x) - left, temperature * (1 - progress)).items():
                z = tuple(y[i] if i in stay else MASK for i in range(len(x)))
                yield z, (group, step + 1, total, extra), mass * w

    return kernel


def law(kernel, joint=JOINT, num_steps=None):
    return push(kernel, joint, num_steps=num_steps)


# --- the cases


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
            replace(um.random_order(2), guide=um.ClassifierFree(0.7, Tilted())),
            guided(contrast(0.7, False), TWO),
        ),
        (
            "guidance, ramp",
            replace(um.by_rank(torch.arange(4), 3), score=um.Random(), guide=um.ClassifierFree(0.7, Tilted(), True)),
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
    """A draw that takes any token at all once in twenty times: what the test must notice."""

    exact = True

    def __call__(self, logits, sites, live, at):
        u = torch.rand(sites.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
        v = torch.rand(sites.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
        return torch.where(u < 0.05, (v * logits.shape[-1]).long(), invert(logits, (u - 0.05).clamp_min(1e-9) / 0.95))


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
    shipped = [f for module in (um.presets, um.presets_text) for f in vars(module).values() if callable(f)]
    shipped = {f.__name__ for f in shipped if f.__module__ in ("unisono.masked.presets", "unisono.masked.presets_text")}
    covered = {case.strategy.name.partition(",")[0] for case in CASES}
    covered = {next((name for name in shipped if c == name or c.startswith(f"{name}_")), c) for c in covered}
    assert covered >= shipped and len(shipped) >= 26
