"""Anderson: triangular acceleration of frozen-output replay (ParaTAA, Tang et al., ICML 2024, arXiv:2402.09970).

With r_i = Φ_i(x) − x_i the residuals of a round, Δx and Δr the changes over the last rounds, the guess of a state is

    x_i' = x_i + r_i − (Δx_i + Δr_i) γ_i,   γ_i = argmin_γ Σ_{j ≤ i} ‖r_j − Δr_j γ‖²

γ_i is fitted to the states up to i, so that nothing depends on a later state, and accepted states are never touched.
Differs from the paper in that the window slides (states that came into it have no past and stay as they are), and that
a residual which grows clears the past: acceleration can be worse than none where a trajectory changes modes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unisono.diffusion.chain.tree import flat, unflat
from unisono.diffusion.limits import positive, whole
from unisono.diffusion.solvers.picard import Picard
from unisono.diffusion.solvers.window import Lane


@dataclass
class _Past:
    """Per absolute step: the last round's guess and residual [k, d], and changes of earlier rounds, newest first."""

    last: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    changes: list[dict[int, tuple[Tensor, Tensor]]] = field(default_factory=list)


@dataclass(frozen=True)
class Anderson(Picard):
    """Picard's replay, its guesses accelerated with the last `memory` rounds; `ridge` regularises the fit."""

    memory: int = 3
    ridge: float = 1e-6

    def __post_init__(self):
        super().__post_init__()
        whole("Anderson.memory", self.memory, fix="; use Picard for none")
        positive("Anderson.ridge", self.ridge)

    def refine(self, lane: Lane, new: list[Any], done: int) -> list[Any]:
        past = lane.memory = lane.memory or _Past()
        size = len(new)
        steps = [lane.front + k for k in range(1, size)]
        now = {}
        for k, step in enumerate(steps, 1):
            guess = flat(lane.states[k])
            now[step] = guess, flat(new[k - 1]) - guess
        common = [step for step in steps if step in past.last]
        if common:
            before = torch.stack([past.last[s][1].square().sum(1) for s in common]).sum(0)
            after = torch.stack([now[s][1].square().sum(1) for s in common]).sum(0)
            if bool((after > before)[lane.alive.to(lane.sample.device)].any()):
                past.changes.clear()
            else:
                change = {s: (now[s][0] - past.last[s][0], now[s][1] - past.last[s][1]) for s in common}
                past.changes = [change, *past.changes][: self.memory]
        past.last = now
        if not past.changes or done >= size - 1:
            return new
        return self._accelerated(now, past.changes, steps, new, done)

    def _accelerated(self, now: dict, changes: list[dict], steps: list[int], new: list[Any], done: int) -> list[Any]:
        still = tuple(torch.zeros_like(part) for part in now[steps[0]])
        moves = [[change.get(s, still) for s in steps] for change in changes]
        d_x, d_r = (torch.stack([torch.stack([s[part] for s in move]) for move in moves]) for part in (0, 1))
        r = torch.stack([now[s][1] for s in steps])  # [steps, k, d]; d_x and d_r are [m, steps, k, d]
        gram = torch.einsum("mskd,nskd->skmn", d_r, d_r).cumsum(0)
        along = torch.einsum("mskd,skd->skm", d_r, r).cumsum(0)
        scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        eye = torch.eye(len(changes), dtype=gram.dtype, device=gram.device)
        gamma = torch.linalg.solve(gram + (self.ridge * scale + torch.finfo(gram.dtype).tiny) * eye, along[..., None])
        correction = torch.einsum("mskd,skm->skd", d_x + d_r, gamma[..., 0])
        refined = list(new)
        for k in range(done, len(steps)):
            if bool(correction[k].isfinite().all()):
                refined[k] = unflat(flat(new[k]) - correction[k], new[k])
        return refined
