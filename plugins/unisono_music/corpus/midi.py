"""MidiData: any folder of MIDI files, on one grid, with the same tracks and time signature in every piece."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from unisono.data import Audit, Drop, hold_out, prepare_features
from unisono.errors import DataError
from unisono.files import Found, walk

from unisono_music.corpus.data import ScoreData
from unisono_music.scores import Bar, Meter, Note, Score, Track, family_of, read_midi, top_line

SUFFIXES = (".mid", ".midi", ".kar")
MOST_VOICES = 16
DRUMS = "drums"


@dataclass(frozen=True, kw_only=True)
class MidiOptions:
    """Which tracks and bars are taken, and how.

    tracks: names, or families of programmes ("piano", "bass", "strings", "drums", …), one for each voice. A track goes
        to the first that is its name, else its family; null takes what at least half of the files have.
    at_once: "top" keeps the highest note of each track at a time, as grids need; "all" keeps chords.
    steps_per_beat: steps of a quarter note.
    meter: the time signature that is kept, such as "3/4"; null takes the commonest, by bars.
    min_bars: fewer in a row are dropped.
    """

    tracks: tuple[str, ...] | None = None
    at_once: Literal["top", "all"] = "top"
    steps_per_beat: int = 4
    meter: str | None = None
    min_bars: int = 4


class MidiData(ScoreData):
    """Pieces of a folder of MIDI files.

    A piece is a stretch of bars of one time signature; bars of another one, and bars that are cut short, are dropped
    and listed, as are tracks that no voice takes, and notes that the grid cannot hold.

    Args:
        root: the folder; files ``.mid``, ``.midi`` and ``.kar`` at any depth.
        midi: which tracks and bars are taken, and how.
        val_size: files held out, chosen by their ids alone.
        crop_bars: bars of a training item, from any place; null leaves pieces whole.
        transpose: semitones [low, high] by which training items are moved; drums stay.
        batch_size: pieces per step over all processes.
        num_processes: preparing processes; null takes the cores.
        num_workers: loading processes per rank.
    """

    flat: ClassVar[dict[str, str]] = {field.name: f"midi.{field.name}" for field in fields(MidiOptions)}

    def __init__(
        self,
        root: str,
        *,
        midi: MidiOptions = MidiOptions(),
        val_size: int = 16,
        crop_bars: int | None = 8,
        transpose: tuple[int, int] = (-5, 6),
        batch_size: int = 16,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(crop_bars, transpose, batch_size, num_workers)
        self.root, self.midi, self.val_size, self.num_processes = root, midi, val_size, num_processes
        if midi.meter is not None:
            _meter_of(midi.meter)

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pieces")
        read = self._read(audit, progress)
        names = self.midi.tracks or _common_tracks(read)
        if not 1 <= len(names) <= MOST_VOICES:
            raise DataError(
                f"data.midi.tracks has {len(names)} voices: give 1 to {MOST_VOICES}",
                code="limit" if names else "empty",
                path="data.midi.tracks",
                value=len(names),
            )
        wanted = _meter_of(self.midi.meter) if self.midi.meter else _common_meter(read)
        pieces: dict[str, dict[str, Score]] = {}
        lost: Counter[str] = Counter()
        for id, score in read.items():
            voiced = self._voiced(score, names, lost)
            pieces[id] = self._stretches(id, voiced, wanted, audit)
        for reason, count in lost.items():
            audit.note(f"{count} notes dropped: {reason}")
        usable = {id: found for id, found in pieces.items() if found}
        if not usable:
            raise self._nothing(audit)
        held = hold_out(dict.fromkeys(usable, 1), self.val_size)
        train, val = (
            {name: score for id, found in usable.items() if (id in held) == part for name, score in found.items()}
            for part in (False, True)
        )
        return self.settle(audit, train, val, wanted, repeats=True)

    def _read(self, audit: Audit, progress: bool) -> dict[str, Score]:
        found = walk(Path(self.root).expanduser(), SUFFIXES)
        found.tell(audit)
        if not found.files:
            raise DataError(
                f"{self.root}: holds no {', '.join(SUFFIXES)} file",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        results = prepare_features(
            found.files,
            partial(read_file, steps_per_beat=self.midi.steps_per_beat),
            f"midi-1 {self.midi.steps_per_beat}",
            file=lambda file: file.path,
            num_processes=self.num_processes,
            progress=progress,
            description="reading MIDI",
            note=audit.note,
        )
        scores: dict[str, Score] = {}
        dropped: Counter[str] = Counter()
        for file, result in zip(found.files, results, strict=True):
            if isinstance(result, Drop):
                audit.drop(file.id, result.reason, result.detail)
                continue
            facts = result.features.facts
            scores[file.id] = _restored(result.features.load("notes"), facts["score"])
            dropped.update(facts["dropped"])
        for reason, count in dropped.most_common():
            audit.note(f"left out of the files: {count} {reason}")
        if not scores:
            raise self._nothing(audit)
        return scores

    def _voiced(self, score: Score, names: Sequence[str], lost: Counter[str]) -> Score:
        """The score with one track for each voice, of all the tracks that belong to it."""
        parts: dict[str, list[Track]] = {name: [] for name in names}
        for track in score.tracks:
            voice = next((name for name in names if name.casefold() == track.name.casefold()), None)
            voice = voice or next((name for name in names if name.casefold() == _family(track)), None)
            if voice is None:
                lost[f"of {_family(track)}, which no voice takes"] += len(track.notes)
            else:
                parts[voice].append(track)
        tracks = []
        for name, found in parts.items():
            notes = {(note.onset, note.pitch): note for track in found for note in track.notes}
            merged = Track(name, _apart([notes[key] for key in sorted(notes)]), *_sound(name, found))
            kept = top_line(merged) if self.midi.at_once == "top" else merged
            lost["below the top of their voice"] += len(merged.notes) - len(kept.notes)
            tracks.append(kept)
        if not lost["below the top of their voice"]:
            del lost["below the top of their voice"]
        return replace(score, tracks=tuple(tracks))

    def _stretches(self, id: str, score: Score, wanted: Meter, audit: Audit) -> dict[str, Score]:
        """The stretches of whole bars of the wanted signature, by their ids."""
        found: dict[str, Score] = {}
        for same, bars in _runs(score, wanted):
            name = f"{id}@{bars[0].start}"
            part = score.cut(bars[0].start, bars[-1].stop)
            if not same:
                meter = bars[0].meter
                audit.drop(
                    name, "other time signature", f"{len(bars)} bars of {meter.beats}/{meter.unit}, or cut short"
                )
            elif len(bars) < self.midi.min_bars:
                audit.drop(name, "too short", f"{len(bars)} bars of at least {self.midi.min_bars}")
            elif not part.num_notes:
                audit.drop(name, "empty", "no notes of these voices")
            else:
                audit.keep(name, len(bars), "bars")
                found[name] = part
        if not score.bars:
            audit.drop(id, "empty", "no notes")
        return found

    def _nothing(self, audit: Audit) -> DataError:
        return DataError(
            f"{self.root}: no usable piece; dropped: {audit.reasons}",
            code="empty",
            path="data.root",
            value=str(self.root),
        )


def read_file(file: Found, steps_per_beat: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a MIDI file for the cache: its notes, and all else among the facts."""
    try:
        reading = read_midi(file.path, steps_per_beat)
    except DataError as error:
        raise Drop(error.fault.reason if error.fault else "not on the grid", str(error)) from None
    if not reading.score.num_notes:
        raise Drop("empty", "no notes")
    sounding = max(note.end for track in reading.score.tracks for note in track.notes)
    last = next(bar.stop for bar in reading.score.bars if bar.stop >= sounding)  # rests behind its bar are left out
    score = reading.score.cut(0, last).to_dict()
    rows = [(number, *note) for number, track in enumerate(score["tracks"]) for note in track.pop("notes")]
    return {"notes": torch.tensor(rows)}, {"score": score, "dropped": reading.dropped}


def _restored(notes: Tensor, score: dict[str, Any]) -> Score:
    for track in score["tracks"]:
        track["notes"] = []
    for number, *note in notes.tolist():
        score["tracks"][number]["notes"].append(note)
    return Score.from_dict(score)


def _apart(notes: list[Note]) -> tuple[Note, ...]:
    """Notes of several tracks in one: a note ends where its pitch is struck again."""
    following: dict[int, int] = {}
    kept = []
    for note in reversed(notes):
        kept.append(replace(note, duration=min(note.end, following.get(note.pitch, note.end)) - note.onset))
        following[note.pitch] = note.onset
    return tuple(reversed(kept))


def _family(track: Track) -> str:
    return DRUMS if track.drums else family_of(track.programme)


def _sound(name: str, tracks: Sequence[Track]) -> tuple[int, bool]:
    """Programme and drums of a voice: those of most of its notes."""
    counts = Counter[tuple[int, bool]]()
    for track in tracks:
        counts[track.programme, track.drums] += len(track.notes)
    return counts.most_common(1)[0][0] if counts else (0, name == DRUMS)


def _common_tracks(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """The names that at least half of the pieces have, each once; else the families."""
    for key in (lambda track: track.name, _family):
        counts: Counter[str] = Counter()
        for score in scores.values():
            own = [key(track) for track in score.tracks]
            counts.update(set(own) if key is _family else {name for name in own if own.count(name) == 1})
        common = [name for name, count in counts.items() if 2 * count >= len(scores)]
        if common and (key is _family or len(common) > 1):
            order = {key(track): number for score in scores.values() for number, track in enumerate(score.tracks)}
            return tuple(sorted(common, key=lambda name: (order[name], name))[:MOST_VOICES])
    return ()


def _common_meter(scores: Mapping[str, Score]) -> Meter:
    counts = Counter((bar.meter.beats, bar.meter.unit) for score in scores.values() for bar in score.bars)
    return Meter(0, *counts.most_common(1)[0][0])


def _meter_of(text: str) -> Meter:
    """Read a time signature such as 3/4."""
    beats, _, unit = text.partition("/")
    if not (
        beats.isdecimal() and unit.isdecimal() and 1 <= int(beats) <= 255 and int(unit) in (1, 2, 4, 8, 16, 32, 64)
    ):
        raise DataError(
            f"data.midi.meter={text!r:.20} is no time signature: give one such as 4/4 or 6/8",
            code="value",
            path="data.midi.meter",
            value=text,
        )
    return Meter(0, int(beats), int(unit))


def _runs(score: Score, wanted: Meter) -> list[tuple[bool, list[Bar]]]:
    """Bars in a row that are all whole and of the wanted signature, or all not; the last bar may be cut short."""
    size = wanted.steps(score.steps_per_beat)
    runs: list[tuple[bool, list[Bar]]] = []
    for bar in score.bars:
        fits = (bar.meter.beats, bar.meter.unit) == (wanted.beats, wanted.unit)
        same = fits and (bar.stop - bar.start == size or bar.stop == score.num_steps)
        if runs and runs[-1][0] == same:
            runs[-1][1].append(bar)
        else:
            runs.append((same, [bar]))
    return runs
