"""Tagged texts: read from a file of JSON lines, or made by a subclass; as items with positions and branches.

A line of a file is ``{"prompt": "1:3+4;2:9+5?", "text": "<Parallel><Goal>…"}``: what is given, and what is learnt.

Batches: ``tokens`` int64 [b, t]; ``positions`` [b, t]; ``blocks`` and ``branches`` [b, t, l], −1 where none; ``learnt``
bool [b, t], the tokens that a model chooses itself; ``lengths`` [b]; ``row`` [b].
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from unisono.data import Audit, DataModule, collate_items, hold_out
from unisono.errors import DataError, RequestError
from unisono.files import Fault, read_json_lines

from unisono_branches.corpus.facts import TaggedFacts
from unisono_branches.grammar.read import NOWHERE, Reading, read
from unisono_branches.grammar.tags import END, TAGS, pieces_of

NUM_SAMPLES = 4


class Example(BaseModel):
    """A prompt, and the text that answers it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(min_length=1)
    text: str = Field(min_length=1)


class TaggedData(DataModule):
    """Tagged texts of a file.

    Args:
        root: a file of JSON lines.
        context: tokens of a text at most, its prompt and end mark among them; longer ones are dropped.
        batch_size: texts per step over all processes.
        val_size: texts held out, chosen by their prompts.
        num_workers: loading processes per rank.
    """

    def __init__(
        self, *, root: str, context: int = 512, batch_size: int = 16, val_size: int = 64, num_workers: int = 0
    ):
        super().__init__(batch_size, num_workers)
        self.root = root
        check_least({"context": (context, 8), "val_size": (val_size, 0)})
        self.context, self.val_size = context, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("texts")
        kept: dict[str, Item] = {}
        for name, example in self.examples(audit):
            if example.prompt in kept:
                audit.drop(name, "same prompt", example.prompt[:40])
                continue
            try:
                reading = read([*pieces_of(example.prompt + example.text), END])
            except RequestError as error:
                audit.drop(name, "not well formed", str(error))
                continue
            if len(reading.pieces) > self.context:
                audit.drop(name, "too long", f"{len(reading.pieces)} tokens, at most {self.context}")
                continue
            kept[example.prompt] = Item.of(example, reading)
            audit.keep(name, len(reading.pieces), "tokens", f"{reading.num_branches} branches")
        if not kept:
            raise DataError(
                "no text is left to train on: see the reasons in unisono data, and give more or a larger context",
                code="empty",
                path="data.root",
                value=audit.reasons,
            )
        held = hold_out(dict.fromkeys(kept, 1), self.val_size)
        train = [item for prompt, item in kept.items() if prompt not in held]
        characters = {character for item in train for character in item.characters}
        val = []
        for prompt in sorted(held):
            unknown = sorted(kept[prompt].characters - characters)
            if unknown:
                audit.drop(prompt, "unknown character", f"no text of the training part has {unknown[0]!r}")
            else:
                val.append(kept[prompt])
        shown = sorted((item.example.prompt for item in val or train), key=len)
        self.facts = TaggedFacts(
            characters="".join(sorted(characters)),
            context=self.context,
            max_branches=max(1, *(int(item.branches.max()) + 1 for item in train)),
            max_nesting=max(1, *(int((item.blocks != NOWHERE).sum(1).max()) for item in train)),
            sample_texts=tuple(shown[:: max(1, len(shown) // NUM_SAMPLES)][:NUM_SAMPLES]),
        )
        self.train_set, self.val_set = TaggedSet(train, self.facts), TaggedSet(val, self.facts)
        return self.finish(audit)

    def examples(self, audit: Audit) -> Iterable[tuple[str, Example]]:
        """Yield the name of each text, and the text; what is no text is a row of the audit."""
        for number, line in read_json_lines(self.root):
            if isinstance(line, Fault):
                audit.drop(f"line {number}", line.reason, line.detail)
                continue
            try:
                yield f"line {number}", Example(**line)
            except ValidationError as error:
                first = error.errors()[0]
                audit.drop(f"line {number}", "wrong fields", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items, padding={"blocks": NOWHERE, "branches": NOWHERE, "learnt": False})


@dataclass(frozen=True, eq=False)
class Item:
    """A text with what its tags say of each token, in few bytes: there may be many texts."""

    example: Example
    positions: np.ndarray
    blocks: np.ndarray
    branches: np.ndarray
    learnt: np.ndarray

    @classmethod
    def of(cls, example: Example, reading: Reading) -> "Item":
        """Take what is needed of a reading of prompt, text and end mark."""
        learnt = np.array(reading.free)
        learnt[: len(pieces_of(example.prompt))] = False
        positions, blocks = np.array(reading.positions, np.int32), np.array(reading.blocks, np.int16)
        return cls(example, positions, blocks, np.array(reading.branches, np.int8), learnt)

    @property
    def pieces(self) -> list[str]:
        """Tags and characters."""
        return [*pieces_of(self.example.prompt + self.example.text), END]

    @property
    def characters(self) -> set[str]:
        """Those that it holds."""
        return set(self.pieces) - set(TAGS)


class TaggedSet:
    """Items of tagged texts, with the texts themselves in ``examples``."""

    def __init__(self, items: list[Item], facts: TaggedFacts):
        self.items, self.facts = items, facts

    @property
    def examples(self) -> list[Example]:
        """Prompts and texts."""
        return [item.example for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def size(self, index: int) -> int:
        return len(self.items[index].positions)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        item = self.items[index]
        return {
            "tokens": torch.tensor(self.facts.encode(item.pieces)),
            "positions": torch.from_numpy(item.positions).long(),
            "blocks": torch.from_numpy(item.blocks).long(),
            "branches": torch.from_numpy(item.branches).long(),
            "learnt": torch.from_numpy(item.learnt),
            "lengths": len(item.positions),
        }


def check_least(values: dict[str, tuple[int, int]]) -> None:
    """Raise ``DataError`` for a number below its least, each given as (value, least)."""
    for name, (value, least) in values.items():
        if value < least:
            message = f"data.{name}={value} must be at least {least}"
            raise DataError(message, code="range", path=f"data.{name}", value=value)
