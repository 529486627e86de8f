"""``inverse/kernels``: a small diffusion model of blur kernels, the second prior of ``inverse/blind-dps``.

The published one is a U-Net of 64 × 64 kernels; kernels of 9 × 9 are 81 numbers, for which layers that see all of them
serve: residual blocks with the noise level added, 0.3 million parameters at the default sizes. Trained for
v = α·ε − σ·x0 (Salimans and Ho, arXiv:2202.00512) on the linear table, all errors counted the same.

Shapes: b batch, n rows, k side of a kernel, d channels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from unisono import Image, Model, Request
from unisono.batching import Progress, grouped
from unisono.diffusion import Discrete, NetworkDenoiser, Serial, denoising_loss, solve
from unisono.errors import RecipeError
from unisono.model import OnStep

from unisono_inverse.blind.kernels import kernel_of
from unisono_inverse.ddnm.chain import DDNM
from unisono_inverse.facts import KernelFacts
from unisono_inverse.operators import Mask

__all__ = ["KernelPrior"]


class KernelRequest(Request):
    """A kernel by chance."""

    num_steps: int = Field(default=50, ge=1, le=1000, description="noise levels of the chain")


class KernelPrior(Model):
    """::

        kernel, 81 numbers ─ linear ─(+)─ [norm, linear, SiLU, linear (+)] × num_blocks ─ norm ─ linear ─ v
        noise level ─ sines ─ linear ─┘

    Args:
        dim: channels.
        num_blocks: residual blocks.
    """

    Media: ClassVar[type[Image]] = Image
    Facts: ClassVar[type[KernelFacts]] = KernelFacts
    facts: KernelFacts
    Request: ClassVar[type[KernelRequest]] = KernelRequest
    text_field: ClassVar[str] = "num_steps"
    salt: ClassVar[str] = "kernels"

    def __init__(self, *, dim: int = 128, num_blocks: int = 4):
        super().__init__()
        for name, value in (("dim", dim), ("num_blocks", num_blocks)):
            if value < 1 or (name == "dim" and value % 2):
                raise RecipeError(
                    f"model.{name}={value} must be at least 1{', and even' if name == 'dim' else ''}",
                    code="range",
                    path=f"model.{name}",
                    value=value,
                )
        self.dim, self.num_blocks = dim, num_blocks
        self.objective = Discrete("linear", "v", None)
        self.evaluations: int = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for kernels of the data's size."""
        super().build(facts)
        numbers = self.facts.size**2
        self.embed, self.level = nn.Linear(numbers, self.dim), nn.Linear(self.dim, self.dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(self.dim), nn.Linear(self.dim, 2 * self.dim), nn.SiLU(), nn.Linear(2 * self.dim, self.dim)
            )
            for _ in range(self.num_blocks)
        )
        self.norm, self.out = nn.LayerNorm(self.dim), nn.Linear(self.dim, numbers)

    def denoise(self, x: Float[Tensor, "n 1 k k"], time: Float[Tensor, " n"]) -> Float[Tensor, "n 1 k k"]:
        """Return v of each row; no row depends on another."""
        half = self.dim // 2
        rate = torch.exp(-math.log(10_000) * torch.arange(half, device=x.device) / half)
        angle = time.to(x.dtype)[:, None] * rate
        hidden = self.embed(x.flatten(1)) + self.level(torch.cat([angle.sin(), angle.cos()], 1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.out(self.norm(hidden)).reshape(x.shape)

    def denoiser(self) -> NetworkDenoiser:
        """Return the prior of kernels in [−1, 1]: ``unisono.diffusion.HasDenoiser``."""
        size = self.facts.size
        return NetworkDenoiser(self.objective, self.denoise, (1, size, size))

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        kernels, seeds = batch["kernel"], self.row_seeds(batch)
        noise, uniform = torch.empty_like(kernels, device="cpu"), torch.empty(len(seeds), dtype=torch.float64)
        for i, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            noise[i].normal_(generator=generator)
            uniform[i] = torch.rand((), generator=generator, dtype=torch.float64)
        noised = self.objective.corrupt(kernels, noise.to(kernels), self.objective.level(uniform.to(kernels.device)))
        loss = denoising_loss(self.denoise(noised.x, noised.time), noised)
        return {"loss": self.global_mean(loss, torch.ones_like(loss, dtype=torch.bool))}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"kernels": len(batch["kernel"])}

    def synthesize(
        self,
        requests: Sequence[KernelRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image]:
        """Return kernels by chance, white where they are largest: DDNM's chain with nothing measured."""
        size, made = self.facts.size, {}
        seeds = [self.seed_of(request, generator) for request in requests]
        progress = Progress(on_step, sum(request.num_steps for request in requests))
        with torch.inference_mode(False), torch.no_grad():
            for members in grouped(range(len(requests)), lambda index: requests[index].num_steps):
                back = torch.zeros(len(members), 1, size, size, device=self.device)
                nothing = Mask(torch.zeros(1, 1, size, size, dtype=torch.bool, device=self.device))
                num_steps = requests[members[0]].num_steps
                own = [seeds[i] for i in members]
                chain = DDNM(self.denoiser(), nothing, back, seeds=own, num_steps=num_steps)
                before = progress.done
                share = len(members) * num_steps
                found = solve(
                    chain,
                    chain.start(),
                    Serial(),
                    on_round=lambda e, b=before, s=share: progress.to(b + int(e.done * s)),
                )
                progress.to(before + share)
                self.evaluations += num_steps
                for index, state in zip(members, found.sample[:, 0], strict=True):
                    kernel = kernel_of(state)
                    made[index] = Image((kernel / kernel.max()).expand(3, -1, -1).float().cpu().numpy().copy())
        return [made[index] for index in range(len(requests))]

    def preview_requests(self) -> list[KernelRequest]:
        return [self.Request(seed=seed) for seed in range(4)]
