"""Sound: files, log mels, the "same"-padded Fourier transform, pitch, energy, Griffin-Lim."""

from unisono.audio.griffin_lim import GriffinLim
from unisono.audio.io import AudioInfo, probe_audio, read_audio, resample, write_audio
from unisono.audio.mel import LogMel, MelInverse, MelSpec
from unisono.audio.pitch import energy, fill_gaps, pitch
from unisono.audio.stft import istft_same, stft_same

__all__ = [
    "AudioInfo",
    "GriffinLim",
    "LogMel",
    "MelInverse",
    "MelSpec",
    "energy",
    "fill_gaps",
    "istft_same",
    "pitch",
    "probe_audio",
    "read_audio",
    "resample",
    "stft_same",
    "write_audio",
]
