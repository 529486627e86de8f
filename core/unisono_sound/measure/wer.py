"""Error rates: of words and characters, by jiwer, and of any units; edits that turn what was heard into what was said.

The rate of many sentences is the sum of their edits over the sum of their words, not the mean of
their rates, so that short sentences do not weigh more.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from unisono.extras import optional

from unisono_sound.measure.normalise import normalise_english

Normaliser = Callable[[str], str]


@dataclass(frozen=True)
class ErrorRate:
    """Edits among ``total`` words or characters of the reference; adding two pools them."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    total: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word or character; above 1 where more is inserted than there is; NaN without a
        reference.
        """
        return self.errors / self.total if self.total else float("nan")

    def __add__(self, other: "ErrorRate") -> "ErrorRate":
        return ErrorRate(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.total + other.total,
        )


def word_error_rate(
    references: Iterable[str], heard: Iterable[str], normalise: Normaliser = normalise_english
) -> ErrorRate:
    """Count the word edits between pairs of texts, both normalised first.

    A reference without words counts every word that was heard as an insertion. Raises
    ``MissingExtra`` without jiwer.
    """
    return _count("process_words", references, heard, normalise, lambda text: len(text.split()))


def character_error_rate(
    references: Iterable[str], heard: Iterable[str], normalise: Normaliser = normalise_english
) -> ErrorRate:
    """Count the character edits, spaces included, between pairs of texts, both normalised first."""
    return _count("process_characters", references, heard, normalise, len)


def unit_error_rate(reference: Sequence[object], heard: Sequence[object]) -> ErrorRate:
    """Count the fewest edits between two sequences of units, such as phonemes; needs no package.

    Of ways with as few edits, one with the most substitutions is counted.
    """
    # of each beginning of what was heard: edits, and of those the deletions and insertions
    row = [(j, 0, j) for j in range(len(heard) + 1)]
    for i, unit in enumerate(reference, 1):
        before, row = row, [(i, i, 0)]
        for j, other in enumerate(heard, 1):
            edits, gone, more = before[j - 1]
            kept = (edits + (unit != other), gone, more)
            deleted = (before[j][0] + 1, before[j][1] + 1, before[j][2])
            inserted = (row[j - 1][0] + 1, row[j - 1][1], row[j - 1][2] + 1)
            row.append(min(kept, deleted, inserted, key=lambda way: (way[0], way[1] + way[2])))
    edits, gone, more = row[-1]
    return ErrorRate(edits - gone - more, gone, more, len(reference))


def _count(function: str, references, heard, normalise, size) -> ErrorRate:
    process = getattr(optional("jiwer"), function)
    total = ErrorRate()
    for reference, answer in zip(references, heard, strict=True):
        reference, answer = normalise(reference), normalise(answer)
        if not reference:  # jiwer refuses it
            total += ErrorRate(insertions=size(answer))
            continue
        found = process(reference, answer)
        total += ErrorRate(found.substitutions, found.deletions, found.insertions, total=size(reference))
    return total
