"""``outline/pvd``: the outline of what a phrase names, all vertices denoised together (PVD, arXiv:2303.07216).

Cheng et al., "Parallel Vertex Diffusion for Unified Visual Grounding" (AAAI 2024). What was published: vertices are the
target of a diffusion model; a centre is predicted from picture and phrase, and vertices are normalised offsets from
it (centre anchor mechanism); beside the squared error of the vertices, the angle sums of sampled points are compared
(angle summation loss).

::

    picture, phrase ─ reader ─┬─ tokens, sentence ────────────────────┐
                              └─ centre head ─ centre ────────────────┤
    training   outline ─ (− centre) / spread ─ x0, noise, level ─ denoiser ─ x0 ─ squared error, angle sums
    sampling   noise ─ solve(DDIM steps, denoiser) ─ × spread + centre ─ outline

Free choices, since the paper's code is not public:

- the centre is the mean of the vertices. It is found as in CenterNet (arXiv:1904.07850): a score for each cell of the
  picture and a place within. Training uses the predicted centre too, without its gradient, so that the denoiser learns
  to make up for what the centre misses;
- offsets are divided by one number, the spread of the training data, so that they have variance 1;
- the network answers the clean vertices, whose errors count the same at all noise levels: picture and phrase say
  nearly all, so that the first step from pure noise matters most;
- cosine schedule of 1,000 levels, DDIM without noise in few steps, the first one from the last level ("trailing");
- vertices at equal distances, clockwise from the top-most one (``start: top``), or compared up to the shift of the
  start that fits best (``start: any``);
- exact angle sums have no gradient (see ``geometry.winding``): they are softened. Points are uniform in the box of the
  true outline, made half as large again. Differences are squared;
- the visual encoder is a small convolutional network that is trained along, the phrase's a small transformer over
  words, or CLIP's frozen text tower (``network.text_encoder``).

Shapes: b batch, n vertices, m points, s pixels a side.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.batching import Progress, chunks, grouped
from unisono.diffusion import Discrete, Picard, SchedulerRecurrence, Serial, Solution, Tolerance, solve
from unisono.model import OnStep

from unisono_outline.geometry import angle_sum, nearest_shift
from unisono_outline.media import Outline
from unisono_outline.models.base import AT_ONCE, OutlineModel
from unisono_outline.models.denoiser import VertexDenoiser
from unisono_outline.models.encoder import CentreHead
from unisono_outline.models.sizes import NetworkSizes, VertexObjective
from unisono_outline.request import DiffusionRequest, Task, read_request

AROUND = 1.5
"""Size of the box that points of the angle sum are drawn from, of the outline's own."""


class ParallelVertexDiffusion(OutlineModel):
    """See this module.

    Args:
        network: sizes of encoder and denoiser.
        objective: weights of the losses, and how outlines are compared.
    """

    Request: ClassVar[type[DiffusionRequest]] = DiffusionRequest
    salt: ClassVar[str] = "outline/pvd"

    def __init__(
        self,
        *,
        network: NetworkSizes = NetworkSizes(),  # noqa: B008
        objective: VertexObjective = VertexObjective(),  # noqa: B008
    ):
        super().__init__(network=network)
        self.weights = objective
        self.objective = Discrete(objective.schedule, "x0", gamma=None)

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.centre = CentreHead(self.sizes.dim)
        self.denoiser = VertexDenoiser(self.sizes)

    # ---- training ----------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        outline, seeds = batch["outline"].float(), self.row_seeds(batch)
        spell = self.sizes.spell_share if self.training else 0.0
        seen = self.reader(batch["picture"], batch["phrase"], spell, seeds)
        scores, places = self.centre(seen.tokens)
        where, within = CentreHead.losses(scores, places, outline.mean(1))
        found = CentreHead.best(scores, places).detach()
        x0 = (outline - found[:, None]) / self.facts.spread
        noise, level, points = self.draw(seeds, outline.shape[1])
        noised = self.objective.corrupt(x0, noise, self.objective.level(level))
        made = self.denoiser(noised.x, noised.time, found, self.facts.spread, seen)
        vertex, angle = self.compare(made, x0, points)
        every = torch.ones(len(outline), dtype=torch.bool, device=outline.device)
        parts = {"vertices": vertex, "angle": angle, "where": where, "within": within}
        means = {name: self.global_mean(part, every) for name, part in parts.items()}
        w = self.weights
        loss = w.vertices * means["vertices"] + w.angle * means["angle"] + w.centre * (means["where"] + means["within"])
        return {"loss": loss, **means}

    def compare(
        self, made: Float[Tensor, "b n 2"], wanted: Float[Tensor, "b n 2"], points: Float[Tensor, "b m 2"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return each item's squared error of a coordinate, and its squared difference of angle sums in turns.

        ``points`` are in shares of the box that they are laid in. Both are 0 where the outlines are equal.
        """
        if self.weights.start == "any":
            error = nearest_shift(made, wanted).mean(-1) / 2
        else:
            error = (made - wanted).square().mean((1, 2))
        low, high = wanted.amin(1, keepdim=True), wanted.amax(1, keepdim=True)
        points = (low + high) / 2 + (points - 0.5) * AROUND * (high - low)
        softness = self.weights.softness
        turns = angle_sum(points, made, softness) - angle_sum(points, wanted, softness)
        return error, turns.square().mean(-1)

    def draw(
        self, seeds: Sequence[int], num_vertices: int
    ) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, " b"], Float[Tensor, "b m 2"]]:
        """Return noise, uniform numbers for noise levels, and uniform points, each item's from its own seed."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(num_vertices, 2, generator=g) for g in generators])
        level = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
        points = torch.stack([torch.rand(self.weights.num_points, 2, generator=g) for g in generators])
        return noise.to(self.device), level.to(self.device), points.to(self.device)

    # ---- sampling ----------------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[DiffusionRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Outline]:
        """Denoise each outline; those of one sampler together."""
        tasks = [read_request(request, self.facts) for request in requests]
        noise = [self.noise_of(request, generator) for request in requests]
        progress = Progress(on_step, sum(request.num_steps for request in requests))
        made: dict[int, Outline] = {}
        for kind in grouped(range(len(requests)), lambda i: _sampler(requests[i])):
            for members in chunks(kind, AT_ONCE):
                asked, own = requests[members[0]], [tasks[i] for i in members]
                started = torch.stack([noise[i] for i in members])
                before, share = progress.done, asked.num_steps * len(members)
                done, centre = self.sample(
                    own, asked, started, on_round=lambda e, b=before, s=share: progress.to(b + int(e.done * s + 1e-6))
                )
                made |= dict(zip(members, self.outlines_of(own, self.placed(done.sample, centre)), strict=True))
                progress.to(before + share)
        progress.finish()
        return [made[i] for i in range(len(requests))]

    def sample(
        self, tasks: Sequence[Task], asked: DiffusionRequest, noise: Float[Tensor, "b n 2"], **how: Any
    ) -> tuple[Solution, Float[Tensor, "b 2"]]:
        """Take noise to offsets from the centres, which are returned as well, and count what the network did."""
        seen = self.reader(self.pictures_of(tasks), [task.phrase for task in tasks])
        centre = CentreHead.best(*self.centre(seen.tokens))
        spread = self.facts.spread

        def network(x: Tensor, time: Tensor, sample: Tensor) -> Tensor:
            return self.denoiser(x, time.to(x), centre[sample], spread, seen.rows(sample)).to(x)

        # `solve` watches the scheduler's tables for changes, which tensors of inference mode do not count.
        with torch.inference_mode(False), torch.no_grad():
            chain = SchedulerRecurrence(self.scheduler(asked.num_steps), network)
            solver = Serial() if asked.solver == "serial" else Picard()
            done = solve(chain, noise.to(self.device).clone(), solver, Tolerance(asked.tolerance), **how)
        self.evaluations += math.ceil(done.report.rows / len(noise))
        self.rounds += done.report.rounds
        return done, centre

    def scheduler(self, num_steps: int) -> Any:
        """Return DDIM (arXiv:2010.02502) over the levels that were trained on, without noise between steps."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        scheduler = DDIMScheduler(
            num_train_timesteps=len(self.objective.table),
            trained_betas=np.asarray(self.objective.betas, np.float32).tolist(),  # type: ignore[arg-type]
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="trailing",
        )
        scheduler.set_timesteps(num_steps)
        return scheduler

    def snapshots(self, request: DiffusionRequest, generator: torch.Generator | None = None) -> Iterator[Outline]:
        """Yield the vertices after each step; those of the last one are the outline."""
        task = read_request(request, self.facts)
        noise = self.noise_of(request, generator)[None]
        done, centre = self.sample([task], request, noise, trajectory=True)
        for state in done.states or [done.sample]:
            yield from self.outlines_of([task], self.placed(state, centre))

    def placed(self, offsets: Float[Tensor, "b n 2"], centre: Float[Tensor, "b 2"]) -> Float[Tensor, "b n 2"]:
        """Return vertices in sides from offsets in units of the spread."""
        return centre[:, None] + self.facts.spread * offsets

    def noise_of(self, request: DiffusionRequest, generator: torch.Generator | None) -> Float[Tensor, "n 2"]:
        """Return the noise that a request begins with, from its own seed."""
        return torch.randn(self.facts.num_vertices, 2, generator=self.request_generator(request, generator))


def _sampler(request: DiffusionRequest) -> tuple[Any, ...]:
    """What requests must share to be sampled together."""
    return request.num_steps, request.solver, request.tolerance
