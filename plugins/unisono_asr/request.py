"""Request: a sound to hear, as a file or as samples of any rate, and its samples block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator
from unisono.errors import DataError, RequestError
from unisono.request import Request, file_of
from unisono_sound.signal import AUDIO_SUFFIXES

from unisono_asr.windows import sound_of

__all__ = ["RecognitionRequest", "Sound", "sound_in", "sound_of_file", "sound_of_samples"]

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000


def _plain(samples: Any) -> Any:
    """Arrays as lists, which is what a request holds."""
    return samples.tolist() if hasattr(samples, "tolist") else samples


Samples = Annotated[list[float] | list[list[float]] | None, BeforeValidator(_plain)]


class RecognitionRequest(Request):
    """A sound to hear: a file, or samples with their rate."""

    audio: str | None = Field(
        default=None,
        description="path of a recording (wav, flac, ogg, opus, mp3) of any length",
        json_schema_extra=file_of(*AUDIO_SUFFIXES),
    )
    samples: Samples = Field(default=None, description="samples from -1 to 1: [n], or [c, n] of c channels")
    sample_rate: int | None = Field(
        default=None, ge=LOWEST_RATE, le=HIGHEST_RATE, description="of the samples, in hertz; default: the model's own"
    )
    steps: int = Field(default=1, ge=1, le=16, description="passes of the decoder, where there is one")

    @model_validator(mode="after")
    def _one_source(self):
        if (self.audio is None) == (self.samples is None):
            raise RequestError("give either audio, a path, or samples", code="conflict", path="audio")
        if self.audio is not None and self.sample_rate is not None:
            raise RequestError(
                "sample_rate is that of samples: a file says its own", code="conflict", path="sample_rate"
            )
        return self


@dataclass(frozen=True)
class Sound:
    """A sound block by block: ``blocks`` [n] of one channel at ``rate``; ``notes`` say what was done to it."""

    rate: int
    blocks: Iterator[Float[np.ndarray, "n"]]
    notes: tuple[str, ...] = ()


def sound_in(request: RecognitionRequest, rate: int) -> Sound:
    """Return the sound of a request; ``rate`` is that of samples without one.

    Raises ``RequestError`` as ``sound_of_samples`` does, and where a file cannot be read: of what is behind its header
    while blocks are read.
    """
    if request.audio is not None:
        return sound_of_file(request.audio)
    return sound_of_samples(request.samples, request.sample_rate or rate)


def sound_of_file(path: str | Path) -> Sound:
    """Return a file's sound; raises ``RequestError`` as ``sound_in`` does."""
    with _telling(str(path)):
        info, blocks = sound_of(path)
    return Sound(info.sample_rate, _told(blocks, str(path)), _averaged(info.num_channels))


def sound_of_samples(samples: Any, rate: int) -> Sound:
    """Return a sound of samples [n] or [c, n]; raises ``RequestError`` where there are none or they are not finite."""
    try:
        values = np.asarray(samples, np.float32)
    except ValueError:
        raise RequestError("the channels are not of one length", code="shape", path="samples") from None
    if values.ndim not in (1, 2):
        raise RequestError(
            f"samples of shape {list(values.shape)}: give [n], or [c, n] of c channels",
            code="shape",
            path="samples",
            value=list(values.shape),
        )
    if not values.size:
        raise RequestError("there are no samples: there is nothing to hear", code="empty", path="samples")
    if not np.isfinite(values).all():
        raise RequestError("the samples hold NaN or infinity: repair them first", code="value", path="samples")
    channels = values.reshape(-1, values.shape[-1])
    return Sound(rate, iter([channels.mean(0)]), _averaged(len(channels)))


def _averaged(channels: int) -> tuple[str, ...]:
    return (f"{channels} channels were averaged",) if channels > 1 else ()


class _telling:
    """Turns a file's ``DataError`` into one of the request."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, DataError):
            raise RequestError(str(error), code=error.code, path="audio", value=self.path) from None


def _told(blocks: Iterator[Float[np.ndarray, "n"]], path: str) -> Iterator[Float[np.ndarray, "n"]]:
    with _telling(path):
        yield from blocks
