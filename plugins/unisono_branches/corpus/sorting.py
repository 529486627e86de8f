"""Sorting: lists of letters that one worker sorts, or two from both ends at once; made on the spot.

::

    dacbe?      worker A   a;  b;  c;        the smallest first, and the middle one
                worker B   e;  d;            the largest first
                sorted     abc + de

Two workers take a letter each in every round, and stop when nothing is left between what both have written: each must
read what the other writes. A step is a letter and its ``;``.

Batches: ``tokens`` int64 [b, t], the list, then what the workers write, in the order of time; ``owners`` [b, t], whose
each is, −1 for the list's and ``PADDING`` for padding; ``targets`` [b, t], what its owner writes next, −100 where that
is given or follows; ``row`` [b].
"""

from typing import Any

import torch
from torch import Tensor
from unisono.data import Audit, DataModule, collate_items, derive_seed, hold_out
from unisono.errors import DataError, RequestError

from unisono_branches.corpus.facts import SortingFacts
from unisono_branches.corpus.tagged import check_least

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ASK, STEP, STOP = "?", ";", "."
HEADERS = {1: ("S",), 2: ("A", "B")}
"""What the blocks of the workers begin with, by how many there are."""
VOCABULARY = (*LETTERS, ASK, STEP, STOP, "S", "A", "B")
NUMBERS = {piece: number for number, piece in enumerate(VOCABULARY)}
GIVEN, PADDING = -1, -2
"""Owners of the list's tokens, and of padding."""
NUM_SAMPLES = 3


def shares(letters: str, workers: int) -> list[str]:
    """Return what each worker writes of a list, in its order."""
    ordered = "".join(sorted(letters))
    if workers == 1:
        return [ordered]
    middle = (len(ordered) + 1) // 2
    return [ordered[:middle], ordered[middle:][::-1]]


def merged(written: list[str]) -> str:
    """Return what workers have written as one list."""
    return written[0] + "".join(own[::-1] for own in written[1:])


def check_list(text: str, max_items: int) -> None:
    """Raise ``RequestError`` for what is no list of different letters, or too long a one."""
    wrong = [letter for letter in text if letter not in LETTERS]
    if wrong:
        raise RequestError(
            f"text holds {wrong[0]!r}: use letters from a to z", code="value", path="text", value=wrong[0]
        )
    twice = [letter for letter in text if text.count(letter) > 1]
    if twice:
        raise RequestError(
            f"text holds {twice[0]!r} twice: give each letter once", code="value", path="text", value=twice[0]
        )
    if len(text) > max_items:
        raise RequestError(
            f"{len(text)} letters, the model sorts at most {max_items}: give fewer",
            code="limit",
            path="text",
            value=len(text),
        )


class SortingData(DataModule):
    """Lists of different letters, each for one worker and for two.

    Args:
        num_items: lists to make for training.
        max_items: letters of a list at most.
        batch_size: of a step over all processes.
        val_size: lists held out, chosen by what they read.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        *,
        num_items: int = 20000,
        max_items: int = 12,
        batch_size: int = 32,
        val_size: int = 200,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        check_least({"num_items": (num_items, 1), "max_items": (max_items, 2), "val_size": (val_size, 0)})
        if max_items > len(LETTERS):
            raise DataError(
                f"data.max_items={max_items} must be at most {len(LETTERS)}, the letters that there are",
                code="range",
                path="data.max_items",
                value=max_items,
            )
        self.num_items, self.val_size, self.max_items = num_items, val_size, max_items

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("lists")
        made: dict[str, int] = {}
        for number in range(self.num_items + self.val_size):
            letters = make_list(number, self.max_items)
            if letters in made:
                audit.drop(f"list {number}", "same list", letters)
            else:
                made[letters] = len(letters)
                audit.keep(f"list {number}", len(letters), "letters", f"{len(letters)} letters")
        held = hold_out(dict.fromkeys(made, 1), self.val_size)
        train, val = ([letters for letters in made if (letters in held) == part] for part in (False, True))
        self.train_set, self.val_set = SortingSet(train), SortingSet(val)
        shown = sorted(val or train, key=lambda letters: (len(letters), letters))
        self.facts = SortingFacts(
            letters=LETTERS,
            max_items=self.max_items,
            sample_texts=tuple(shown[:: max(1, len(shown) // NUM_SAMPLES)][:NUM_SAMPLES]),
        )
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items, padding={"owners": PADDING, "targets": -100})


class SortingSet:
    """Items: each list first for one worker, then for two."""

    def __init__(self, lists: list[str]):
        self.lists = lists

    def __len__(self) -> int:
        return 2 * len(self.lists)

    def size(self, index: int) -> int:
        return len(self.lists[index // 2])

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        return transcript(self.lists[index // 2], 1 + index % 2)


def make_list(seed: int, max_items: int) -> str:
    """Make the list of a seed: 2 to ``max_items`` different letters."""
    generator = torch.Generator().manual_seed(derive_seed("sorting", seed))
    count = int(torch.randint(2, max_items + 1, (), generator=generator))
    return "".join(LETTERS[at] for at in torch.randperm(len(LETTERS), generator=generator)[:count].tolist())


def transcript(letters: str, workers: int) -> dict[str, Tensor]:
    """Return what workers read and write when they sort a list, in the order of time."""
    tokens = [NUMBERS[piece] for piece in (*letters, ASK)]
    owners, targets = [GIVEN] * len(tokens), [-100] * len(tokens)
    written = []
    for header, own in zip(HEADERS[workers], shares(letters, workers), strict=True):
        pieces = [header, *(piece for letter in own for piece in (letter, STEP))]
        follows = [*pieces[1:], STOP]
        written.append(list(zip(pieces, follows, strict=True)))
    for time in range(max(map(len, written))):
        for owner, pairs in enumerate(written):
            if time < len(pairs):
                piece, following = pairs[time]
                tokens.append(NUMBERS[piece])
                owners.append(owner)
                targets.append(-100 if following == STEP else NUMBERS[following])
    return {"tokens": torch.tensor(tokens), "owners": torch.tensor(owners), "targets": torch.tensor(targets)}
