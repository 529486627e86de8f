"""Tones heard: speech in which each letter is a tone, and a recogniser that hears it exactly, without any training."""

import numpy as np
import torch
from unisono import Synthesizer
from unisono_asr.hearing import Hearing
from unisono_asr.models.ctc import greedy_hypotheses
from unisono_asr.models.posteriors import Posteriors
from unisono_asr.units import BLANK, SPACE, Units
from unisono_sound.signal import MelSpec
from unisono_sound.text import CHARACTERS

RATE, HOP = 8000, 80
LETTERS = "abcdefgh"
SPEC = MelSpec(sample_rate=RATE, n_fft=256, win_length=256, hop_length=HOP, n_mels=40, f_max=4000)
UNITS = Units("characters", (BLANK, SPACE, *LETTERS))
TONES = {unit: 500.0 + 300.0 * place for place, unit in enumerate(UNITS.tokens[1:])}
TONE, REST, PAUSE = 0.06, 0.04, 0.3
"""Seconds of a letter, of the silence behind it, and between words."""


class ToneHearing(Hearing):
    """Hears the loudest of its tones in every 10 ms, the blank where there is none."""

    def posteriors(self, waves, sample_rate):
        assert sample_rate == RATE and len(waves) == 1
        wave = waves[0]
        steps = -(-len(wave) // HOP)
        padded = torch.nn.functional.pad(wave, (HOP, 2 * HOP))[: (steps + 1) * HOP]
        frames = padded.unfold(0, 2 * HOP, HOP)  # centred at whole steps
        time = torch.arange(2 * HOP) / RATE
        probes = torch.stack([torch.exp(2j * torch.pi * hertz * time) for hertz in TONES.values()])
        power = (frames.to(probes.dtype) @ probes.mT).abs().square() / (2 * HOP) ** 2
        quiet = torch.full((len(power), 1), 2e-4)
        shares = torch.cat([quiet, power], 1)
        log_probs = (shares / shares.sum(1, keepdim=True)).clamp(min=1e-9).log()
        return Posteriors(log_probs[None], log_probs[None], torch.tensor([len(log_probs)]), HOP / RATE)

    def decode(self, heard, steps=1):
        return greedy_hypotheses(heard)


def tone_model(**facts):
    """The recogniser, built from facts as a corpus would give them."""
    model = ToneHearing()
    model.build(
        {
            "symbols": list(CHARACTERS),
            "front_end": "characters",
            "language": "en-us",
            "speakers": ["tone"],
            "mel_spec": SPEC.to_dict(),
            "units": UNITS.to_dict(),
            **facts,
        }
    )
    return model.eval()


def listener(**facts):
    """The recogniser as users call it."""
    return Synthesizer(tone_model(**facts), {"model": "asr/tones"})


def say(text, rate=RATE, lead=0.2):
    """Return the sound of a text [n] and (letter, start, end) of each of its letters, in seconds."""
    parts, times, at = [np.zeros(round(lead * rate))], [], lead

    def tone(unit, seconds):
        return 0.2 * np.sin(2 * np.pi * TONES[unit] * np.arange(round(seconds * rate)) / rate)

    for number, word in enumerate(text.lower().split()):
        if number:
            parts += [tone(SPACE, REST), np.zeros(round(PAUSE * rate))]
            at += REST + PAUSE
        for letter in word:
            parts += [tone(letter, TONE), np.zeros(round(REST * rate))]
            times.append((letter, at, at + TONE))
            at += TONE + REST
    parts.append(np.zeros(round(lead * rate)))
    return np.concatenate(parts).astype(np.float32), times
