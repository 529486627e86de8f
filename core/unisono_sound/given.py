"""Given sounds: the part of a request that is a sound, as a file or as samples of any rate and number of channels.

Recognisers, restorers and converters take requests of this kind.

Shapes: c channels, n samples.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import BeforeValidator, Field, model_validator
from unisono.errors import DataError, RequestError
from unisono.request import Request, file_of

from unisono_sound.signal.io import AUDIO_SUFFIXES

__all__ = ["HIGHEST_RATE", "LOWEST_RATE", "Samples", "SoundRequest", "channels_of", "told_of"]

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Rates of samples, in hertz."""


def _plain(samples: Any) -> Any:
    """Arrays as lists, which is what a request holds; raises ``RequestError`` for NaN and infinity, in one sentence."""
    values = samples.tolist() if hasattr(samples, "tolist") else samples
    try:
        finite = values is None or bool(np.isfinite(np.asarray(values, np.float64)).all())
    except (TypeError, ValueError):  # no numbers, or channels of several lengths: told of behind this
        return values
    if not finite:
        raise RequestError("the samples hold NaN or infinity: repair them first", code="range")
    return values


Samples = Annotated[list[float] | list[list[float]] | None, BeforeValidator(_plain)]
"""Samples of a request, from −1 to 1: [n], or [c, n]; arrays become lists."""


class SoundRequest(Request):
    """A sound: a file, or samples with their rate."""

    audio: str | None = Field(
        default=None,
        description="path of a recording (wav, flac, ogg, opus, mp3) of any rate, length and number of channels",
        json_schema_extra=file_of(*AUDIO_SUFFIXES),
    )
    samples: Samples = Field(default=None, description="samples from -1 to 1: [n], or [c, n] of c channels")
    sample_rate: int | None = Field(
        default=None, ge=LOWEST_RATE, le=HIGHEST_RATE, description="of the samples, in hertz; default: the model's own"
    )

    @model_validator(mode="after")
    def _one_sound(self):
        if (self.audio is None) == (self.samples is None):
            raise RequestError("give either audio, a path, or samples", code="conflict", path="audio")
        if self.audio is not None and self.sample_rate is not None:
            raise RequestError(
                "sample_rate is that of samples: a file says its own", code="conflict", path="sample_rate"
            )
        return self


def channels_of(samples: Any, path: str = "samples") -> Float[np.ndarray, "c n"]:
    """Return samples [n] or [c, n] by channels, in float32.

    Raises ``RequestError`` about ``path`` where there are none, or they are not finite.
    """
    try:
        values = np.asarray(samples, np.float32)
    except ValueError:
        raise RequestError("the channels are not of one length", code="shape", path=path) from None
    if values.ndim not in (1, 2):
        raise RequestError(
            f"samples of shape {list(values.shape)}: give [n], or [c, n] of c channels",
            code="shape",
            path=path,
            value=list(values.shape),
        )
    if not values.size:
        raise RequestError("there are no samples: give some", code="empty", path=path)
    if not np.isfinite(values).all():
        raise RequestError("the samples hold NaN or infinity: repair them first", code="value", path=path)
    return values.reshape(-1, values.shape[-1])


@contextmanager
def told_of(path: str, field: str = "audio") -> Iterator[None]:
    """Turn a ``DataError`` of a file into a ``RequestError`` about a field that names it."""
    try:
        yield
    except DataError as error:
        told = RequestError(str(error), code=error.code, path=field, value=path)
        told.fault = error.fault
        raise told from None
