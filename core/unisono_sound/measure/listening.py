"""Listening: what tells who speaks and which word it is, and how near two voices are.

A listener is a model that hears single words of its own speakers, such as ``codec/listener``; what is measured by one
has it as a component. Of any speech, resemblyzer's d-vectors tell how near two voices are, where it is installed.

Shapes: n samples, e dimensions of a voice.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor
from unisono.extras import optional

from unisono_sound.measure.waveform import mono

__all__ = ["HAS_RESEMBLYZER", "HeardVoice", "Listener", "voice_vector"]

HAS_RESEMBLYZER = find_spec("resemblyzer") is not None
"""It is measured where it is installed, and else a report says so."""
RATE = 16000


class HeardVoice(Protocol):
    """What was heard of a recording: a vector of length 1, the likeliest speaker and the likeliest word."""

    vector: np.ndarray

    @property
    def speaker(self) -> str: ...

    @property
    def word(self) -> str: ...


@runtime_checkable
class Listener(Protocol):
    """What tells who of ``speakers`` speaks, and which of ``words`` it is."""

    speakers: Sequence[str]
    words: Sequence[str]

    def hear(self, waves: Sequence[Float[Tensor, " n"]], sample_rate: int) -> Sequence[Any]:
        """Return a ``HeardVoice`` for each recording of a single word."""
        ...


def voice_vector(waveform: Any, sample_rate: int) -> Float[np.ndarray, "e"]:
    """Return resemblyzer's vector of a voice (Wan et al., arXiv:1710.10467), of length 1: 256 dimensions, heard at
    16 kHz, of some seconds best. Raises ``MissingExtra`` without the package.
    """
    return _encoder().embed_utterance(mono(waveform, sample_rate, RATE))


@cache
def _encoder() -> Any:
    return optional("resemblyzer").VoiceEncoder("cpu", verbose=False)
