"""DiffusionModel: what models share that sample by a scheduler's chain, from requests to media.

A subclass says what is its own::

    read_all(requests)       the requests, read: a `Task` each                    (RequestError)
    chain(tasks, seeds)      the chain of tasks of one group, and its first states  (scheduler, network, noise)
    media_of(states)         what states look like                                 (decoding, clipping)

The core does the rest: tasks of one ``group`` are sampled side by side, by the solver that their request asks for
(`unisono.diffusion.named`); evaluations are counted, progress is told, and live views follow the serial sampler.

Shapes: b batch.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from unisono.batching import Progress, grouped
from unisono.data import derive_seed
from unisono.diffusion.chain.replay import SchedulerRecurrence
from unisono.diffusion.named import solve_as_asked
from unisono.diffusion.report import Report
from unisono.model import Model, OnStep

_COUNTING = threading.Lock()


class Task(Protocol):
    """A request that was read. Tasks of one ``group`` are sampled together; a scale of 1 is no guidance."""

    @property
    def request(self) -> Any: ...

    @property
    def group(self) -> Any: ...

    @property
    def guidance_scale(self) -> float: ...


class DiffusionModel(Model):
    """The base of generators that sample by a chain; see this module for what a subclass defines.

    Attributes:
        evaluations: of the network so far, per item; guidance counts twice.
        rounds: batched evaluations so far; serial sampling takes one per step.
        reports: of the last call, one for each group of requests that were sampled together.
    """

    evaluations: int
    rounds: int
    reports: list[Report]

    def __init__(self):
        super().__init__()
        self.evaluations, self.rounds, self.reports = 0, 0, []

    # ---- what a model defines ------------------------------------------------------------------

    def read_all(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Return the tasks of requests (`Task`); raises ``RequestError`` before anything is computed."""
        raise TypeError(f"{type(self).__name__} defines no read_all()")

    def chain(self, tasks: Sequence[Any], seeds: Sequence[int]) -> tuple[SchedulerRecurrence, Float[Tensor, "b ..."]]:
        """Return the sampler's chain for tasks of one group, and the states that it begins with."""
        raise TypeError(f"{type(self).__name__} defines no chain()")

    def media_of(self, states: Float[Tensor, "b ..."]) -> list[Any]:
        """Return what is denoised as media, one for each."""
        raise TypeError(f"{type(self).__name__} defines no media_of()")

    # ---- what the core does --------------------------------------------------------------------

    def draw(
        self, seeds: Sequence[int], shape: tuple[int, ...], purpose: str = "noise"
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b 2"]]:
        """Return normal noise and two uniform numbers per item, each from its own seed."""
        noise, uniform = torch.empty(len(seeds), *shape), torch.empty(len(seeds), 2, dtype=torch.float64)
        for i, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive_seed(seed, purpose))
            noise[i].normal_(generator=generator)
            uniform[i].uniform_(generator=generator)
        return noise.to(self.device), uniform.to(self.device)

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Any]:
        tasks = self.read_all(requests)
        seeds = [self.seed_of(request, generator) for request in requests]
        groups = grouped(range(len(tasks)), lambda index: tasks[index].group)
        reports: list[Report] = []
        made: dict[int, Any] = {}
        # A solver watches the scheduler's tables for changes, which tensors of inference mode do not count.
        with torch.inference_mode(False), torch.no_grad():
            chains = [self.chain([tasks[i] for i in members], [seeds[i] for i in members]) for members in groups]
            progress = Progress(on_step, sum(len(x) * chain.num_steps for chain, x in chains))
            for members, chain in zip(groups, chains, strict=True):
                media, report = self.sample(tasks[members[0]], *chain, progress)
                reports.append(report)
                made |= dict(zip(members, media, strict=True))
        self.reports = reports
        return [made[index] for index in range(len(tasks))]

    def sample(
        self, task: Task, chain: SchedulerRecurrence, x: Float[Tensor, "b ..."], progress: Progress
    ) -> tuple[list[Any], Report]:
        """Run the chain of one group, as its first task asks; return its media and its bill, and count it."""
        before = progress.done
        share = len(x) * chain.num_steps
        solution = solve_as_asked(
            chain, x, task.request, on_round=lambda e: progress.to(before + int(e.done * share + 1e-6))
        )
        progress.to(before + share)
        report = solution.report
        per_row = 1 if task.guidance_scale == 1 else 2
        self.count(per_row * math.ceil(report.rows / report.num_samples), report.rounds)
        return self.media_of(solution.sample), report

    def count(self, evaluations: int, rounds: int) -> None:
        """Add to the bill; one model may be used from several threads."""
        with _COUNTING:
            self.evaluations += evaluations
            self.rounds += rounds

    def snapshots(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Any]:
        """Yield what the serial sampler holds after each step, the last one equal to the output.

        A solver that has several steps open at once has no such states: of it the output alone is yielded.
        """
        seed = self.seed_of(request, generator)
        (task,) = self.read_all([request])
        if task.request.solver != "serial":
            yield from self.synthesize([request.model_copy(update={"seed": seed})])
            return
        with torch.inference_mode(False), torch.no_grad():
            chain, x = self.chain([task], [seed])
            only = torch.zeros(1, dtype=torch.long, device=x.device)
            chain.restore(chain.begin(only))
        for step in range(chain.num_steps):
            with torch.inference_mode(False), torch.no_grad():
                x = chain.advance(chain.evaluate(x, only + step, only), step, x)
                made = self.media_of(x) if bool(x.isfinite().all()) else None
            if made is None:  # what this raises says where
                yield from self.synthesize([request.model_copy(update={"seed": seed})])
                return
            self.count(1 if task.guidance_scale == 1 else 2, 1)
            yield made[0]
