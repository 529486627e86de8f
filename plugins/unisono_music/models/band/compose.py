"""Composing: all tracks of all pieces word by word in one evaluation, each waiting at bar lines for its piece's others.

A row is a track of a piece. It writes words of its bar until it draws the word that begins the next one; that word is
read when every track of the piece has drawn its own, in the same evaluation, since there the tracks exchange their
states. So a piece takes as many evaluations as the longest track of each bar has words, and one for the start.

Each row has a seed of its own, made of the request's: tracks that shared one would draw alike.

Shapes: k tracks, n pieces, s bars, f controls of a bar and track, v words, r rows (k · n, tracks first).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from unisono.masked import row_seeds
from unisono.verify import Draw

from unisono_music.models.band.grammar import VOID, Grammar
from unisono_music.models.band.network import BandNetwork
from unisono_music.models.band.words import BAR, EDGE, EMPTY


@dataclass(frozen=True, eq=False)
class Plan:
    """A piece to be written: its controls (0 where one is not given), the steps of each bar, and a seed."""

    controls: Int[Tensor, "k s f"]
    bars: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Written:
    """A piece in words: those of each track, and how many evaluations it waited for."""

    words: tuple[tuple[int, ...], ...]
    depth: int

    @property
    def depth_ratio(self) -> float:
        """Evaluations against words: 1 / k where all tracks of every bar are equally long, 1 one after the other."""
        return self.depth / sum(len(track) - 1 for track in self.words)


@torch.no_grad()
def compose(
    network: BandNetwork,
    grammar: Grammar,
    allowed: Bool[Tensor, "k v"],
    plans: Sequence[Plan],
    draw: Draw,
    on_bar: Callable[[int], None] | None = None,
    on_evaluation: Callable[[], None] | None = None,
) -> list[Written]:
    """Write pieces side by side; each is what it would be alone.

    ``allowed`` are the words that a track has, such as its own range of pitches. ``on_bar`` is told how many bars were
    begun by each evaluation that begins any.
    """
    k, n = len(allowed), len(plans)
    device = allowed.device
    counts = torch.tensor([len(plan.bars) for plan in plans], device=device)
    steps = int(counts.max())
    lengths = torch.zeros(n, steps + 1, dtype=torch.int64, device=device)  # one more, behind the last bar
    controls = torch.zeros(k, n, steps, plans[0].controls.shape[2], dtype=torch.int64, device=device)
    for number, plan in enumerate(plans):
        lengths[number, : len(plan.bars)] = torch.tensor(plan.bars)
        controls[:, number, : len(plan.bars)] = plan.controls.to(device)
    kept = torch.arange(steps, device=device) < counts[:, None]
    most = 2 + max(sum(map(grammar.longest, plan.bars)) for plan in plans)
    reading = network.begin(network.read(controls, kept), most)
    seeds = torch.stack([row_seeds(plan.seed, k, device) for plan in plans], 1).flatten()

    words = torch.full((k, n), EDGE, device=device)
    state = torch.full((k, n), VOID, device=device)
    bar = torch.full((k, n), -1, device=device)
    fed = torch.ones(k, n, dtype=torch.bool, device=device)
    opening = torch.zeros(n, dtype=torch.bool, device=device)
    waiting = torch.zeros_like(fed)
    piece = torch.arange(n, device=device).expand(k, n)
    written: list[list[list[int]]] = [[[EDGE] for _ in range(n)] for _ in range(k)]
    depth = torch.zeros(n, dtype=torch.int64, device=device)
    while bool(fed.any()):
        logits = network.step(reading, words, bar.clamp(min=0), fed, opening)
        if on_evaluation is not None:
            on_evaluation()
        depth += fed.any(0)
        length = lengths[piece, bar.clamp(min=0)]
        legal = grammar.legal(bar + 1 == counts, length, state) & allowed[:, None]
        logits = logits.float().masked_fill(~legal, -torch.inf)
        logits = torch.where(legal.any(-1, keepdim=True), logits, 0.0)  # of rows that are at their end
        # The place of a draw is how many words its row has read, which is its own whatever the others do.
        drawn = draw(logits.flatten(0, 1)[:, None], seeds, reading.words.length[:, None])[:, 0].view(k, n)
        for track, number in fed.nonzero().tolist():
            written[track][number].append(int(drawn[track, number]))
        move = grammar.move.to(device)[length, state, drawn]
        words, state = torch.where(fed, drawn, words), torch.where(fed, move, state)
        waiting = (words == BAR) | (words == EMPTY)
        ended = (words == EDGE).all(0)
        opening = waiting.all(0) & ~ended
        bar = bar + opening
        fed = torch.where(opening, True, ~waiting & (words != EDGE))
        if on_bar is not None and (begun := int(opening.sum())):
            on_bar(begun)
    return [
        Written(tuple(tuple(written[track][number]) for track in range(k)), int(depth[number])) for number in range(n)
    ]
