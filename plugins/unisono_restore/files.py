"""Files: one recording or a folder of them restored, block by block, with what the source says of itself kept.

::

    source ─ blocks ─ pieces ─ restored ─ blocks ─ beside the target ─ renamed

Memory does not grow with a recording. Bits per sample are the source's where the target's format has them, else 16;
what a recording says of itself (title, artist, date …) is written to the copy. A target that stands is not
touched unless that is asked for.

Shapes: c channels, n samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from unisono.errors import DataError, RequestError, UnisonoError
from unisono.files import written_aside
from unisono_sound.corpus import find_audio
from unisono_sound.signal import open_sound

from unisono_restore.restorer import Restorer
from unisono_restore.sounds import sound_of_file

__all__ = ["FORMATS", "Restored", "restore_file", "restore_folder"]

FORMATS = {".wav": "WAV", ".w64": "W64", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
"""What is written, by suffix. A ``.wav`` of more than 4 GB becomes RF64, which most readers take."""
_NOTES = ("title", "copyright", "software", "artist", "comment", "date", "album", "license", "tracknumber", "genre")
_MOST_WAV = 2**32 - 2**16
_WIDTHS = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class Restored:
    """What became of a recording: its seconds, how many samples were clipped because the format ends at ±1, and which
    of its notes (title, artist …) the format does not hold."""

    source: Path
    target: Path
    seconds: float
    clipped: int
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        lost = f", without {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.target}: {self.seconds:.2f} s, {self.clipped} samples clipped{lost}"


def restore_file(
    model: Restorer, source: str | Path, target: str | Path, *, overwrite: bool = False, **fields: Any
) -> Restored:
    """Restore a recording of any length into a file of the format of its suffix.

    ``fields`` are those of the model's request, but for the sound. Raises ``RequestError`` where the sound cannot be
    restored, and ``DataError`` where the target cannot be written: nothing is left there then.
    """
    source, target = Path(source), Path(target)
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise DataError(
            f"{target}: {target.suffix or 'a file without suffix'!r} is not written: take {', '.join(FORMATS)}",
            code="unsupported",
            path=str(target),
            value=target.suffix,
        )
    if target.exists() and not overwrite:
        raise DataError(f"{target} exists: choose another name, or overwrite it", code="exists", path=str(target))
    request = model.Request.parse(audio=str(source), **fields)
    sound = sound_of_file(source)
    with open_sound(source) as file:
        notes = {name: value for name in _NOTES if (value := getattr(file, name, ""))}
        own = soundfile.check_format(kind, file.subtype)
        subtype = str(file.subtype if own else soundfile.default_subtype(kind))
    rate, length = model.sample_rate, sound.length_at(model.sample_rate)
    if kind == "WAV" and length * sound.num_channels * _WIDTHS.get(subtype, 8) > _MOST_WAV:
        kind = "RF64"
    clipped, left_out = 0, []
    with (
        written_aside(target, DataError, also=(soundfile.LibsndfileError,)) as aside,
        soundfile.SoundFile(str(aside), "w", rate, sound.num_channels, subtype, format=kind) as out,
    ):
        for name, value in notes.items():
            try:
                setattr(out, name, value)
            except soundfile.LibsndfileError:
                left_out.append(name)
        for piece in model.restored(request, sound):
            samples = piece.numpy().T
            beyond = np.abs(samples) > 1
            if subtype not in ("FLOAT", "DOUBLE") and beyond.any():
                clipped += int(beyond.sum())
                samples = samples.clip(-1, 1)
            out.write(samples)
    return Restored(source, target, length / rate, clipped, tuple(left_out))


def restore_folder(
    model: Restorer, source: str | Path, target: str | Path, *, suffix: str = "", overwrite: bool = False, **fields: Any
) -> Iterator[Restored | UnisonoError]:
    """Restore each recording of a folder, at any depth, into the same place below another folder.

    ``suffix`` is that of the copies; without it, each has its source's, or ``.wav`` where that is not written. A
    recording that cannot be restored is yielded as its error, and the others go on; one whose copy stands is passed
    over, so that a run that was ended goes on where it was.
    """
    source, target = Path(source).expanduser(), Path(target)
    if target.resolve() == source.resolve():
        raise RequestError(
            f"{target} is the folder of the recordings: give another one for the copies",
            code="conflict",
            path="target",
            value=str(target),
        )
    manifest = find_audio(source)
    for name, fault in manifest.faults:
        yield DataError(f"{name}: {fault.detail}", code="damaged", path=name)
    for utterance in manifest:
        place = utterance.audio.relative_to(source)
        ending = suffix or (place.suffix if place.suffix.lower() in FORMATS else ".wav")
        copy = target / place.with_suffix(ending)
        if copy.exists() and not overwrite:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield restore_file(model, utterance.audio, copy, overwrite=overwrite, **fields)
        except UnisonoError as error:
            yield error
