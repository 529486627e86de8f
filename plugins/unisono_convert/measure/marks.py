"""Marks: what is measured of one converted recording, and the tables of all.

Shapes: n samples, t frames, e dimensions of a voice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.evaluation import Row, Section
from unisono_sound.measure import HAS_RESEMBLYZER, Listener, track_pitch, voice_vector

__all__ = ["Centres", "Marked", "facts_of_marks", "melody", "sections_of"]

HOP_SECONDS = 0.01
LEAST_VOICED = 5
"""Frames voiced in both recordings, below which a correlation says nothing."""


@dataclass(frozen=True)
class Marked:
    """One recording of one system: ids and names, and what was measured; None where a measure does not apply."""

    id: str
    source: str
    target: str
    voice: str | None = None
    word: bool | None = None
    to_target: float | None = None
    to_source: float | None = None
    melody: float | None = None
    off_target_semitones: float | None = None

    def to_dict(self, system: str) -> dict[str, Any]:
        """Return it as an item of a report."""
        return {"system": system, **asdict(self)}


@dataclass(frozen=True, eq=False)
class Centres:
    """Where the speakers' voices lie: in the listener's space, else in resemblyzer's; and their median pitch."""

    rate: int
    listener: Listener | None
    vectors: Mapping[str, Float[np.ndarray, "e"]]
    hertz: Mapping[str, float]
    told: str

    def mark(self, pair: Any, wave: Float[np.ndarray, "n"]) -> Marked:
        """Measure a system's ``wave`` of a pair."""
        source, target = pair.utterance.speaker, pair.target
        found = track_pitch(wave, self.rate, round(HOP_SECONDS * self.rate))
        own = track_pitch(pair.source.numpy(), self.rate, round(HOP_SECONDS * self.rate))
        voiced = found[found > 0]
        off = 12 * np.log2(float(np.median(voiced)) / self.hertz[target]) if len(voiced) else np.nan
        voice = word = vector = None
        if self.listener is not None:
            (heard,) = self.listener.hear([torch.from_numpy(np.ascontiguousarray(wave))], self.rate)
            voice, vector = heard.speaker, heard.vector
            word = heard.word == pair.utterance.text if pair.utterance.text in self.listener.words else None
        elif HAS_RESEMBLYZER:
            vector = voice_vector(wave, self.rate)
        near = {} if vector is None else {name: float(vector @ centre) for name, centre in self.vectors.items()}
        return Marked(
            pair.utterance.id, source, target, voice, word, near.get(target), near.get(source),
            melody(own, found), abs(float(off)) if np.isfinite(off) else None,
        )  # fmt: skip


def facts_of_marks(beside: Mapping[str, Sequence[Float[Tensor, "n"]]], rate: int, listener: Listener | None) -> Centres:
    """Return where voices lie, from held-out recordings of each speaker."""
    vectors: dict[str, Float[np.ndarray, " e"]] = {}
    hertz: dict[str, float] = {}
    for name, waves in beside.items():
        found = [track_pitch(wave.numpy(), rate, round(HOP_SECONDS * rate)) for wave in waves[:10]]
        voiced = np.concatenate([track[track > 0] for track in found]) if found else np.zeros(0)
        hertz[name] = float(np.median(voiced)) if len(voiced) else float("nan")
        if listener is not None:
            heard = [listener.hear([wave], rate)[0].vector for wave in waves]
        else:
            heard = [voice_vector(wave.numpy(), rate) for wave in waves] if HAS_RESEMBLYZER else []
        if heard:
            centre = np.mean(heard, 0)
            vectors[name] = centre / max(float(np.linalg.norm(centre)), 1e-9)
    told = "not measured: pip install resemblyzer"
    if listener is not None:
        told = "not measured: the listener tells voices apart"
    elif HAS_RESEMBLYZER:
        told = "measured"
    return Centres(rate, listener, vectors, hertz, told)


def melody(one: Float[np.ndarray, "t"], other: Float[np.ndarray, "t"]) -> float | None:
    """Return the correlation of two contours of log hertz over frames voiced in both; None where it says nothing."""
    size = min(len(one), len(other))
    both = (one[:size] > 0) & (other[:size] > 0)
    left, right = np.log(one[:size][both]), np.log(other[:size][both])
    if both.sum() < LEAST_VOICED or left.std() < 1e-6 or right.std() < 1e-6:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def sections_of(marked: Mapping[str, Sequence[Marked]], factors: Sequence[float], listened: bool) -> list[Section]:
    """Return the tables: voice, words, melody, speed."""

    def row(measure: str, pick: Callable[[Marked], float | None], pool: Any = fmean, **how: Any) -> Row:
        values: dict[str, float | str | None] = {}
        for system, marks in marked.items():
            found = [value for mark in marks if (value := pick(mark)) is not None]
            values[system] = pool(found) if found else None
        return Row(measure, values, **how)

    def share(pick: Callable[[Marked], bool | None]) -> Callable[[Marked], float | None]:
        return lambda mark: None if (value := pick(mark)) is None else 100.0 * value

    def is_voice(name: str) -> Callable[[Marked], bool | None]:
        return lambda mark: None if mark.voice is None else mark.voice == getattr(mark, name)

    voice = [
        row("nearness to the target", lambda mark: mark.to_target, digits=3, better="higher"),
        row("nearness to the source", lambda mark: mark.to_source, digits=3, better="lower"),
        row("median pitch off the target's", lambda mark: mark.off_target_semitones, median, unit="semitones", digits=1,
            better="lower"),
    ]  # fmt: skip
    words = []
    if listened:
        voice[:0] = [
            row("heard as the target", share(is_voice("target")), unit="%", digits=1, better="higher"),
            row("heard as the source", share(is_voice("source")), unit="%", digits=1, better="lower"),
        ]
        words.append(row("word heard right", share(lambda mark: mark.word), unit="%", digits=1, better="higher"))
    tune = [row("correlation of pitch with the source's", lambda mark: mark.melody, digits=3, better="higher")]
    speed = [Row("real-time factor, median", {"converted": median(factors) if factors else None}, "", 4, "lower")]
    return [
        Section("whose voice it is", voice),
        Section("what is heard", words),
        Section("melody", tune),
        Section("how fast it is", speed),
    ]
