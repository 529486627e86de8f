"""Letters with the durations and pitches that they ought to have; made on the spot.

Shapes: s letters.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from unisono.data import Audit, DataModule, Facts, collate_items

LETTERS = " abcdefghijklmnopqrstuvwxyz"
SAMPLE_RATE = 16000
HOP = 160


@dataclass(frozen=True, kw_only=True)
class HumFacts(Facts):
    """What a model must know of letters: which there are, and how long and fine a frame is."""

    letters: str
    sample_rate: int
    hop: int


class Letters(DataModule):
    """Random letters: vowels last 12 frames, others 5, a vowel's neighbour one more; each has its semitone.

    Args:
        num_items: texts to train on.
        batch_size: texts per step over all processes.
        val_size: texts held out.
        num_workers: loading processes per rank.
    """

    def __init__(self, num_items: int = 256, batch_size: int = 16, val_size: int = 8, num_workers: int = 0):
        super().__init__(batch_size, num_workers)
        self.num_items = num_items
        self.val_size = val_size

    def prepare(self, progress: bool = True) -> Audit:
        texts = [make_text(number) for number in range(self.num_items + self.val_size)]
        self.train_set, self.val_set = TextSet(texts[: self.num_items]), TextSet(texts[self.num_items :])
        audit = Audit("texts")
        for number in range(self.num_items):
            durations = self.train_set.item(number, torch.Generator())["durations"]
            audit.keep(f"text-{number}", int(durations.sum()) * HOP / SAMPLE_RATE, "seconds")
        return self.finish(audit)

    def describe(self) -> HumFacts:
        return HumFacts(letters=LETTERS, sample_rate=SAMPLE_RATE, hop=HOP)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class TextSet:
    """Items ``letters``, ``durations`` (frames) and ``log_hz`` (relative to 220 Hz), each [s]."""

    def __init__(self, texts: list[Tensor]):
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def size(self, index: int) -> int:
        return len(self.texts[index])

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        letters = self.texts[index]
        vowel = torch.isin(letters, torch.tensor([LETTERS.index(v) for v in "aeiou"])).long()
        beside = torch.nn.functional.pad(vowel, (1, 1))
        durations = 5 + 7 * vowel + torch.maximum(beside[:-2], beside[2:])
        return {"letters": letters, "durations": durations, "log_hz": letters * (math.log(2) / 12)}


def make_text(number: int) -> Tensor:
    """Make the text of a number: 4 to 20 letters, as indices."""
    generator = torch.Generator().manual_seed(number)
    length = int(torch.randint(4, 21, (), generator=generator))
    return torch.randint(len(LETTERS), (length,), generator=generator)
