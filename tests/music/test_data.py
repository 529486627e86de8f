"""Data of scores: what is kept, dropped and why; the split, cuts and transpositions, facts, wrong input."""

import json

import numpy as np
import pytest
import torch
from refused import ANYTHING, refused
from unisono.errors import DataError
from unisono_music.corpus import ScoreFacts, Stored, Voice
from unisono_music.corpus.chorales import ChoraleData
from unisono_music.corpus.data import scores_of_batch
from unisono_music.corpus.midi import MidiData, MidiOptions
from unisono_music.corpus.tunes import TuneData, make_tune
from unisono_music.scores import CHORDS, Meter, Note, Score, Track, features_of


def tunes(folder, count=6, **changes):
    """Write tunes as MIDI files."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        make_tune(number).save(folder / f"{number}.mid")
    return folder


def data(root, val_size=1, **options):
    made = MidiData(
        str(root),
        midi=MidiOptions(min_bars=1, **options),
        val_size=val_size,
        batch_size=2,
        num_processes=1,
        crop_bars=2,
    )
    return made, made.prepare(progress=False)


def test_a_folder_of_midi_becomes_pieces_of_the_same_voices(tmp_path):
    made, audit = data(tunes(tmp_path / "m"))
    facts = made.describe()
    assert [voice.name for voice in facts.voices] == ["soprano", "alto", "tenor", "bass"]
    assert (audit.kept, audit.unit, audit.reasons) == (6, "bars", {})
    assert (facts.beats, facts.unit, facts.repeats, facts.polyphonic) == (4, 4, True, False)
    assert len(facts.held_out) == 1 and len(made.train_set) == 5
    assert facts.bars == audit.amount


def test_bad_files_are_dropped_with_their_reason(tmp_path):
    root = tunes(tmp_path / "m", 3)
    (root / "bad.mid").write_bytes(b"MThd")
    (root / "empty.mid").write_bytes(b"")
    Score((Track("soprano"),), 16).save(root / "silent.mid")
    (root / "notes.txt").write_text("no music")
    _, audit = data(root)
    assert audit.kept == 3
    assert audit.reasons == {"truncated": 2, "empty": 1}


def test_bars_of_other_signatures_are_dropped_in_stretches(tmp_path):
    root = tunes(tmp_path / "m", 2)
    notes = tuple(Note(at, 4, 72 + at % 3) for at in range(0, 44, 4))
    meters = (Meter(0, 4, 4), Meter(16, 3, 4), Meter(28, 4, 4))
    tracks = tuple(Track(name, notes) for name in ("soprano", "alto", "tenor", "bass"))
    Score(tracks, 44, meters=meters).save(root / "mixed.mid")
    made, audit = data(root)
    assert audit.reasons == {"other time signature": 1}
    assert audit.dropped[0].id == "mixed.mid@16"
    assert {"mixed.mid@0", "mixed.mid@28"} <= {p.id for p in [*made.train_set.pieces, *made.val_set.pieces]}
    waltz, audit = data(root, val_size=0, meter="3/4")
    assert audit.kept == 1 and waltz.describe().steps_per_bar == 12


def test_tracks_go_to_voices_by_name_and_family_and_lost_notes_are_told(tmp_path):
    root = tmp_path / "m"
    root.mkdir()
    for number in range(3):
        tracks = (
            Track("Lead", (Note(0, 4, 72), Note(0, 4, 76)), 0),
            Track("left hand", (Note(0, 8, 48),), 1),
            Track("fiddle", (Note(0, 8, 64),), 41),
            Track("kit", (Note(0, 1, 36),), 0, True),
        )
        Score(tracks, 16, title=str(number)).save(root / f"{number}.mid")
    made, audit = data(root, tracks=("lead", "piano", "drums"))
    voices = made.describe().voices
    assert [(v.name, v.lowest, v.highest, v.drums) for v in voices] == [
        ("lead", 76, 76, False), ("piano", 48, 48, False), ("drums", 36, 36, True)
    ]  # fmt: skip
    assert "3 notes dropped: below the top of their voice" in audit.notes
    assert "3 notes dropped: of strings, which no voice takes" in audit.notes
    chords, _ = data(root, tracks=("lead",), at_once="all")
    assert chords.describe().polyphonic


@pytest.mark.parametrize(
    "code, path, options",
    [
        ("empty", "data.root", {"tracks": ("flute",)}),
        ("value", "data.midi.meter", {"meter": "4:4"}),
        ("value", "data.midi.meter", {"meter": "4/5"}),
        ("value", "data.midi.meter", {"meter": "9" * 9}),
        ("empty", "data.root", {"meter": "7/8", "steps_per_beat": 4}),
        ("limit", "data.midi.tracks", {"tracks": tuple(map(str, range(40)))}),
    ],
)
def test_what_leaves_nothing_is_refused(tmp_path, code, path, options):
    root = tunes(tmp_path / "m", 2)
    with refused(DataError, code=code, path=path):
        data(root, **options)


def test_a_folder_without_midi_is_refused(tmp_path):
    with refused(DataError, code="empty", path="data.root"):
        data(tmp_path)
    with refused(DataError, code="missing", path=ANYTHING):
        data(tmp_path / "none")


# ---- chorales ----------------------------------------------------------------------------------


def chorales(path, count=6):
    """Write pieces of two voices in three parts."""
    pieces = [[[60 + (at // 4 + n) % 5, 48 + (at // 8) % 3] for at in range(32)] for n in range(count)]
    path.write_text(json.dumps({"train": pieces, "valid": pieces[:2], "test": pieces[:1]}))
    return path


def test_parts_of_chorales_are_the_split(tmp_path):
    made = ChoraleData(str(chorales(tmp_path / "x.json")), voices=("high", "low"), batch_size=2)
    audit = made.prepare()
    facts = made.describe()
    assert (len(made.train_set), len(made.val_set), facts.repeats) == (6, 2, False)
    assert facts.held_out == ("valid-000", "valid-001")
    assert any("test" in note for note in audit.notes)


def test_without_a_part_pieces_are_held_out_by_their_ids(tmp_path):
    made = ChoraleData(
        str(chorales(tmp_path / "x.json")), voices=("high", "low"), val_part=None, val_size=2, batch_size=2
    )
    made.prepare()
    assert (len(made.train_set), len(made.val_set)) == (4, 2)


@pytest.mark.parametrize(
    "code, path, options",
    [
        ("unknown", "data.train_part", {"train_part": "trian"}),
        ("unknown", "data.val_part", {"val_part": "dev"}),
        ("empty", "data.path", {"voices": ("a", "b", "c")}),
        ("range", "data.crop_bars", {"crop_bars": 0}),
        ("range", "data.transpose", {"transpose": (1, 2)}),
    ],
)
def test_wrong_options_of_chorales_are_refused(tmp_path, code, path, options):
    with refused(DataError, code=code, path=path):
        ChoraleData(str(chorales(tmp_path / "x.json")), **{"voices": ("high", "low"), **options}).prepare()


def test_a_voice_that_never_sings_is_refused(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"train": [[[60, -1]] * 8]}))
    with refused(DataError, code="empty", path="data", value="low"):
        ChoraleData(str(tmp_path / "x.json"), voices=("high", "low"), val_part=None, val_size=0).prepare()


# ---- items -------------------------------------------------------------------------------------


def test_a_cut_is_the_cut_of_the_score():
    for number in range(12):
        tune = make_tune(number)
        stored = Stored.of("x", tune)
        for first, last in ((0, 1), (1, 2), (0, len(tune.bars))):
            part = stored.cut(first, last)
            own = Stored.of("x", tune.cut(16 * first, 16 * last))
            assert part.notes.tolist() == own.notes.tolist() and part.bars.tolist() == own.bars.tolist()
            assert part.features.chord.tolist() == own.features.chord.tolist()
            assert np.allclose(part.features.pitch, own.features.pitch, equal_nan=True)


@pytest.mark.parametrize("semitones", [-5, 1, 6])
def test_transposing_moves_notes_chords_and_pitch(semitones):
    tune = make_tune(7)
    moved = Stored.of("x", tune).transposed(semitones)
    tracks = tuple(
        Track(t.name, tuple(Note(n.onset, n.duration, n.pitch + semitones, n.velocity) for n in t.notes))
        for t in tune.tracks
    )
    own = features_of(Score(tracks, tune.num_steps))
    assert moved.features.chord.tolist() == own.chord.tolist()
    assert np.allclose(moved.features.pitch, own.pitch)
    assert {CHORDS[c] for c in own.chord.ravel()} != {CHORDS[c] for c in features_of(tune).chord.ravel()}


def test_no_voice_leaves_its_range_by_transposing():
    made = TuneData(transpose=(-12, 12), crop_bars=2)
    made.prepare()
    voices = made.describe().voices
    seen = set()
    for seed in range(40):
        item = made.train_set.item(seed % len(made.train_set), torch.Generator().manual_seed(seed))
        for row, voice in enumerate(voices):
            pitches = item["notes"][item["notes"][:, 0] == row, 3]
            assert voice.lowest <= int(pitches.min()) <= int(pitches.max()) <= voice.highest
        seen.add(int(item["notes"][0, 3]))
    assert len(seen) > 5


def test_a_batch_holds_the_pieces_and_padding_is_told_apart():
    made = TuneData(batch_size=4)
    made.prepare()
    batch = next(iter(made.val_dataloader()))
    scores = scores_of_batch(batch, made.describe())
    for score, row in zip(scores, batch["row"].tolist(), strict=True):
        assert Stored.of("", score).notes.tolist() == made.val_set.pieces[row].notes.tolist()
    assert len({score.num_steps for score in scores}) > 1 and (batch["notes"] == -1).any()


def test_facts_of_no_voice_and_of_impossible_ranges_are_refused():
    with refused(DataError, code="empty", path="voices"):
        ScoreFacts(voices=())
    with refused(DataError, code="range", path="voices"):
        ScoreFacts(voices=(Voice(name="x", lowest=60, highest=50),))
    with refused(DataError, code="value", path="meters"):
        ScoreFacts(voices=(Voice(name="x", lowest=50, highest=60),), unit=64, beats=1)


def test_the_sample_of_the_facts_is_the_beginning_of_a_held_out_piece():
    made = TuneData(val_size=1)
    made.prepare()
    tune = make_tune(32)
    sample = made.describe().sample_score()
    assert [t.notes for t in sample.tracks] == [t.notes for t in tune.cut(0, sample.num_steps).tracks]
