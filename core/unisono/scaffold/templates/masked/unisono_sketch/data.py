"""Rows: tokens that follow a pattern, made on the spot or read from a file of JSON lines.

A line of a file is ``{"pattern": "up", "tokens": [3, 4, 5, 6]}``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from unisono.data import Audit, DataModule, Facts, collate_items, hold_out
from unisono.errors import DataError
from unisono.files import Fault, read_json_lines

MAX_LENGTH = 256
"""Tokens of the longest row that is read or made."""

RULES = {"up": lambda i: i, "down": lambda i: -i, "zigzag": lambda i: i % 2, "pairs": lambda i: i // 2}
"""By how much a token of a made row differs from the first, by its place."""


@dataclass(frozen=True, kw_only=True)
class RowFacts(Facts):
    """What a model must know of the rows: the names of the patterns, and how many tokens there are."""

    patterns: tuple[str, ...]
    num_tokens: int


class Example(BaseModel):
    """One row: its pattern's name, and tokens in [0, ``num_tokens``)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    pattern: str = Field(min_length=1)
    tokens: list[int] = Field(min_length=1, max_length=MAX_LENGTH)


class Rows(DataModule):
    """Rows of a file, or made ones without a file.

    Args:
        path: a file of JSON lines; empty makes rows.
        num_tokens: how many tokens there are.
        num_items: rows that are made to train on.
        val_size: rows held out.
        batch_size: rows per step over all processes.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        path: str = "",
        num_tokens: int = 16,
        num_items: int = 256,
        val_size: int = 16,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        for name, value, least in (
            ("num_tokens", num_tokens, 2),
            ("num_items", num_items, 1),
            ("val_size", val_size, 0),
        ):
            if value < least:
                message = f"data.{name}={value} must be at least {least}"
                raise DataError(message, code="range", path=f"data.{name}", value=value)
        self.path, self.num_tokens = path, num_tokens
        self.num_items, self.val_size = num_items, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("rows")
        rows = dict(self._read(audit) if self.path else self._made())
        if not rows:
            message = f"{self.path!r} has no row that can be used: unisono data says why each was dropped"
            raise DataError(message, code="empty", path=self.path)
        for name, row in rows.items():
            audit.keep(name, len(row.tokens), "tokens", row.pattern)
        held = hold_out(dict.fromkeys(rows, 1), self.val_size)
        train = [row for name, row in rows.items() if name not in held]
        self.patterns = tuple(sorted({row.pattern for row in train}))  # facts are those of the training part
        for name in sorted(held):
            if rows[name].pattern not in self.patterns:
                audit.drop(name, "unknown pattern", f"no row of the training part has {rows[name].pattern!r}")
                held.remove(name)
        self.train_set = RowSet(train, self.patterns)
        self.val_set = RowSet([row for name, row in rows.items() if name in held], self.patterns)
        return self.finish(audit)

    def describe(self) -> RowFacts:
        return RowFacts(patterns=self.patterns, num_tokens=self.num_tokens)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)

    def _made(self) -> Iterator[tuple[str, Example]]:
        for number in range(self.num_items + self.val_size):
            yield f"row-{number}", make_row(number, self.num_tokens)

    def _read(self, audit: Audit) -> Iterator[tuple[str, Example]]:
        for number, line in read_json_lines(self.path):
            name = f"line {number}"
            if isinstance(line, Fault):
                audit.drop(name, line.reason, line.detail)
                continue
            try:
                row = Example(**line)
            except ValidationError as error:
                first = error.errors()[0]
                audit.drop(name, "wrong fields", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
                continue
            wrong = [token for token in row.tokens if not 0 <= token < self.num_tokens]
            if wrong:
                audit.drop(name, "unknown token", f"{wrong[0]} is not in [0, {self.num_tokens})")
                continue
            yield name, row


class RowSet:
    """Items ``tokens`` [n], ``length`` and ``pattern``, the number of its name."""

    def __init__(self, rows: list[Example], patterns: tuple[str, ...]):
        self.rows, self.patterns = rows, patterns

    def __len__(self) -> int:
        return len(self.rows)

    def size(self, index: int) -> int:
        return len(self.rows[index].tokens)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor | int]:
        row = self.rows[index]
        pattern = self.patterns.index(row.pattern)
        return {"tokens": torch.tensor(row.tokens), "length": len(row.tokens), "pattern": pattern}


def make_row(number: int, num_tokens: int) -> Example:
    """Make the row of a number: 8 to 24 tokens, the first one drawn, the others by the pattern's rule."""
    generator = torch.Generator().manual_seed(number)
    length, first = (int(torch.randint(*limits, (), generator=generator)) for limits in ((8, 25), (0, num_tokens)))
    pattern = list(RULES)[number % len(RULES)]
    return Example(pattern=pattern, tokens=[(first + RULES[pattern](i)) % num_tokens for i in range(length)])
