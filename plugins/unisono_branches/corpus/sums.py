"""Sums: several of them at once, each in a path of its own, then added up; made on the spot.

::

    prompt      1:7+5+9;2:3+4?
    goal        <Outline>1</Outline><Outline>2</Outline>
    paths       1:7+5=12+9=21      2:3+4=07
    conclusion  1:021 2:028                                running totals; the last one is the answer

Each sum is independent of the others and takes a step for each term, and the conclusion needs all of them: the case
that branches are for. Sums have two digits and totals three.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from unisono.data import Audit, derive_seed
from unisono.errors import DataError

from unisono_branches.corpus.tagged import Example, TaggedData, check_least
from unisono_branches.grammar.tags import (
    CONCLUSION,
    END_CONCLUSION,
    END_GOAL,
    END_OUTLINE,
    END_PARALLEL,
    END_PATH,
    GOAL,
    OUTLINE,
    PARALLEL,
    PATH,
)

MOST = 9
"""Sums of a problem, and terms of a sum, at most: outlines are single digits, and totals have three."""


@dataclass(frozen=True, kw_only=True)
class SumSizes:
    """How many sums a problem has, and terms a sum; each drawn from least to most."""

    min_branches: int = 2
    max_branches: int = 6
    min_terms: int = 2
    max_terms: int = 6

    def __post_init__(self):
        for name in ("branches", "terms"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if not (2 if name == "terms" else 1) <= least <= most <= MOST:
                raise DataError(
                    f"data.sizes: {name} from {least} to {most} must be from {2 if name == 'terms' else 1} to {MOST}, "
                    "the least first",
                    code="range",
                    path=f"data.sizes.max_{name}",
                    value=most,
                )


def make_problem(seed: int, sizes: SumSizes) -> Example:
    """Make the problem of a seed."""
    generator = torch.Generator().manual_seed(derive_seed("sums", seed))
    draws = iter(torch.randint(2**40, (1 + MOST * (1 + MOST),), generator=generator).tolist())
    count = sizes.min_branches + next(draws) % (sizes.max_branches - sizes.min_branches + 1)
    terms = []
    for _ in range(count):
        own = sizes.min_terms + next(draws) % (sizes.max_terms - sizes.min_terms + 1)
        terms.append([next(draws) % 10 for _ in range(own)])
    prompt = ";".join(f"{number}:{'+'.join(map(str, own))}" for number, own in enumerate(terms, 1)) + "?"
    return Example(prompt=prompt, text=solution(terms))


def solution(terms: list[list[int]]) -> str:
    """Return the tagged text that solves a problem."""
    outlines = "".join(f"{OUTLINE}{number}{END_OUTLINE}" for number in range(1, len(terms) + 1))
    paths, steps, total = "", [], 0
    for number, own in enumerate(terms, 1):
        so_far = own[0]
        paths += f"{PATH}{number}:{own[0]}"
        for term in own[1:]:
            so_far += term
            paths += f"+{term}={so_far:02}"
        paths += END_PATH
        total += so_far
        steps.append(f"{number}:{total:03}")
    reduced = " ".join(steps)
    return f"{PARALLEL}{GOAL}{outlines}{END_GOAL}{paths}{CONCLUSION}{reduced}{END_CONCLUSION}{END_PARALLEL}"


def answer_of(text: str) -> str:
    """Return what the last conclusion of a text ends with, behind its last space or colon; empty without one."""
    before, found, _ = text.rpartition(END_CONCLUSION)
    return before.rpartition(CONCLUSION)[2].replace(":", " ").split(" ")[-1] if found else ""


class SumsData(TaggedData):
    """Problems of ``make_problem``, of the seeds ``first_seed`` …; those that were made before are dropped and listed.

    Args:
        num_items: problems to make for training.
        first_seed: of the first; those of ``val_size`` follow.
        sizes: of a problem.
        context, batch_size, val_size, num_workers: as of ``TaggedData``.
    """

    def __init__(
        self,
        *,
        num_items: int = 1000,
        first_seed: int = 0,
        sizes: SumSizes = SumSizes(),
        context: int = 512,
        batch_size: int = 16,
        val_size: int = 64,
        num_workers: int = 0,
    ):
        super().__init__(root="", context=context, batch_size=batch_size, val_size=val_size, num_workers=num_workers)
        check_least({"num_items": (num_items, 1), "first_seed": (first_seed, 0)})
        self.num_items, self.first_seed, self.sizes = num_items, first_seed, sizes

    def examples(self, audit: Audit) -> Iterable[tuple[str, Example]]:
        for seed in range(self.first_seed, self.first_seed + self.num_items + self.val_size):
            yield f"problem {seed}", make_problem(seed, self.sizes)
