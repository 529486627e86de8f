"""Manifests: which recordings there are, what is said in them, and by whom.

Read as they are found in the field:

- a folder in LJSpeech layout: ``metadata.csv`` with ``id|raw|normalised`` or ``id|text`` per line,
  no header, no quoting; recordings under ``wavs/`` or beside it as wav, flac, ogg, opus or mp3.
  Lists that look like ``id|speaker|text`` (VCTK, Piper) or ``id|text|speaker`` are refused by name:
  a header says what their columns are
- a table with a header that names ``text`` and ``audio`` (or ``id``, for recordings as in LJSpeech
  layout), and perhaps ``speaker``; separated by commas or semicolons (quoted as usual), or by bars or
  tabs (never quoted); more columns are ignored
- JSON lines, an object per line with the same names
- a folder of spoken digits as the Free Spoken Digit Dataset has them, without a list:
  ``recordings/{digit}_{speaker}_{number}.wav``; the text is the digit's name; numbers below 5
  are held out, as that set's own split has it

Paths are relative to the manifest's folder; neither the form of their accents nor the case of their
suffix matters. UTF-8, with or without byte order mark; lines end with LF or CR LF (in a
table that has neither, with CR). Texts and ids are in Unicode's composed form.

A line that cannot be used (no JSON, a key that is missing, an id that stands above, a recording that
is not there) is listed in ``Manifest.faults``, with its number and the reason, and the others are read.
A manifest that cannot be read, or has no line that can be used, is a ``DataError`` with file, line and
remedy. What is wrong with a recording is found when it is read, and drops that recording only.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from unisono.data import derive_seed, hold_out
from unisono.errors import DataError, UnisonoError
from unisono.files import (
    Fault,
    Names,
    Walk,
    composed,
    fault_of,
    is_file,
    is_folder,
    shown,
    walk,
)
from unisono.files.walk import AuditLike, Found

from unisono_sound.corpus.rows import read_rows, same_sentence
from unisono_sound.signal.io import AUDIO_SUFFIXES

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT_NUMBERS = 5

Roots = str | os.PathLike | Sequence[str] | dict[str, str]


@dataclass(frozen=True)
class Utterance:
    """One recording.

    ``held_out`` is what the corpus itself says of training and validation, where it does.
    """

    id: str
    audio: Path
    text: str = ""
    speaker: str = ""
    held_out: bool | None = None


@dataclass(frozen=True)
class Manifest:
    """Utterances in the order of their file; ids are unique.

    ``faults`` are lines and files that could not be used, each with its id; ``notes`` say what else an audit should.
    """

    utterances: tuple[Utterance, ...]
    faults: tuple[tuple[str, Fault], ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __getitem__(self, index: int) -> Utterance:
        return self.utterances[index]

    def tell(self, audit: AuditLike) -> None:
        """List in an audit what could not be used, and add the notes."""
        for id, fault in self.faults:
            audit.drop(id, fault.reason, fault.detail)
        for note in self.notes:
            audit.note(note)

    def failures(self, system: str = "recording") -> list[dict[str, str]]:
        """Return what could not be used as a report lists it."""
        return [{"id": id, "system": system, "reason": f"{fault.reason}: {fault.detail}"} for id, fault in self.faults]

    @property
    def speakers(self) -> list[str]:
        """The speakers' names in the order of their first utterance."""
        return list(dict.fromkeys(utterance.speaker for utterance in self))

    def split(self, val_size: int) -> tuple["Manifest", "Manifest"]:
        """Return (training, validation), at least ``val_size`` utterances in the latter; none for 0.

        Where a corpus says itself what is held out, it is; those come on top, and ``val_size``
        counts the others.

        Which are held out depends on their texts (ids, where there is no text) alone: not on a
        seed, the order, or what else there is, so that two models of one corpus hold out the same
        sentences. All recordings of one sentence, however it is written, go to the same side.
        """
        if not 0 <= val_size < max(len(self), 1):
            message = (
                f"val_size={val_size} must lie between 0 and {max(len(self) - 1, 0)}: "
                f"there are {len(self)} usable utterances"
            )
            raise DataError(message, code="range", path="val_size", value=val_size)
        if not val_size:
            return self, Manifest(())
        groups: dict[str, list[Utterance]] = {}
        for utterance in self:
            if utterance.held_out is not None:
                continue
            groups.setdefault(same_sentence(utterance.text) or utterance.id, []).append(utterance)
        ranks = {
            key: derive_seed("split", min(composed(u.text or u.id) for u in group)) for key, group in groups.items()
        }
        held = hold_out(
            {key: len(group) for key, group in groups.items()}, val_size, rank=ranks.__getitem__, may_take_all=True
        )
        sides: tuple[list[Utterance], list[Utterance]] = ([], [])
        for utterance in self:
            drawn = (same_sentence(utterance.text) or utterance.id) in held
            sides[drawn if utterance.held_out is None else utterance.held_out].append(utterance)
        if not sides[0]:
            message = (
                f"val_size={val_size} leaves nothing to train on: the {len(self)} usable "
                f"utterances have {len({same_sentence(u.text) or u.id for u in self})} different "
                "texts; lower val_size"
            )
            raise DataError(message, code="empty", path="val_size", value=val_size)
        return Manifest(tuple(sides[0])), Manifest(tuple(sides[1]))


def read_manifests(roots: Roots) -> Manifest:
    """Read one corpus, or several as one set.

    ``roots`` is a path; a list of paths, whose folders' names become the speakers; or a mapping
    from speaker to path. Of several, ids are prefixed: ``speaker/id``. A speaker column wins over
    the folder's name.
    """
    if isinstance(roots, str | os.PathLike):
        return read_manifest(roots)
    named = dict(roots) if isinstance(roots, dict) else {_folder_name(Path(p)): p for p in roots}
    if not named:
        message = "root lists no corpus; give a path, a list of paths, or {speaker: path}"
        raise DataError(message, code="empty", path="data.root", value=roots)
    if len(named) < len(roots):
        message = f"root={list(roots)}: two folders have the same name; give {{speaker: path}} instead"
        raise DataError(message, code="conflict", path="data.root", value=list(roots))
    read = {name: read_manifest(root, speaker=name) for name, root in named.items()}
    return Manifest(
        tuple(replace(u, id=f"{name}/{u.id}") for name, manifest in read.items() for u in manifest),
        tuple((f"{name}/{id}", fault) for name, manifest in read.items() for id, fault in manifest.faults),
        tuple(note for manifest in read.values() for note in manifest.notes),
    )


def read_manifest(root: str | os.PathLike, speaker: str | None = None) -> Manifest:
    """Read one corpus: a folder in LJSpeech layout or of spoken digits, or a .csv, .tsv, .txt or
    .jsonl file.

    ``speaker`` names those whose line does not; else it is the folder's name.
    """
    path = Path(root).expanduser()
    if is_folder(path):
        path = Names(path).find("metadata.csv") or path / "metadata.csv"
        if not is_file(path) and is_folder(path.parent / "recordings"):
            return _spoken_digits(path.parent / "recordings")
        if not is_file(path):
            message = (
                f"{path.parent}: no metadata.csv in it; give a folder in LJSpeech layout "
                "(metadata.csv and wavs/), or the path of a CSV or JSONL file"
            )
            raise DataError(message, code="missing", path=path.parent, value="metadata.csv")
    elif fault := fault_of(path, "check data.root"):
        raise replace(fault, detail="no such folder or file").error() if fault.reason == "missing" else fault.error()
    if speaker is None:
        speaker = _folder_name(path)
    names = Names(path.parent)
    utterances: list[Utterance] = []
    lines: dict[str, int] = {}
    faults: list[tuple[str, Fault]] = []
    for line, row in read_rows(path):
        found = row if isinstance(row, Fault) else _utterance(path, line, row, names, lines, speaker)
        if isinstance(found, Fault):
            faults.append((f"{shown(path.name)}:{line}", found))
        else:
            utterances.append(found)
    if not utterances:
        raise _without_rows(path, faults)
    return Manifest(tuple(utterances), tuple(faults))


def _utterance(
    path: Path, line: int, row: dict[str, str], names: Names, lines: dict[str, int], speaker: str
) -> Utterance | Fault:
    """Return what a row stands for; ``lines`` are those of the ids before, and get this one's."""
    named = row.get("audio") or f"wavs/{row['id']}.wav"
    identity = row.get("id") or PurePosixPath(os.path.splitext(named)[0]).as_posix()
    if identity in lines:
        detail = f"{shown(identity)!r} stands on line {lines[identity]} already"
        return Fault("same name", detail, "remove one of them", path, line)
    lines[identity] = line
    audio = names.find(row["audio"]) if row.get("audio") else _find_recording(names, row["id"])
    if audio is None:
        fault = fault_of(path.parent / named) or Fault("unreadable", "cannot be read")
        detail = f"audio file {shown(path.parent / named)} {fault.detail}"
        return Fault(fault.reason, detail, "put it there, or remove the line", path, line)
    return Utterance(identity, audio, row.get("text", ""), row.get("speaker") or speaker)


def _without_rows(path: Path, faults: Sequence[tuple[str, Fault]]) -> UnisonoError:
    if not faults:
        return DataError(f"{path}: lists no utterances", code="empty", path=path)
    first, more = faults[0][1], len(faults) - 1
    return replace(first, detail=f"{first.detail} (and {more} more lines)" if more else first.detail).error()


def find_audio(root: str | os.PathLike) -> Manifest:
    """List every audio file under a folder, without texts; ids are relative paths without
    suffix."""
    folder = Path(root).expanduser()
    if not is_folder(folder):
        raise DataError(f"{shown(folder)}: no such folder; check data.root", code="missing", path=folder)
    found = walk(folder, AUDIO_SUFFIXES)
    if not found.files:
        raise _without_audio(folder, found)
    speaker = _folder_name(folder)
    seen, faults = _one_of_each(found)
    utterances = tuple(Utterance(id, file.path, "", speaker) for id, file in seen.items())
    return Manifest(utterances, (*found.faults, *faults), tuple(found.notes))


def _one_of_each(found: Walk) -> tuple[dict[str, Found], list[tuple[str, Fault]]]:
    """Return the files by their names without suffixes, and those whose names have an owner."""
    seen: dict[str, Found] = {}
    faults: list[tuple[str, Fault]] = []
    for file in found.files:
        if seen.setdefault(file.stem, file) is not file:
            detail = f"differs from {shown(seen[file.stem].id)} by its suffix only"
            faults.append((file.id, Fault("same name", detail, "remove one of them", file.path)))
    return seen, faults


def _without_audio(folder: Path, found: Walk) -> DataError:
    first = f"; {found.faults[0][0]} {found.faults[0][1].detail}" if found.faults else ""
    return DataError(f"{shown(folder)}: holds no audio ({', '.join(AUDIO_SUFFIXES)}){first}", code="empty", path=folder)


def _spoken_digits(folder: Path) -> Manifest:
    """Read names as those of the Free Spoken Digit Dataset, by digit, speaker and number."""
    listed = walk(folder, AUDIO_SUFFIXES)
    seen, faults = _one_of_each(listed)
    found = []
    for stem, file in seen.items():
        named = re.fullmatch(r"([0-9])_([^/]+)_([0-9]+)", stem)
        if named is None:
            detail = "is not named digit_speaker_number, such as 7_jackson_32.wav"
            fix = "rename it, or put a metadata.csv beside the folder"
            faults.append((file.id, Fault("wrong fields", detail, fix, file.path)))
            continue
        digit, speaker, number = named.groups()
        found.append((int(digit), speaker, int(number), file))
    if not found:
        raise faults[0][1].error() if faults else _without_audio(folder, listed)
    found.sort(key=lambda entry: (*entry[:3], entry[3].id))
    return Manifest(
        tuple(
            Utterance(file.stem, file.path, DIGITS[digit], speaker, number < HELD_OUT_NUMBERS)
            for digit, speaker, number, file in found
        ),
        (*listed.faults, *faults),
        tuple(listed.notes),
    )


def _folder_name(path: Path) -> str:
    path = Path(os.path.realpath(path.expanduser()))
    return shown(composed(path.parent.name if path.suffix and not is_folder(path) else path.name))


def _find_recording(names: Names, identity: str) -> Path | None:
    """Find the recording of an LJSpeech id, which may carry its suffix."""
    for folder in ("wavs/", ""):
        for suffix in ("", *AUDIO_SUFFIXES):
            found = names.find(f"{folder}{identity}{suffix}")
            if found is not None and found.suffix.lower() in AUDIO_SUFFIXES:
                return found
    return None
