"""Streamed recordings: the parts of a row, and their sound, text and speaker.

A row of a shard has an audio file, and perhaps ``.txt``, the speaker in ``.spk``, or both in ``.json`` as ``text`` and
``speaker``; a row of a table the columns ``audio``, ``text`` (``sentence``, ``transcription``) and ``speaker``.
"""

import tempfile

from jaxtyping import Float
from torch import Tensor
from unisono.data import Drop
from unisono.data.stream import Part, Row
from unisono.errors import DataError
from unisono.files import composed, lone_surrogate

from unisono_sound.corpus.limits import AudioLimits, wave_facts
from unisono_sound.corpus.recording import prepared_wave
from unisono_sound.signal.io import AUDIO_SUFFIXES, read_audio
from unisono_sound.signal.mel import MelSpec

AUDIO = Part("audio", AUDIO_SUFFIXES, ("audio", "wav", "flac", "mp3", "ogg", "opus"))
TEXT = Part("text", (".txt",), ("text", "sentence", "transcription", "transcript", "normalized_text"), needed=False)
SPEAKER = Part("speaker", (".spk",), ("speaker", "speaker_id", "client_id"), needed=False)
FACTS = Part("facts", (".json",), (), needed=False)


def wave_of(row: Row, sample_rate: int) -> Float[Tensor, "n"]:
    """Return a row's recording as mono float32 at a rate; raises ``Drop`` where it is not whole."""
    with tempfile.NamedTemporaryFile(prefix="unisono-", suffix=".audio") as file:  # its container is judged as a file's
        file.write(row.parts["audio"])
        file.flush()
        try:
            return read_audio(file.name, sample_rate)[0]
        except DataError as error:
            if error.fault is None:
                raise Drop("unreadable", str(error)) from None
            raise Drop(error.fault.reason, error.fault.detail) from None


def usable_wave(row: Row, spec: MelSpec, limits: AudioLimits) -> Float[Tensor, "n"]:
    """Return a row's recording; raises ``Drop`` where the limits refuse it."""
    wave = wave_of(row, spec.sample_rate)
    if verdict := limits.judge(wave_facts(wave, spec.sample_rate)):
        raise Drop(*verdict)
    return wave


def speech_of(
    row: Row, spec: MelSpec, limits: AudioLimits, trim_db: float, pad_seconds: float, loudness_dbfs: float | None
) -> Float[Tensor, "n"]:
    """Return a row's recording as voices are trained on it: trimmed and levelled; raises ``Drop``."""
    return prepared_wave(usable_wave(row, spec, limits), spec, trim_db, pad_seconds, loudness_dbfs)[0]


def text_of(row: Row) -> str:
    """Return what is said, in Unicode's composed form; raises ``Drop`` where there is nothing."""
    text = row.text("text") if "text" in row.parts else _fact(row, "text")
    text = composed(" ".join(text.split()))
    if not text:
        raise Drop("empty text")
    if half := lone_surrogate(text):
        raise Drop("half a character", f"{half} alone is half of a character")
    return text


def speaker_of(row: Row) -> str:
    """Return who speaks; empty where the row does not say."""
    return composed(row.text("speaker") if "speaker" in row.parts else _fact(row, "speaker"))


def _fact(row: Row, name: str) -> str:
    facts = row.json("facts") if "facts" in row.parts else {}
    value = facts.get(name) if isinstance(facts, dict) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
