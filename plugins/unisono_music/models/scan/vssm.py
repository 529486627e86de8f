"""music/vssm: a variational state-space model, which writes all steps in one evaluation and goes on from a state.

Lambrechts, Claes, Geurts, Ernst, "Parallelizing Autoregressive Generation with Variational State Space Models"
(arXiv:2407.08415): a VAE whose encoder and decoder are state spaces. Each step has a latent of a prior that knows no
other step, so that all of them are drawn at once and decoded by one convolution; as the decoder is a recurrence too,
writing stops and goes on at any step with nothing kept but its state. AR-VSSM begins from a partial realisation::

    x ─ state spaces, both ways ─ q(z_t | x) ─ z ─┐
    N(0, 1) for each step, where nothing is known ┴─ state spaces ─ p(x_t | z_1 … z_t), a category for each voice

Here a beginning is read by the decoder: at steps that are given, the tokens stand in the place of the latent. What is
learnt is a bound on log p(what follows | beginning), which without a beginning is one on log p(x). As what was written
can be read as a beginning, blocks of bars one after the other lie between one evaluation and a step-by-step model.

The layers, sizes and weights of the losses are not told in what is public of the paper; these are choices:

- S4D layers (`unisono.nn.state_space`); the encoder's latents do not see one another (mean field).
- Free nats (Kingma et al., arXiv:1606.04934) and a price of the latents that rises at first, against their collapse.
  The divergence of a step (``kl``, nats) and how many numbers of a latent tell anything (``active``) are logged.
- Where a step stands in its bar, and whether that is the first or one of the last two of its piece, is told.
- Half of the items have a beginning of any length; the writing of half of these ends early, as blocks do.

Shapes: b batch, n steps, q voices, z numbers of a latent, k samples. Masks are True where kept.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import RecipeError
from unisono.nn.variational import gaussian_noise, kl_divergence, mean_divergence
from unisono.verify import Draw

from unisono_music.models.scan.model import ScanModel
from unisono_music.models.scan.network import Decoder, Encoder, cost
from unisono_music.models.scan.request import Asked, VSSMRequest
from unisono_music.models.scan.sizes import Beginnings, LatentSpec, ScanSizes
from unisono_music.models.scan.steps import Steps, read_steps

TELLS = 0.01
"""Nats of a number of a latent, above which it counts as active."""


class VSSM(ScanModel):
    """A variational state-space model; see the module.

    Args:
        encoder, decoder: sizes of the networks.
        latents: of each step, and what they cost.
        beginnings: how often a beginning is given while it learns.
    """

    Request: ClassVar[Any] = VSSMRequest
    salt: ClassVar[str] = "music-vssm"

    def __init__(
        self,
        *,
        encoder: ScanSizes = ScanSizes(),  # noqa: B008
        decoder: ScanSizes = ScanSizes(),  # noqa: B008
        latents: LatentSpec = LatentSpec(),  # noqa: B008
        beginnings: Beginnings = Beginnings(),  # noqa: B008
    ):
        super().__init__()
        if encoder.selective:
            raise RecipeError(
                f"model.encoder.selective={encoder.selective} must be 0: an encoder reads both ways by convolution",
                code="value",
                path="model.encoder.selective",
                value=encoder.selective,
            )
        self.sizes, self.latents, self.beginnings = (encoder, decoder), latents, beginnings

    def networks(self, voices: Sequence[int], steps_per_bar: int) -> None:
        encoder, decoder = self.sizes
        self.encoder = Encoder(voices, steps_per_bar, self.latents.dim, encoder)
        self.decoder = Decoder(voices, steps_per_bar, self.latents.dim, decoder)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the bound under ``loss`` as it is trained, and ``nats_per_step`` as it is: -log p of all voices of a
        step is at most that."""
        steps, seeds = read_steps(batch, self.facts, self.device), self.row_seeds(batch)
        given, seen = self.parts(steps, seeds)
        written = seen & ~given
        posterior = self.encoder(steps, given, seen)
        shapes = [(length, self.latents.dim) for length in steps.length.tolist()]
        latents = posterior.draw(gaussian_noise(seeds, shapes, posterior.mean))
        nats = self.global_mean(cost(self.decoder(latents, steps, given), steps.tokens), written)
        divergence = kl_divergence(posterior)
        paid = mean_divergence(divergence, written, self.latents.free_nats)
        with torch.no_grad():
            each = self.global_mean_of_each(divergence, written)
            kl = each.sum()
            parts = {"nll": nats, "kl": kl, "active": (each > TELLS).float().sum(), "nats_per_step": nats + kl}
            parts["bits_per_cell"] = parts["nats_per_step"] / (math.log(2) * steps.tokens.shape[2])
        return {"loss": nats + self.price() * paid, **parts}

    def price(self) -> float:
        """Return what a nat of the latents costs by now; in validation all of it."""
        if not self.training or not self.latents.warmup_steps:
            return 1.0
        return min(1.0, (self.global_step + 1) / self.latents.warmup_steps)

    def parts(self, steps: Steps, seeds: Sequence[int]) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Return which steps are given, and which are given or written; outside of training all is written."""
        places, seen = torch.arange(steps.tokens.shape[1], device=self.device), steps.mask
        if not self.training:
            return torch.zeros_like(seen), seen
        given, stops = [], []
        for seed, length in zip(seeds, steps.length.tolist(), strict=True):
            generator = np.random.default_rng(derive_seed(seed, "beginning"))
            begins, ends = generator.random(2) < (self.beginnings.share, self.beginnings.stops)
            given.append(int(generator.integers(length)) if begins else 0)
            stops.append(int(generator.integers(given[-1], length)) + 1 if begins and ends else length)
        first, last = (torch.tensor(x, device=self.device)[:, None] for x in (given, stops))
        return places < first, seen & (places < last)

    def global_mean_of_each(self, values: Float[Tensor, "b n z"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " z"]:
        """Return the mean of each number of a latent over the batches of all processes."""
        return torch.stack([self.global_mean(column, mask) for column in values.unbind(-1)])

    # ---- synthesis -----------------------------------------------------------------------------

    def draw_key(self, request: VSSMRequest) -> tuple[Any, ...]:
        return request.temperature, request.block_bars

    def writer(self, requests: Sequence[VSSMRequest], rows: Sequence[Asked], seeds: Sequence[int]) -> "LatentWriter":
        return LatentWriter(self, requests, rows, seeds)


class LatentWriter:
    """Rows of latents, drawn beforehand, and the tokens that are written of them; see `Writer`.

    Within a block the decoder goes on from latent to latent. Where a block ends, it goes back to where it began and
    reads what was written instead.
    """

    def __init__(self, model: VSSM, requests: Sequence[VSSMRequest], rows: Sequence[Asked], seeds: Sequence[int]):
        self.model, self.decoder = model, model.exact(model.decoder)
        self.steps, given = model.side_by_side(rows)
        total = self.steps.tokens.shape[1]
        self.given = torch.arange(total, device=given.device) < given[:, None]
        shapes = [(len(row.tokens), model.latents.dim) for row in rows]
        like = torch.zeros(
            len(rows), total, model.latents.dim, device=given.device, dtype=self.decoder.out.weight.dtype
        )
        warmth = torch.tensor([request.latent_temperature for request in requests]).to(like)
        noise = gaussian_noise([derive_seed(seed, "latents") for seed in seeds], shapes, like)
        self.latents = noise * warmth[:, None, None]
        self.seeds = torch.tensor(seeds, device=given.device)
        self.draw = Draw(requests[0].temperature)
        size = total if requests[0].block_bars is None else requests[0].block_bars * model.facts.steps_per_bar
        self.stops = [*range(size, total, size), total]
        self.done, self.block = 0, 0
        self.states = self.kept = self.decoder.stack.begin(len(rows))

    @torch.no_grad()
    def advance(self, stop: int) -> None:
        """Write up to ``stop``."""
        now = slice(self.done, stop)
        steps, given = self.steps.cut(self.done, stop), self.given[:, now]
        logits, self.states = self.decoder.resume(self.latents[:, now], steps, given, self.states, "convolution")
        self.model.evaluations += 1
        q = steps.tokens.shape[2]
        sites = torch.arange(self.done * q, stop * q, device=given.device).expand(len(logits), -1)
        drawn = self.draw(logits.flatten(1, 2), self.seeds, sites).unflatten(1, (-1, q))
        self.steps.tokens[:, now] = torch.where(given[..., None], steps.tokens, drawn)
        self.done = stop
        if stop in self.stops[:-1]:
            self._read_block()

    def _read_block(self) -> None:
        steps = self.steps.cut(self.block, self.done)
        latents = self.latents[:, self.block : self.done]
        whole = torch.ones_like(latents[..., 0], dtype=torch.bool)
        _, self.kept = self.decoder.resume(latents, steps, whole, self.kept, "convolution")
        self.model.evaluations += 1
        self.states, self.block = self.kept, self.done
