"""Manifests: which recordings there are, what is said in them, and by whom.

Read as they are found in the field:

- a folder in LJSpeech layout: ``metadata.csv`` with ``id|raw|normalised`` or ``id|text`` per line,
  no header, no quoting; recordings under ``wavs/`` or beside it as wav, flac, ogg, opus or mp3
- a table with a header that names ``audio`` and ``text``, and perhaps ``speaker`` and ``id``;
  separated by commas (quoted as usual), or by bars or tabs (never quoted); more columns are ignored
- JSON lines, an object per line with the same names
- a folder of spoken digits as the Free Spoken Digit Dataset has them, without a list:
  ``recordings/{digit}_{speaker}_{number}.wav``; the text is the digit's name; numbers below 5
  are held out, as that set's own split has it

Paths are relative to the manifest's folder. UTF-8, with or without byte order mark; any line ends.
What is wrong with a manifest is a ``DataError`` with file, line and remedy; what is wrong with a
recording is found when it is read, and drops that recording only.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from unisono.data import derive_seed, hold_out
from unisono.errors import DataError, did_you_mean

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
    """Utterances in the order of their file; ids are unique."""

    utterances: tuple[Utterance, ...]

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __getitem__(self, index: int) -> Utterance:
        return self.utterances[index]

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
        ranks = {key: derive_seed("split", min(u.text or u.id for u in group)) for key, group in groups.items()}
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
    """Return what two ways to write one sentence have in common: its words, in small letters."""
    return " ".join(re.findall(r"\w+", text.lower())) or text


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
    utterances = [
        replace(utterance, id=f"{name}/{utterance.id}")
        for name, root in named.items()
        for utterance in read_manifest(root, speaker=name)
    ]
    return Manifest(tuple(utterances))


def read_manifest(root: str | os.PathLike, speaker: str | None = None) -> Manifest:
    """Read one corpus: a folder in LJSpeech layout or of spoken digits, or a .csv, .tsv, .txt or
    .jsonl file.

    ``speaker`` names those whose line does not; else it is the folder's name.
    """
    path = Path(root).expanduser()
    if path.is_dir():
        path = path / "metadata.csv"
        if not path.is_file() and (path.parent / "recordings").is_dir():
            return _spoken_digits(path.parent / "recordings")
        if not path.is_file():
            raise DataError(
                f"{path.parent}: no metadata.csv in it; give a folder in LJSpeech layout "
                "(metadata.csv and wavs/), or the path of a CSV or JSONL file"
            )
    elif not path.is_file():
        raise DataError(f"{path}: no such folder or file; check data.root")
    if speaker is None:
        speaker = _folder_name(path)
    text = _read_text(path)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        rows = _json_rows(path, text)
    else:
        first = text.split("\n", 1)[0]
        delimiter = max("|,\t", key=first.count)
        names = [field.strip().strip('"').lower() for field in first.split(delimiter)]
        if "audio" in names or "text" in names:
            rows = _table_rows(path, text, delimiter)
        else:
            rows = _ljspeech_rows(path, text)
    utterances: list[Utterance] = []
    lines: dict[str, int] = {}
    missing: list[tuple[int, Path]] = []
    for line, row in rows:
        audio = path.parent / row["audio"] if "audio" in row else _find_recording(path, row["id"])
        identity = row.get("id") or Path(row["audio"]).with_suffix("").as_posix()
        if identity in lines:
            raise DataError(
                f"{path}, line {line}: {identity!r} stands on line {lines[identity]} already; remove one of them"
            )
        lines[identity] = line
        if not audio.is_file():
            missing.append((line, audio))
        utterances.append(Utterance(identity, audio, row.get("text", "").strip(), row.get("speaker") or speaker))
    if missing:
        line, audio = missing[0]
        more = f" (and {len(missing) - 1} more are missing)" if len(missing) > 1 else ""
        raise DataError(
            f"{path}, line {line}: audio file {audio} does not exist{more}; put it there, or remove the line"
        )
    if not utterances:
        raise DataError(f"{path}: lists no utterances")
    return Manifest(tuple(utterances))


def find_audio(root: str | os.PathLike) -> Manifest:
    """List every audio file under a folder, without texts; ids are relative paths without
    suffix."""
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check data.root")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        raise DataError(f"{folder}: holds no audio ({', '.join(AUDIO_SUFFIXES)})")
    speaker = _folder_name(folder)
    found = [Utterance(p.relative_to(folder).with_suffix("").as_posix(), p, "", speaker) for p in files]
    for first, second in pairwise(found):
        if first.id == second.id:
            raise DataError(f"{first.audio} and {second.audio} differ by suffix only; remove one of them")
    return Manifest(tuple(found))


def _spoken_digits(folder: Path) -> Manifest:
    """Read names as those of the Free Spoken Digit Dataset, by digit, speaker and number."""
    found = []
    for path in folder.iterdir():
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        named = re.fullmatch(r"(\d)_(.+)_(\d+)", path.stem)
        if named is None:
            raise DataError(
                f"{path}: a recording of a spoken digit is named digit_speaker_number, such as "
                "7_jackson_32.wav; rename it, or put a metadata.csv beside the folder"
            )
        digit, speaker, number = named.groups()
        found.append((int(digit), speaker, int(number), path))
    if not found:
        raise DataError(f"{folder}: holds no audio ({', '.join(AUDIO_SUFFIXES)})")
    return Manifest(
        tuple(
            Utterance(path.stem, path, DIGITS[digit], speaker, number < HELD_OUT_NUMBERS)
            for digit, speaker, number, path in sorted(found)
        )
    )


def _folder_name(path: Path) -> str:
    path = path.expanduser().resolve()
    return path.parent.name if path.suffix and not path.is_dir() else path.name


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _ljspeech_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        fields = content.split("|")
        if not 2 <= len(fields) <= 3:
            raise DataError(
                f"{path}, line {line}: {len(fields)} fields between bars; expected id|text or "
                "id|raw|normalised, or a header with the columns audio and text"
            )
        yield line, {"id": fields[0].strip(), "text": fields[-1].strip() or fields[1]}


def _table_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    columns = [name.strip().lower() for name in next(reader)]
    _check_names(path, 1, columns, "column")
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(columns):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(fields)} fields, the header has "
                f"{len(columns)} ({', '.join(columns)}); "
                + ("put texts that hold a comma in double quotes" if delimiter == "," else "mend it")
            )
        row = dict(zip(columns, fields, strict=True))
        yield reader.line_num, _checked(path, reader.line_num, row)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {line}: not JSON ({error.msg} at column {error.colno}); "
                "each line must be one object with audio and text"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f'{path}, line {line}: is not an object; expected {{"audio": …, "text": …}}')
        _check_names(path, line, list(row), "key")
        yield line, _checked(path, line, row)


def _check_names(path: Path, line: int, names: list[str], what: str) -> None:
    for needed in ("audio", "text"):
        if needed not in names:
            near = did_you_mean(needed, names)
            raise DataError(f"{path}, line {line}: no {what} {needed!r}{near}; name it {needed!r}")


def _checked(path: Path, line: int, row: dict[str, Any]) -> dict[str, str]:
    kept = {name: row[name] for name in ("id", "audio", "text", "speaker") if name in row}
    for name, value in kept.items():
        if not isinstance(value, str):
            raise DataError(f"{path}, line {line}: {name}={value!r} must be a string")
    if not kept["audio"].strip():
        raise DataError(f"{path}, line {line}: audio is empty; name the recording's file")
    return {name: value.strip() for name, value in kept.items()}


def _find_recording(path: Path, identity: str) -> Path:
    """Find the recording of an LJSpeech id, which may carry its suffix."""
    for folder in (path.parent / "wavs", path.parent):
        for suffix in ("", *AUDIO_SUFFIXES):
            found = folder / f"{identity}{suffix}"
            if found.suffix.lower() in AUDIO_SUFFIXES and found.is_file():
                return found
    return path.parent / "wavs" / f"{identity}.wav"
