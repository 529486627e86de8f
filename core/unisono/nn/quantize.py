"""Quantisers: vectors to tokens and back, while the model that makes the vectors learns.

- ``VectorQuantizer``: one codebook that follows the vectors by exponential moving averages (van den Oord et al.,
  "Neural Discrete Representation Learning", arXiv:1711.00937, appendix A.1), with dead codes reset to vectors
  of the batch (Dhariwal et al., "Jukebox", arXiv:2005.00341; T2M-GPT and MMM, arXiv:2312.03596, likewise).
- ``ResidualQuantizer``: levels, each of which codes what the levels before left over, and quantiser dropout
  (Zeghidour et al., "SoundStream", arXiv:2107.03312; MoMask, arXiv:2312.00063).
- ``ScalarQuantizer``: finite scalar quantisation, no codebook to learn (Mentzer et al., arXiv:2309.15505).
- ``GroupedQuantizer``: parts of the channels with a quantiser each (upper and lower body, say).

All four have one contract::

    quantised = quantizer(z, mask)      # Quantised: vectors, tokens, losses, statistics
    z = quantizer.decode(tokens)        # the vectors of tokens

Differences from the papers: distances and averages are taken in float32 whatever the autocast; counts and sums
are those of all ranks, so that N processes hold the codebook of one; a codebook is dead before its first batch,
hence the reset fills it; codes are dead relative to an even use (``dead_below``), whatever the batch size; and
which vectors replace them is drawn by each item's own number (``rows``), never from a global seed.

Shapes: b batch, t positions, d channels, q codebooks, k codes. Masks are True where a position is kept: others
get token 0 and vector 0, and count nowhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

COUNT_FLOOR = 1e-5


@dataclass
class Quantised:
    """What a quantiser makes of vectors.

    vectors: [b, t, d], with a straight-through gradient.
    tokens: [b, t, q].
    commitment: [b, t], the squared distance of the vectors from their codes, summed over codebooks.
    usage: [q, k], how often each code was taken in this batch (in training, over all ranks).
    """

    vectors: Float[Tensor, "b t d"]
    tokens: Int[Tensor, "b t q"]
    commitment: Float[Tensor, "b t"]
    usage: Float[Tensor, "q k"]

    @property
    def perplexity(self) -> Float[Tensor, "q"]:
        """2 to the entropy of each codebook's use: as if so many codes were used evenly."""
        share = self.usage / self.usage.sum(-1, keepdim=True).clamp(min=1)
        return torch.special.entr(share).sum(-1).exp()

    @property
    def utilisation(self) -> Float[Tensor, "q"]:
        """The share of each codebook's codes that occur in this batch."""
        return (self.usage > 0).float().mean(-1)


class VectorQuantizer(nn.Module):
    """One learnt codebook, ``[k, d]``, followed by moving averages.

    Args:
        dim: channels of a vector.
        codebook_size: codes.
        decay: of the moving averages.
        dead_below: a code used less than this share of an even use is reset, at each step anew until it is used; 0
            never resets one.
    """

    num_codebooks = 1

    def __init__(self, dim: int, codebook_size: int, decay: float = 0.99, dead_below: float = 0.1):
        super().__init__()
        if codebook_size < 2:
            raise ValueError(f"codebook_size={codebook_size} must be at least 2")
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay} must be from 0 up to, not including, 1")
        if not 0 <= dead_below < 1:
            raise ValueError(f"dead_below={dead_below} must be from 0 up to, not including, 1")
        self.dim = dim
        self.codebook_size = codebook_size
        self.decay = decay
        self.dead_below = dead_below
        self.codebook: Tensor
        self.counts: Tensor
        self.sums: Tensor
        self.updates: Tensor
        self.register_buffer("codebook", torch.randn(codebook_size, dim))
        self.register_buffer("counts", torch.zeros(codebook_size))
        self.register_buffer("sums", torch.zeros(codebook_size, dim))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; in training, the codebook then moves towards what it was used for.

        ``rows`` numbers the items of the global batch (default: their places on this rank); only the choice of
        vectors for dead codes depends on it.
        """
        mask = _everything(z) if mask is None else mask
        with torch.autocast(z.device.type, enabled=False):
            z = z.float() * mask[..., None]
            tokens = self.encode(z, mask)
            vectors = self.decode(tokens[..., None]) * mask[..., None]
            commitment = (z - vectors.detach()).square().mean(-1)
            usage = _counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                usage = _total(usage)
                self._follow(z.detach(), tokens, mask, usage, rows)
        vectors = z + (vectors - z).detach()
        return Quantised(vectors, tokens[..., None], commitment, usage[None])

    def encode(self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Int[Tensor, "b t"]:
        """Return the nearest code of each vector."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            distance = self.codebook.square().sum(-1) - 2 * z @ self.codebook.T
            tokens = distance.argmin(-1)
        return tokens if mask is None else tokens.masked_fill(~mask, 0)

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        return nn.functional.embedding(tokens[..., 0], self.codebook)

    @torch.no_grad()
    def _follow(
        self,
        z: Float[Tensor, "b t d"],
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        usage: Float[Tensor, "k"],
        rows: Int[Tensor, "b"] | None,
    ) -> None:
        kept, code = z[mask], tokens[mask]
        sums = _total(torch.zeros_like(self.sums).index_add_(0, code, kept))
        weight = 1 - self.decay if self.updates else 1.0
        self.counts.lerp_(usage, weight)
        self.sums.lerp_(sums, weight)
        self.codebook.copy_(
            torch.where(
                (self.counts > COUNT_FLOOR)[:, None],
                self.sums / self.counts.clamp(min=COUNT_FLOOR)[:, None],
                self.codebook,
            )
        )
        even = self.counts.sum() / self.codebook_size
        if not self.updates:  # what it was born with is of no use: every code comes from the first batch
            self._reset(torch.ones_like(self.counts, dtype=torch.bool), z, mask, rows, even)
        elif self.dead_below > 0:
            self._reset(self.counts < self.dead_below * even, z, mask, rows, even)
        self.updates += 1

    def _reset(
        self,
        dead: Bool[Tensor, "k"],
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"],
        rows: Int[Tensor, "b"] | None,
        even: Tensor,
    ) -> None:
        """Replace dead codes by vectors of the global batch, drawn without replacement as far as there are any."""
        number = int(dead.sum())
        if number == 0:
            return
        rows = torch.arange(len(z)) if rows is None else rows.cpu()
        keys = torch.full(mask.shape, -1.0, dtype=torch.float64)
        for index, row in enumerate(rows.tolist()):
            generator = torch.Generator().manual_seed((row * 1_000_003 + int(self.updates)) % 2**63)
            # A row's numbers are drawn one after another: what stands behind it in the batch changes none.
            keys[index] = torch.rand(mask.shape[1], dtype=torch.float64, generator=generator)
        keys = keys.to(z.device).masked_fill(~mask, -1.0).flatten()
        best = keys.topk(min(number, len(keys)))
        keys, vectors = _gathered(best.values, z.flatten(0, 1)[best.indices], number)
        order = keys.argsort(descending=True, stable=True)
        order = order[: min(number, int((keys >= 0).sum()))]
        if len(order) == 0:
            return
        chosen = vectors[order]
        places = dead.nonzero()[:, 0]
        spread = chosen.std(0, unbiased=False) if len(chosen) > 1 else torch.zeros_like(chosen[0])
        rounds = torch.arange(number, device=z.device)
        fresh = chosen[rounds % len(chosen)]
        # Fewer vectors than codes: copies are moved apart a little, each in its own direction.
        turn = (rounds // len(chosen))[:, None]
        channel = torch.arange(self.dim, device=z.device)
        fresh = fresh + 0.01 * spread * turn * torch.cos((turn * (channel + 1)).float())
        self.codebook[places] = fresh
        # On the brink: what is not used in the next batch is replaced again.
        count = even * (self.dead_below or 1.0)
        self.counts[places] = count
        self.sums[places] = fresh * count


class ResidualQuantizer(nn.Module):
    """Levels of codebooks: each codes what is left over, and the vectors' sum is the result.

    Args:
        dim: channels of a vector.
        codebook_size: codes of each level.
        num_levels: codebooks; 1 is the plain quantiser.
        dropout: the share of training items that use fewer levels, evenly drawn (MoMask: 0.2).
        decay, dead_below: as of ``VectorQuantizer``.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_levels: int = 1,
        dropout: float = 0.0,
        decay: float = 0.99,
        dead_below: float = 0.1,
    ):
        super().__init__()
        if num_levels < 1:
            raise ValueError(f"num_levels={num_levels} must be at least 1")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout={dropout} must be from 0 to 1")
        self.dim = dim
        self.codebook_size = codebook_size
        self.num_codebooks = num_levels
        self.dropout = dropout
        self.levels = nn.ModuleList(VectorQuantizer(dim, codebook_size, decay, dead_below) for _ in range(num_levels))

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise level by level; a level that an item does without gets token 0 and adds nothing."""
        mask = _everything(z) if mask is None else mask
        depth = self._depth(z, rows)
        left, total = z.float() * mask[..., None], 0.0
        tokens, usage, commitment = [], [], z.new_zeros(mask.shape, dtype=torch.float32)
        for level, quantizer in enumerate(self.levels):
            used = mask & (depth > level)[:, None]
            made = quantizer(left, used, rows)
            total = total + made.vectors.detach()
            left = left - made.vectors.detach()
            commitment = commitment + made.commitment * used
            tokens.append(made.tokens)
            usage.append(made.usage)
        z = z.float() * mask[..., None]
        vectors = z + (total - z).detach()
        return Quantised(vectors, torch.cat(tokens, -1), commitment, torch.cat(usage))

    def decode(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the sum of the levels' vectors; fewer levels than there are give a coarser one."""
        vectors = [
            self.levels[i].decode(tokens[..., i : i + 1])  # pyright: ignore[reportCallIssue]
            for i in range(tokens.shape[-1])
        ]
        return torch.stack(vectors).sum(0)

    def _depth(self, z: Float[Tensor, "b t d"], rows: Int[Tensor, "b"] | None) -> Int[Tensor, "b"]:
        depth = torch.full((len(z),), self.num_codebooks, dtype=torch.int64)
        if self.training and self.dropout > 0 and self.num_codebooks > 1:
            updates = int(self.levels[0].updates)  # type: ignore[arg-type]
            for index, row in enumerate(range(len(z)) if rows is None else rows.tolist()):
                generator = torch.Generator().manual_seed((row * 2_000_003 + updates) % 2**63)
                if float(torch.rand((), generator=generator)) < self.dropout:
                    depth[index] = int(torch.randint(1, self.num_codebooks + 1, (), generator=generator))
        return depth.to(z.device)


class ScalarQuantizer(nn.Module):
    """Finite scalar quantisation: few channels, each rounded to a few levels; the product is the codebook.

    A channel with L levels is squashed to an interval that holds exactly L whole numbers, and rounded. Even
    L are shifted by a half, as in the paper's appendix A.1. Two learnt maps go from ``dim`` channels to
    ``len(levels)`` and back; vectors are normalised before the first (not in the paper), so that from the first
    step on there is something to round and all codes are within reach.

    Args:
        dim: channels of a vector.
        levels: levels of each channel; the paper's [8, 5, 5, 5] make 1,000 codes, [8, 6, 5] make 240.
    """

    num_codebooks = 1

    def __init__(self, dim: int, levels: Sequence[int]):
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels={list(levels)} must be whole numbers of at least 2, one or more")
        self.dim = dim
        self.codebook_size = math.prod(levels)
        self.down = nn.Linear(dim, len(levels))
        nn.init.normal_(self.down.weight, std=1 / math.sqrt(dim))
        self.up = nn.Linear(len(levels), dim)
        self.sizes: Tensor
        self.strides: Tensor
        sizes = torch.tensor(levels, dtype=torch.int64)
        self.register_buffer("sizes", sizes, persistent=False)
        strides = torch.cat([torch.ones(1, dtype=torch.int64), sizes.cumprod(0)[:-1]])
        self.register_buffer("strides", strides, persistent=False)

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; there is no commitment to pay for, and nothing that follows."""
        mask = _everything(z) if mask is None else mask
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bound(self.down(nn.functional.layer_norm(z.float(), (self.dim,))))
            rounded = bounded + (bounded.round() - bounded).detach()
            tokens = ((rounded.detach().long() + self.sizes // 2) * self.strides).sum(-1).masked_fill(~mask, 0)
            vectors = self.up(rounded / (self.sizes // 2)) * mask[..., None]
            usage = _counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                usage = _total(usage)
        return Quantised(vectors, tokens[..., None], torch.zeros_like(vectors[..., 0]), usage[None])

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        digits = tokens // self.strides % self.sizes - self.sizes // 2
        return self.up(digits.to(self.up.weight.dtype) / (self.sizes // 2))

    def _bound(self, z: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        half = (self.sizes - 1) * (1 + 1e-3) / 2  # a hair more, so that the outermost numbers can be reached
        offset = torch.where(self.sizes % 2 == 0, 0.5, 0.0)
        shift = (offset / half).atanh()
        return (z + shift).tanh() * half - offset


class GroupedQuantizer(nn.Module):
    """Quantisers side by side, each for its own stretch of the channels; their tokens stand in this order.

    All must have codebooks of one size, so that one vocabulary serves.
    """

    def __init__(self, quantizers: Sequence[nn.Module]):
        super().__init__()
        sizes = {int(q.codebook_size) for q in quantizers}  # type: ignore[arg-type]
        if len(sizes) != 1:
            raise ValueError(f"grouped quantisers need codebooks of one size, got {sorted(sizes)}")
        self.groups = nn.ModuleList(quantizers)
        self.dims = [int(q.dim) for q in quantizers]  # type: ignore[arg-type]
        self.dim = sum(self.dims)
        self.codebook_size = sizes.pop()
        self.counts = [int(q.num_codebooks) for q in quantizers]  # type: ignore[arg-type]
        self.num_codebooks = sum(self.counts)

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise each group by itself."""
        made = [q(part, mask, rows) for q, part in zip(self.groups, z.split(self.dims, -1), strict=True)]
        return Quantised(
            torch.cat([m.vectors for m in made], -1),
            torch.cat([m.tokens for m in made], -1),
            torch.stack([m.commitment for m in made]).sum(0),
            torch.cat([m.usage for m in made]),
        )

    def decode(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the groups' vectors, side by side."""
        parts = tokens.split(self.counts, -1)
        return torch.cat([q.decode(part) for q, part in zip(self.groups, parts, strict=True)], -1)  # type: ignore


def _everything(z: Float[Tensor, "b t d"]) -> Bool[Tensor, "b t"]:
    return torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)


def _counts(tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], size: int) -> Float[Tensor, "k"]:
    return torch.zeros(size, device=tokens.device).index_add_(0, tokens.flatten(), mask.flatten().float())


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _total(value: Tensor) -> Tensor:
    """Sum over all ranks."""
    if _distributed():
        value = value.contiguous()
        torch.distributed.all_reduce(value)
    return value


def _gathered(keys: Float[Tensor, "n"], vectors: Float[Tensor, "n d"], number: int) -> tuple[Tensor, Tensor]:
    """Collect up to ``number`` keyed vectors of every rank."""
    if not _distributed():
        return keys, vectors
    keys = nn.functional.pad(keys, (0, number - len(keys)), value=-1.0)
    vectors = nn.functional.pad(vectors, (0, 0, 0, number - len(vectors)))
    world = torch.distributed.get_world_size()
    all_keys = [torch.empty_like(keys) for _ in range(world)]
    all_vectors = [torch.empty_like(vectors) for _ in range(world)]
    torch.distributed.all_gather(all_keys, keys)
    torch.distributed.all_gather(all_vectors, vectors.contiguous())
    return torch.cat(all_keys), torch.cat(all_vectors)
