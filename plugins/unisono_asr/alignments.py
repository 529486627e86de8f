"""Alignments: of all recordings of a corpus, as ``durations`` that a voice is trained with, and as files of times.

In the folder that is written::

    durations.jsonl   {"id", "times", "fit"} for each recording: borders of its symbols in seconds, one more than those
    left_out.jsonl    {"id", "reason"} for each that could not be aligned; none where all could
    ID.TextGrid …     words and phones of each, in the formats that are asked for
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unisono.errors import UnisonoError
from unisono.files import written_aside
from unisono_sound.corpus import Manifest, Utterance

from unisono_asr.aligner import Aligner
from unisono_asr.request import sound_of_file

__all__ = ["Row", "align_corpus"]


@dataclass(frozen=True)
class Row:
    """One recording: how well its text fits, or why it was left out."""

    id: str
    fit: float | None = None
    reason: str | None = None


def align_corpus(aligner: Aligner, manifest: Manifest, folder: Path, suffixes: Sequence[str] = ()) -> Iterator[Row]:
    """Align each recording and yield what came of it; the lists are written at the end.

    Raises ``UnisonoError`` where the folder cannot be written; what is wrong with a recording leaves that out only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    times, left_out = [], [{"id": row["id"], "reason": row["reason"]} for row in manifest.failures()]
    for utterance in manifest:
        try:
            found = aligner.align(sound_of_file(utterance.audio), utterance.text)
        except UnisonoError as error:
            left_out.append({"id": utterance.id, "reason": str(error)})
            yield Row(utterance.id, reason=str(error))
            continue
        borders = [round(border, 6) for border in found.borders]
        times.append({"id": utterance.id, "times": borders, "fit": round(found.fit, 4)})
        for suffix in suffixes:
            place = _place(folder, utterance, suffix)
            place.parent.mkdir(parents=True, exist_ok=True)
            found.transcript.save(place)
        yield Row(utterance.id, found.fit)
    _write(folder / "durations.jsonl", times)
    if left_out:
        _write(folder / "left_out.jsonl", left_out)


def _place(folder: Path, utterance: Utterance, suffix: str) -> Path:
    """Where a recording's file goes: by its id, whose folders are kept, and which leaves the folder nowhere."""
    parts = [part for part in PurePosixPath(utterance.id).parts if part not in ("/", "..", ".")]
    path = folder.joinpath(*parts)
    return path.with_name(path.name + suffix)


def _write(path: Path, rows: Sequence[dict]) -> None:
    with written_aside(path) as aside:
        aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
