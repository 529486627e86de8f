"""Sound: a score by sums of sines, so that it can be heard anywhere; no instrument in particular.

Each note is its first harmonics, which fall as 1/h², under an envelope: struck families fade, others hold. Drums are
short bursts of noise, lower ones longer. The whole is scaled where it would clip.

Shapes: n samples, h harmonics.
"""

import numpy as np
from jaxtyping import Float
from unisono import Audio
from unisono.errors import RequestError

from unisono_music.scores.programmes import STRUCK, family_of
from unisono_music.scores.score import Note, Score, Track

SAMPLE_RATE = 22050
HARMONICS = 6
ATTACK, RELEASE, FADE = 0.012, 0.09, 0.9
"""Seconds of the rise, of the fall behind the end, and in which a struck note falls to 1/e."""
LOUDNESS = 0.16
MOST_SECONDS = 1800.0


def sound_of(score: Score, sample_rate: int = SAMPLE_RATE) -> Audio:
    """Return a score as mono sound; raises ``RequestError`` beyond half an hour."""
    if score.seconds > MOST_SECONDS:
        raise RequestError(
            f"{score.seconds:.0f} s of sound: at most {MOST_SECONDS:g}; cut the score, or save it as .mid",
            code="limit",
            path="seconds",
            value=score.seconds,
        )
    wave = np.zeros(max(int((score.seconds + RELEASE) * sample_rate), 1) + 1, dtype=np.float32)
    tones: dict[tuple[object, ...], Float[np.ndarray, " n"]] = {}
    for track in score.tracks:
        for note in track.notes:
            start = int(score.time_of(note.onset) * sample_rate)
            held = int(score.time_of(note.end) * sample_rate) - start
            key = (track.drums, family_of(track.programme) in STRUCK, note.pitch, held)
            if key not in tones:
                tones[key] = _tone(track, note, held, sample_rate)
            tone = tones[key][: len(wave) - start]
            wave[start : start + len(tone)] += tone * (LOUDNESS * note.velocity / 80)
    peak = float(np.abs(wave).max())
    return Audio(wave[None] / max(peak, 1.0), sample_rate)


def _tone(track: Track, note: Note, held: int, sample_rate: int) -> Float[np.ndarray, " n"]:
    """A note at full loudness, with its fall behind it."""
    seconds = np.arange(held + int(RELEASE * sample_rate)) / sample_rate
    if track.drums:
        noise = np.random.default_rng(note.pitch).standard_normal(len(seconds))
        return (0.5 * noise * np.exp(-seconds * (8 + note.pitch / 4))).astype(np.float32)
    hertz = 440.0 * 2 ** ((note.pitch - 69) / 12)
    orders = np.arange(1, HARMONICS + 1)
    orders = orders[orders * hertz < sample_rate / 2.2]
    wave = (np.sin(2 * np.pi * hertz * orders[:, None] * seconds) / orders[:, None] ** 2).sum(0)
    level = np.minimum(seconds / ATTACK, 1.0)
    if family_of(track.programme) in STRUCK:
        level = level * np.exp(-seconds / FADE)
    level[held:] *= np.linspace(1, 0, len(seconds) - held)
    return (wave * level).astype(np.float32)
