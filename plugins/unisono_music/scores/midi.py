"""MIDI: files read onto the grid, with what could not be kept, and written (by mido).

    ticks ─ round to steps ─ notes of each (chunk, channel, programme) = a track ─ Score
                                                                        └ dropped: reason → count

Kept are notes, names, programmes, time signatures and tempo. Pedals, bends and other controllers, lyrics and key
signatures are counted and left out. A score ends with its last note, or with the file where that is later.
"""

import contextlib
import io
import os
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unisono.errors import DataError, MissingExtra, RequestError
from unisono.files import Fault, read_bytes, shown

from unisono_music.scores.programmes import family_of
from unisono_music.scores.score import (
    FASTEST,
    MOST_STEPS,
    MOST_STEPS_PER_BEAT,
    SLOWEST,
    Meter,
    Note,
    Score,
    Tempo,
    Track,
)

DRUMS = 9
"""The channel of drums, counted from 0."""
MOST_BYTES = 1 << 22
MICROSECONDS = 60_000_000
TICKS_PER_STEP = 120


@dataclass(frozen=True)
class Reading:
    """A score as it was read, and how many of what are not in it, by reason."""

    score: Score
    dropped: dict[str, int] = field(default_factory=dict)


def read_midi(path: str | os.PathLike, steps_per_beat: int = 4) -> Reading:
    """Read a standard MIDI file of type 0 or 1, its times rounded to ``steps_per_beat`` steps to a quarter note.

    A note that would last no step lasts one; where a pitch is struck while it sounds, the earlier note ends there.
    Notes without an end, and a second note of one pitch at the same step, are dropped and counted. Raises ``DataError``
    for what is no MIDI file, for type 2, for a division in frames, for a tempo or signature that the grid cannot hold
    (a tempo of 0, a bar of no whole number of steps), and for more than ``MOST_STEPS`` steps.
    """
    if not 1 <= steps_per_beat <= MOST_STEPS_PER_BEAT:
        raise DataError(
            f"steps_per_beat={steps_per_beat} must be in [1, {MOST_STEPS_PER_BEAT}]",
            code="range",
            path="steps_per_beat",
            value=steps_per_beat,
        )
    file = _parsed(path, read_bytes(path, most=MOST_BYTES))
    if file.type not in (0, 1):
        what = "songs side by side" if file.type == 2 else "which is unknown"
        raise _fault(path, "other format", f"is MIDI of type {file.type}, {what}", "save each as a file of type 1")
    if not 1 <= file.ticks_per_beat < 1 << 15:
        raise _fault(path, "other format", "counts time in frames of a film", "save it with ticks per quarter note")
    return _Reader(path, steps_per_beat / file.ticks_per_beat, steps_per_beat).read(file)


class _Reader:
    """Reads one file: what is heard so far, by chunk, channel and programme."""

    def __init__(self, path: str | os.PathLike, steps_per_tick: float, steps_per_beat: int):
        self.path, self.steps_per_tick, self.steps_per_beat = path, steps_per_tick, steps_per_beat
        self.notes: dict[tuple[int, int, int], list[Note]] = defaultdict(list)
        self.names: dict[int, str] = {}
        self.meters: dict[int, Meter] = {0: Meter()}
        self.tempos: dict[int, Tempo] = {0: Tempo(0, 120.0)}
        self.dropped: Counter[str] = Counter()
        self.title, self.last = "", 0

    def read(self, file: Any) -> Reading:
        self.programmes = _programmes(file)
        for number, chunk in enumerate(file.tracks):
            self._chunk(number, chunk)
        parts = Counter(number for number, _, _ in self.notes)
        tracks = []
        for (number, channel, programme), notes in sorted(self.notes.items()):
            name = self.names.get(number, "")
            if not name or parts[number] > 1:  # one chunk for several instruments
                name = f"{name} {'drums' if channel == DRUMS else family_of(programme)} {channel + 1}".strip()
            tracks.append(Track(name, self._tidy(notes), programme, channel == DRUMS))
        end = max((note.end for track in tracks for note in track.notes), default=0)
        end = max(end, self.last) if end else 0
        meters, tempos = _sorted(self.meters, end), _sorted(self.tempos, end)
        try:
            score = Score(tuple(tracks), end, self.steps_per_beat, meters, tempos, self.title)
        except DataError as error:
            raise DataError(
                f"{shown(self.path)}: {error}", code=error.code, path=error.path, value=error.value
            ) from None
        return Reading(score, dict(self.dropped.most_common()))

    def _chunk(self, number: int, chunk: Any) -> None:
        ticks = 0
        open_notes: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for message in chunk:
            ticks += message.time
            step = self._step(ticks)
            if message.type == "note_on" and message.velocity:
                programme = self._programme(message.channel, ticks)
                open_notes[message.channel, message.note].append((step, message.velocity, programme))
            elif message.type in ("note_on", "note_off"):
                started = open_notes[message.channel, message.note]
                if not started:
                    self.dropped["end of a note that never began"] += 1
                    continue
                onset, velocity, programme = started.pop(0)
                note = Note(onset, max(step - onset, 1), message.note, velocity)
                self.notes[number, message.channel, programme].append(note)
            elif message.type == "set_tempo":
                self._tempo(step, message.tempo)
            elif message.type == "time_signature":
                self._meter(step, message)
            elif message.type == "track_name":
                self.names.setdefault(number, _text(message.name))
                self.title = self.title or (self.names[number] if number == 0 else "")
            elif message.type not in ("end_of_track", "program_change"):
                self.dropped[_KINDS.get(message.type, "other events")] += 1
        self.last = max(self.last, self._step(ticks))
        self.dropped["notes without an end"] += sum(map(len, open_notes.values()))
        self.dropped = +self.dropped

    def _step(self, ticks: int) -> int:
        step = int(ticks * self.steps_per_tick + 0.5)
        if step > MOST_STEPS:
            raise _fault(
                self.path, "too long", f"lasts more than {MOST_STEPS} steps", "divide it, or take larger steps"
            )
        return step

    def _programme(self, channel: int, ticks: int) -> int:
        """The programme of a channel, whichever chunk set it."""
        ticks_of, programmes = self.programmes.get(channel, ((), ()))
        which = bisect_right(ticks_of, ticks) - 1
        return programmes[which] if which >= 0 else 0

    def _tempo(self, step: int, microseconds: int) -> None:
        bpm = MICROSECONDS / microseconds if microseconds else 0.0
        if not SLOWEST <= bpm <= FASTEST:
            what = f"has a tempo of {microseconds} microseconds to a quarter note, {bpm:.6g} in a minute"
            raise _fault(self.path, "tempo", what, f"expected {SLOWEST:g} to {FASTEST:g}")
        self.tempos[step] = Tempo(step, round(bpm, 4))

    def _meter(self, step: int, message: Any) -> None:
        self.meters[step] = Meter(step, message.numerator, message.denominator)

    def _tidy(self, notes: list[Note]) -> tuple[Note, ...]:
        """Sort notes, each (onset, pitch) once, and end a note where its pitch is struck again."""
        kept: dict[tuple[int, int], Note] = {}
        for note in sorted(notes, key=lambda note: (note.onset, note.pitch, -note.duration)):
            if (note.onset, note.pitch) in kept:
                self.dropped["notes twice at one step"] += 1
            else:
                kept[note.onset, note.pitch] = note
        following: dict[int, int] = {}
        tidy = []
        for note in reversed(kept.values()):
            limit = following.get(note.pitch, note.end)
            if limit < note.end:
                self.dropped["ends of notes that were struck again"] += 1
            tidy.append(replace(note, duration=min(note.end, limit) - note.onset))
            following[note.pitch] = note.onset
        return tuple(reversed(tidy))


def _programmes(file: Any) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Ticks and programmes of the changes of each channel."""
    changes: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for chunk in file.tracks:
        ticks = 0
        for order, message in enumerate(chunk):
            ticks += message.time
            if message.type == "program_change":
                changes[message.channel].append((ticks, order, message.program))
    return {
        channel: (tuple(t for t, _, _ in sorted(found)), tuple(p for _, _, p in sorted(found)))
        for channel, found in changes.items()
    }


def midi_bytes(score: Score) -> bytes:
    """Return a score as a MIDI file of type 1: a chunk of tempo and signatures, and one for each track.

    Tracks of one programme share a channel, of which there are 15 beside that of drums; raises ``RequestError`` for
    more programmes.
    """
    mido = _mido()
    programmes = list(dict.fromkeys(track.programme for track in score.tracks if not track.drums))
    channels = [channel for channel in range(16) if channel != DRUMS]
    if len(programmes) > len(channels):
        raise RequestError(
            f"{len(programmes)} programmes: a MIDI file has channels for {len(channels)} beside drums; "
            "give some tracks the same programme, or save as .json",
            code="limit",
            path="tracks",
            value=len(programmes),
        )
    channel_of = dict(zip(programmes, channels, strict=False))
    file = mido.MidiFile(type=1, ticks_per_beat=score.steps_per_beat * TICKS_PER_STEP)
    file.tracks.append(_chunk(list(_frame(score)), score.num_steps))
    for track in score.tracks:
        channel = DRUMS if track.drums else channel_of[track.programme]
        file.tracks.append(_chunk(list(_events(track, channel)), score.num_steps))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _frame(score: Score) -> Iterator[tuple[int, Any]]:
    """Title, tempo and signatures, with their steps."""
    mido = _mido()
    if score.title:
        yield 0, mido.MetaMessage("track_name", name=_coded(score.title))
    for tempo in score.tempos:
        yield tempo.start, mido.MetaMessage("set_tempo", tempo=min(round(MICROSECONDS / tempo.bpm), (1 << 24) - 1))
    for meter in score.meters:
        yield meter.start, mido.MetaMessage("time_signature", numerator=meter.beats, denominator=meter.unit)


def _events(track: Track, channel: int) -> Iterator[tuple[int, Any]]:
    """Name, programme and notes of a track, with their steps; ends come before beginnings."""
    mido = _mido()
    yield 0, mido.MetaMessage("track_name", name=_coded(track.name))
    yield 0, mido.Message("program_change", channel=channel, program=track.programme)
    for note in track.notes:
        yield note.onset, mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)
        yield note.end, mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)


def _chunk(events: list[tuple[int, Any]], num_steps: int) -> Any:
    mido = _mido()
    chunk, now = mido.MidiTrack(), 0
    for step, message in sorted(events, key=lambda event: (event[0], _RANK.get(event[1].type, 0))):
        chunk.append(message.copy(time=(step - now) * TICKS_PER_STEP))
        now = step
    chunk.append(mido.MetaMessage("end_of_track", time=(num_steps - now) * TICKS_PER_STEP))
    return chunk


def _parsed(path: str | os.PathLike, data: bytes) -> Any:
    """Parse a file's bytes; whatever the library says of bad ones is one sentence."""
    mido = _mido()
    try:
        return mido.MidiFile(file=io.BytesIO(data))
    except Exception as error:  # the library raises what its parts do, and a bare Exception for a wrong key signature
        reason = "truncated" if isinstance(error, EOFError) else "not MIDI"
        said = shown(str(error)) or type(error).__name__
        raise _fault(path, reason, f"is no whole MIDI file ({said})", "save it again") from None


def _sorted(entries: dict[int, Any], end: int) -> tuple[Any, ...]:
    """Signatures or tempo by their start, without those behind the end and those that change nothing."""
    kept: list[Any] = []
    for start in sorted(entries):
        entry = entries[start]
        if (start == 0 or start < end) and not (kept and replace(kept[-1], start=start) == entry):
            kept.append(entry)
    return tuple(kept)


def _fault(path: str | os.PathLike, reason: str, detail: str, fix: str) -> Any:
    return Fault(reason, detail, fix, Path(path)).error(DataError)


def _text(name: str) -> str:
    """A name of the file, which mido reads as Latin-1: as UTF-8 where it is that."""
    with contextlib.suppress(UnicodeEncodeError, UnicodeDecodeError):
        name = name.encode("latin-1").decode()
    return "".join(letter for letter in name.strip("\0 ")[:80] if letter.isprintable())


def _coded(name: str) -> str:
    """A name as mido writes it, in Latin-1, so that the file holds UTF-8."""
    return name.encode("utf-8", "replace").decode("latin-1")


def _mido() -> Any:
    try:
        import mido
    except ImportError:
        raise MissingExtra("mido", "music") from None
    return mido


_RANK = {"track_name": 0, "set_tempo": 1, "time_signature": 1, "program_change": 1, "note_off": 2, "note_on": 3}
_KINDS = {
    "control_change": "controllers",
    "pitchwheel": "pitch bends",
    "aftertouch": "aftertouch",
    "polytouch": "aftertouch",
    "sysex": "system messages",
    "lyrics": "lyrics",
    "key_signature": "key signatures",
    "text": "texts",
    "marker": "texts",
    "copyright": "texts",
}
