"""Measures of speech: words, quality, spectra, pitch, timing; and the report that shows them.

Waveforms are mono float arrays ``[n]`` with their rate, numpy or torch; measures return plain
floats. Packages that only one measure needs come with the extra ``evaluate`` and are imported where
they are used.
"""

from unisono.metrics.duration import length_ratio, segment_error, speech_span
from unisono.metrics.intrusive import intelligibility, perceptual_quality
from unisono.metrics.mcd import align, mel_cepstral_distortion
from unisono.metrics.mos import DNSMOS, dnsmos
from unisono.metrics.normalise import normalise_english
from unisono.metrics.pitch import PitchError, median_shift_semitones, pitch_error, track_pitch
from unisono.metrics.recognise import PocketSphinx, Recogniser, Whisper, recogniser
from unisono.metrics.report import Report, Row, Section
from unisono.metrics.waveform import optional
from unisono.metrics.wer import ErrorRate, character_error_rate, word_error_rate

__all__ = [
    "DNSMOS",
    "ErrorRate",
    "PitchError",
    "PocketSphinx",
    "Recogniser",
    "Report",
    "Row",
    "Section",
    "Whisper",
    "align",
    "character_error_rate",
    "dnsmos",
    "intelligibility",
    "length_ratio",
    "median_shift_semitones",
    "mel_cepstral_distortion",
    "normalise_english",
    "optional",
    "perceptual_quality",
    "pitch_error",
    "recogniser",
    "segment_error",
    "speech_span",
    "track_pitch",
    "word_error_rate",
]
