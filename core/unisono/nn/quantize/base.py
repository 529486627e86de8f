"""Quantiser base: the result, counts over ranks, and the replacement of codes that nothing uses.

Shapes: b batch, t positions, d channels, q codebooks, k codes. Masks are True where a position is kept.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.errors import UnisonoError
from unisono.nn.wide import wide
from unisono.peers import add_up, gather, num_peers


@dataclass
class Quantised:
    """What a quantiser makes of vectors.

    vectors: [b, t, d], with a straight-through gradient.
    tokens: [b, t, q].
    commitment: [b, t], the squared distance of the vectors from their codes, summed over codebooks; its gradient
        goes to the vectors alone.
    codebook: [b, t], the same distance; its gradient goes to the codes alone. 0 where codes do not learn by gradient.
    usage: [q, k], how often each code was taken in this batch (in training, over all ranks).
    sample_entropy: [b, t], of each vector's soft assignment to the codes, in nats, for it to become small; None where
        there is none.
    batch_entropy: of the mean soft assignment (in training, over all ranks), in nats, for it to become large.
    """

    vectors: Float[Tensor, "b t d"]
    tokens: Int[Tensor, "b t q"]
    commitment: Float[Tensor, "b t"]
    codebook: Float[Tensor, "b t"]
    usage: Float[Tensor, "q k"]
    sample_entropy: Float[Tensor, "b t"] | None = None
    batch_entropy: Float[Tensor, ""] | None = None

    @property
    def perplexity(self) -> Float[Tensor, "q"]:
        """2 to the entropy of each codebook's use: as if so many codes were used evenly."""
        share = self.usage / self.usage.sum(-1, keepdim=True).clamp(min=1)
        return torch.special.entr(share).sum(-1).exp()

    @property
    def utilisation(self) -> Float[Tensor, "q"]:
        """The share of each codebook's codes that occur in this batch."""
        return (self.usage > 0).float().mean(-1)


class Quantizer(nn.Module):
    """The contract of all quantisers: vectors to tokens and back.

    Attributes:
        dim: channels of a vector.
        codebook_size: codes of each codebook.
        num_codebooks: tokens per vector.
        updates: steps learnt so far; of codebooks that learn.
    """

    dim: int
    codebook_size: int
    num_codebooks: int
    updates: Tensor

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; ``rows`` numbers the items of the global batch (default: their places on this rank)."""
        raise NotImplementedError

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t q"]:
        """Return tokens and nothing else, of at most ``levels`` levels."""
        raise NotImplementedError

    def decode(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        raise NotImplementedError


def everything(z: Float[Tensor, "b t d"]) -> Bool[Tensor, "b t"]:
    """Return the mask that keeps all."""
    return torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)


def widened(layer: nn.Module, x: Float[Tensor, "b t n"]) -> Float[Tensor, "b t m"]:
    """Apply a layer, a linear one or what adapters made of it, in float32, or in float64 where its weights are."""
    weights = {name: wide(weight) for name, weight in layer.named_parameters()}
    x = x.to(torch.float64 if any(weight.dtype == torch.float64 for weight in weights.values()) else torch.float32)
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, wide(layer.weight), None if layer.bias is None else wide(layer.bias))
    return torch.func.functional_call(layer, weights, (x,))


def check_learns(codes: Tensor) -> None:
    """Raise `UnisonoError` for codes in half precision, in which counts and averages would not move."""
    if codes.dtype in (torch.float16, torch.bfloat16):
        raise UnisonoError(
            f"codes of {codes.dtype} cannot learn, since averages and counts need float32: "
            "train in float32, with autocast if you like, and convert the model afterwards",
            code="unsupported",
            path="dtype",
            value=codes.dtype,
        )


def counts(tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], size: int) -> Float[Tensor, "k"]:
    """Return how often each code occurs where ``mask`` holds."""
    zero = torch.zeros(size, dtype=torch.float32, device=tokens.device)
    return zero.index_add_(0, tokens.flatten(), mask.flatten().float())


@torch.no_grad()
def replacements(
    z: Float[Tensor, "b t d"],
    mask: Bool[Tensor, "b t"],
    rows: Int[Tensor, "b"] | None,
    number: int,
    updates: int,
) -> Float[Tensor, "k d"] | None:
    """Return ``number`` vectors of the global batch, drawn without replacement as far as there are any.

    Copies are moved apart a little, each in its own direction. The draw is a function of ``rows`` (the items'
    numbers in the global batch) and ``updates``. None where nothing is kept.
    """
    rows = torch.arange(len(z)) if rows is None else rows.cpu()
    keys = torch.full(mask.shape, -1.0, dtype=torch.float64)
    for index, row in enumerate(rows.tolist()):
        generator = torch.Generator().manual_seed((row * 1_000_003 + updates) % 2**63)
        # A row's numbers are drawn one after another: what stands behind it in the batch changes none.
        keys[index] = torch.rand(mask.shape[1], dtype=torch.float64, generator=generator)
    keys = keys.to(z.device).masked_fill(~mask, -1.0).flatten()
    best = keys.topk(min(number, len(keys)))
    keys, vectors = gathered(best.values, z.flatten(0, 1)[best.indices], number)
    order = keys.argsort(descending=True, stable=True)
    order = order[: min(number, int((keys >= 0).sum()))]
    if len(order) == 0:
        return None
    chosen = vectors[order]
    spread = chosen.std(0, unbiased=False) if len(chosen) > 1 else torch.zeros_like(chosen[0])
    rounds = torch.arange(number, device=z.device)
    turn = (rounds // len(chosen))[:, None]
    channel = torch.arange(z.shape[-1], device=z.device)
    return chosen[rounds % len(chosen)] + 0.01 * spread * turn * torch.cos((turn * (channel + 1)).float())


def total(value: Tensor) -> Tensor:
    """Sum over all ranks."""
    return add_up(value)


def gathered(keys: Float[Tensor, "n"], vectors: Float[Tensor, "n d"], number: int) -> tuple[Tensor, Tensor]:
    """Collect up to ``number`` keyed vectors of every rank."""
    if num_peers() == 1:
        return keys, vectors
    keys = nn.functional.pad(keys, (0, number - len(keys)), value=-1.0)
    vectors = nn.functional.pad(vectors, (0, 0, 0, number - len(vectors)))
    return torch.cat(gather(keys)), torch.cat(gather(vectors))
