"""Facts about recordings: what a vocoder or codec must know of sound, and what a voice must know of speech."""

from dataclasses import dataclass

from unisono.data import Facts

from unisono_sound.signal import MelSpec


@dataclass(frozen=True, kw_only=True)
class AudioFacts(Facts):
    """Facts about recordings without texts.

    Attributes:
        mel_spec: the spectrogram, and with it the sample rate.
        pitch: items hold pitch.
        held_out: texts (ids, where there is none) of the recordings that are validated on.
    """

    mel_spec: MelSpec
    pitch: bool = False
    held_out: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class SpeechFacts(Facts):
    """Facts about recordings with texts.

    Attributes:
        symbols: what texts are read as, in the order of their numbers.
        front_end, front_end_version, language: what reads texts.
        speakers: in the order of their numbers.
        mel_spec: the spectrogram, and with it the sample rate.
        mel_mean, mel_std: over all training frames and channels.
        mel_bin_mean, mel_bin_std: over all training frames, per channel.
        sample_texts: a few, for previews.
        held_out: texts that are validated on.
        hours: of the training recordings.
        given_durations: the corpus states how long symbols last.
        lexicon: (word, phonemes, language) of words that were read by a lexicon; None where there is none.
    """

    symbols: tuple[str, ...]
    front_end: str
    front_end_version: str = ""
    language: str
    speakers: tuple[str, ...]
    mel_spec: MelSpec
    mel_mean: float = 0.0
    mel_std: float = 1.0
    mel_bin_mean: tuple[float, ...] | None = None
    mel_bin_std: tuple[float, ...] | None = None
    sample_texts: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    hours: float | None = None
    given_durations: bool = False
    lexicon: tuple[tuple[str, str, str], ...] | None = None
