"""Priors: what is built in, and pipelines of diffusers as components.

A prior is any component with ``denoiser()`` (`unisono.diffusion.HasDenoiser`): an export of a picture model, the
built-in ``power-law``, or a folder of an unconditional pipeline of diffusers, as ``save_pretrained`` writes it.

Shapes: n rows, c channels, h w height and width.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.diffusion import Denoiser, NetworkDenoiser, NoiseLevels, linear_table, of_pipeline, table_levels
from unisono.errors import CheckpointError, MissingExtra, UnisonoError

__all__ = ["Pipeline", "PowerLaw", "power_law", "read_pipeline"]


class PowerLaw:
    """A Gaussian of pictures whose spectrum falls as photographs' do: an exact prior without weights.

    Variances over frequencies f of a cosine transform are ∝ (1 + f)^−2 and 0.25 for a pixel of [−1, 1] on average; nine
    tenths of it are common to the channels. It is what a restorer without any knowledge of pictures but their
    smoothness can do, and what tests are exact with.
    """

    def __init__(self, size: int, channels: int = 3):
        self.shape = (channels, size, size)
        frequency = (torch.arange(size)[:, None] ** 2 + torch.arange(size) ** 2).double().sqrt()
        spectrum = (1 + frequency) ** -2
        spectrum = 0.25 * spectrum / spectrum.mean()
        share = torch.full((channels,), 0.1 * channels / max(channels - 1, 1), dtype=torch.float64)
        share[0] = 0.9 * channels if channels > 1 else 1.0
        self.variances = share[:, None, None] * spectrum
        self._along, self._across = cosines(size), cosines(channels)

    def denoiser(self) -> Denoiser:
        """Itself."""
        return self

    def noise_levels(self, num_steps: int) -> NoiseLevels:
        """Levels of the linear schedule."""
        return table_levels(linear_table(), num_steps)

    def x0(self, x: Float[Tensor, "n c h w"], alpha: Float[Tensor, " n"], sigma: Float[Tensor, " n"]) -> Tensor:
        """The posterior mean, α v/(α² v + σ²) of each coefficient."""
        along, across = self._along.to(x), self._across.to(x)
        a, s = (level.to(x)[:, None, None, None] for level in (alpha, sigma))
        variances = self.variances.to(x)
        seen = torch.einsum("ij,njhw->nihw", across, along @ x @ along.T)
        seen = seen * (a * variances / (a * a * variances + s * s))
        return along.T @ torch.einsum("ji,njhw->nihw", across, seen) @ along


def power_law(facts: Mapping[str, Any]) -> PowerLaw:
    """Make the built-in prior of a restorer's size."""
    return PowerLaw(facts["size"])


class Pipeline(nn.Module):
    """An unmodified pipeline of diffusers as a component."""

    def __init__(self, pipeline: Any):
        super().__init__()
        self.unet, self.pipeline = pipeline.unet, [pipeline]  # in a list: it is no module
        self.recipe = {"model": {"name": f"diffusers/{type(pipeline).__name__}"}}
        self.facts: dict[str, Any] = {}

    def denoiser(self) -> NetworkDenoiser:
        """The pipeline's network at any level of its table."""
        return of_pipeline(self.pipeline[0])


def read_pipeline(folder: str | Path) -> Pipeline:
    """Read a pipeline's folder, safetensors alone and no code of it.

    Raises ``MissingExtra`` without diffusers, ``CheckpointError`` where the folder cannot be read or is no prior.
    """
    try:
        from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    except ImportError as error:
        raise MissingExtra("diffusers", "inverse") from error
    from diffusers.models.unets.unet_2d import UNet2DModel

    place: dict[str, Any] = {"local_files_only": True}
    try:
        unet: Any = UNet2DModel.from_pretrained(str(Path(folder) / "unet"), use_safetensors=True, **place)
        # Its table of noise levels and what the network predicts are all that is used of the scheduler.
        scheduler: Any = DDPMScheduler.from_pretrained(str(Path(folder) / "scheduler"), **place)
        made = Pipeline(DDPMPipeline(unet=unet, scheduler=scheduler))
        made.denoiser()
    except UnisonoError as error:
        raise CheckpointError(f"{str(folder)!r} is no prior: {error}", code=error.code, path=str(folder)) from error
    except Exception as error:  # whatever a stranger's files lead to
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{str(folder)!r} cannot be read as a pipeline with a UNet2DModel ({reason:.200}): fetch model_index.json, "
            "unet/ with safetensors and scheduler/ again",
            code="damaged",
            path=str(folder),
        ) from None
    return made


def cosines(n: int) -> Float[Tensor, "n n"]:
    """Return the orthonormal cosine transform (DCT-II), frequencies by rows."""
    k, i = torch.arange(n).double()[:, None], torch.arange(n).double()
    basis = torch.cos(math.pi * (i + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis
