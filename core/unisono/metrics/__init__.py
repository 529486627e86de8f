"""Measures: of speech (words, quality, spectra, pitch, timing), of sets of features (Fréchet distance, retrieval,
diversity), of how varied texts are; the report that shows them; and the sweep that shows them against their cost.

Waveforms are mono float arrays ``[n]`` with their rate, numpy or torch; measures return plain
floats. Packages that only one measure needs come with the extra ``evaluate`` and are imported where
they are used.
"""

from unisono.metrics.distance import log_spectral_distance, mel_distance, scale_invariant_sdr
from unisono.metrics.duration import length_ratio, segment_error, speech_span
from unisono.metrics.frechet import frechet_distance, gaussian_distance
from unisono.metrics.intrusive import intelligibility, perceptual_quality
from unisono.metrics.mcd import align, mel_cepstral_distortion
from unisono.metrics.mos import DNSMOS, dnsmos
from unisono.metrics.neighbours import nearest, precision_recall
from unisono.metrics.normalise import normalise_english
from unisono.metrics.pitch import PitchError, median_shift_semitones, pitch_error, track_pitch
from unisono.metrics.process import in_fresh_process, peak_memory
from unisono.metrics.recognise import PocketSphinx, Recogniser, Whisper, recogniser
from unisono.metrics.report import Report, Row, Section
from unisono.metrics.retrieval import diversity, multimodality, paired_distance, r_precision
from unisono.metrics.sweep import Point, Probe, Sweep, sweep
from unisono.metrics.variety import distinct_n, self_bleu, unigram_entropy
from unisono.metrics.waveform import optional
from unisono.metrics.wer import ErrorRate, character_error_rate, word_error_rate

__all__ = [
    "DNSMOS",
    "ErrorRate",
    "PitchError",
    "PocketSphinx",
    "Point",
    "Probe",
    "Recogniser",
    "Report",
    "Row",
    "Section",
    "Sweep",
    "Whisper",
    "align",
    "character_error_rate",
    "distinct_n",
    "diversity",
    "dnsmos",
    "frechet_distance",
    "gaussian_distance",
    "in_fresh_process",
    "intelligibility",
    "length_ratio",
    "log_spectral_distance",
    "median_shift_semitones",
    "mel_cepstral_distortion",
    "mel_distance",
    "multimodality",
    "nearest",
    "normalise_english",
    "optional",
    "paired_distance",
    "peak_memory",
    "perceptual_quality",
    "pitch_error",
    "precision_recall",
    "r_precision",
    "recogniser",
    "scale_invariant_sdr",
    "segment_error",
    "self_bleu",
    "speech_span",
    "sweep",
    "track_pitch",
    "unigram_entropy",
    "word_error_rate",
]
