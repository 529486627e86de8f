"""Reading: tokens to texts; what a canvas reads while it fills and when it is full.

What was given comes out as it was given, character by character; a blank reads as its tokens up to the end token.

Shapes: l positions. Masks: True = known.
"""

import json
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor
from unisono import Text

from unisono_text.filling.request import Task
from unisono_text.filling.template import Blank, normal

OPEN = "░"


class Reading:
    """Reads the canvas of one task."""

    def __init__(self, model: Any, task: Task):
        self.tokenizer, self.end, self.task = model.tokenizer, model.special["eos"], task

    @property
    def open(self) -> int:
        """How many positions are to be filled."""
        return int((~self.task.given).sum())

    def view(self, tokens: Int[Tensor, " l"], known: Bool[Tensor, " l"], age: Int[Tensor, " l"]) -> Text:
        """The text so far, ░ at each position of which nothing is known."""
        count = len(self.task)
        ids, there = tokens[:count].tolist(), known[:count].tolist()
        order = tuple(step if seen else -1 for step, seen in zip(age[:count].tolist(), there, strict=True))
        names = iter(self.tokenizer.pieces([number for number, seen in zip(ids, there, strict=True) if seen]))
        pieces = tuple(next(names) if seen else OPEN for seen in there)
        parts, run = [], []
        for number, seen in [*zip(ids, there, strict=True), (0, False)]:
            if seen:
                run.append(number)
                continue
            parts += [self.tokenizer.decode(run), OPEN]
            run = []
        return Text("".join(parts[:-1]), (), pieces, order)

    def so_far(self, tokens: Int[Tensor, " l"], stop: int) -> str:
        """What the first ``stop`` positions read, all of them known."""
        kept = self._kept(tokens)
        parts = []
        for number, piece in enumerate(self.task.pieces):
            start, end = self.task.spans[number]
            if start >= stop and start < end:
                break
            if isinstance(piece, Blank) or end > stop:
                parts.append(self.tokenizer.decode([int(tokens[i]) for i in kept if start <= i < min(end, stop)]))
            else:
                parts.append(piece.text)
        return "".join(parts)

    def text(self, tokens: Int[Tensor, " l"], age: Int[Tensor, " l"], facts: dict[str, Any]) -> Text:
        """The text of a full canvas; see `unisono_text.filling.generate.synthesize` for its facts."""
        request = self.task.request
        kept = self._kept(tokens)
        parts, blanks = [], {}
        for number, piece in enumerate(self.task.pieces):
            start, end = self.task.spans[number]
            if isinstance(piece, Blank):
                made = self.tokenizer.decode([int(tokens[i]) for i in kept if start <= i < end])
                blanks[piece.name] = normal(piece, made)
                parts.append(blanks[piece.name])
            else:
                parts.append(piece.text)
        whole = "".join(parts)
        ids = [int(tokens[i]) for i in kept]
        made = self.open - (len(kept) - int(self.task.given.sum()))
        facts = {"prompt_tokens": self.task.prompt, **facts, "ended": made > 0}
        if request.template is not None:
            facts["blanks"] = blanks
        if request.json_schema is not None:
            facts["json"] = json.loads(whole[len(parts[0]) :])
        order = tuple(int(age[i]) for i in kept)
        return Text(whole, tuple(ids), tuple(self.tokenizer.pieces(ids)), order, facts)

    def _kept(self, tokens: Int[Tensor, " l"]) -> list[int]:
        """The positions that count: all that is given, and of each blank what comes before its end token."""
        kept, over = [], -1
        for i, (number, blank) in enumerate(zip(tokens.tolist(), self.task.blank.tolist(), strict=False)):
            if blank >= 0 and number == self.end:
                over = blank
            if blank < 0 or blank != over:
                kept.append(i)
        return kept
