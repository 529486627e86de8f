"""Measures of speech: words, quality, spectra, pitch and timing.

Waveforms are mono float arrays ``[n]`` with their rate, numpy or torch; measures return plain floats. Packages that
only one measure needs come with the extra ``evaluate`` and are imported where they are used.
"""

from unisono_sound.measure.distance import log_spectral_distance, mel_distance, scale_invariant_sdr
from unisono_sound.measure.duration import length_ratio, segment_error, speech_span
from unisono_sound.measure.edges import edge_levels, is_clipped
from unisono_sound.measure.intrusive import intelligibility, perceptual_quality
from unisono_sound.measure.judges import Judge, Judging, WordJudge, judge
from unisono_sound.measure.listening import HAS_RESEMBLYZER, HeardVoice, Listener, voice_vector
from unisono_sound.measure.mcd import align, mel_cepstral_distortion
from unisono_sound.measure.mos import DNSMOS, dnsmos
from unisono_sound.measure.normalise import normalise_english
from unisono_sound.measure.pitch import PitchError, median_shift_semitones, pitch_error, track_pitch
from unisono_sound.measure.recognise import PocketSphinx, Recogniser, Whisper, recogniser
from unisono_sound.measure.wer import ErrorRate, character_error_rate, unit_error_rate, word_error_rate

__all__ = [
    "DNSMOS",
    "HAS_RESEMBLYZER",
    "ErrorRate",
    "HeardVoice",
    "Judge",
    "Judging",
    "Listener",
    "PitchError",
    "PocketSphinx",
    "Recogniser",
    "Whisper",
    "WordJudge",
    "align",
    "character_error_rate",
    "dnsmos",
    "edge_levels",
    "intelligibility",
    "is_clipped",
    "judge",
    "length_ratio",
    "log_spectral_distance",
    "median_shift_semitones",
    "mel_cepstral_distortion",
    "mel_distance",
    "normalise_english",
    "perceptual_quality",
    "pitch_error",
    "recogniser",
    "scale_invariant_sdr",
    "segment_error",
    "speech_span",
    "track_pitch",
    "unit_error_rate",
    "voice_vector",
    "word_error_rate",
]
