"""Signal: sound files, log mels, the "same"-padded Fourier transform, pitch, energy, Griffin-Lim."""

from unisono_sound.signal.containers import check_whole
from unisono_sound.signal.griffin_lim import GriffinLim
from unisono_sound.signal.io import (
    AUDIO_SUFFIXES,
    AudioInfo,
    open_sound,
    probe_audio,
    read_audio,
    resample,
    sound_blocks,
    write_audio,
)
from unisono_sound.signal.mel import LogMel, MelInverse, MelSpec
from unisono_sound.signal.pitch import energy, fill_gaps, pitch
from unisono_sound.signal.stft import istft_same, stft_same

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "GriffinLim",
    "LogMel",
    "MelInverse",
    "MelSpec",
    "check_whole",
    "energy",
    "fill_gaps",
    "istft_same",
    "open_sound",
    "pitch",
    "probe_audio",
    "read_audio",
    "resample",
    "sound_blocks",
    "stft_same",
    "write_audio",
]
