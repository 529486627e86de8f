"""Aligner: when each word and phone of a text that is known is said in a sound.

::

    text ─ front end ─ symbols ─ units ┐
                                        ├ best path ─ borders ─ Alignment
    sound ─ windows ─ CTC's posteriors ┘

Words keep their places in the written text. The borders of all symbols, pauses and the silences around the utterance
among them, are what a voice is trained with as ``durations``.

Shapes: t steps of the encoder, v units with the blank, s symbols of the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional as F
from unisono.errors import RequestError
from unisono.media import Segment
from unisono_sound.text import Symbols
from unisono_sound.text.frontend import FrontEnd, front_end_of

from unisono_asr.align import MIN_FIT, UnitPath, best_path, check_fit, fit_of
from unisono_asr.borders import silences, unit_spans
from unisono_asr.hearing import Hearing
from unisono_asr.request import Sound
from unisono_asr.transcript import Transcript
from unisono_asr.units import SPACE, STRESS, Units, spelled
from unisono_asr.written import segment_kind

__all__ = ["MOST_SECONDS", "Aligner", "Alignment", "symbol_borders"]

MOST_SECONDS = 3600.0
"""Of a sound that is aligned at once."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A text with its times.

    Attributes:
        transcript: the text, words and units with their times, and how well each fits in (0, 1].
        fit: how well the text fits the sound, as of ``unisono_asr.align.fit_of``.
        symbols: what the text is read as.
        borders: of the symbols, in seconds, one more than there are, from 0 to the end of the sound.
    """

    transcript: Transcript
    fit: float
    symbols: Symbols
    borders: tuple[float, ...]


class Aligner:
    """Aligns texts by a recogniser with CTC; ``min_fit`` is how well a text must fit its sound at least."""

    def __init__(self, model: Hearing, min_fit: float = MIN_FIT, reader: FrontEnd | None = None):
        if not 0 <= min_fit <= 1:
            raise RequestError(f"min_fit={min_fit} must be from 0 to 1", code="range", path="min_fit", value=min_fit)
        self.model, self.min_fit = model, min_fit
        self.reader = front_end_of(model.facts) if reader is None else reader

    def align(self, sound: Sound, text: str) -> Alignment:
        """Return when what is said.

        Raises ``RequestError`` for a text that the front end or the units cannot spell, one that is longer than the
        sound, and one that does not belong to it, and as ``Hearing.listen`` does.
        """
        read = self.reader(text)
        units = self.model.facts.units
        ids = units.encode(spelled(read))
        wave, log_probs, centres = self._heard(sound)
        path = best_path(torch.from_numpy(log_probs), ids)
        kept = np.array([units.tokens[number] != SPACE for number in ids])
        path = UnitPath(path.first[kept], path.last[kept], path.scores[kept])
        ids = [number for number, keep in zip(ids, kept.tolist(), strict=True) if keep]
        fit = fit_of(ids, _likeliest(log_probs, units))
        check_fit(fit, self.min_fit)
        slots = _slots(read, ids, units)
        owners = [read.word_of[places[0]] for places in slots]
        rate = self.model.sample_rate
        seconds = len(wave) / rate
        spans = unit_spans(path, log_probs, ids, owners, centres, seconds, silences(wave, rate))
        segments, sure = _segments(
            read, owners, [units.tokens[n] for n in ids], spans, path.scores, segment_kind(units)
        )
        transcript = Transcript(
            text,
            segments=segments,
            confidences=sure,
            length=len(wave),
            sample_rate=rate,
            notes=sound.notes,
            facts={"fit": fit, "min_fit": self.min_fit},
        )
        return Alignment(transcript, fit, read, symbol_borders(read, slots, spans, seconds))

    def _heard(self, sound: Sound) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "t v"], Float[np.ndarray, "t"]]:
        """Return the sound at the model's rate, what is heard in its windows, and the times of the steps."""
        rate, blank = self.model.sample_rate, 0
        waves, rows, centres, hop = [], [], [], None
        silent: list[tuple[int, float, float]] = []  # the place among rows, and the stretch in seconds
        for heard in self.model.listen(sound):
            waves.append(heard.window.wave.numpy())
            begin = heard.window.start / rate
            end = begin + len(waves[-1]) / rate
            if end > MOST_SECONDS:
                raise RequestError(
                    f"the sound lasts more than {MOST_SECONDS:g} s: cut it and its text at sentences",
                    code="limit",
                    path="audio",
                    value=end,
                )
            if heard.posteriors is None:
                silent.append((len(rows), begin, end))
                rows.append(None)
                centres.append(None)
                continue
            hop = heard.posteriors.hop_seconds
            rows.append(heard.posteriors.log_probs[0, : int(heard.posteriors.lengths[0])].float().cpu().numpy())
            centres.append(begin + np.arange(len(rows[-1])) * hop)
        if hop is None:
            raise RequestError(
                "the sound is silent: no text can be aligned to it", code="empty", path="audio", value=0.0
            )
        size = next(row.shape[1] for row in rows if row is not None)
        for place, begin, end in silent:
            count = max(1, round((end - begin) / hop))
            label = F.one_hot(torch.tensor([blank]), size).expand(count, -1).float()
            rows[place] = (label * (1 - 1e-6) + 1e-6 / size).log().numpy()
            centres[place] = begin + np.arange(count) * hop
        return np.concatenate(waves), np.concatenate(rows), np.concatenate(centres)


def _likeliest(log_probs: Float[np.ndarray, "t v"], units: Units) -> list[int]:
    """Return the units that are heard without knowing the text, spaces left out."""
    labels = log_probs.argmax(-1)
    labels = labels[np.flatnonzero(np.diff(labels, prepend=-1))]
    return [number for number in labels.tolist() if number and units.tokens[number] != SPACE]


def _slots(read: Symbols, ids: Sequence[int], units: Units) -> list[list[int]]:
    """Return the places of the symbols of each unit; a piece of a word has several."""
    said = [i for i, word in enumerate(read.word_of) if word >= 0 and read.symbols[i].lstrip(STRESS)]
    if units.kind != "bpe":
        return [[place] for place in said]
    places = iter(said)
    found, left = [], 0
    place = -1
    for number in ids:
        found.append([])
        for _ in units.tokens[number].removeprefix("▁"):
            if not left:
                place = next(places)
                left = len(read.symbols[place].lstrip(STRESS))
            left -= 1
            if not found[-1] or found[-1][-1] != place:
                found[-1].append(place)
        if not found[-1]:  # a piece that is the edge of a word alone
            found[-1].append(said[min(said.index(place) + 1, len(said) - 1)] if place >= 0 else said[0])
    return found


def _segments(
    read: Symbols,
    owners: Sequence[int],
    labels: Sequence[str],
    spans: Float[np.ndarray, "u 2"],
    scores: Float[np.ndarray, "u"],
    kind: str,
) -> tuple[tuple[Segment, ...], tuple[float, ...]]:
    segments, sure = [], []
    for index, word in enumerate(read.words):
        own = [i for i, owner in enumerate(owners) if owner == index]
        if own:
            begin, end = float(spans[own[0], 0]), float(spans[own[-1], 1])
            segments.append(Segment(word.text, begin, end, "word", (word.start, word.end)))
            sure.append(float(scores[own].mean()))
    for label, (begin, end), score in zip(labels, spans.tolist(), scores.tolist(), strict=True):
        segments.append(Segment(label, begin, end, kind))
        sure.append(score)
    return tuple(segments), tuple(sure)


def symbol_borders(
    read: Symbols, slots: Sequence[Sequence[int]], spans: Float[np.ndarray, "u 2"], seconds: float
) -> tuple[float, ...]:
    """Return the borders of all symbols in seconds, from 0 to ``seconds``, as ``durations`` of a corpus have them.

    The silence between two words is the pause's there, else the space's; what is before the first and behind the last
    phone is ``<start>``'s and ``<end>``'s, a pause before the end sharing it. Symbols that share a unit share its time.
    """
    borders = np.zeros(len(read) + 1)
    owned: dict[int, list[float]] = {}
    for places, (begin, end) in zip(slots, spans.tolist(), strict=True):
        edges = np.linspace(begin, end, len(places) + 1)
        for place, first, last in zip(places, edges[:-1], edges[1:], strict=True):
            old = owned.get(place)
            owned[place] = [float(first), float(last)] if old is None else [old[0], float(last)]
    taken = sorted(owned)
    for place, following in zip(taken, [*taken[1:], len(read)], strict=True):
        borders[place] = owned[place][0]
        borders[place + 1 : following] = owned[place][1]
    last = taken[-1] + 1
    borders[last:] = np.linspace(owned[taken[-1]][1], seconds, len(read) + 1 - last)
    borders[0] = 0.0
    return tuple(np.maximum.accumulate(borders.clip(0, seconds)).tolist())
