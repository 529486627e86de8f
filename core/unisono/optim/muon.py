"""Muon: one optimiser of Muon for hidden matrices and AdamW for all else (Jordan et al. 2024; arXiv:2502.16982).

Both are torch's own. They share this optimiser's groups and state, so that schedules, clipping, loops, checkpoints and
resumed runs see one optimiser, each group of which says who steps it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """Steps groups of matrices by Muon and other groups by AdamW.

    Args:
        hidden: groups of matrices, as an optimiser takes them.
        rest: other groups; may be none.
        muon: Muon's arguments.
        adamw: AdamW's arguments.
    """

    def __init__(
        self, hidden: list[dict[str, Any]], rest: list[dict[str, Any]], muon: dict[str, Any], adamw: dict[str, Any]
    ):
        self.members: dict[str, Optimizer] = {"muon": Muon(hidden, **muon)}
        if rest:
            self.members["adamw"] = AdamW(rest, **adamw)
        groups = [
            {**group, "algorithm": name} for name, member in self.members.items() for group in member.param_groups
        ]
        super().__init__(groups, {"lr": muon["lr"]})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of both; ``closure`` is asked for the loss once, before them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for name, member in self.members.items():
            # a state that was restored is another object
            member.param_groups = [group for group in self.param_groups if group["algorithm"] == name]
            member.state = self.state
            member.step()
        return loss
