"""Generator: training by an objective, and sampling by any scheduler, serial or in parallel.

::

    training   picture ─ (vae) ─ x0, noise, level ─ objective.corrupt ─ network ─ squared error
    sampling   noise (or a picture and noise) ─ solve(scheduler's chain, network) ─ (vae) ─ picture

The steps of a sampler are run by `unisono.diffusion.solve`: one after the other, or a window of them at once, with the
serial sample as the result (within ``tolerance``). Noise is each request's own, drawn from its seed, so that a request
alone and in a batch give the same picture.

Shapes: b batch, n rows of the network, c channels, h w height and width of what is denoised.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono import Image
from unisono.diffusion import (
    EDM,
    ClassifierFree,
    Discrete,
    Flow,
    NetworkDenoiser,
    Objective,
    SchedulerRecurrence,
    denoising_loss,
    forgotten,
)
from unisono.diffusion.model import DiffusionModel
from unisono.diffusion.schedulers import first_step, make_scheduler, noised
from unisono.errors import RecipeError, RequestError
from unisono.nn.condition import NO_LABEL, Condition, Conditioner, ConditionSizes
from unisono.nn.layers import as_weights

from unisono_image.corpus.facts import ImageFacts
from unisono_image.models.classifier import ImageClassifier
from unisono_image.models.sizes import ObjectiveSpec
from unisono_image.models.vae import VAE
from unisono_image.request import ImageRequest, Task, read_request


class ImageGenerator(DiffusionModel):
    """The base of ``image/dit`` and ``image/unet``, which give it a network.

    Attributes:
        multiple: what height and width must be multiples of.
    """

    Media: ClassVar[type[Image]] = Image
    Facts: ClassVar[type[ImageFacts]] = ImageFacts
    facts: ImageFacts
    source_facts: ClassVar[tuple[str, ...]] = ("classes", "words")
    Request: ClassVar[type[ImageRequest]] = ImageRequest
    text_field: ClassVar[str] = "prompt"
    choices: ClassVar[dict[str, str]] = {"label": "classes"}
    pipeline_tag: ClassVar[str] = "text-to-image"
    salt: ClassVar[str] = "image"
    roles: ClassVar[dict[str, str]] = {
        "vae": "turns pictures into latents and back; models of latents need it",
        "classifier": "gives the features that evaluation compares",
    }
    component_kinds: ClassVar[dict[str, Any]] = {"vae": VAE, "classifier": ImageClassifier}
    builtin_components: ClassVar[dict[str, str]] = {"untrained-vae": "unisono_image.models.untrained:vae"}
    multiple: int
    net: Any

    def __init__(
        self,
        *,
        channels: int,
        downsampling: int,
        condition: ConditionSizes,
        objective: ObjectiveSpec,
        guidance_scale: float,
    ):
        super().__init__()
        for name, value in (("dropout", condition.dropout), ("spell_share", condition.spell_share)):
            if not 0 <= value <= 1:
                raise RecipeError(
                    f"model.condition.{name}={value} must be in [0, 1]",
                    code="range",
                    path=f"model.condition.{name}",
                    value=value,
                )
        for name, value in (("channels", channels), ("downsampling", downsampling)):
            if value < 1:
                raise RecipeError(
                    f"model.{name}={value} must be at least 1", code="range", path=f"model.{name}", value=value
                )
        if downsampling == 1 and channels != 3:
            raise RecipeError(
                f"model.channels={channels}: pixels (downsampling 1) have 3",
                code="conflict",
                path="model.channels",
                value=channels,
            )
        if not 0 <= guidance_scale < math.inf:
            raise RecipeError(
                f"model.guidance_scale={guidance_scale} must be at least 0",
                code="range",
                path="model.guidance_scale",
                value=guidance_scale,
            )
        if condition.dim < 2 or condition.dim % condition.text_heads:
            raise RecipeError(
                f"model.condition.dim={condition.dim} must be a multiple of text_heads={condition.text_heads}",
                code="shape",
                path="model.condition.dim",
                value=condition.dim,
            )
        self.channels, self.downsampling, self.condition_dim = channels, downsampling, condition.dim
        self.condition_sizes = condition
        self.guidance_scale, self.schedule = guidance_scale, objective.schedule
        self.objective: Objective = make_objective(
            objective.name, objective.schedule, objective.min_snr, objective.shift, objective.sigma_data
        )

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the classes and words of the data."""
        super().build(facts)
        if self.facts.size % self.multiple:
            raise RecipeError(
                f"data.size={self.facts.size} must be a multiple of {self.multiple} for this model: change one of them",
                code="shape",
                path="data.size",
                value=self.facts.size,
            )
        self.conditioner = Conditioner(len(self.facts.classes), self.facts.words, self.condition_sizes)
        self.net = self.make_net()

    def make_net(self) -> Any:
        """Make the network."""
        raise TypeError(f"{type(self).__name__} defines no make_net()")

    def denoise(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n c h w"]:
        """Return the network's output, as the objective defines it; no row depends on another."""
        raise TypeError(f"{type(self).__name__} defines no denoise()")

    # ---- latents -------------------------------------------------------------------------------

    @property
    def latent(self) -> bool:
        """Whether what is denoised are latents."""
        return self.downsampling > 1

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` where the vae is not of this model's sizes."""
        self.check_component(role, component)
        if role == "vae":
            if not self.latent:
                raise RecipeError(
                    "this model denoises pixels and takes no vae: set model.downsampling and channels",
                    code="conflict",
                    path="components.vae",
                )
            for name in ("channels", "downsampling"):
                mine, its = getattr(self, name), getattr(component, f"latent_{name}", None)
                if mine != its:
                    raise RecipeError(
                        f"model.{name}={mine}, the vae has {its}: set model.{name} to {its}",
                        code="conflict",
                        path=f"model.{name}",
                        value=mine,
                    )
        super().attach(role, component)

    def encode(
        self, images: Float[Tensor, "b 3 y x"], noise: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return what is denoised: the pictures themselves, or their latents, drawn with ``noise``."""
        if not self.latent:
            return images
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.component("vae").encode(images.float(), noise)

    def decode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 y x"]:
        """Return pictures, about −1 to 1."""
        return self.component("vae").decode(x) if self.latent else x

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        images = batch["image"]
        seeds = self.row_seeds(batch)
        side = [length // self.downsampling for length in images.shape[2:]]
        noise, drawn = self.draw(seeds, (self.channels, *side))
        posterior = self.draw(seeds, (self.channels, *side), "posterior")[0] if self.latent else None
        # In double precision, so that the level does not depend on the precision of training.
        level = self.objective.level(drawn[:, 0])
        forget = forgotten(drawn[:, 1], self.condition_sizes.dropout if self.training else 0.0)
        noised_ = self.objective.corrupt(self.encode(images, posterior).float(), noise, level)
        spell = self.condition_sizes.spell_share if self.training else 0.0
        condition = self.conditioner(batch["label"], batch["caption"], forget, spell, seeds)
        loss = denoising_loss(self.denoise(noised_.x, noised_.time, condition), noised_)
        return {"loss": self.global_mean(loss, torch.ones_like(loss, dtype=torch.bool))}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"images": len(batch["image"])}

    # ---- sampling ------------------------------------------------------------------------------

    def read_all(self, requests: Sequence[ImageRequest]) -> list[Task]:
        tasks = [read_request(self, request) for request in requests]
        if self.latent:
            self.component("vae")  # raises before anything is computed
        return tasks

    def media_of(self, states: Float[Tensor, "b c h w"]) -> list[Image]:
        pictures = ((self.decode(states).float() + 1) / 2).clamp(0, 1).cpu().numpy()
        return [Image(picture) for picture in pictures]

    def chain(
        self, tasks: Sequence[Task], seeds: Sequence[int]
    ) -> tuple[SchedulerRecurrence, Float[Tensor, "b c h w"]]:
        first_task, asked = tasks[0], tasks[0].request
        scheduler = make_scheduler(
            asked.scheduler, asked.num_steps, self.objective, self.schedule, clip=not self.latent
        )
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        side = (first_task.height // self.downsampling, first_task.width // self.downsampling)
        noise = torch.stack([torch.randn(self.channels, *side, generator=g) for g in generators]).to(self.device)
        network = self.network(tasks)
        if first_task.start is None:
            x = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
            return SchedulerRecurrence(scheduler, network, generator=generators), x
        first = first_step(asked.scheduler, scheduler, self.objective, first_task.strength)
        given = [task.start for task in tasks if task.start is not None]  # all of a group or none
        starts = torch.stack([torch.from_numpy(start) for start in given]).to(self.device)
        x = noised(scheduler, self.encode(starts.float() / 127.5 - 1), noise, first)
        return SchedulerRecurrence(scheduler, network, generator=generators, first=first), x

    def network(self, tasks: Sequence[Task]) -> Callable[..., Tensor]:
        """Return the network under the tasks' conditions, guided where they are."""
        labels = torch.tensor([task.label for task in tasks], device=self.device)
        scales = torch.tensor([task.guidance_scale for task in tasks], device=self.device)
        condition = self.condition_of(labels, [task.caption for task in tasks])
        if tasks[0].guidance_scale == 1:  # a group is guided as a whole, or not at all

            def plain(x: Tensor, time: Tensor, sample: Int[Tensor, " n"]) -> Tensor:
                return self.answer(x, time, condition.rows(sample))

            return plain
        away = [task.request.negative_prompt or "" for task in tasks]
        both = Condition.join(condition, self.condition_of(torch.full_like(labels, NO_LABEL), away))

        def branched(x: Tensor, time: Tensor, sample: Int[Tensor, " n"], branch: Int[Tensor, " n"]) -> Tensor:
            return self.answer(x, time, both.rows(sample + branch * len(tasks)))

        return ClassifierFree(branched, scales)

    def answer(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"], condition: Condition) -> Tensor:
        """Return the network's answer in the sampler's numbers, whatever those of its weights are.

        Times and noise levels of 16 bits would be other ones, so that only the layers compute in the weights' type.
        """
        with as_weights(next(self.net.parameters())):
            return self.denoise(x, time.to(x.dtype), condition).to(x.dtype)

    def condition_of(self, labels: Int[Tensor, " b"], captions: Sequence[str]) -> Condition:
        """Return the conditions of a batch; a label of −1 and an empty caption are none."""
        with as_weights(next(self.net.parameters())):
            return self.conditioner(labels, captions, torch.zeros_like(labels, dtype=torch.bool))

    def denoiser(self) -> NetworkDenoiser:
        """Return the model as a prior of pictures in [−1, 1], without label or caption (``unisono.diffusion``).

        Raises ``RequestError`` where what is denoised are latents, which no measurement of pixels is linear in.
        """
        if self.latent:
            raise RequestError(
                f"this {type(self).__name__} denoises latents (downsampling {self.downsampling}), and a prior must "
                "denoise pixels: use a model with model.downsampling=1",
                code="unsupported",
                path="components.prior",
                value=self.downsampling,
            )

        def network(x: Tensor, time: Tensor) -> Tensor:
            none = torch.full((len(x),), NO_LABEL, device=x.device)
            return self.answer(x, time, self.condition_of(none, [""] * len(x)))

        return NetworkDenoiser(self.objective, network, (self.channels, self.facts.size, self.facts.size))

    def preview_requests(self) -> list[ImageRequest]:
        classes, captions = self.facts.classes, self.facts.sample_captions
        if self.facts.words:
            return [self.Request(prompt=caption, seed=i, num_steps=20) for i, caption in enumerate(captions[:6])]
        return [self.Request(label=label, seed=i, num_steps=20) for i, label in enumerate(classes[:6])] or [
            self.Request(seed=seed, num_steps=20) for seed in range(2)
        ]


def make_objective(name: str, schedule: str, min_snr: float, shift: float, sigma_data: float) -> Any:
    """Make what a recipe's ``objective`` names."""
    if name == "flow":
        return Flow(shift=shift)
    if name == "edm":
        return EDM(sigma_data)
    prediction: Any = name  # one of its own: the recipe's sizes are checked
    return Discrete(schedule, prediction, min_snr or None)
