"""Letters: texts with the line that each ought to become, made on the spot or read from a file of JSON lines.

A line of a file is ``{"text": "ab", "durations": [2, 3], "values": [0.1, 0.1, 0.9, 0.9, 0.9]}``: how many frames each
letter lasts, and the value of every frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor
from unisono.data import Audit, DataModule, Facts, collate_items, hold_out
from unisono.errors import DataError
from unisono.files import Fault, read_json_lines

LETTERS = " abcdefghijklmnopqrstuvwxyz"
"""Of made texts; a file has its own."""

MAX_LETTERS, MAX_DURATION = 1000, 1000
"""Letters of a text, and frames of a letter, that are read."""


@dataclass(frozen=True, kw_only=True)
class LetterFacts(Facts):
    """What a model must know of the texts: which letters there are, and the longest frames of one."""

    letters: str
    max_duration: int


class Example(BaseModel):
    """A text, how many frames each of its letters lasts, and the value of each frame."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    text: str = Field(min_length=1, max_length=MAX_LETTERS)
    durations: list[int]
    values: list[float]

    @model_validator(mode="after")
    def _all_of_one_length(self) -> "Example":
        if len(self.durations) != len(self.text):
            raise ValueError(f"{len(self.text)} letters have {len(self.durations)} durations")
        if not all(1 <= frames <= MAX_DURATION for frames in self.durations):
            raise ValueError(f"a duration is not from 1 to {MAX_DURATION} frames")
        if sum(self.durations) != len(self.values):
            raise ValueError(f"the durations sum to {sum(self.durations)} frames, there are {len(self.values)} values")
        return self


class Letters(DataModule):
    """Texts of a file, or made ones without a file.

    Args:
        path: a file of JSON lines; empty makes texts.
        num_items: texts that are made to train on.
        val_size: texts held out.
        batch_size: texts per step over all processes.
        num_workers: loading processes per rank.
    """

    def __init__(
        self, path: str = "", num_items: int = 256, val_size: int = 16, batch_size: int = 16, num_workers: int = 0
    ):
        super().__init__(batch_size, num_workers)
        for name, value, least in (("num_items", num_items, 1), ("val_size", val_size, 0)):
            if value < least:
                message = f"data.{name}={value} must be at least {least}"
                raise DataError(message, code="range", path=f"data.{name}", value=value)
        self.path, self.num_items, self.val_size = path, num_items, val_size

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("texts")
        found = dict(self._read(audit) if self.path else self._made())
        if not found:
            message = f"{self.path!r} has no text that can be used: unisono data says why each was dropped"
            raise DataError(message, code="empty", path=self.path)
        for name, example in found.items():
            audit.keep(name, len(example.values), "frames")
        held = hold_out(dict.fromkeys(found, 1), self.val_size)
        train = [example for name, example in found.items() if name not in held]
        letters = "".join(sorted({letter for example in train for letter in example.text}))
        longest = max(frames for example in train for frames in example.durations)
        self.facts = LetterFacts(letters=letters, max_duration=longest)  # facts are those of the training part
        for name in sorted(held):
            if unknown := sorted(set(found[name].text) - set(letters)):
                audit.drop(name, "unknown letter", f"no text of the training part has {unknown[0]!r}")
                held.remove(name)
        self.train_set = TextSet(train, letters)
        self.val_set = TextSet([example for name, example in found.items() if name in held], letters)
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)

    def _made(self) -> Iterator[tuple[str, Example]]:
        for number in range(self.num_items + self.val_size):
            yield f"text-{number}", make_text(number)

    def _read(self, audit: Audit) -> Iterator[tuple[str, Example]]:
        for number, line in read_json_lines(self.path):
            name = f"line {number}"
            if isinstance(line, Fault):
                audit.drop(name, line.reason, line.detail)
                continue
            try:
                yield name, Example(**line)
            except ValidationError as error:
                first = error.errors()[0]
                audit.drop(name, "wrong fields", f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": "))


class TextSet:
    """Items ``letters`` [s], ``durations`` [s] in frames, and ``values`` [t]."""

    def __init__(self, examples: list[Example], letters: str):
        self.examples, self.letters = examples, letters

    def __len__(self) -> int:
        return len(self.examples)

    def size(self, index: int) -> int:
        return len(self.examples[index].values)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        example = self.examples[index]
        return {
            "letters": torch.tensor([self.letters.index(letter) for letter in example.text]),
            "durations": torch.tensor(example.durations),
            "values": torch.tensor(example.values),
        }


def make_text(number: int) -> Example:
    """Make the text of a number: vowels last 12 frames, others 5, one more beside a vowel; its letter sets the height.

    Where two letters meet, the line is smoothed over 3 frames.
    """
    generator = torch.Generator().manual_seed(number)
    length = int(torch.randint(4, 21, (), generator=generator))
    letters = torch.randint(len(LETTERS), (length,), generator=generator)
    vowel = torch.isin(letters, torch.tensor([LETTERS.index(v) for v in "aeiou"])).long()
    beside = torch.nn.functional.pad(vowel, (1, 1))
    durations = 5 + 7 * vowel + torch.maximum(beside[:-2], beside[2:])
    values = (letters / len(LETTERS)).repeat_interleave(durations)
    padded = torch.cat([values[:1], values, values[-1:]])
    text = "".join(LETTERS[letter] for letter in letters.tolist())
    return Example(text=text, durations=durations.tolist(), values=padded.unfold(0, 3, 1).mean(1).tolist())
