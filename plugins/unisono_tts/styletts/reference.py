"""Reference: a recording whose style a request asks for, made ready as the training recordings were.

Shapes: n samples, t frames, m mel bins.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from unisono.errors import RequestError
from unisono_sound.corpus import SoundOptions, level, trim
from unisono_sound.signal import LogMel, MelSpec, read_audio

SHORTEST_SECONDS = 0.5
LONGEST_SECONDS = 60.0
SILENT = 1e-4
"""A recording whose loudest sample is below this is silent."""
HEARD_DB = 45.0
"""What counts as sound where a recipe trims nothing: up to this far below the loudest stretch."""


def sound_of(recipe: Mapping[str, Any]) -> SoundOptions:
    """Return how a recipe's recordings are trimmed and levelled."""
    given = recipe.get("data", {}).get("sound", {})
    return SoundOptions(**{name: given[name] for name in SoundOptions.__dataclass_fields__ if name in given})


def read_reference(path: str, spec: MelSpec, sound: SoundOptions) -> Float[Tensor, "t m"]:
    """Read a recording of any rate as a log mel.

    Raises ``RequestError`` for one that is silent, lasts less than 0.5 s without the silence around it, or more than
    60 s; ``DataError`` for a file that cannot be read or holds NaN.
    """
    wave, rate = read_audio(path, spec.sample_rate)
    if float(wave.abs().max()) < SILENT:
        raise RequestError(
            "the style's recording is silent: give one of a voice", code="empty", path="style", value=path
        )
    if (seconds := len(wave) / rate) > LONGEST_SECONDS:
        message = f"the style's recording lasts {seconds:.1f} s: give at most {LONGEST_SECONDS:g} s of it"
        raise RequestError(message, code="limit", path="style", value=seconds)
    heard, _ = trim(wave, rate, sound.trim_db or HEARD_DB, 0.0)
    if (seconds := len(heard) / rate) < SHORTEST_SECONDS:
        message = (
            f"the style's recording holds {seconds:.2f} s of sound without the silence around it: "
            f"give at least {SHORTEST_SECONDS:g} s"
        )
        raise RequestError(message, code="range", path="style", value=seconds)
    wave, _ = trim(wave, rate, sound.trim_db, sound.pad_seconds)
    return LogMel(spec)(level(wave, rate, sound.loudness_dbfs)[None])[0]
