"""Networks of state-space models: what reads voices, what writes them from latents, and what writes step after step.

Shapes: b batch, n steps, q voices, v vocabulary, z numbers of a latent, d channels. Masks are True where kept.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.selective import SelectiveBlock
from unisono.nn.state_space import Method, StateSpaceBlock, StateSpaceStack, TwoWayBlock, TwoWayStack
from unisono.nn.variational import Gaussian, GaussianHead

from unisono_music.models.scan.sizes import ScanSizes
from unisono_music.models.scan.steps import PLACES, Steps

FIRST_LOG_VARIANCE = -4.0


class Voices(nn.Module):
    """The tokens of all voices of a step as one vector: a table for each voice, summed."""

    def __init__(self, sizes: Sequence[int], dim: int):
        super().__init__()
        self.vocabulary = max(sizes)
        self.table = nn.Embedding(len(sizes) * self.vocabulary, dim)
        nn.init.normal_(self.table.weight, std=0.3)

    def each(self, tokens: Int[Tensor, "b n q"]) -> Float[Tensor, "b n q d"]:
        """Return the vector of each voice."""
        return self.table(tokens + torch.arange(tokens.shape[-1], device=tokens.device) * self.vocabulary)

    def forward(self, tokens: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        return self.each(tokens).sum(2)


class Place(nn.Module):
    """Where a step stands: in its bar, and that bar in its piece."""

    def __init__(self, steps_per_bar: int, dim: int):
        super().__init__()
        self.place, self.bar = nn.Embedding(steps_per_bar, dim), nn.Embedding(PLACES, dim)
        for table in (self.place, self.bar):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, steps: Steps) -> Float[Tensor, "b n d"]:
        return self.place(steps.place) + self.bar(steps.bar)


class Encoder(nn.Module):
    """::

        tokens of this step and of the one before ─┐
        given or written ──────────────────────────┼─ state spaces, both ways ─ mean and variance of the latents
        place in bar, piece ───────────────────────┘

    At first deviations are small, so that latents tell all of a step before they learn what need not be told.
    """

    def __init__(self, voices: Sequence[int], steps_per_bar: int, latent_dim: int, sizes: ScanSizes):
        super().__init__()
        self.voices, self.before = Voices(voices, sizes.dim), Voices(voices, sizes.dim)
        self.place, self.given = Place(steps_per_bar, sizes.dim), nn.Embedding(2, sizes.dim)
        self.stack = TwoWayStack(
            [TwoWayBlock(sizes.dim, sizes.state_dim, sizes.dropout) for _ in range(sizes.num_layers)], sizes.dim
        )
        self.head = GaussianHead(sizes.dim, latent_dim)
        with torch.no_grad():
            self.head.out.bias[latent_dim:] = FIRST_LOG_VARIANCE

    def forward(self, steps: Steps, given: Bool[Tensor, "b n"], seen: Bool[Tensor, "b n"]) -> Gaussian:
        """``given`` says which steps are no latent's; what is not ``seen`` counts as not there."""
        x = self.voices(steps.tokens) + self.given(given.long()) + self.place(steps)
        x = x + F.pad(self.before(steps.tokens)[:, :-1], (0, 0, 1, 0))
        return self.head(self.stack(x, seen))


class Decoder(nn.Module):
    """::

    given:    tokens of all voices ─┐
    written:  latent ─ MLP ─────────┼─ state spaces ─ a linear per voice ─ logits
    place in bar, piece ────────────┘
    """

    def __init__(self, voices: Sequence[int], steps_per_bar: int, latent_dim: int, sizes: ScanSizes):
        super().__init__()
        self.voices, self.place = Voices(voices, sizes.dim), Place(steps_per_bar, sizes.dim)
        self.latent = nn.Sequential(
            nn.Linear(latent_dim, 2 * sizes.dim), nn.GELU(), nn.Linear(2 * sizes.dim, sizes.dim)
        )
        self.stack = onward(sizes)
        self.out = nn.Linear(sizes.dim, len(voices) * max(voices))
        self.foreign: Tensor
        self.register_buffer("foreign", foreign(voices), persistent=False)

    def forward(
        self, latents: Float[Tensor, "b n z"], steps: Steps, given: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n q v"]:
        """Return the logits of each voice, of tokens that it does not have -inf."""
        return self._logits(self.stack(self._read(latents, steps, given)))

    def resume(
        self, latents: Float[Tensor, "b n z"], steps: Steps, given: Bool[Tensor, "b n"], states: Any, method: Method
    ) -> tuple[Float[Tensor, "b n q v"], Any]:
        """As ``forward``, from states."""
        x, states = self.stack.resume(self._read(latents, steps, given), states, method)
        return self._logits(x), states

    def _read(self, latents: Tensor, steps: Steps, given: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return torch.where(given[..., None], self.voices(steps.tokens), self.latent(latents)) + self.place(steps)

    def _logits(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n q v"]:
        return self.out(x).unflatten(-1, self.foreign.shape).masked_fill(self.foreign, -torch.inf)


class StepNetwork(nn.Module):
    """::

        tokens of the step before ─┬─ state spaces ─┬─ MLP ─ soprano ─ MLP ─ alto …
        place in bar, piece ───────┘                └─ + tokens of the voices above

    The voices of a step are written in their order, each knowing those before.
    """

    def __init__(self, voices: Sequence[int], steps_per_bar: int, sizes: ScanSizes):
        super().__init__()
        dim = sizes.dim
        self.voices, self.above, self.place = Voices(voices, dim), Voices(voices, dim), Place(steps_per_bar, dim)
        self.start = nn.Parameter(torch.randn(dim) * 0.3)
        self.stack = onward(sizes)
        self.which = nn.Embedding(len(voices), dim)
        self.mix, self.dropout = nn.Linear(dim, dim), nn.Dropout(sizes.dropout)
        self.out = nn.Linear(dim, len(voices) * max(voices))
        self.foreign: Tensor
        self.register_buffer("foreign", foreign(voices), persistent=False)

    def forward(self, steps: Steps) -> Float[Tensor, "b n q v"]:
        """Return the logits of each voice, given all steps before and the voices above."""
        before = F.pad(self.voices(steps.tokens)[:, :-1], (0, 0, 1, 0))
        before[:, 0] = before[:, 0] + self.start
        return self.told(self.stack(before + self.place(steps)), steps.tokens)

    def told(self, hidden: Float[Tensor, "b n d"], tokens: Int[Tensor, "b n q"]) -> Float[Tensor, "b n q v"]:
        """Return the logits of each voice of steps, of which the voices above are known."""
        each = self.above.each(tokens)
        return self._heads(hidden[:, :, None] + each.cumsum(2) - each)

    def next(self, hidden: Float[Tensor, "b d"], above: Int[Tensor, "b i"]) -> Float[Tensor, "b v"]:
        """Return the logits of the voice below ``above``."""
        number = above.shape[1]
        tokens = F.pad(above, (0, len(self.foreign) - number))[:, None]
        return self.told(hidden[:, None], tokens)[:, 0, number]

    def resume(self, steps: Steps, first: bool, states: Any, method: Method) -> tuple[Float[Tensor, "b n d"], Any]:
        """Read ``steps``, whose tokens are those of the step before each (any, where ``first`` and at the beginning),
        and return what their voices are told from."""
        before = self.voices(steps.tokens)
        if first:
            before = torch.cat([self.start.expand_as(before[:, :1]), before[:, 1:]], 1)
        return self.stack.resume(before + self.place(steps), states, method)

    def _heads(self, hidden: Float[Tensor, "b n q d"]) -> Float[Tensor, "b n q v"]:
        x = hidden + self.dropout(F.gelu(self.mix(hidden + self.which.weight)))
        weight = self.out.weight.unflatten(0, self.foreign.shape)
        logits = torch.einsum("bnqd,qvd->bnqv", x, weight) + self.out.bias.unflatten(0, self.foreign.shape)
        return logits.masked_fill(self.foreign, -torch.inf)


def onward(sizes: ScanSizes) -> StateSpaceStack:
    """Return state spaces that read onwards: linear ones, then selective ones."""
    dim, linear = sizes.dim, sizes.num_layers - sizes.selective
    blocks = [StateSpaceBlock(dim, sizes.state_dim, sizes.dropout) for _ in range(linear)]
    return StateSpaceStack([*blocks, *(SelectiveBlock(dim, sizes.dropout) for _ in range(sizes.selective))], dim)


def foreign(voices: Sequence[int]) -> Bool[Tensor, "q v"]:
    """Return which tokens each voice does not have."""
    return torch.arange(max(voices)) >= torch.tensor(voices)[:, None]


def cost(logits: Float[Tensor, "b n q v"], tokens: Int[Tensor, "b n q"]) -> Float[Tensor, "b n"]:
    """Return -log p of each step, all voices together, in nats."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -wide.log_softmax(-1).gather(-1, tokens[..., None])[..., 0].sum(-1)
