"""Corpora to train a voice on: recordings with texts (``tts/speech``), and speech made on the spot
(``tts/espeak``).

Both are ``unisono_sound.corpus``'s corpora, with two features beside the log mel [t, m]::

    pitch    [t]  hertz, 0 unvoiced
    energy   [t]  norm of magnitudes

Shapes: s symbols, t frames, m mel channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor
from unisono_sound.corpus import (
    AudioLimits,
    MadeOptions,
    MadeSpeech,
    ReadingOptions,
    SoundOptions,
    SpeechCorpus,
    SpeechItem,
    Utterance,
    read_speech,
)
from unisono_sound.corpus.options import MADE
from unisono_sound.corpus.recording import moments, sums
from unisono_sound.signal import LogMel, MelSpec, energy, pitch

from unisono_tts.facts import VoiceFacts


class SpeechData(SpeechCorpus):
    """Recordings with texts, ready to train a voice; see ``SpeechCorpus`` for the arguments."""

    def features(self) -> tuple[Callable[..., Any], str]:
        return extract, "speech 2"

    def describe(self) -> VoiceFacts:
        """Return a corpus' facts, with each speaker's pitch and energy."""
        return VoiceFacts(**super().describe(), **_statistics(self.train_set.items, self.speakers))


class EspeakData(MadeSpeech, SpeechData):
    """A corpus spoken by espeak-ng, with its exact phoneme times: made on the spot, no download.

    Args:
        made: what is said, and how.
        language, val_size, mel, num_processes, batch_size, num_workers: as in ``tts/speech``; the front end is
            ``espeak``, whose phonemes the times belong to.
    """

    flat: ClassVar[dict[str, str]] = MADE

    def __init__(
        self,
        *,
        made: MadeOptions = MadeOptions(),  # noqa: B008
        language: str = "en-us",
        val_size: float = 0.05,
        mel: MelSpec = MelSpec(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        self.made = made
        super().__init__(
            root="",
            reading=ReadingOptions(language=language),
            val_size=val_size,
            mel=mel,
            sound=SoundOptions(trim_db=0.0),
            num_processes=num_processes,
            batch_size=batch_size,
            num_workers=num_workers,
        )


def extract(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compute one recording's mel, pitch and energy; facts hold its length and the sums for
    statistics.
    """
    wave, cut_seconds = read_speech(utterance, spec, limits, trim_db, pad_seconds, loudness_dbfs)
    mel = LogMel(spec)(wave[None])[0]
    hertz, loud = pitch(wave, spec), energy(wave, spec)
    return {"mel": mel, "pitch": hertz, "energy": loud}, {
        "seconds": len(wave) / spec.sample_rate,
        "cut_seconds": cut_seconds,
        "mel": sums(mel),
        "pitch": sums(hertz[hertz > 0].double().log()),
        "energy": sums(loud.double().log1p()),
    }


def _statistics(items: Sequence[SpeechItem], speakers: Sequence[str]) -> dict[str, Any]:
    """Means and standard deviations from the sums that came with the features."""
    result = {}
    for name in ("pitch", "energy"):
        rows = {}
        everyone = moments([item.features.facts[name] for item in items])
        for index, speaker in enumerate(speakers):
            own = [i.features.facts[name] for i in items if i.speaker == index]
            own_mean, own_std = moments(own) if sum(s[2] for s in own) else everyone
            rows[speaker] = {"mean": float(own_mean), "std": float(own_std)}
        result[name] = rows
    return result
