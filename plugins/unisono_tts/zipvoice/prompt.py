"""Prompt: a recording whose voice is taken, with what is said in it, as the model was trained to see recordings.

The recording is trimmed of silence and levelled as the training data were, and nothing else is cut off it, so that
recording and text stay together. A text that cannot be what is said, by how long its symbols would last, is refused.

Shapes: p frames, m mel bins.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError, RequestError
from unisono.recipe import data_of
from unisono_sound.corpus import SoundOptions, level, trim
from unisono_sound.signal import LogMel, read_audio
from unisono_sound.text.symbols import PAUSES, SPECIALS

from unisono_tts.zipvoice.request import ZipVoiceRequest

SHORTEST, LONGEST = 0.5, 20.0
"""Seconds of a prompt, without the silence around it."""

FASTEST, SLOWEST = 0.025, 0.5
"""Mean seconds of a phoneme that a prompt can have, its pauses counted in."""

ONE_PIECE = 100_000
"""Characters of a prompt's text that are read in one piece: all."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt: its standardised mel, and its symbols by number.

    ``ids`` end before the pause behind the last word; ``pause`` is that pause's symbol, and ``behind`` the symbols of
    the silence that follows in the recording, which an aligner hears apart.
    """

    mel: Float[Tensor, "p m"]
    ids: list[int]
    pause: int
    behind: list[int]


def read_prompt(model: Any, request: ZipVoiceRequest) -> Prompt | None:
    """Return a request's prompt; None where it has none.

    Raises ``RequestError`` for a recording that cannot be read, is silent, not finite, too short or too long, and for
    a text that has no symbol, several paragraphs, or cannot be what is said.
    """
    if request.prompt is None or request.prompt_text is None:
        return None
    spec = model.mel_spec
    try:
        wave, _ = read_audio(request.prompt, spec.sample_rate)
    except DataError as error:
        raise RequestError(str(error), code=error.code, path="prompt", value=request.prompt) from None
    if not bool(wave.isfinite().all()):
        message = "the prompt holds NaN or infinite samples: repair it first"
        raise RequestError(message, code="value", path="prompt", value=request.prompt)
    if not len(wave) or float(wave.abs().max()) < 1e-4:
        message = "the prompt is silent: give a recording of a voice"
        raise RequestError(message, code="empty", path="prompt", value=request.prompt)
    sound = SoundOptions(**data_of(model.recipe).get("sound", {}))
    wave, _ = trim(wave, spec.sample_rate, sound.trim_db, sound.pad_seconds)
    seconds = len(wave) / spec.sample_rate
    if not SHORTEST <= seconds <= LONGEST:
        message = f"the prompt lasts {seconds:.2f} s without its silence: give {SHORTEST:g} to {LONGEST:g} s, 3 serve"
        raise RequestError(message, code="range", path="prompt", value=seconds)
    wave = level(wave, spec.sample_rate, sound.loudness_dbfs)
    mel = (LogMel(spec)(wave[None])[0].to(model.device) - model.mel_mean) / model.mel_std
    ids = _symbols(model, request)
    table = model.voice.symbols
    phonemes = sum(table[i] not in SPECIALS for i in ids)
    if not phonemes or not FASTEST <= seconds / phonemes <= SLOWEST or len(ids) > len(mel):
        message = (
            f"prompt_text has {phonemes} phonemes for {seconds:.2f} s of speech, and no one speaks like that "
            f"({1000 * FASTEST:.0f} to {1000 * SLOWEST:.0f} ms each): give what is said in the prompt, all of it"
        )
        raise RequestError(message, code="conflict", path="prompt_text", value=request.prompt_text)
    spoken = next(end for end in range(len(ids), 0, -1) if table[ids[end - 1]] not in SPECIALS)
    behind = ids[spoken:]
    pause = behind[0] if behind and table[behind[0]] in PAUSES else table.index(".")
    return Prompt(mel, ids[:spoken], pause, behind)


def _symbols(model: Any, request: ZipVoiceRequest) -> list[int]:
    """Return the symbols of a prompt's text, read as the request's own text is."""
    alone = {"prompt": None, "prompt_text": None, "word_paces": None, "seconds": None, "pace": 1.0, "markup": "none"}
    try:
        readings = list(model.voice.read(request.model_copy(update={**alone, "text": request.prompt_text}), ONE_PIECE))
    except RequestError as error:
        raise RequestError(str(error), code=error.code, path="prompt_text", value=request.prompt_text) from None
    if len(readings) != 1:
        message = f"prompt_text has {len(readings)} paragraphs, a prompt has one: join its lines"
        raise RequestError(message, code="limit", path="prompt_text", value=len(readings))
    return readings[0].ids
