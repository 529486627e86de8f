"""Composing: all tracks of all pieces word by word in one evaluation, each waiting at bar lines for its piece's others.

A row is a track of a piece. It writes words of its bar until it draws the word that begins the next one; that word is
read when every track of the piece has drawn its own, in the same evaluation, since there the tracks exchange their
states. So a piece takes as many evaluations as the longest track of each bar has words, and one for the start.

Each row has a seed of its own, made of the request's: tracks that shared one would draw alike.

Shapes: k tracks, n pieces, s bars, f controls of a bar and track, v words, r rows (k · n, tracks first).
"""

from collections.abc import Sequence
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


class Composition:
    """Pieces that are written side by side, an evaluation at a time; each is what it would be alone.

    ``allowed`` are the words that a track has, such as its own range of pitches. ``finished`` counts the bars of each
    piece that are whole.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: BandNetwork,
        grammar: Grammar,
        allowed: Bool[Tensor, "k v"],
        plans: Sequence[Plan],
        draw: Draw,
    ):
        k, n, device = len(allowed), len(plans), allowed.device
        self.network, self.grammar, self.allowed, self.draw = network, grammar, allowed, draw
        self.counts = torch.tensor([len(plan.bars) for plan in plans], device=device)
        steps = int(self.counts.max())
        self.lengths = torch.zeros(n, steps, dtype=torch.int64, device=device)
        controls = torch.zeros(k, n, steps, plans[0].controls.shape[2], dtype=torch.int64, device=device)
        for number, plan in enumerate(plans):
            self.lengths[number, : len(plan.bars)] = torch.tensor(plan.bars)
            controls[:, number, : len(plan.bars)] = plan.controls.to(device)
        kept = torch.arange(steps, device=device) < self.counts[:, None]
        most = 2 + max(sum(map(grammar.longest, plan.bars)) for plan in plans)
        self.reading = network.begin(network.read(controls, kept), most)
        self.seeds = torch.stack([row_seeds(plan.seed, k, device) for plan in plans], 1).flatten()
        self.words = torch.full((k, n), EDGE, device=device)  # the next ones to be read
        self.state = torch.full((k, n), VOID, device=device)
        self.bar = torch.full((k, n), -1, device=device)
        self.fed = torch.ones(k, n, dtype=torch.bool, device=device)
        self.opening = torch.zeros(n, dtype=torch.bool, device=device)
        self.piece = torch.arange(n, device=device).expand(k, n)
        self.drawn: list[list[list[int]]] = [[[EDGE] for _ in range(k)] for _ in range(n)]
        self.depth = [0] * n
        self.finished = [0] * n

    @property
    def ended(self) -> bool:
        """Whether all pieces are whole."""
        return not bool(self.fed.any())

    @torch.no_grad()
    def step(self) -> None:
        """Evaluate the network once: read a word of each row that waits for nothing, and draw the next."""
        fed, bar = self.fed, self.bar.clamp(min=0)
        logits = self.network.step(self.reading, self.words, bar, fed, self.opening)
        length = self.lengths[self.piece, bar]
        legal = self.grammar.legal(self.bar + 1 == self.counts, length, self.state) & self.allowed[:, None]
        logits = logits.float().masked_fill(~legal, -torch.inf)
        logits = torch.where(legal.any(-1, keepdim=True), logits, 0.0)  # of rows that are at their end
        # The place of a draw is how many words its row has read, which is its own whatever the others do.
        drawn = self.draw(logits.flatten(0, 1)[:, None], self.seeds, self.reading.words.length[:, None])
        drawn = drawn[:, 0].view(fed.shape)
        for track, number in fed.nonzero().tolist():
            self.drawn[number][track].append(int(drawn[track, number]))
        move = self.grammar.move.to(drawn.device)[length, self.state, drawn]
        self.words, self.state = torch.where(fed, drawn, self.words), torch.where(fed, move, self.state)
        waiting = (self.words == BAR) | (self.words == EMPTY)
        ended = (self.words == EDGE).all(0)
        self.depth = [count + own for count, own in zip(self.depth, fed.any(0).tolist(), strict=True)]
        self.opening = waiting.all(0)
        self.bar = self.bar + self.opening
        self.fed = torch.where(self.opening, True, ~waiting & (self.words != EDGE))
        self.finished = torch.where(ended, self.counts, self.bar[0].clamp(min=0)).tolist()

    def written(self) -> list[Written]:
        """Return the words so far; of bars that are not finished, some."""
        return [Written(tuple(map(tuple, words)), depth) for words, depth in zip(self.drawn, self.depth, strict=True)]
