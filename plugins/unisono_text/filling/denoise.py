"""Denoiser: a language model as ``unisono.masked`` sees it; the distribution at each position from what is known.

::

    Denoiser      the whole canvas in each evaluation
    Remembering   some positions, with the keys and values of others that a policy has kept
    Unprompted    the denoiser with the prompt hidden, or another prompt in its place: what guidance leads away from
    CausalPrediction       an autoregressive model's word on each position, from all that stands before it

Shapes: b batch, l positions, k computed positions, v vocabulary. Masks: True = keep.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from unisono.masked import Canvas, Memory, Part, at_sites


class Denoiser:
    """The network over whole canvases, padding unseen; ``lengths`` are the rows'."""

    def __init__(self, model: Any, lengths: Int[Tensor, " b"], longest: int):
        self.model, self.lengths, self.longest = model, lengths, longest
        self.padded = bool((lengths < longest).any())

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        place = torch.arange(self.longest, device=tokens.device)
        inside = place < self.lengths[:, None] if self.padded else None
        logits = self.model.predict(torch.where(known, tokens, self.model.mask_id), inside)
        return at_sites(logits, query)

    def rows(self, index: Int[Tensor, " n"]) -> "Denoiser":
        return Denoiser(self.model, self.lengths[index], self.longest)


class Remembering:
    """The network over some positions, attending to the kept keys and values of others: for `masked.Cached`.

    ``sealed`` gives for each row how many leading positions see each other only, so that nothing which follows
    changes them (Dimple's prefilling, arXiv:2505.16990).
    """

    def __init__(self, model: Any, sealed: Int[Tensor, " b"] | None = None):
        self.model, self.sealed = model, sealed

    def empty(self, batch: int, length: int, device: torch.device) -> Shaped[Tensor, "b l n 2 h d"]:
        """Room for keys and values."""
        layers, heads, channels = self.model.kv_shape
        kind = next(self.model.parameters()).dtype
        return torch.zeros(batch, length, layers, 2, heads, channels, dtype=kind, device=device)

    def __call__(self, part: Part, memory: Memory) -> tuple[Float[Tensor, "b k v"], Shaped[Tensor, "b k n 2 h d"]]:
        sites, kept = part.sites, torch.arange(memory.valid.shape[1], device=part.sites.device)
        old = self.allowed(sites, kept.expand(len(sites), -1)) & memory.valid[:, None]
        # Everyone sees itself, what is no position too: attention over nothing is NaN.
        itself = torch.eye(sites.shape[1], dtype=torch.bool, device=sites.device)
        new = (self.allowed(sites, sites) & part.live[:, None]) | itself
        store = _Store(memory.kv)
        tokens = torch.where(part.known, part.tokens, self.model.mask_id)
        logits = self.model.predict(tokens, torch.cat([old, new], 2), sites, store)
        return logits, store.made()

    def allowed(self, sites: Int[Tensor, "b k"], keys: Int[Tensor, "b m"]) -> Bool[Tensor, "b k m"]:
        """Which keys each position may see by the network's own attention, and by the seal."""
        query, key = sites[:, :, None], keys[:, None]
        size = self.model.block_size
        may = key // size <= query // size if size else torch.ones_like(key <= query)
        if self.sealed is not None:
            border = self.sealed[:, None, None]
            may = may & ((query >= border) | (key < border))
        return may

    def rows(self, index: Int[Tensor, " n"]) -> "Remembering":
        return Remembering(self.model, None if self.sealed is None else self.sealed[index])


class _Store:
    """Hands each layer what is kept of it, and gathers what it makes."""

    def __init__(self, kv: Shaped[Tensor, "b l n 2 h d"]):
        self.kv = kv
        self.fresh: list[Tensor] = []

    def append(
        self, layer: int, key: Float[Tensor, "b h k d"], value: Float[Tensor, "b h k d"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Take a layer's new keys and values, and return the kept ones with the new behind them."""
        self.fresh.append(rearrange([key, value], "n b h k d -> b k n h d"))
        old = rearrange(self.kv[:, :, layer].to(key.dtype), "b m n h d -> b n h m d")
        return torch.cat([old[:, 0], key], 2), torch.cat([old[:, 1], value], 2)

    def made(self) -> Shaped[Tensor, "b k n 2 h d"]:
        """The new keys and values of all layers."""
        return torch.stack(self.fresh, 2).to(self.kv.dtype)


@dataclass(frozen=True)
class Prefill:
    """Compute what is given at the beginning of each row once, then never again: exact where it is sealed.

    Dimple's prefilling (arXiv:2505.16990): the prompt does not see the answer.
    """

    exact: ClassVar[bool] = True

    def __call__(
        self, canvas: Canvas, valid: Bool[Tensor, "b l"], note: Int[Tensor, " b"], wanted: Bool[Tensor, "b l"]
    ) -> tuple[Bool[Tensor, "b l"], Bool[Tensor, "b l"], Int[Tensor, " b"]]:
        lead = canvas.frozen.long().cumprod(1).bool() & ~canvas.padding
        write = lead & ~valid
        return (~lead & ~canvas.padding) | write, write, note


class Unprompted:
    """What the network would say without the prompt, or with another one: its positions follow that one's.

    Args:
        prompts: how many leading positions of each row are the prompt.
        instead: the tokens of each row's other prompt; None hides the prompt behind masks, as LLaDA does.
    """

    def __init__(
        self,
        model: Any,
        lengths: Int[Tensor, " b"],
        longest: int,
        prompts: Int[Tensor, " b"],
        instead: list[list[int]] | None = None,
    ):
        self.model, self.lengths, self.longest, self.prompts, self.instead = model, lengths, longest, prompts, instead

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        place = torch.arange(self.longest, device=tokens.device)
        if self.instead is None:
            hidden = place < self.prompts[:, None]
            return Denoiser(self.model, self.lengths, self.longest)(tokens, known & ~hidden, query)
        sizes = torch.tensor([len(prompt) for prompt in self.instead], device=tokens.device)
        moved = self.lengths - self.prompts + sizes
        longest = int(moved.max())
        there = torch.arange(longest, device=tokens.device)
        # Where each position of the other canvas comes from, behind its prompt.
        source = (there - sizes[:, None] + self.prompts[:, None]).clamp(0, self.longest - 1)
        other, seen = tokens.gather(1, source), known.gather(1, source)
        for row, prompt in enumerate(self.instead):
            other[row, : len(prompt)] = torch.tensor(prompt, dtype=torch.int64, device=tokens.device)
            seen[row, : len(prompt)] = True
        logits = Denoiser(self.model, moved, longest)(other, seen, None)
        back = (place - self.prompts[:, None] + sizes[:, None]).clamp(0, longest - 1)
        return at_sites(at_sites(logits, back), query)

    def rows(self, index: Int[Tensor, " n"]) -> "Unprompted":
        instead = None if self.instead is None else [self.instead[i] for i in index.tolist()]
        return Unprompted(self.model, self.lengths[index], self.longest, self.prompts[index], instead)


class CausalPrediction:
    """What an autoregressive model says of each position, given all before it; of use where all of that is known."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        start = torch.full_like(tokens[:, :1], self.model.start_id)
        return at_sites(self.model.predict(torch.cat([start, tokens[:, :-1]], 1)), query)

    def rows(self, index: Int[Tensor, " n"]) -> "CausalPrediction":
        return self
