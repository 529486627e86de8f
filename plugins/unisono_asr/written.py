"""Written: what is read of a window as a transcript: words with their places in the text, units with their times.

Shapes: n samples.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor
from unisono.media import Segment

from unisono_asr.align import UnitPath
from unisono_asr.borders import silences, unit_spans
from unisono_asr.lexicon import Lexicon
from unisono_asr.models.posteriors import Hypothesis, Posteriors
from unisono_asr.transcript import Transcript
from unisono_asr.units import SPACE, Units

__all__ = ["segment_kind", "transcript_of", "written_words"]


def transcript_of(
    read: Hypothesis, heard: Posteriors, units: Units, lexicon: Lexicon, wave: Float[Tensor, "n"], rate: int
) -> Transcript:
    """Return the transcript of a window ``wave``, of whose posteriors it is the first.

    A word's confidence is that of its least sure unit.
    """
    length = len(wave)
    kept = [place for place, number in enumerate(read.tokens) if units.tokens[number] != SPACE]
    words = [(label, places) for label, places in written_words(read.tokens, units, lexicon) if places]
    if not kept or not words:
        return Transcript("", length=length, sample_rate=rate)
    owner = {place: index for index, (_, places) in enumerate(words) for place in places}
    steps = int(heard.lengths[0])
    spans = unit_spans(
        UnitPath(
            np.array([min(read.spans[place][0], steps - 1) for place in kept]),
            np.array([min(max(read.spans[place][1], read.spans[place][0] + 1), steps) for place in kept]),
            np.array([read.confidences[place] for place in kept]),
        ),
        heard.log_probs[0, :steps].float().cpu().numpy(),
        [read.tokens[place] for place in kept],
        [owner.get(place, -1) for place in kept],
        np.arange(steps) * heard.hop_seconds,
        length / rate,
        silences(wave.numpy(), rate),
    )
    times = dict(zip(kept, spans, strict=True))
    segments, sure, text = [], [], ""
    for label, places in words:
        text += " " if text else ""
        place = len(text), len(text) + len(label)
        segments.append(Segment(label, float(times[places[0]][0]), float(times[places[-1]][1]), "word", place))
        sure.append(min(read.confidences[at] for at in places))
        text += label
    for at in kept:
        start, end = times[at].tolist()
        segments.append(Segment(units.tokens[read.tokens[at]], start, end, segment_kind(units)))
        sure.append(read.confidences[at])
    pieces = tuple(units.tokens[number] for number in read.tokens)
    return Transcript(
        text,
        tuple(read.tokens),
        pieces,
        (0,) * len(pieces),
        segments=tuple(segments),
        confidences=tuple(sure),
        length=length,
        sample_rate=rate,
    )


def written_words(ids: Sequence[int], units: Units, lexicon: Lexicon) -> list[tuple[str, list[int]]]:
    """Return each word as it is written and the places of its units in ``ids``.

    Phones are spelt by the lexicon; without one, and where units spell words by themselves, a word is its units.
    """
    groups = units.words(ids)
    if units.kind != "phones" or not len(lexicon):
        return [(units.text([ids[place] for place in group]), group) for group in groups]
    places = [place for group in groups for place in group]
    spelt = lexicon.spell([[units.tokens[ids[place]] for place in group] for group in groups])
    return [(word.word, places[word.first : word.last]) for word in spelt]


def segment_kind(units: Units) -> str:
    """The kind of segments that units are: phones are ``phoneme``, as a voice's are."""
    return {"phones": "phoneme", "characters": "character", "bpe": "piece"}[units.kind]
