"""DiffusionModel: a model of points whose sampler is known in closed form; groups, bills, progress and live views."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from unisono import Request
from unisono.diffusion import ClassifierFree, Flow, SchedulerRecurrence
from unisono.diffusion.model import DiffusionModel
from unisono.diffusion.named import SolverName
from unisono.diffusion.schedulers import make_scheduler


class PointRequest(Request):
    target: float = 0.0
    num_steps: int = 5
    solver: SolverName = "serial"
    scheduler: str | None = "flow-euler"
    window: int | None = None
    tolerance: float = 1e-6
    guidance_scale: float = 1.0


@dataclass(frozen=True)
class PointTask:
    request: PointRequest

    @property
    def guidance_scale(self) -> float:
        return self.request.guidance_scale

    @property
    def group(self) -> tuple[Any, ...]:
        asked = self.request
        return asked.num_steps, asked.solver, asked.guidance_scale == 1


class Points(DiffusionModel):
    """All data lie at the request's target: the velocity at time t is (x − target) / t, and Euler's steps are exact.

    With guidance the target is ``target · scale``: without a condition it is 0.
    """

    Request = PointRequest

    def __init__(self):
        super().__init__()
        self.groups: list[list[float]] = []
        self.starts: list[torch.Tensor] = []

    def read_all(self, requests):
        return [PointTask(request) for request in requests]

    def chain(self, tasks, seeds):
        self.groups.append([task.request.target for task in tasks])
        scheduler = make_scheduler(tasks[0].request.scheduler, tasks[0].request.num_steps, Flow(), "", clip=False)
        targets = torch.tensor([task.request.target for task in tasks])
        x = torch.stack([torch.randn(2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        self.starts += x

        def velocity(x, time, target):
            return (x - target[:, None]) / (time / 1000)[:, None]

        def plain(x, time, sample):
            return velocity(x, time, targets[sample])

        def branched(x, time, sample, branch):
            return velocity(x, time, targets[sample] * (branch == 0))

        scales = torch.tensor([task.guidance_scale for task in tasks])
        network = plain if tasks[0].guidance_scale == 1 else ClassifierFree(branched, scales)
        return SchedulerRecurrence(scheduler, network), x

    def media_of(self, states):
        return list(states.clone())


ASKED = [
    {"target": 1.0, "seed": 1},
    {"target": 2.0, "seed": 2, "num_steps": 3},
    {"target": -3.0, "seed": 3},
    {"target": 2.0, "seed": 4, "guidance_scale": 2.5},
]


@pytest.fixture
def model():
    return Points()


def requests(fields=ASKED):
    return [PointRequest(**own) for own in fields]


def test_every_request_has_its_own_sample_whatever_it_is_made_with(model):
    made = model.synthesize(requests())
    for point, want in zip(made, (1.0, 2.0, -3.0, 5.0), strict=True):
        np.testing.assert_allclose(point, want, atol=1e-5)  # float32
    assert model.groups == [[1.0, -3.0], [2.0], [2.0]]
    for seed, start in zip((1, 3, 2, 4), model.starts, strict=True):
        assert torch.equal(start, torch.randn(2, generator=torch.Generator().manual_seed(seed)))
    for request, point in zip(requests(), made, strict=True):
        torch.testing.assert_close(model.synthesize([request])[0], point, atol=1e-6, rtol=0)


def test_the_bill_is_each_items_evaluations_and_guidance_counts_twice(model):
    model.synthesize(requests())
    assert model.evaluations == 5 + 3 + 2 * 5 and model.rounds == 5 + 3 + 5
    assert [report.num_samples for report in model.reports] == [2, 1, 1]


def test_progress_grows_to_the_steps_of_all_items(model):
    calls: list[tuple[int, int]] = []
    model.synthesize(requests(), on_step=lambda *call: calls.append(call))
    assert {total for _, total in calls} == {2 * 5 + 3 + 5} and calls[-1][0] == 18
    done = [count for count, _ in calls]
    assert done == sorted(set(done)) and {10, 13} <= set(done)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_live_views_end_with_the_output_and_are_on_the_bill(model, scale):
    request = PointRequest(target=2.0, seed=7, guidance_scale=scale)
    *_, last = views = list(model.snapshots(request))
    assert len(views) == 5 and model.evaluations == 5 * (1 if scale == 1 else 2) and model.rounds == 5
    torch.testing.assert_close(last, model.synthesize([request])[0], atol=0, rtol=0)
    far = [float((view - last).norm()) for view in views]
    assert far == sorted(far, reverse=True) and far[0] > 0.1
    whole = list(model.snapshots(request.model_copy(update={"solver": "picard"})))
    assert len(whole) == 1


def test_noise_is_each_items_own_and_of_its_purpose(model):
    noise, uniform = model.draw([3, 4], (2, 3))
    assert noise.shape == (2, 2, 3) and uniform.shape == (2, 2) and uniform.dtype == torch.float64
    assert torch.equal(noise[1:], model.draw([4], (2, 3))[0])
    assert not torch.equal(noise, model.draw([3, 4], (2, 3), "posterior")[0])
