"""Blanks: what may stand in a blank and when it is done, as restrictions of what ``unisono.masked`` draws.

- No padding and no begin token is ever drawn; the end token only where a blank may be shorter than its room.
- A string's positions hold tokens without quotes, backslashes and control characters, a number's digits.
- A choice's positions hold tokens of the options that agree with what is known of it. They are filled one in a step,
  so that two of them never agree with different options.

Confidence is read from what is left: the model's belief, given that the blank must be filled so.

Shapes: b batch, l positions, k queried positions, v vocabulary. Masks: True = keep.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.errors import RequestError
from unisono.masked import Canvas, StepContext, at_sites
from unisono.masked.stages.select import best

from unisono_text.filling.request import Task


@dataclass(frozen=True, eq=False)
class Choice:
    """Positions ``start`` to ``stop`` of a row that hold one of ``options``."""

    start: int
    stop: int
    options: Int[Tensor, "o n"]


class Restricted:
    """A model whose logits are −∞ at tokens that a position may not hold.

    ``rule`` numbers the row of ``allowed`` that a position follows, −1 for any token; ``closed`` is where the end
    token may not stand. ``choices`` are each row's.
    """

    def __init__(
        self,
        inner: Any,
        never: list[int],
        end: int | None,
        closed: Bool[Tensor, "b l"],
        rule: Int[Tensor, "b l"],
        allowed: Bool[Tensor, "r v"],
        choices: list[list[Choice]],
    ):
        self.inner, self.never, self.end = inner, never, end
        self.closed, self.rule, self.allowed, self.choices = closed, rule, allowed, choices

    @property
    def computed(self) -> int | None:
        """The positions that the last call computed, where the model counts them."""
        return getattr(self.inner, "computed", None)

    def begin(self, canvas: Canvas) -> None:
        """Tell the model that a new canvas begins, if it keeps anything."""
        if hasattr(self.inner, "begin"):
            self.inner.begin(canvas)

    def attend(self, canvas: Canvas, query: Int[Tensor, "b k"] | None) -> Float[Tensor, "b k v"]:
        """The model's logits, −∞ at what may not be drawn."""
        if hasattr(self.inner, "attend"):
            logits = self.inner.attend(canvas, None)
        else:
            logits = self.inner(canvas.tokens, canvas.known, None)
        logits = logits.clone()
        logits[..., self.never] = -torch.inf
        if self.end is not None:
            logits[..., self.end] = logits[..., self.end].masked_fill(self.closed, -torch.inf)
        if len(self.allowed):
            wrong = (self.rule >= 0)[..., None] & ~self.allowed[self.rule]
            logits = logits.masked_fill(wrong, -torch.inf)
        for row, choices in enumerate(self.choices):
            for choice in choices:
                here = slice(choice.start, choice.stop)
                agree = (choice.options == canvas.tokens[row, here]) | ~canvas.known[row, here]
                open_ = choice.options[agree.all(1)]
                wrong = torch.ones_like(logits[row, here], dtype=torch.bool).scatter(1, open_.T, False)
                logits[row, here] = logits[row, here].masked_fill(wrong, -torch.inf)
        return at_sites(logits, query)

    def rows(self, index: Int[Tensor, " n"]) -> "Restricted":
        return Restricted(
            self.inner.rows(index),
            self.never,
            self.end,
            self.closed[index],
            self.rule[index],
            self.allowed,
            [self.choices[i] for i in index.tolist()],
        )


@dataclass(frozen=True, eq=False)
class OneChoiceAtOnce:
    """A selection, of whose commits in one choice only the best stays; ``choice`` numbers the choices, −1 for none."""

    select: Any
    choice: Int[Tensor, "b l"]
    static = False

    def __call__(self, score: Float[Tensor, "b l"], at: StepContext) -> Bool[Tensor, "b l"]:
        chosen = self.select(score, at)
        kept = chosen & (self.choice < 0)
        for number in range(int(self.choice.max()) + 1):
            inside = chosen & (self.choice == number)
            kept = kept | best(score, inside, torch.ones_like(at.canvas.step))
        return kept

    def rows(self, index: Int[Tensor, " n"]) -> "OneChoiceAtOnce":
        return replace(self, choice=self.choice[index])


@dataclass(frozen=True, eq=False)
class EndOfBlank:
    """What follows the end token in a blank is padded with it, once all of the blank before it is known.

    ``first`` is the first position of each position's blank.
    """

    token: int
    first: Int[Tensor, "b l"]
    static = False

    def __call__(self, canvas: Canvas) -> Canvas:
        unknown = canvas.masked.long().cumsum(1)
        ends = canvas.known & ~canvas.frozen & (canvas.tokens == self.token) & (self._since(unknown) == 0)
        over = self._since(ends.long().cumsum(1)) > 0
        return canvas.commit(canvas.masked & over, torch.full_like(unknown, self.token))

    def _since(self, count: Int[Tensor, "b l"]) -> Int[Tensor, "b l"]:
        """What was counted since the blank began."""
        before = count.gather(1, (self.first - 1).clamp_min(0))
        return count - torch.where(self.first > 0, before, 0)

    def rows(self, index: Int[Tensor, " n"]) -> "EndOfBlank":
        return replace(self, first=self.first[index])


@dataclass(frozen=True, eq=False)
class Rules:
    """What the blanks of a batch ask for, [b, l] each; see `Restricted`, `OneChoiceAtOnce` and `EndOfBlank`."""

    closed: Bool[Tensor, "b l"]
    rule: Int[Tensor, "b l"]
    allowed: Bool[Tensor, "r v"]
    choices: list[list[Choice]]
    choice: Int[Tensor, "b l"]
    first: Int[Tensor, "b l"]

    def restrict(self, model: Any, inner: Any) -> Restricted:
        """The model, restricted so."""
        special = model.special
        end = special["eos"]
        never = {number for role, number in special.items() if number is not None and role != "eos"} - {end}
        return Restricted(inner, sorted(never), end, self.closed, self.rule, self.allowed, self.choices)


def rules_of(model: Any, tasks: list[Task], longest: int) -> Rules:
    """Return what the blanks of some tasks ask for.

    Raises ``RequestError`` where the tokenizer has no token that a blank could hold.
    """
    tables: dict[str, int] = {}
    allowed: list[Tensor] = []
    closed = torch.ones(len(tasks), longest, dtype=torch.bool)
    rule, choice, first = (torch.full((len(tasks), longest), -1, dtype=torch.int64) for _ in range(3))
    choices: list[list[Choice]] = [[] for _ in tasks]
    for row, task in enumerate(tasks):
        for number, blank in enumerate(task.blanks):
            places = (task.blank == number).nonzero()[:, 0]
            start, stop = int(places[0]), int(places[-1]) + 1
            first[row, start:stop] = start
            if blank.kind == "choice":
                options = [model.tokenizer.encode(option) for option in blank.options]
                padded = [option + [model.special["eos"]] * (stop - start - len(option)) for option in options]
                choices[row].append(Choice(start, stop, torch.tensor(padded).to(model.device)))
                choice[row, start:stop] = len(choices[row]) - 1
                closed[row, start:stop] = False
                continue
            closed[row, start:stop] = blank.exact
            if blank.kind != "free":
                name = "string" if blank.kind == "string" else "digits"
                if name not in tables:
                    tables[name] = len(allowed)
                    fits = _fitting(model.tokenizer, name).clone()
                    if not bool(fits.any()):
                        raise RequestError(
                            f"the blank {blank.name!r} wants {name}, and this model's tokenizer has no token for them",
                            code="unsupported",
                            path=blank.name,
                            value=name,
                        )
                    if model.special["eos"] is not None:
                        fits[model.special["eos"]] = True
                    allowed.append(fits)
                rule[row, start:stop] = tables[name]
                if name == "digits":
                    closed[row, start] = True  # a number has one digit at least
    table = torch.stack(allowed) if allowed else torch.zeros(0, model.vocabulary, dtype=torch.bool)
    here = model.device
    return Rules(closed.to(here), rule.to(here), table.to(here), choices, choice.to(here), first.clamp_min(0).to(here))


@lru_cache(maxsize=16)
def _fitting(tokenizer: Any, name: str) -> Bool[Tensor, " v"]:
    """Which tokens may stand in strings, or in numbers."""
    pieces = [tokenizer.decode([number]) for number in range(tokenizer.vocabulary)]
    if name == "digits":
        return torch.tensor([piece.isascii() and piece.isdigit() for piece in pieces])
    return torch.tensor([bool(piece) and not any(c in '"\\' or c < " " for c in piece) for piece in pieces])
