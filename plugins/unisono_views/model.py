"""``views/sharp-it``: a set of degraded views of one object, made better together by diffusion.

Edelstein et al., "Sharp-It: A Multi-view to Multi-view Diffusion Model for 3D Synthesis and Manipulation"
(arXiv:2412.02631): six views of a rough object, a caption, and a denoiser in which the views attend to one another.
Differences:
- Trained from scratch on pixels; published, a 2-D latent diffusion model is tuned further.
- A transformer over patches whose attention runs over all views, where the published U-Net's runs over tiled views.
- Flow matching. The network answers with the correction of the degraded views, x0 = degraded + answer, and is trained
  on the velocity that this means, (x − x0) / t (as Li and He, arXiv:2511.13720, do for x0); before the first step it
  gives the degraded views back.
- A chain may begin at the degraded views with noise (SDEdit, arXiv:2108.01073) instead of noise alone: ``strength``.
- Edits: published, noise is inverted under the old caption and denoised under another. Here a share of the training
  items shows the degraded views in grey, so that the caption says the colours; ``colours=caption`` asks for that.

::

    training   views ─ x0, noise, level ─ corrupt ─ network (degraded views, caption, cameras) ─ squared error
    sampling   degraded views and noise ─ solve(scheduler's chain, network) ─ views

Shapes: b batch, v views, s pixels a side, n rows of the network.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import words_of
from unisono.diffusion import ClassifierFree, Flow, SchedulerRecurrence, forgotten
from unisono.diffusion.model import DiffusionModel
from unisono.diffusion.schedulers import first_step, make_scheduler, noised
from unisono.errors import RecipeError
from unisono.nn.condition import NO_LABEL, Condition, Conditioner, ConditionSizes
from unisono.nn.layers import as_weights

from unisono_views.facts import ViewFacts
from unisono_views.media import Views
from unisono_views.network import MultiViewTransformer, NetworkSizes, patch_rays
from unisono_views.request import Task, ViewRequest, read_request
from unisono_views.shapes import make_shape

LEAST_TIME = 0.2
"""Errors at times below it count as those at it: the velocity of a correction is divided by time."""
LAST_TIME = 0.02
"""Sampling divides by no less: a scheduler may end at 0.001, where nothing is learnt, and such a step does nothing."""
UNSEEN = 1_000_000
"""Numbers of made objects from here on are never trained on."""


class SharpIt(DiffusionModel):
    """Six views in, six views out; see this module.

    Args:
        network: sizes of the transformer.
        condition: of the caption's encoder; its ``dim`` 0 is the network's.
        cross_view: whether views attend to one another; False is the baseline of the same size that sees each alone.
        shift: of the flow's times to more noise.
        guidance_scale: the default of requests with a prompt.
    """

    Media: ClassVar[type[Views]] = Views
    Facts: ClassVar[type[ViewFacts]] = ViewFacts
    facts: ViewFacts
    source_facts: ClassVar[tuple[str, ...]] = ("words",)
    Request: ClassVar[type[ViewRequest]] = ViewRequest
    text_field: ClassVar[str] = "prompt"
    pipeline_tag: ClassVar[str] = "image-to-image"
    salt: ClassVar[str] = "views"
    rays: Tensor

    def __init__(
        self,
        *,
        network: NetworkSizes = NetworkSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(spell_share=0.0),  # noqa: B008
        cross_view: bool = True,
        shift: float = 1.0,
        guidance_scale: float = 1.0,
    ):
        super().__init__()
        condition = replace(condition, dim=condition.dim or network.dim)
        at_least_one = {name: getattr(network, name) for name in ("patch_size", "dim", "num_layers", "num_heads")}
        checks = (
            *((f"network.{name}", value, value >= 1, "at least 1") for name, value in at_least_one.items()),
            ("condition.dropout", condition.dropout, 0 <= condition.dropout <= 1, "in [0, 1]"),
            ("condition.spell_share", condition.spell_share, condition.spell_share == 0, "0: words are known or not"),
            ("shift", shift, 0 < shift < math.inf, "above 0"),
            ("guidance_scale", guidance_scale, 0 <= guidance_scale < math.inf, "at least 0"),
        )
        for name, value, right, limit in checks:
            if not right:
                raise RecipeError(
                    f"model.{name}={value} must be {limit}", code="range", path=f"model.{name}", value=value
                )
        if network.dim % network.num_heads or network.dim % 4:
            raise RecipeError(
                f"model.network.dim={network.dim} must be a multiple of num_heads={network.num_heads}, and of 4",
                code="shape",
                path="model.network.dim",
                value=network.dim,
            )
        if condition.dim < 2 or condition.dim % condition.text_heads:
            raise RecipeError(
                f"model.condition.dim={condition.dim} must be a multiple of text_heads={condition.text_heads}",
                code="shape",
                path="model.condition.dim",
                value=condition.dim,
            )
        self.sizes, self.condition_sizes, self.cross_view = network, condition, cross_view
        self.guidance_scale, self.objective = guidance_scale, Flow(shift=shift)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the size, the cameras and the words of the data."""
        super().build(facts)
        if self.facts.size % self.sizes.patch_size:
            raise RecipeError(
                f"data.size={self.facts.size} must be a multiple of model.network.patch_size={self.sizes.patch_size}: "
                "change one of them",
                code="shape",
                path="data.size",
                value=self.facts.size,
            )
        self.conditioner = Conditioner(0, self.facts.words, self.condition_sizes)
        with_words = self.conditioner.text is not None
        self.net = MultiViewTransformer(self.sizes, self.condition_sizes.dim, with_words, self.cross_view)
        rays = patch_rays(self.facts.cameras, self.facts.size // self.sizes.patch_size)
        self.register_buffer("rays", rays, persistent=False)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        x0, coarse = (batch[name].float() / 127.5 - 1 for name in ("views", "coarse"))
        noise, drawn = self.draw(self.row_seeds(batch), tuple(x0.shape[1:]))
        level = self.objective.level(drawn[:, 0])  # in double precision: the same in training of any precision
        forget = forgotten(drawn[:, 1], self.condition_sizes.dropout if self.training else 0.0)
        noised_ = self.objective.corrupt(x0, noise, level)
        labels = torch.full_like(forget, NO_LABEL, dtype=torch.long)
        condition = self.conditioner(labels, batch["caption"], forget)
        correction = self.net(noised_.x, coarse, noised_.time, condition, self.rays).float()
        error = (coarse + correction - x0).square().flatten(1).mean(1)
        error = error / level.clamp(min=LEAST_TIME).square().to(error)
        return {"loss": self.global_mean(error, torch.ones_like(error, dtype=torch.bool))}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"objects": len(batch["views"])}

    # ---- sampling ------------------------------------------------------------------------------

    def task_of(self, request: ViewRequest) -> Task:
        """Return what a request asks, read; raises ``RequestError`` that names what this model cannot do."""
        any_word = self.condition_sizes.text_encoder != "small"
        return read_request(request, self.facts, self.guidance_scale, any_word)

    def read_all(self, requests: Sequence[ViewRequest]) -> list[Task]:
        return [self.task_of(request) for request in requests]

    def media_of(self, states: Float[Tensor, "b v 3 s s"]) -> list[Views]:
        return [Views.of(((views.float() + 1) / 2).clamp(0, 1).cpu().numpy()) for views in states]

    def chain(self, tasks: Sequence[Task], seeds: Sequence[int]) -> tuple[SchedulerRecurrence, Tensor]:
        asked = tasks[0].request
        scheduler = make_scheduler(asked.scheduler, asked.num_steps, self.objective, "", clip=True)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        coarse = torch.from_numpy(np.stack([task.coarse for task in tasks])).to(self.device).float() / 127.5 - 1
        noise = torch.stack([torch.randn(coarse.shape[1:], generator=g) for g in generators]).to(self.device)
        first = first_step(asked.scheduler, scheduler, self.objective, asked.strength)
        x = noised(scheduler, coarse, noise, first) if asked.strength < 1 else noise
        return SchedulerRecurrence(scheduler, self.network(tasks, coarse), generator=generators, first=first), x

    def network(self, tasks: Sequence[Task], coarse: Float[Tensor, "b v 3 s s"]) -> Callable[..., Tensor]:
        """Return the velocity under the tasks' degraded views and captions, guided where they are."""
        condition = self.condition_of([task.caption for task in tasks])
        if tasks[0].guidance_scale == 1:  # a group is guided as a whole, or not at all

            def plain(x: Tensor, time: Tensor, sample: Int[Tensor, " n"]) -> Tensor:
                return self.velocity(x, coarse[sample], time, condition.rows(sample))

            return plain
        both = Condition.join(condition, self.condition_of([""] * len(tasks)))
        scales = torch.tensor([task.guidance_scale for task in tasks], device=self.device)

        def branched(x: Tensor, time: Tensor, sample: Int[Tensor, " n"], branch: Int[Tensor, " n"]) -> Tensor:
            return self.velocity(x, coarse[sample], time, both.rows(sample + branch * len(tasks)))

        return ClassifierFree(branched, scales)

    def velocity(
        self, x: Float[Tensor, "n v 3 s s"], coarse: Float[Tensor, "n v 3 s s"], time: Tensor, condition: Condition
    ) -> Float[Tensor, "n v 3 s s"]:
        """Return noise − x0 for states at times in [0, 1000], in the sampler's numbers, whatever the weights' are."""
        with as_weights(next(self.net.parameters())):
            correction = self.net(x, coarse, time.to(x.dtype), condition, self.rays).to(x.dtype)
        return (x - coarse - correction) / (time.to(x.dtype) / 1000).clamp(min=LAST_TIME).view(-1, 1, 1, 1, 1)

    def condition_of(self, captions: Sequence[str]) -> Condition:
        """Return the conditions of captions; an empty one is none."""
        none = torch.full((len(captions),), NO_LABEL, device=self.device)
        with as_weights(next(self.net.parameters())):
            return self.conditioner(none, captions, torch.zeros_like(none, dtype=torch.bool))

    # ---- what is tried: by previews in training, and by the conformance kit ---------------------

    def preview_requests(self) -> list[ViewRequest]:
        return [self.made_request(UNSEEN + number) for number in range(3)]

    def made_request(self, number: int, **fields: Any) -> ViewRequest:
        """Return a request for the degraded twin of a made object, with its caption where the model knows the words."""
        caption = make_shape(number).caption
        known = all(word in self.facts.words for word in words_of(caption))
        own = {"example": number, "prompt": caption if known else None, "seed": number - UNSEEN}
        return self.Request(**{**own, **fields})
