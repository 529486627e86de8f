"""ScoreFacts: what a model must know of its scores."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError

from unisono_music.scores import Meter, Note, Score, Tempo, Track


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A voice or track that every piece has: its name and sound, and the pitches [lowest, highest] of the corpus."""

    name: str
    lowest: int
    highest: int
    programme: int = 0
    drums: bool = False

    @property
    def num_pitches(self) -> int:
        """How many pitches lie in its range."""
        return self.highest + 1 - self.lowest


@dataclass(frozen=True, kw_only=True)
class ScoreFacts(Facts):
    """Facts about scores.

    Attributes:
        voices: of every piece, in the order of its tracks.
        steps_per_beat: steps of a quarter note.
        beats, unit: the time signature.
        repeats: whether the corpus says if a pitch that goes on is held or struck again.
        polyphonic: whether a track may have several notes at once.
        bpm: the tempo in the middle of all pieces, in quarter notes per minute.
        most_steps: of the longest piece that is trained on.
        most_notes: that begin in one bar of one track.
        held_out: ids of the pieces that are validated on.
        bars: of all pieces that are kept.
        sample: notes of the beginning of a held-out piece, as (track, onset, duration, pitch, velocity), for previews.
        sample_steps: how many steps that beginning has.
    """

    voices: tuple[Voice, ...]
    steps_per_beat: int = 4
    beats: int = 4
    unit: int = 4
    repeats: bool = True
    polyphonic: bool = False
    bpm: float = 100.0
    most_steps: int | None = None
    most_notes: int | None = None
    held_out: tuple[str, ...] = ()
    bars: int | None = None
    sample: tuple[tuple[int, ...], ...] = ()
    sample_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.voices:
            raise DataError("ScoreFacts: voices is empty: give at least one", code="empty", path="voices")
        for voice in self.voices:
            if not 0 <= voice.lowest <= voice.highest <= 127:
                raise DataError(
                    f"ScoreFacts: the voice {voice.name!r} has the pitches {voice.lowest} to {voice.highest}: "
                    "give a range within 0 to 127",
                    code="range",
                    path="voices",
                    value=(voice.lowest, voice.highest),
                )
        _ = self.steps_per_bar

    @property
    def meter(self) -> Meter:
        """The time signature."""
        return Meter(0, self.beats, self.unit)

    @property
    def steps_per_bar(self) -> int:
        """Steps of a whole bar."""
        return self.meter.steps(self.steps_per_beat)

    @property
    def beats_per_bar(self) -> int:
        """Quarter notes of a bar, a last part of one counted: so many chords it has."""
        return -(-self.steps_per_bar // self.steps_per_beat)

    def blank(self, num_steps: int, bpm: float | None = None, title: str = "") -> Score:
        """Return a score without notes, with these voices, signature and tempo."""
        tracks = tuple(Track(voice.name, (), voice.programme, voice.drums) for voice in self.voices)
        tempo = Tempo(0, self.bpm if bpm is None else bpm)
        return Score(tracks, num_steps, self.steps_per_beat, (self.meter,), (tempo,), title)

    def sample_score(self) -> Score | None:
        """Return the beginning of a held-out piece; None where there is none."""
        if not self.sample:
            return None
        notes: list[list[Note]] = [[] for _ in self.voices]
        for track, *note in self.sample:
            notes[track].append(Note(*note))
        blank = self.blank(self.sample_steps)
        tracks = (Track(t.name, tuple(own), t.programme, t.drums) for t, own in zip(blank.tracks, notes, strict=True))
        return Score(tuple(tracks), self.sample_steps, self.steps_per_beat, blank.meters, blank.tempos)
