"""Borders: pieces that a model must be told apart from: bars in random order, and draws of a bigram of each voice.

Shapes: v voices, s steps.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unisono_music.corpus import ScoreFacts
from unisono_music.measure.measures import lines
from unisono_music.scores import SILENCE, Grid, Score, score_of

SMOOTHING = 0.1
"""What is added to each count of a bigram."""


def shuffled_bars(scores: Sequence[Score], facts: ScoreFacts, seed: int = 0) -> list[Score]:
    """Return pieces of as many bars as the given ones, of their bars in random order: right within, not across."""
    size = facts.steps_per_bar
    pitches = [lines(score).pitch for score in scores]
    bars = [pitch[:, at : at + size] for pitch in pitches for at in range(0, pitch.shape[1] - size + 1, size)]
    order = iter(np.random.default_rng(seed).permutation(len(bars)))
    made = []
    for pitch in pitches:
        chosen = [bars[next(order)] for _ in range(pitch.shape[1] // size)]
        if chosen:
            made.append(_score(np.concatenate(chosen, 1), facts))
    return made


class Bigram:
    """The chance of each voice's pitch by its pitch a step before; voices know nothing of one another."""

    def __init__(self, scores: Sequence[Score], facts: ScoreFacts):
        self.facts = facts
        self.voices = [voice for voice in facts.voices if not voice.drums]
        self.first = [np.full(voice.num_pitches + 1, SMOOTHING) for voice in self.voices]
        self.next = [np.full((voice.num_pitches + 1,) * 2, SMOOTHING) for voice in self.voices]
        for score in scores:
            for row, state in enumerate(self._states(score)):
                self.first[row][state[0]] += 1
                np.add.at(self.next[row], (state[:-1], state[1:]), 1)
        self.first = [count / count.sum() for count in self.first]
        self.next = [count / count.sum(1, keepdims=True) for count in self.next]

    def draw(self, num_steps: int, seed: int = 0) -> Score:
        """Return a piece of so many steps."""
        generator = np.random.default_rng(seed)
        pitch = np.full((len(self.voices), num_steps), SILENCE)
        for row, voice in enumerate(self.voices):
            chance: Float[np.ndarray, " states"] = self.first[row]
            for step in range(num_steps):
                state = int(generator.choice(len(chance), p=chance))
                pitch[row, step] = state - 1 + voice.lowest if state else SILENCE
                chance = self.next[row][state]
        return _score(pitch, self.facts)

    def nats_per_step(self, scores: Sequence[Score]) -> float:
        """Return the mean -log chance of a step of some pieces, all voices together."""
        total, steps = 0.0, 0
        for score in scores:
            states = self._states(score)
            steps += score.num_steps
            for row, state in enumerate(states):
                total -= np.log(self.first[row][state[0]]) + np.log(self.next[row][state[:-1], state[1:]]).sum()
        return total / steps

    def _states(self, score: Score) -> list[np.ndarray]:
        """Each voice's pitch as a number from 1 on; 0 is silence, and what is outside of its range."""
        found = []
        for row, voice in zip(lines(score).pitch, self.voices, strict=True):
            inside = (row >= voice.lowest) & (row <= voice.highest)
            found.append(np.where(inside, row - voice.lowest + 1, 0))
        return found


def _score(pitch: np.ndarray, facts: ScoreFacts) -> Score:
    """A grid of the sounding voices as a score of all voices."""
    whole = np.full((len(facts.voices), pitch.shape[1]), SILENCE)
    whole[[row for row, voice in enumerate(facts.voices) if not voice.drums]] = pitch
    return score_of(Grid.of_pitches(whole), facts.blank(pitch.shape[1]))
