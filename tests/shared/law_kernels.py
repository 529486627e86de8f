"""Published samplers as kernels, in plain Python from the papers, with none of the library's stages.

A kernel yields every outcome of one step with its probability; `unisono.testing.oracles.masked.push` follows them
all. So the oracle of `test_laws` has no Monte Carlo.
"""

import itertools
import math

import numpy as np
from unisono.testing.oracles.masked import MASK, Joint, push

JOINT = Joint.random(4, 3, seed=0)


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
