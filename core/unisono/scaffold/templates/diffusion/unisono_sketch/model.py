"""Sketch: outlines by flow matching, sampled by a scheduler of diffusers, in series or in parallel.

Liu et al., "Flow Straight and Fast" (arXiv:2209.03003); guidance by Ho and Salimans (arXiv:2207.12598).

::

    training   outline ─ x0, noise, level ─ objective.corrupt ─ network ─ squared error
    sampling   noise ─ solve(the scheduler's steps, network) ─ outline

Shapes: b batch, n points, r rows of the network. Masks are True where a point is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono import Model
from unisono.batching import Progress, grouped
from unisono.diffusion import ClassifierFree, Flow, Picard, SchedulerRecurrence, Serial, forgotten, solve
from unisono.errors import RecipeError, RequestError, did_you_mean
from unisono.model import OnStep

from unisono_sketch.data import OutlineFacts
from unisono_sketch.media import Outline
from unisono_sketch.network import Network
from unisono_sketch.request import SketchRequest

OBJECTIVE = Flow()


class Sketch(Model):
    """The network, how it is trained and how it is sampled.

    Args:
        dim: channels, a multiple of ``num_heads``.
        num_layers: blocks of the network.
        num_heads: of their attention.
        dropout: of the network, in [0, 1).
        forget: the share of outlines whose shape the network is not told in training, for guidance; in [0, 1).

    Attributes:
        evaluations: of the network so far, per outline; guidance counts twice.
        rounds: batched evaluations so far.
    """

    Media: ClassVar[type[Outline]] = Outline
    Facts: ClassVar[type[OutlineFacts]] = OutlineFacts
    facts: OutlineFacts
    Request: ClassVar[type[SketchRequest]] = SketchRequest
    text_field: ClassVar[str] = "shape"
    choices: ClassVar[dict[str, str]] = {"shape": "shapes"}
    salt: ClassVar[str] = "sketch"

    def __init__(
        self, *, dim: int = 64, num_layers: int = 3, num_heads: int = 4, dropout: float = 0.0, forget: float = 0.1
    ):
        super().__init__()
        for name, value in (("dim", dim), ("num_layers", num_layers), ("num_heads", num_heads)):
            if value < 1:
                message = f"model.{name}={value} must be at least 1"
                raise RecipeError(message, code="range", path=f"model.{name}", value=value)
        if dim % num_heads:
            message = f"model.dim={dim} must be a multiple of num_heads={num_heads}"
            raise RecipeError(message, code="shape", path="model.dim", value=dim)
        for name, value in (("dropout", dropout), ("forget", forget)):
            if not 0 <= value < 1:
                message = f"model.{name}={value} must be in [0, 1)"
                raise RecipeError(message, code="range", path=f"model.{name}", value=value)
        self.dim, self.num_layers, self.num_heads = dim, num_layers, num_heads
        self.dropout, self.forget = dropout, forget
        self.evaluations, self.rounds = 0, 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the shapes of the outlines."""
        super().build(facts)
        self.network = Network(len(self.facts.shapes), self.dim, self.num_layers, self.num_heads, self.dropout)

    # ---- training ----------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        x0, lengths = batch["points"] / self.facts.scale, batch["length"]
        there = torch.arange(x0.shape[1], device=x0.device) < lengths[:, None]
        generators = [torch.Generator().manual_seed(seed) for seed in self.row_seeds(batch)]
        # Each item's own, of its own length: what a batch is padded to must not change it.
        drawn = torch.stack([torch.rand(2, generator=g, dtype=torch.float64) for g in generators]).to(x0.device)
        noise = [torch.randn(n, 2, generator=g) for n, g in zip(lengths.tolist(), generators, strict=True)]
        noise = nn.utils.rnn.pad_sequence(noise, batch_first=True).to(x0)
        noised = OBJECTIVE.corrupt(x0, noise, OBJECTIVE.level(drawn[:, 0]))
        forget = forgotten(drawn[:, 1], self.forget if self.training else 0.0)
        shape = torch.where(forget, len(self.facts.shapes), batch["shape"])
        error = (self.network(noised.x, noised.time, shape, there) - noised.target).float().square().mean(-1)
        return {"loss": self.global_mean(error * noised.weight[:, None], there)}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"points": int(batch["length"].sum())}

    # ---- sampling ----------------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[SketchRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Outline]:
        """Draw each outline; those of one size and sampler together."""
        shapes = [self.shape_number(request.shape) for request in requests]  # raises before anything is computed
        noise = [torch.randn(r.points, 2, generator=self.request_generator(r, generator)) for r in requests]
        groups = grouped(
            range(len(requests)),
            lambda i: (requests[i].points, requests[i].num_steps, requests[i].guidance_scale, requests[i].solver),
        )
        progress = Progress(on_step, sum(request.num_steps for request in requests))
        made: dict[int, Outline] = {}
        for members in groups:
            asked = requests[members[0]]
            shape = torch.tensor([shapes[i] for i in members], device=self.device)
            points = self.sample(asked, shape, torch.stack([noise[i] for i in members]).to(self.device))
            made |= {i: Outline(own) for i, own in zip(members, points.float().cpu().numpy(), strict=True)}
            progress.advance(asked.num_steps * len(members))
        progress.finish()
        return [made[i] for i in range(len(requests))]

    def sample(
        self, asked: SketchRequest, shape: Int[Tensor, " b"], noise: Float[Tensor, "b n 2"]
    ) -> Float[Tensor, "b n 2"]:
        """Take noise to outlines as a request asks, and count what the network did."""
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        none = torch.full_like(shape, len(self.facts.shapes))
        there = torch.ones(noise.shape[:2], dtype=torch.bool, device=noise.device)

        def told(x: Tensor, time: Tensor, sample: Tensor) -> Tensor:
            return self.network(x, time.to(x), shape[sample], there[sample])

        def told_or_not(x: Tensor, time: Tensor, sample: Tensor, branch: Tensor) -> Tensor:
            return self.network(x, time.to(x), torch.where(branch == 0, shape[sample], none[sample]), there[sample])

        guided = asked.guidance_scale != 1
        network = ClassifierFree(told_or_not, asked.guidance_scale) if guided else told
        # `solve` watches the scheduler's tables for changes, which tensors of inference mode do not count.
        with torch.inference_mode(False), torch.no_grad():
            scheduler = FlowMatchEulerDiscreteScheduler()
            scheduler.set_timesteps(asked.num_steps)
            chain = SchedulerRecurrence(scheduler, network)
            done = solve(chain, noise.clone(), Serial() if asked.solver == "serial" else Picard())
        self.evaluations += math.ceil(done.report.rows / len(noise)) * (2 if guided else 1)
        self.rounds += done.report.rounds
        return done.sample * self.facts.scale

    def shape_number(self, name: str) -> int:
        """Return the number of a shape; raises ``RequestError`` for one that the data had not."""
        if name not in self.facts.shapes:
            message = f"unknown shape {name!r}{did_you_mean(name, self.facts.shapes)}"
            raise RequestError(message, code="unknown", path="shape", value=name)
        return self.facts.shapes.index(name)

    # ---- what is tried: by previews in training, and by the conformance kit ------------------------

    def preview_requests(self) -> list[SketchRequest]:
        return [self.Request(shape=name, points=16 + 8 * i) for i, name in enumerate(self.facts.shapes[:3])]
