"""Small joint distributions with exact denoisers: what the law of a parallel sampler is measured against.

`Joint` is a table over a few positions; its marginals given any known tokens are worked out in float64,
so a sampler run with it errs by its own doing alone. `Markov` is a chain of any length, whose exact
posterior is the forward–backward algorithm (a test of samplers in arXiv:2602.19619). `push` follows every
outcome of a sampler written as a kernel, without Monte Carlo.

Letters: b batch, l positions, k queried positions, v vocabulary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MASK = -1
State = tuple[tuple[int, ...], Any]


class Joint:
    """A probability for every sequence of `p.ndim` tokens below `p.shape[0]`; callable as a masked model."""

    def __init__(self, p: np.ndarray):
        if abs(p.sum() - 1) > 1e-9 or (p < 0).any() or len(set(p.shape)) != 1:
            raise ValueError(f"a table of shape {p.shape} and sum {p.sum():.3g}: give equal sides and a sum of 1")
        self.p = p
        self.length = p.ndim
        self.vocab_size = p.shape[0]

    @classmethod
    def random(cls, length: int, vocab_size: int, seed: int, concentration: float = 0.3) -> Joint:
        """From a symmetric Dirichlet distribution: the lower the concentration, the more dependence."""
        draw = np.random.default_rng(seed).dirichlet(np.full(vocab_size**length, concentration))
        return cls(draw.reshape((vocab_size,) * length))

    def marginals(self, tokens: tuple[int, ...]) -> np.ndarray:
        """p(x_i | known tokens) [l, v], exact; `MASK` is what is not known; a known position is one-hot."""
        sub = self.p[tuple(slice(None) if t == MASK else t for t in tokens)]
        sub = sub / sub.sum() if sub.sum() > 0 else np.full_like(sub, 1 / sub.size)
        free = [i for i, t in enumerate(tokens) if t == MASK]
        out = np.zeros((self.length, self.vocab_size))
        for axis, i in enumerate(free):
            out[i] = sub.sum(axis=tuple(a for a in range(len(free)) if a != axis))
        for i, t in enumerate(tokens):
            if t != MASK:
                out[i, t] = 1
        return out

    @cached_property
    def _table(self) -> Float[Tensor, "*contexts l v"]:
        v, n = self.vocab_size, self.length
        contexts = itertools.product([*range(v), MASK], repeat=n)
        return torch.from_numpy(np.stack([self.marginals(x) for x in contexts])).log().view(*[v + 1] * n, n, v)

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        """Float64 log marginals."""
        logits = self._table[torch.where(known, tokens, self.vocab_size).unbind(1)]
        if query is not None:
            logits = logits.gather(1, query[..., None].expand(*query.shape, self.vocab_size))
        return logits

    def rows(self, index: Int[Tensor, " n"]) -> Joint:
        return self

    def counts(self, tokens: Int[Tensor, "b l"]) -> np.ndarray:
        """How often each sequence occurs among the rows, in the shape of `p`."""
        index = np.ravel_multi_index(tuple(tokens.numpy().T), self.p.shape)
        return np.bincount(index, minlength=self.p.size).reshape(self.p.shape)


class Markov:
    """A stationary Markov chain over `length` positions, callable as a masked model: its exact posterior."""

    def __init__(self, first: np.ndarray, transition: np.ndarray, length: int):
        self.first = torch.from_numpy(first).double()
        self.transition = torch.from_numpy(transition).double()
        self.length = length
        self.vocab_size = len(first)

    @classmethod
    def random(cls, length: int, vocab_size: int, seed: int, concentration: float = 0.3) -> Markov:
        """Dirichlet rows, started from the stationary law, so that every position has the same marginal."""
        transition = np.random.default_rng(seed).dirichlet(np.full(vocab_size, concentration) + 0.02, vocab_size)
        first = np.full(vocab_size, 1 / vocab_size)
        for _ in range(4096):
            first = first @ transition
        return cls(first / first.sum(), transition, length)

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        """Float64 log posteriors by forward–backward; a masked position is one that nothing was observed of."""
        seen = torch.nn.functional.one_hot(tokens, self.vocab_size).double()
        seen = torch.where(known[..., None], seen, torch.ones_like(seen))
        forward, backward = torch.empty_like(seen), torch.ones_like(seen)
        message = self.first.expand(len(tokens), -1)
        for i in range(self.length):
            forward[:, i] = message * seen[:, i]
            forward[:, i] /= forward[:, i].sum(-1, keepdim=True)
            message = forward[:, i] @ self.transition
        for i in range(self.length - 2, -1, -1):
            backward[:, i] = (backward[:, i + 1] * seen[:, i + 1]) @ self.transition.T
            backward[:, i] /= backward[:, i].sum(-1, keepdim=True)
        posterior = forward * backward
        logits = (posterior / posterior.sum(-1, keepdim=True)).log()
        if query is not None:
            logits = logits.gather(1, query[..., None].expand(*query.shape, self.vocab_size))
        return logits

    def rows(self, index: Int[Tensor, " n"]) -> Markov:
        return self

    def pairs(self, gap: int = 1) -> np.ndarray:
        """The joint law of two tokens `gap` apart."""
        return (torch.diag(self.first) @ torch.linalg.matrix_power(self.transition, gap)).numpy()


def push(
    kernel: Callable[[tuple[int, ...], Any, int], Iterable[tuple[tuple[int, ...], Any, float]]],
    joint: Joint,
    start: tuple[int, ...] | None = None,
    memory: Hashable = None,
    num_steps: int | None = None,
) -> np.ndarray:
    """The law of a sampler: all of its outcomes, each with its exact probability.

    `kernel(tokens, memory, step)` yields (tokens, memory, probability) after one step. Mass that is
    complete has arrived, or, with `num_steps`, what is there after that many steps.
    """
    here: dict[State, float] = {(start or (MASK,) * joint.length, memory): 1.0}
    law = np.zeros_like(joint.p)
    step = 0
    while here and (num_steps is None or step < num_steps):
        there: dict[State, float] = {}
        for (tokens, kept), mass in here.items():
            for after, remembered, q in kernel(tokens, kept, step):
                if q > 0:
                    there[after, remembered] = there.get((after, remembered), 0.0) + mass * q
        step += 1
        if num_steps is None:
            for (tokens, _), mass in there.items():
                if MASK not in tokens:
                    law[tokens] += mass
            there = {state: mass for state, mass in there.items() if MASK in state[0]}
        here = there
    for (tokens, _), mass in here.items():
        if MASK in tokens:
            raise ValueError(f"{tokens} is not complete after {step} steps")
        law[tokens] += mass
    return law


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the summed difference: the largest error in the probability of any event."""
    return float(np.abs(p - q).sum() / 2)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback–Leibler divergence KL(p ‖ q) in nats."""
    inside = p > 0
    if (q[inside] <= 0).any():
        return math.inf
    return float((p[inside] * np.log(p[inside] / q[inside])).sum())


def surprise(counts: np.ndarray, law: np.ndarray) -> float:
    """How many standard deviations Pearson's χ² of counts under a law lies above its mean.

    Cells that expect fewer than 5 are pooled; a count where the law is 0 is infinitely surprising.
    Above 6 or so, the counts do not come from the law.
    """
    n = counts.sum()
    expected = law.ravel() * n
    seen = counts.ravel().astype(float)
    if (seen[expected < 1e-9 * n] > 0).any():
        return math.inf
    rare = expected < 5
    expected = np.append(expected[~rare], expected[rare].sum())
    seen = np.append(seen[~rare], seen[rare].sum())
    seen, expected = seen[expected > 0], expected[expected > 0]
    freedom = max(len(expected) - 1, 1)
    statistic = ((seen - expected) ** 2 / expected).sum()
    return float((statistic - freedom) / math.sqrt(2 * freedom))
