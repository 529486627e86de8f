"""Corpora to train a voice on: recordings with texts (``tts/speech``), and speech made on the spot
(``tts/espeak``).

Both are ``unisono.speech``'s corpora, with two features beside the log mel [t, m]::

    pitch    [t]  hertz, 0 unvoiced
    energy   [t]  norm of magnitudes

Shapes: s symbols, t frames, m mel channels.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from unisono_sound.corpus import AudioLimits, MadeSpeech, SpeechCorpus, SpeechItem, Utterance, read_speech
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
        num_sentences: how many; about 3 seconds each: 1,200 make an hour, in half a minute.
        voices: espeak-ng's voice variants, each a speaker ("plain", "f2", "m3"); sentences go round
            them.
        rates: words per minute, drawn per sentence.
        pitches: 0–99, drawn per sentence.
        texts: a file with a sentence per line instead of the made-up ones (English).
        corpus_seed: draws sentences, rates and pitches; the recipe's seed does not touch the
            corpus.
        front_end, language, val_size, mel, num_processes, batch_size, num_workers: as in
            ``tts/speech``; the front end must be ``espeak``, whose phonemes the times belong to.
    """

    def __init__(
        self,
        *,
        num_sentences: int = 300,
        voices: Sequence[str] = ("plain",),
        rates: Sequence[int] = (150, 165, 180),
        pitches: Sequence[int] = (40, 50, 60),
        texts: str | None = None,
        corpus_seed: int = 0,
        language: str = "en-us",
        val_size: float = 0.05,
        mel: MelSpec = MelSpec(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        self.speak_with(num_sentences, voices, rates, pitches, texts, corpus_seed)
        super().__init__(
            root="",
            language=language,
            val_size=val_size,
            mel=mel,
            trim_db=0.0,
            loudness_dbfs=-23.0,
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
