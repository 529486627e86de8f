"""music/ssm: an autoregressive state-space model, which writes a step after the other: what a VSSM is compared with.

S4D (arXiv:2206.11893) over the steps. Each voice of a step knows all steps before and the voices above it, so that the
likelihood is exact. A step costs an evaluation of a recurrence, whose state is all that is kept; a beginning is read in
one, by convolution. What is told of bars is what `VSSM` is told.

Shapes: b batch, n steps, q voices.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from unisono.stopping import may_stop
from unisono.verify import Draw

from unisono_music.models.scan.model import ScanModel
from unisono_music.models.scan.network import StepNetwork, cost
from unisono_music.models.scan.request import Asked, ScanRequest
from unisono_music.models.scan.sizes import ScanSizes
from unisono_music.models.scan.steps import Steps, read_steps


class SSM(ScanModel):
    """An autoregressive state-space model; see the module.

    Args:
        network: its sizes.
    """

    salt: ClassVar[str] = "music-ssm"

    def __init__(self, *, network: ScanSizes = ScanSizes(num_layers=6)):  # noqa: B008
        super().__init__()
        self.sizes = network

    def networks(self, voices: Sequence[int], steps_per_bar: int) -> None:
        self.net = StepNetwork(voices, steps_per_bar, self.sizes)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return -log p of all voices of a step in nats, and in bits of each cell."""
        steps = read_steps(batch, self.facts, self.device)
        nats = self.global_mean(cost(self.net(steps), steps.tokens), steps.mask)
        return {"loss": nats, "bits_per_cell": nats.detach() / (math.log(2) * steps.tokens.shape[2])}

    def draw_key(self, request: ScanRequest) -> tuple[Any, ...]:
        return (request.temperature,)

    def writer(self, requests: Sequence[ScanRequest], rows: Sequence[Asked], seeds: Sequence[int]) -> "StepWriter":
        return StepWriter(self, requests, rows, seeds)


class StepWriter:
    """Rows that are written a step at a time; see `Writer`."""

    def __init__(self, model: SSM, requests: Sequence[ScanRequest], rows: Sequence[Asked], seeds: Sequence[int]):
        self.model, self.net = model, model.exact(model.net)
        self.steps, self.given = model.side_by_side(rows)
        self.common = min(row.given for row in rows)
        self.seeds, self.draw = torch.tensor(seeds, device=self.given.device), Draw(requests[0].temperature)
        total, size = self.steps.tokens.shape[1], model.facts.steps_per_bar
        self.stops = [*(stop for stop in range(size, total, size) if stop > self.common), total]
        self.done, self.states = 0, self.net.stack.begin(len(rows))

    @torch.no_grad()
    def advance(self, stop: int) -> None:
        """Write up to ``stop``; what is given of all rows is read at once."""
        if self.done < (known := min(self.common, stop)):
            self._read(known)
        while self.done < stop:
            may_stop()
            at = self.done
            hidden = self._read(at + 1)[:, 0]
            tokens = self.steps.tokens[:, at]
            for voice in range(tokens.shape[1]):
                site = torch.full_like(self.given, at * tokens.shape[1] + voice)[:, None]
                drawn = self.draw(self.net.next(hidden, tokens[:, :voice])[:, None], self.seeds, site)[:, 0]
                tokens[:, voice] = torch.where(at < self.given, tokens[:, voice], drawn)

    def _read(self, stop: int) -> Tensor:
        """What the steps up to ``stop`` are told from, by the tokens before each."""
        steps = self.steps.cut(self.done, stop)
        before = torch.cat([self.steps.tokens[:, max(self.done - 1, 0)][:, None], steps.tokens[:, :-1]], 1)
        method = "recurrence" if stop == self.done + 1 else "convolution"
        told = Steps(before, steps.place, steps.bar, steps.length)
        hidden, self.states = self.net.resume(told, self.done == 0, self.states, method)
        self.model.evaluations += 1
        self.done = stop
        return hidden
