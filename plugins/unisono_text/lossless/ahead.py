"""Places asked ahead: masks behind places of a text, all in one evaluation, as PaSS, SPACE and LUD are trained.

::

    x_1 … x_c │ M M M     asked behind place c: x_{c+2}, x_{c+3}, x_{c+4}
    x_1 … x_d │ M M M     and behind place d, in the same evaluation

The text is read once; the masks of every place stand behind it, each at the position of the token that it guesses
from. A mask sees what the text has up to its place, and the masks before it there; nothing sees the masks of another
place, and the text sees none. So each guess is what an evaluation of its own would give.

Shapes: b batch, t tokens, p places, k masks of a place. Masks: True = keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.data import derive_seed


@dataclass(frozen=True)
class Asked:
    """What is read behind a text, and what is wanted there.

    Attributes:
        positions: of the text and the masks.
        visible: what each of them sees.
        wanted: the token that each mask is to guess; any, where there is none.
        there: whether there is one that is learnt.
        step: the number of a mask at its place, from 0.
    """

    positions: Int[Tensor, "b t+pk"]
    visible: Bool[Tensor, "b t+pk t+pk"]
    wanted: Int[Tensor, "b pk"]
    there: Bool[Tensor, "b pk"]
    step: Int[Tensor, " pk"]


def ask(batch: dict[str, Any], learnt: Bool[Tensor, "b t"], places: Int[Tensor, "b p"], count: int) -> Asked:
    """Return ``count`` masks behind each place of a batch; what stands at place c there says token c itself."""
    tokens, device = batch["tokens"], batch["tokens"].device
    b, t = tokens.shape
    num = places.shape[1]
    # Behind input i comes token i; mask j at place i guesses token i + 1 + j.
    asked = (places[:, :, None] + 1 + torch.arange(count, device=device)).flatten(1)
    text = torch.arange(t, device=device).expand(b, t)
    owner = torch.arange(num, device=device).repeat_interleave(count)
    step = torch.arange(count, device=device).repeat(num)
    visible = torch.zeros(b, t + num * count, t + num * count, dtype=torch.bool, device=device)
    visible[:, :t, :t] = torch.ones(t, t, dtype=torch.bool, device=device).tril()
    visible[:, t:, :t] = text[:, None] <= places.repeat_interleave(count, 1)[:, :, None]
    # Those before it at its own place: among them positions alone tell which.
    visible[:, t:, t:] = (owner[:, None] == owner) & (step <= step[:, None])
    at = asked.clamp_max(t - 1)
    there = (asked < t) & learnt.gather(1, at)
    documents = batch.get("documents")
    if documents is not None:
        mine = documents.gather(1, places).repeat_interleave(count, 1)
        visible[:, :t, :t] &= documents[:, :, None] == documents[:, None]
        visible[:, t:, :t] &= mine[:, :, None] == documents[:, None]
        there = there & (documents.gather(1, at) == mine)
    return Asked(torch.cat([text, asked], 1), visible, tokens.gather(1, at), there, step)


def draw_places(fit: Bool[Tensor, "b t"], count: int, seeds: Sequence[int]) -> Int[Tensor, "b p"]:
    """Return places of each row, evenly drawn among those that fit, by the row's own seed; 0 where none fits."""
    drawn = []
    for row, seed in zip(fit.cpu(), seeds, strict=True):
        generator = torch.Generator().manual_seed(derive_seed("places", seed))
        number = torch.rand(count, generator=generator)
        where = row.nonzero()[:, 0]
        drawn.append(where[(number * len(where)).long().clamp_max(len(where) - 1)] if len(where) else number.long())
    return torch.stack(drawn).to(fit.device)


def within_units(asked: Asked, sure: Bool[Tensor, "b t"], count: int) -> Bool[Tensor, "b pk"]:
    """Return which masks are asked of lexical units, the runs of tokens that a model is sure of.

    At a place whose own token is sure, the masks of the tokens that go on with its unit, and of the one behind it.
    """
    t = sure.shape[1]
    number = asked.positions[:, t:].unflatten(1, (-1, count))
    first = number[:, :, :1] - 1
    before = torch.cat([first, number[:, :, :-1]], 2)  # the token before the one that a mask guesses
    known = sure.gather(1, before.clamp_max(t - 1).flatten(1)).unflatten(1, (-1, count)) & (before < t)
    return known.long().cumprod(2).bool().flatten(1)


def embedded(
    tokens: Int[Tensor, "b n"], embedding: nn.Embedding, masks: Float[Tensor, "k d"], first: int
) -> Float[Tensor, "b n d"]:
    """Return vectors of tokens, of which the ids from ``first`` on are the masks'."""
    number = tokens - first
    known = embedding(torch.where(number < 0, tokens, 0))
    return torch.where(number[:, :, None] < 0, known, F.embedding(number.clamp_min(0), masks).to(known.dtype))
