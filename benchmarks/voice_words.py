"""Single words for benchmarks/voices.py: texts of one and two words, with the recordings that they are cut from.

Words are cut out of recordings of whole sentences by a recogniser's alignment, so that a judge hears the same words
from the speaker and from a voice. Cut ones have their neighbours' traces and no melody of their own: a judge mishears
more of them than of sentences, and only the difference says something of a voice.
"""

import random
from collections.abc import Sequence

import numpy as np
import unisono
from unisono.errors import UnisonoError
from unisono.media import Segment
from unisono_asr.aligner import Aligner
from unisono_asr.request import sound_of_samples
from unisono_sound.corpus import Utterance
from unisono_sound.signal.io import read_audio

MARGIN_SECONDS = 0.03
"""What is cut with a word on either side: two alignments in three are that near."""
FEWEST_LETTERS = (4, 7)
"""Of one word, and of two: a judge can hear no "of" alone."""
MOST_SECONDS_BETWEEN = 0.05
"""Two words that are told as one text are said without a pause."""


def cut_words(
    utterances: Sequence[Utterance], recogniser: str, count: int
) -> list[tuple[str, str | None, np.ndarray, int]]:
    """Return so many texts, half of them of two words, each with its speaker, its sound [n] and the rate.

    No text comes twice. Sentences that do not fit their recordings are passed over; there may be fewer than ``count``.
    """
    aligner = Aligner(unisono.load(recogniser).model)
    found: tuple[dict[str, tuple], dict[str, tuple]] = {}, {}
    for utterance in utterances:
        wave, rate = read_audio(utterance.audio)
        try:
            segments = aligner.align(sound_of_samples(wave, rate), utterance.text).transcript.segments
        except UnisonoError as error:
            print(f"{utterance.id} is passed over: {error}")
            continue
        for kind, (text, begin, end) in runs(utterance.text, [s for s in segments if s.kind == "word"]):
            first, last = (round(at * rate) for at in (max(begin - MARGIN_SECONDS, 0), end + MARGIN_SECONDS))
            found[kind].setdefault(text.lower(), (text, utterance.speaker, wave[first:last].numpy(), rate))
    draw = random.Random(0)
    two = draw.sample(sorted(found[1]), min(count // 2, len(found[1])))
    one = draw.sample(sorted(found[0]), min(count - len(two), len(found[0])))
    return [found[0][key] for key in one] + [found[1][key] for key in two]


def runs(text: str, words: Sequence[Segment]) -> list[tuple[int, tuple[str, float, float]]]:
    """Return the words, and the pairs of neighbours, that serve as texts: 0 or 1, and text, beginning and end."""
    found = []
    for kind in (0, 1):
        for first, last in zip(words, words[kind:], strict=False):
            assert first.span is not None and last.span is not None
            said = text[first.span[0] : last.span[1]]
            letters = said.replace(" ", "", kind)
            near = kind == 0 or last.start - first.end <= MOST_SECONDS_BETWEEN
            if letters.isalpha() and len(letters) >= FEWEST_LETTERS[kind] and near:
                found.append((kind, (said, first.start, last.end)))
    return found
