"""Reading: which recordings there are, by whom; what is computed of each, and of all.

Shapes: t frames, m mel channels.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from unisono.files import is_folder
from unisono_sound.corpus import (
    AudioLimits,
    Manifest,
    Utterance,
    find_audio,
    read_manifests,
    read_speech,
    same_sentence,
)
from unisono_sound.corpus.recording import moments, sums
from unisono_sound.signal import LogMel, MelSpec, pitch

from unisono_convert.corpus.facts import ChannelSpread

__all__ = ["HIGHEST_HZ", "LOWEST_HZ", "channels_of", "extract", "letters_of", "recordings_of", "spelled"]

LOWEST_HZ, HIGHEST_HZ = 50.0, 600.0
"""Between these the pitch of a recording is sought."""


def extract(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compute one recording's mel and pitch; facts hold its length and the sums for statistics."""
    wave, cut_seconds = read_speech(utterance, spec, limits, trim_db, pad_seconds, loudness_dbfs)
    mel, hertz = LogMel(spec)(wave[None])[0], pitch(wave, spec, LOWEST_HZ, HIGHEST_HZ)
    return {"mel": mel, "pitch": hertz}, {
        "seconds": len(wave) / spec.sample_rate,
        "cut_seconds": cut_seconds,
        "mel": sums(mel),
        "pitch": sums(hertz[hertz > 0].double().log()),
    }


def letters_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the characters of texts in small letters, punctuation left out; words are parted by a space."""
    return tuple(sorted({letter for text in texts for letter in spelled(text)}))


def spelled(text: str) -> str:
    """Return a text as ``letters_of`` counts it."""
    return same_sentence(text) if any(letter.isalnum() for letter in text) else ""


def channels_of(rows: Sequence[list]) -> ChannelSpread:
    mean, std = moments(rows)
    return ChannelSpread(tuple(mean.tolist()), tuple(std.tolist()))


def recordings_of(root: str | list[str] | dict[str, str]) -> Manifest:
    """Read recordings with texts or without: a folder without a list is taken as it is."""
    folder = Path(root).expanduser() if isinstance(root, str) and root else None
    if folder is not None and is_folder(folder):
        listed = (folder / "metadata.csv").is_file() or is_folder(folder / "recordings")
        return read_manifests(str(folder)) if listed else _by_folders(find_audio(folder))
    return read_manifests(root)


def _by_folders(found: Manifest) -> Manifest:
    """Name speakers after the folders that lie side by side below the root, as VCTK has them."""
    named = {utterance.id: utterance.id.partition("/")[0] for utterance in found if "/" in utterance.id}
    if len(set(named.values())) < 2:
        return found
    return replace(found, utterances=tuple(replace(u, speaker=named.get(u.id, u.speaker)) for u in found))
