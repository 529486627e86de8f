"""Score: music as notes on a grid of steps, with bars and tempo; a medium that is heard, drawn and written.

All times of notes are whole steps, ``steps_per_beat`` to a quarter note. Bars follow from the time signatures: each
lasts as long as its signature says, or ends where the next signature begins, or with the score.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from unisono import Audio
from unisono.errors import Code, DataError, RequestError
from unisono.media import Media

MOST_STEPS = 1 << 17
MOST_TRACKS = 256
MOST_STEPS_PER_BEAT = 96
SLOWEST, FASTEST = 3.0, 1000.0
"""Quarter notes per minute; a MIDI file cannot hold slower ones than 3.58."""


@dataclass(frozen=True, order=True)
class Note:
    """A note: ``onset`` and ``duration`` in steps, ``pitch`` in [0, 127] (60 is middle C), ``velocity`` in [1, 127]."""

    onset: int
    duration: int
    pitch: int
    velocity: int = 80

    @property
    def end(self) -> int:
        """The step at which it sounds no more."""
        return self.onset + self.duration


@dataclass(frozen=True)
class Track:
    """What one instrument plays: notes by onset and pitch; of one pitch only one at a time.

    ``programme`` is General MIDI's, in [0, 127]; ``drums``: pitches are instruments of a drum kit.
    """

    name: str
    notes: tuple[Note, ...] = ()
    programme: int = 0
    drums: bool = False


@dataclass(frozen=True)
class Meter:
    """A time signature from the step ``start`` on: ``beats`` of a ``unit``-th each, such as 3 of 8."""

    start: int = 0
    beats: int = 4
    unit: int = 4

    def steps(self, steps_per_beat: int) -> int:
        """Return the steps of a whole bar; raises ``DataError`` where that is no whole number."""
        quarters, rest = divmod(self.beats * 4 * steps_per_beat, self.unit)
        if rest or quarters < 1:
            raise _fault(
                f"a bar of {self.beats}/{self.unit} is no whole number of steps at steps_per_beat={steps_per_beat}: "
                f"use a multiple of {self.unit // 4}",
                "value", "meters", f"{self.beats}/{self.unit}",
            )  # fmt: skip
        return quarters


@dataclass(frozen=True)
class Tempo:
    """A tempo from the step ``start`` on, in quarter notes per minute."""

    start: int = 0
    bpm: float = 100.0


@dataclass(frozen=True)
class Bar:
    """Steps [start, stop) of a bar, and its time signature; shorter than that where another one begins early."""

    start: int
    stop: int
    meter: Meter


@dataclass(frozen=True)
class Score(Media):
    """Tracks of notes over ``num_steps`` steps, ``steps_per_beat`` to a quarter note.

    ``meters`` and ``tempos`` are sorted by their start, the first of each at step 0. Of a piece of a longer score,
    ``offset`` is where it begins there, in steps, and ``held`` are the (track, pitch) of notes at its first step that
    have begun before; where it is heard alone, they are struck. Raises ``DataError`` that names what is out of its
    limits.
    """

    tracks: tuple[Track, ...]
    num_steps: int
    steps_per_beat: int = 4
    meters: tuple[Meter, ...] = (Meter(),)
    tempos: tuple[Tempo, ...] = (Tempo(),)
    title: str = ""
    offset: int = 0
    held: tuple[tuple[int, int], ...] = ()

    suffixes: ClassVar[tuple[str, ...]] = (".mid", ".json", ".wav", ".flac", ".ogg", ".mp3")
    shown: ClassVar[str] = "unisono_music.scores:view.js"

    def __post_init__(self):
        _within("num_steps", self.num_steps, 0, MOST_STEPS)
        _within("steps_per_beat", self.steps_per_beat, 1, MOST_STEPS_PER_BEAT)
        _within("tracks", len(self.tracks), 0, MOST_TRACKS, "limit")
        for name, entries in (("meters", self.meters), ("tempos", self.tempos)):
            starts = [entry.start for entry in entries]
            if not starts or starts[0] != 0 or starts != sorted(set(starts)):
                message = f"{name} begin at the steps {starts}: the first begins at 0, each later one after the last"
                raise _fault(message, "value", name, starts)
        for meter in self.meters:
            _within("meters.beats", meter.beats, 1, 255)
            if meter.unit not in (1, 2, 4, 8, 16, 32, 64):
                raise _fault(
                    f"meters.unit={meter.unit} must be a power of 2 up to 64", "value", "meters.unit", meter.unit
                )
            meter.steps(self.steps_per_beat)
        for tempo in self.tempos:
            _within("tempos.bpm", tempo.bpm, SLOWEST, FASTEST)
        for track in self.tracks:
            self._check(track)
        for number, pitch in self.held:
            if not 0 <= number < len(self.tracks) or (0, pitch) not in {
                (note.onset, note.pitch) for note in self.tracks[number].notes
            }:
                message = f"held has ({number}, {pitch}): no note of that track and pitch sounds at step 0"
                raise _fault(message, "value", "held", (number, pitch))

    def _check(self, track: Track) -> None:
        where = f"tracks[{track.name!r}]"
        _within(f"{where}.programme", track.programme, 0, 127)
        busy: dict[int, int] = {}
        last = (0, -1)
        for note in track.notes:
            _within(f"{where}.pitch", note.pitch, 0, 127)
            _within(f"{where}.velocity", note.velocity, 1, 127)
            _within(f"{where}.onset", note.onset, 0, self.num_steps - 1)
            _within(f"{where}.duration", note.duration, 1, self.num_steps - note.onset)
            if (note.onset, note.pitch) <= last:
                message = f"{where}: {note} comes after a note at step {last[0]}: sort by onset and pitch, each once"
                raise _fault(message, "value", "tracks", note.onset)
            if note.onset < busy.get(note.pitch, 0):
                message = f"{where}: {note} begins while its pitch sounds: end that at step {note.onset}"
                raise _fault(message, "conflict", "tracks", note.onset)
            busy[note.pitch], last = note.end, (note.onset, note.pitch)

    # ---- time ----------------------------------------------------------------------------------

    @cached_property
    def bars(self) -> tuple[Bar, ...]:
        """The bars, which cover all steps."""
        bars = []
        ends = [meter.start for meter in self.meters[1:]] + [self.num_steps]
        for meter, end in zip(self.meters, ends, strict=True):
            end, length = min(end, self.num_steps), meter.steps(self.steps_per_beat)
            bars += [Bar(at, min(at + length, end), meter) for at in range(meter.start, end, length)]
        return tuple(bars)

    def time_of(self, step: float) -> float:
        """Return when a step begins, in seconds."""
        starts, times = self._clock
        which = max(bisect_right(starts, step) - 1, 0)
        return times[which] + (step - starts[which]) * self._step_seconds(self.tempos[which])

    @cached_property
    def _clock(self) -> tuple[list[int], list[float]]:
        starts, times = [0], [0.0]
        for before, tempo in zip(self.tempos, self.tempos[1:], strict=False):
            times.append(times[-1] + (tempo.start - before.start) * self._step_seconds(before))
            starts.append(tempo.start)
        return starts, times

    def _step_seconds(self, tempo: Tempo) -> float:
        return 60.0 / tempo.bpm / self.steps_per_beat

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.time_of(self.num_steps)

    @property
    def num_notes(self) -> int:
        """Notes of all tracks."""
        return sum(len(track.notes) for track in self.tracks)

    def cut(self, start: int, stop: int) -> "Score":
        """Return the steps [start, stop): notes are cut at both ends, signatures and tempo go along; notes that began
        before are ``held``, so that `join` makes them whole again."""
        if not 0 <= start <= stop <= self.num_steps:
            message = f"steps [{start}, {stop}) lie outside of this score's [0, {self.num_steps})"
            raise _fault(message, "range", "stop", stop)
        tracks = tuple(
            replace(
                track,
                notes=tuple(
                    replace(n, onset=max(n.onset, start) - start, duration=min(n.end, stop) - max(n.onset, start))
                    for n in sorted(track.notes, key=lambda n: (max(n.onset, start), n.pitch))
                    if n.end > start and n.onset < stop
                ),
            )
            for track in self.tracks
        )
        held = tuple(
            (number, note.pitch)
            for number, track in enumerate(self.tracks)
            for note in track.notes
            if note.onset < start < note.end and start < stop
        )
        if start == 0:
            held = self.held
        meters, tempos = _from(self.meters, start, stop), _from(self.tempos, start, stop)
        return replace(self, tracks=tracks, num_steps=stop - start, meters=meters, tempos=tempos, held=held)

    # ---- what every medium has -----------------------------------------------------------------

    @staticmethod
    def join(pieces: Sequence["Score"]) -> "Score":
        """Return one score of pieces that go on where the last one ended; a note that is ``held`` goes on."""
        if not pieces:
            raise RequestError("there is no score to join", code="empty", path="pieces")
        first, at = pieces[0], 0
        notes: list[list[Note]] = [[] for _ in first.tracks]
        meters: list[Meter] = []
        tempos: list[Tempo] = []
        for piece in pieces:
            if piece.steps_per_beat != first.steps_per_beat or len(piece.tracks) != len(first.tracks):
                raise RequestError(
                    f"cannot join {len(piece.tracks)} tracks at {piece.steps_per_beat} steps a beat to "
                    f"{len(first.tracks)} at {first.steps_per_beat}: read both the same way",
                    code="conflict",
                    path="pieces",
                    value=piece.steps_per_beat,
                )
            for number, (own, track) in enumerate(zip(notes, piece.tracks, strict=True)):
                for note in track.notes:
                    before = None
                    if note.onset == 0 and (number, note.pitch) in piece.held:
                        before = next((i for i, n in enumerate(own) if (n.end, n.pitch) == (at, note.pitch)), None)
                    if before is not None:
                        own[before] = replace(own[before], duration=own[before].duration + note.duration)
                    else:
                        own.append(replace(note, onset=note.onset + at))
            meters += [replace(m, start=m.start + at) for m in piece.meters if m.start or not _same(meters, m)]
            tempos += [replace(t, start=t.start + at) for t in piece.tempos if t.start or not _same(tempos, t)]
            at += piece.num_steps
        tracks = tuple(replace(track, notes=tuple(own)) for track, own in zip(first.tracks, notes, strict=True))
        return replace(first, tracks=tracks, num_steps=at, meters=tuple(meters), tempos=tuple(tempos))

    def following(self, previous: "Score | None") -> "Score":
        """Return it with its offset: where the previous piece ends, counted in steps."""
        return self if previous is None else replace(self, offset=previous.offset + previous.num_steps)

    def sound(self) -> Audio | None:
        """Return what it sounds like, of sums of sines; None where it has no note."""
        from unisono_music.scores.sound import sound_of

        return sound_of(self) if self.num_notes else None

    def plot(self):
        """Draw the piano roll: a colour for each track, bars as lines."""
        from unisono_music.scores.draw import roll_figure

        return roll_figure(self)

    def about(self) -> dict[str, Any]:
        """Return tracks with their notes as [onset, duration, pitch, velocity], bars and tempo, in steps."""
        return {"seconds": self.seconds, "bars": [bar.start for bar in self.bars], **self.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, of which ``from_dict`` makes it again."""
        tracks = [
            {
                "name": track.name,
                "programme": track.programme,
                "drums": track.drums,
                "notes": [[note.onset, note.duration, note.pitch, note.velocity] for note in track.notes],
            }
            for track in self.tracks
        ]
        return {
            "title": self.title,
            "steps_per_beat": self.steps_per_beat,
            "num_steps": self.num_steps,
            "meters": [asdict(meter) for meter in self.meters],
            "tempos": [asdict(tempo) for tempo in self.tempos],
            "held": [list(pair) for pair in self.held],
            "tracks": tracks,
        }

    @classmethod
    def from_dict(cls, values: Any) -> "Score":
        """Return the score that ``to_dict`` described; raises ``DataError`` for anything else."""
        from unisono_music.scores.as_json import score_of

        return score_of(values)

    @classmethod
    def read(cls, path: str | Path, steps_per_beat: int = 4) -> "Score":
        """Read a MIDI file, quantised to ``steps_per_beat``, or a JSON that was saved here; raises ``DataError``.

        `read_midi` tells what of a MIDI file could not be kept as well.
        """
        if Path(path).suffix.lower() == ".json":
            from unisono_music.scores.as_json import read_score

            return read_score(path)
        from unisono_music.scores.midi import read_midi

        return read_midi(path, steps_per_beat).score

    def _write(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix == ".mid":
            from unisono_music.scores.midi import midi_bytes

            path.write_bytes(midi_bytes(self))
        elif suffix == ".json":
            from unisono_music.scores.as_json import json_text

            path.write_text(json_text(self), encoding="utf-8")
        else:
            from unisono_music.scores.sound import sound_of

            path.write_bytes(sound_of(self).encoded(suffix))

    def __repr__(self) -> str:
        count, notes = len(self.tracks), self.num_notes
        return (
            f"Score({count} track{'s' * (count != 1)}, {len(self.bars)} bars, {notes} note{'s' * (notes != 1)}, "
            f"{self.seconds:.1f} s)"
        )

    def __rich__(self) -> Any:
        from unisono_music.scores.draw import roll_text

        return roll_text(self)

    def _repr_html_(self) -> str:
        from unisono_music.scores.draw import roll_html

        return roll_html(self)


def _from(entries: tuple[Any, ...], start: int, stop: int) -> tuple[Any, ...]:
    """Meters or tempos of the steps [start, stop), counted from ``start``."""
    current = [entry for entry in entries if entry.start <= start][-1]
    later = [replace(entry, start=entry.start - start) for entry in entries if start < entry.start < stop]
    return (replace(current, start=0), *later)


def _same(entries: list[Any], entry: Any) -> bool:
    """Whether a meter or tempo is the one that holds already."""
    return bool(entries) and replace(entries[-1], start=0) == replace(entry, start=0)


def _within(name: str, value: float, low: float, high: float, code: Code = "range") -> None:
    if not low <= value <= high:
        raise _fault(f"{name}={value} must be in [{low:g}, {high:g}]", code, name, value)


def _fault(message: str, code: Code, path: str, value: Any) -> DataError:
    return DataError(message, code=code, path=path, value=value)
