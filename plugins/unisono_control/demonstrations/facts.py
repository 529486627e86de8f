"""ControlFacts: what a policy must know of its demonstrations, statistics of the actions before all else.

A policy that is played with the statistics of another data set fails silently: its actions have another size. So they
are part of the facts, which travel in every export, and their fingerprint is part of the weights (`ControlFacts.mark`).

Shapes: s numbers of the state, a of an action.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from unisono.data import Facts, derive_seed, words_of
from unisono.errors import DataError, RequestError, did_you_mean

from unisono_control.environments.protocol import EnvironmentSpec


@dataclass(frozen=True, kw_only=True)
class ControlFacts(Facts):
    """Facts about demonstrations in one environment.

    Attributes:
        environment: what is observed and done.
        settings: of its constructor.
        chunk: actions that are planned at once.
        state_mean, state_std: of each number of the state over the training steps.
        action_low, action_high: 1st and 99th percentile of each number of an action over the training steps.
        words: of the training instructions, sorted.
        max_words: of the longest one.
        sample_instructions: a few, for previews.
        trained: seeds of the training episodes, as ranges with both ends.
        held_out: seeds of the episodes that are validated on.
        unseen: kinds of tasks, as instructions, of which no episode is trained on.
    """

    environment: EnvironmentSpec
    settings: dict[str, Any]
    chunk: int
    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    words: tuple[str, ...] = ()
    max_words: int = 0
    sample_instructions: tuple[str, ...] = ()
    trained: tuple[tuple[int, int], ...] = ()
    held_out: tuple[int, ...] = ()
    unseen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        s, a = len(self.environment.state_names), self.environment.num_actions
        sizes = {"state_mean": s, "state_std": s, "action_low": a, "action_high": a}
        for name, size in sizes.items():
            if len(getattr(self, name)) != size:
                raise DataError(
                    f"ControlFacts: {name} has {len(getattr(self, name))} numbers, {self.environment.name} {size}",
                    code="shape",
                    path=name,
                    value=len(getattr(self, name)),
                )
        wrong = [i for i in range(a) if self.action_low[i] > self.action_high[i]]
        if wrong:
            raise DataError(
                f"ControlFacts: action_low {self.action_low[wrong[0]]} is above action_high "
                f"{self.action_high[wrong[0]]} of {self.environment.action_names[wrong[0]]}",
                code="range",
                path="action_low",
                value=self.action_low[wrong[0]],
            )
        if self.chunk < 1:
            raise DataError(f"chunk={self.chunk} must be at least 1", code="range", path="chunk", value=self.chunk)

    @property
    def mark(self) -> int:
        """A number that another chunk or other statistics would make another."""
        return derive_seed(self.chunk, *(repr(v) for v in (self.action_low, self.action_high)), *self._read)

    @property
    def _read(self) -> tuple[str, ...]:
        return tuple(repr(v) for v in (self.state_mean, self.state_std, self.words, self.max_words))

    def was_trained_on(self, seed: int) -> bool:
        """Whether an episode of that seed was among the training ones."""
        return any(first <= seed <= last for first, last in self.trained)

    def read_words(self, instruction: str) -> list[int]:
        """Return an instruction as numbers of words from 1 on, 0 behind its end, ``max_words`` of them.

        Raises ``RequestError`` for a word that no training instruction had, and for more words than the longest had.
        """
        said = words_of(instruction)
        if len(said) > self.max_words:
            raise RequestError(
                f"instruction={instruction!r:.80} has {len(said)} words: this policy has learnt up to {self.max_words}",
                code="limit",
                path="instruction",
                value=instruction,
            )
        for word in said:
            if word not in self.words:
                raise RequestError(
                    f"instruction={instruction!r:.80}: no training instruction has the word "
                    f"{word!r}{did_you_mean(word, self.words)}",
                    code="unknown",
                    path="instruction",
                    value=word,
                )
        return [self.words.index(word) + 1 for word in said] + [0] * (self.max_words - len(said))


def ranges_of(seeds: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return numbers as ranges with both ends, in order."""
    ranges: list[list[int]] = []
    for seed in sorted(seeds):
        if ranges and ranges[-1][1] >= seed - 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    return tuple((first, last) for first, last in ranges)
