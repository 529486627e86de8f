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
table that has neither, with CR). Texts and ids are
in Unicode's composed form. What is wrong with a manifest is a ``DataError`` with file, line and
remedy; a text that holds half of a character drops its line; what is wrong with a recording is found
when it is read, and drops that recording only.
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from unisono.data import derive_seed, hold_out
from unisono.errors import DataError, did_you_mean
from unisono.files import (
    Fault,
    Names,
    Row,
    Walk,
    composed,
    fault_of,
    is_file,
    is_folder,
    lone_surrogate,
    read_json_lines,
    read_table,
    shown,
    walk,
)
from unisono.files.walk import AuditLike

from unisono_sound.signal.io import AUDIO_SUFFIXES

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
LAYOUTS = {"id|speaker|text": 1, "id|text|speaker": 2}
"""Lists that others write without a header, and the column of the speaker."""
COLUMNS = ("id", "audio", "text", "speaker")
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
            raise DataError(
                f"val_size={val_size} must lie between 0 and {max(len(self) - 1, 0)}: "
                f"there are {len(self)} usable utterances"
            )
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
            raise DataError(
                f"val_size={val_size} leaves nothing to train on: the {len(self)} usable "
                f"utterances have {len({same_sentence(u.text) or u.id for u in self})} different "
                "texts; lower val_size"
            )
        return Manifest(tuple(sides[0])), Manifest(tuple(sides[1]))


def same_sentence(text: str) -> str:
    """Return what two ways to write one sentence have in common: its words, in small letters and composed form."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())) or composed(text)


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
        raise DataError("root lists no corpus; give a path, a list of paths, or {speaker: path}")
    if len(named) < len(roots):
        raise DataError(f"root={list(roots)}: two folders have the same name; give {{speaker: path}} instead")
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
            raise DataError(
                f"{path.parent}: no metadata.csv in it; give a folder in LJSpeech layout "
                "(metadata.csv and wavs/), or the path of a CSV or JSONL file"
            )
    elif fault := fault_of(path, "check data.root"):
        raise replace(fault, detail="no such folder or file").error() if fault.reason == "missing" else fault.error()
    if speaker is None:
        speaker = _folder_name(path)
    names = Names(path.parent)
    utterances: list[Utterance] = []
    lines: dict[str, int] = {}
    faults: list[tuple[str, Fault]] = []
    missing: list[tuple[int, Path]] = []
    for line, row in _json_rows(path) if path.suffix.lower() in JSON_SUFFIXES else _table_rows(path):
        if half := next(filter(None, map(lone_surrogate, row.values())), None):
            detail = f"{half} alone is half of a character"
            faults.append((f"{path.name}:{line}", Fault("half a character", detail, "write it whole", path, line)))
            continue
        audio = names.find(row["audio"]) if row.get("audio") else _find_recording(names, row["id"])
        named = row.get("audio") or f"wavs/{row['id']}.wav"
        identity = row.get("id") or PurePosixPath(os.path.splitext(named)[0]).as_posix()
        if identity in lines:
            raise DataError(
                f"{path}, line {line}: {shown(identity)!r} stands on line {lines[identity]} already; remove one of them"
            )
        lines[identity] = line
        if audio is None:
            missing.append((line, path.parent / named))
            continue
        utterances.append(Utterance(identity, audio, row.get("text", ""), row.get("speaker") or speaker))
    if missing:
        line, audio = missing[0]
        fault = fault_of(audio)
        what = fault.detail if fault else "cannot be read"
        more = f" (and {len(missing) - 1} more are missing)" if len(missing) > 1 else ""
        raise DataError(
            f"{path}, line {line}: audio file {shown(audio)} {what}{more}; put it there, or remove the line"
        )
    if not utterances:
        raise DataError(f"{path}: lists no utterances{' that can be used' * bool(faults)}")
    return Manifest(tuple(utterances), tuple(faults))


def find_audio(root: str | os.PathLike) -> Manifest:
    """List every audio file under a folder, without texts; ids are relative paths without
    suffix."""
    folder = Path(root).expanduser()
    if not is_folder(folder):
        raise DataError(f"{shown(folder)}: no such folder; check data.root")
    found = walk(folder, AUDIO_SUFFIXES)
    if not found.files:
        raise _without_audio(folder, found)
    speaker = _folder_name(folder)
    seen: dict[str, Path] = {}
    for file in found.files:
        if file.stem in seen:
            raise DataError(f"{seen[file.stem]} and {file.path} differ by suffix only; remove one of them")
        seen[file.stem] = file.path
    utterances = tuple(Utterance(id, path, "", speaker) for id, path in seen.items())
    return Manifest(utterances, tuple(found.faults), tuple(found.notes))


def _without_audio(folder: Path, found: Walk) -> DataError:
    first = f"; {found.faults[0][0]} {found.faults[0][1].detail}" if found.faults else ""
    return DataError(f"{shown(folder)}: holds no audio ({', '.join(AUDIO_SUFFIXES)}){first}")


def _spoken_digits(folder: Path) -> Manifest:
    """Read names as those of the Free Spoken Digit Dataset, by digit, speaker and number."""
    listed = walk(folder, AUDIO_SUFFIXES)
    found = []
    for file in listed.files:
        if len(file.parts) > 1:
            continue
        named = re.fullmatch(r"([0-9])_(.+)_([0-9]+)", PurePosixPath(file.id).stem)
        if named is None:
            raise DataError(
                f"{file.path}: a recording of a spoken digit is named digit_speaker_number, such as "
                "7_jackson_32.wav; rename it, or put a metadata.csv beside the folder"
            )
        digit, speaker, number = named.groups()
        found.append((int(digit), speaker, int(number), file))
    if not found:
        raise _without_audio(folder, listed)
    found.sort(key=lambda entry: (*entry[:3], entry[3].id))
    return Manifest(
        tuple(
            Utterance(PurePosixPath(file.id).stem, file.path, DIGITS[digit], speaker, number < HELD_OUT_NUMBERS)
            for digit, speaker, number, file in found
        ),
        tuple(listed.faults),
        tuple(listed.notes),
    )


def _folder_name(path: Path) -> str:
    path = Path(os.path.realpath(path.expanduser()))
    return shown(composed(path.parent.name if path.suffix and not is_folder(path) else path.name))


def _key_of(header: Sequence[str]) -> int | None:
    """Return the column that names the rows where a first row holds names, else None."""
    if not {"audio", "text"} & set(header):
        return None
    return next((header.index(name) for name in ("audio", "id") if name in header), 0)


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    expected = "id|text or id|raw|normalised, or a header with the columns audio and text"
    table = read_table(
        path, _key_of, without_header=("|",), widths=(2, 3), alike=False, expected=expected, fix="check data.root"
    )
    if table.header is None:
        _check_layout(path, table.rows)
        for line, fields in table.rows:
            yield line, {"id": fields[0], "text": fields[-1] or fields[1]}
        return
    columns = list(table.header)
    _check_names(path, 1, columns, "column")
    if twice := [name for name in COLUMNS if columns.count(name) > 1]:
        raise DataError(f"{path}, line 1: two columns are named {twice[0]!r}; rename one of them")
    for line, fields in table.rows:
        yield line, _checked(path, line, dict(zip(columns, fields, strict=True)))


def _check_layout(path: Path, rows: Sequence[Row]) -> None:
    """Refuse a list without header whose three columns are not an id and two ways to write one text."""
    full = [row for row in rows if len(row.fields) == 3 and all(row.fields[1:])]
    if not full or sum(_alike(*row.fields[1:]) for row in full) * 2 >= len(full):
        return
    columns = {layout: [row.fields[place] for row in full] for layout, place in LAYOUTS.items()}
    for layout, names in sorted(columns.items(), key=lambda column: sum(map(len, column[1]))):
        if len(set(names)) < len(names) or not any(re.search(r"\s", name) for name in names):
            detail = f"three columns without a header, that look like {layout} rather than id|raw|normalised"
            fix = f"write a first line with the columns' names, such as {layout}, or id|raw|text"
            raise Fault("wrong fields", detail, fix, path, full[0].line).error()


def _alike(raw: str, normalised: str) -> bool:
    """Whether two texts may be one sentence: they share a word, or half the letters where words have no blanks."""
    one, two = (same_sentence(text).split() for text in (raw, normalised))
    if set(one) & set(two):
        return True
    letters = set("".join(one))
    return max(letters, default="") >= "\u2e80" and len(letters & set("".join(two))) * 2 >= len(letters)


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for line, row in read_json_lines(path, fix="check data.root"):
        if isinstance(row, Fault):
            fix = "each line must be one object with audio and text" if row.reason == "not JSON" else row.fix
            raise replace(row, fix=fix).error()
        _check_names(path, line, list(row), "key")
        yield line, _checked(path, line, row)


def _check_names(path: Path, line: int, names: list[str], what: str) -> None:
    for needed in ("audio", "text"):
        if needed not in names and not (needed == "audio" and "id" in names and "text" in names):
            near = did_you_mean(needed, names)
            raise DataError(f"{path}, line {line}: no {what} {needed!r}{near}; name it {needed!r}")


def _checked(path: Path, line: int, row: dict[str, Any]) -> dict[str, str]:
    kept = {name: row[name] for name in COLUMNS if name in row}
    for name, value in kept.items():
        if not isinstance(value, str):
            raise DataError(f"{path}, line {line}: {name}={value!r:.60} must be a string")
    name = "audio" if "audio" in kept else "id"
    if not kept[name].strip():
        raise DataError(f"{path}, line {line}: {name} is empty; name the recording's file")
    return {name: composed(value.strip()) for name, value in kept.items()}


def _find_recording(names: Names, identity: str) -> Path | None:
    """Find the recording of an LJSpeech id, which may carry its suffix."""
    for folder in ("wavs/", ""):
        for suffix in ("", *AUDIO_SUFFIXES):
            found = names.find(f"{folder}{identity}{suffix}")
            if found is not None and found.suffix.lower() in AUDIO_SUFFIXES:
                return found
    return None
