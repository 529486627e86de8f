"""Files of scores: MIDI there and back, what of it is dropped and why, damaged and fuzzed files, JSON."""

import contextlib
import json
import struct
from dataclasses import replace

import mido
import numpy as np
import pytest
from refused import ANYTHING, refused
from unisono.errors import DataError, RequestError
from unisono_music.corpus.tunes import make_tune
from unisono_music.scores import Meter, Note, Score, Tempo, Track, midi_bytes, read_chorales, read_midi


def midi(path, *chunks, division=480, kind=1):
    """Write a MIDI file of chunks, each a list of mido messages."""
    file = mido.MidiFile(type=kind, ticks_per_beat=division)
    for messages in chunks:
        file.tracks.append(mido.MidiTrack(messages))
    file.save(path)
    return path


def on(pitch, time=0, channel=0, velocity=64):
    return mido.Message("note_on", note=pitch, time=time, channel=channel, velocity=velocity)


def off(pitch, time=480, channel=0):
    return mido.Message("note_off", note=pitch, time=time, channel=channel)


def test_midi_there_and_back_is_the_score(tmp_path):
    for number in range(30):
        tune = make_tune(number)
        reading = read_midi(tune.save(tmp_path / "x.mid"))
        assert reading.score == replace(tune, tempos=reading.score.tempos)
        assert reading.score.tempos[0].bpm == pytest.approx(100) and not reading.dropped


def test_signatures_tempo_names_and_drums_come_back(tmp_path):
    it = Score(
        (
            Track("Ütz", (Note(0, 3, 60, 100),), 33),
            Track("kit", (Note(0, 1, 36), Note(6, 1, 38)), 0, True),
            Track("empty"),
        ),
        24, 4, (Meter(0, 3, 4), Meter(12, 6, 8)), (Tempo(0, 90.0), Tempo(5, 61.5)), "Ein Stück",
    )  # fmt: skip
    again = read_midi(it.save(tmp_path / "x.mid")).score
    assert (again.tracks, again.meters, again.title) == (it.tracks[:2], it.meters, it.title)
    assert [(t.start, round(t.bpm, 1)) for t in again.tempos] == [(0, 90.0), (5, 61.5)]
    assert again.num_steps == 24


def test_another_reader_hears_the_same_notes(tmp_path):
    tune = make_tune(4)
    file = mido.MidiFile(tune.save(tmp_path / "x.mid"))
    heard, now = [], 0.0
    for message in file:
        now += message.time
        if message.type == "note_on" and message.velocity:
            heard.append((round(now, 3), message.note, message.velocity))
    wanted = [(round(tune.time_of(n.onset), 3), n.pitch, n.velocity) for t in tune.tracks for n in t.notes]
    assert sorted(heard) == sorted(wanted)


def test_twenty_tracks_of_one_programme_fit_and_sixteen_programmes_do_not(tmp_path):
    same = Score(tuple(Track(f"t{i:02d}", (Note(0, 4, 40 + i),)) for i in range(20)), 16)
    assert read_midi(same.save(tmp_path / "x.mid")).score.tracks == same.tracks
    many = Score(tuple(Track(f"t{i}", (Note(0, 4, 60),), i) for i in range(16)), 16)
    with refused(RequestError, code="limit", path="tracks", value=16):
        midi_bytes(many)
    many.save(tmp_path / "x.json")


def test_what_is_dropped_is_counted(tmp_path):
    messages = [
        mido.Message("control_change", control=64, value=127),
        mido.Message("pitchwheel", pitch=100),
        mido.MetaMessage("lyrics", text="la"),
        on(60), on(60, 240), off(60, 240), off(60, 240),  # struck while it sounds
        off(99, 0),  # never began
        on(62, 0), on(62, 0), off(62, 480), off(62, 0),  # twice at one step
        on(64, 0),  # no end
    ]  # fmt: skip
    reading = read_midi(midi(tmp_path / "x.mid", messages))
    assert reading.dropped == {
        "controllers": 1, "pitch bends": 1, "lyrics": 1, "ends of notes that were struck again": 1,
        "end of a note that never began": 1, "notes twice at one step": 1, "notes without an end": 1,
    }  # fmt: skip
    assert [(n.onset, n.duration, n.pitch) for n in reading.score.tracks[0].notes] == [
        (0, 2, 60),
        (2, 4, 60),
        (6, 4, 62),
    ]


def test_short_notes_last_a_step_and_times_are_rounded(tmp_path):
    reading = read_midi(midi(tmp_path / "x.mid", [on(60, 55), off(60, 2), on(62, 65), off(62, 110)]))
    assert [(n.onset, n.duration) for n in reading.score.tracks[0].notes] == [(0, 1), (1, 1)]


def test_a_programme_set_in_another_chunk_holds(tmp_path):
    first = [mido.Message("program_change", program=40, channel=3)]
    path = midi(tmp_path / "x.mid", first, [on(60, 0, 3), off(60, 480, 3)])
    assert read_midi(path).score.tracks[0].programme == 40


def test_channels_of_one_chunk_are_tracks(tmp_path):
    path = midi(tmp_path / "x.mid", [on(60, 0, 0), on(36, 0, 9), off(60, 480, 0), off(36, 0, 9)], kind=0)
    tracks = read_midi(path).score.tracks
    assert [(track.drums, len(track.notes)) for track in tracks] == [(False, 1), (True, 1)]
    assert len({track.name for track in tracks}) == 2


def raw(*events, division=480, kind=1):
    """A MIDI file of one chunk of bytes."""
    body = b"".join(events) + b"\x00\xff\x2f\x00"
    return struct.pack(">4sLhhH", b"MThd", 6, kind, 1, division) + struct.pack(">4sL", b"MTrk", len(body)) + body


NOTE = b"\x00\x90\x3c\x40\x83\x60\x80\x3c\x40"


@pytest.mark.parametrize(
    "code, content",
    [
        ("damaged", b"MThd"),
        ("format", b"once upon a time"),
        ("damaged", b""),
        ("damaged", raw(NOTE)[:-6]),
        ("format", raw(NOTE, kind=2)),
        ("format", raw(NOTE, kind=7)),
        ("format", raw(NOTE, division=0xE728)),  # frames of film
        ("format", raw(NOTE, division=0)),
        ("format", raw(b"\x00\xff\x51\x03\x00\x00\x00", NOTE)),  # tempo 0
        ("range", raw(b"\x00\xff\x58\x04\x00\x02\x18\x08", NOTE)),  # 0/4
        ("value", raw(b"\x00\xff\x58\x04\x01\x06\x18\x08", NOTE)),  # 1/64 on a grid of sixteenths
        ("value", raw(b"\x00\xff\x58\x04\x04\xf0\x18\x08", NOTE)),  # 4 of 2 to the 240th
        ("format", raw(b"\xff\xff\xff\x7f\x90\x3c\x40")),  # two weeks later
        ("format", raw(b"\x00\xff\x59\x02\x40\x00", NOTE)),  # no such key: mido raises a bare Exception
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, code, content):
    path = tmp_path / "x.mid"
    path.write_bytes(content)
    with refused(DataError, code=code, path=ANYTHING):
        read_midi(path)


def test_three_hours_are_read_and_a_day_is_not(tmp_path):
    tempo = [mido.MetaMessage("set_tempo", tempo=500_000)]
    hours = midi(tmp_path / "x.mid", tempo, [on(60, 480 * 120 * 180 - 480), off(60)])
    assert read_midi(hours).score.seconds == pytest.approx(3 * 3600, rel=1e-3)
    day = midi(tmp_path / "y.mid", [on(60, 480 * 120 * 60 * 24), off(60)])
    with refused(DataError, code="format", path=ANYTHING):
        read_midi(day)


def test_a_file_without_notes_is_an_empty_score(tmp_path):
    assert read_midi(midi(tmp_path / "x.mid", [])).score.num_steps == 0


@pytest.mark.parametrize("steps", [0, 97])
def test_a_grid_out_of_its_limits_is_refused(tmp_path, steps):
    with refused(DataError, code="range", path="steps_per_beat", value=steps):
        read_midi(make_tune(0).save(tmp_path / "x.mid"), steps)


def test_fuzzed_midi_is_read_or_refused(tmp_path):
    generator = np.random.default_rng(0)
    whole = make_tune(0, 2).cut(0, 16).save(tmp_path / "x.mid").read_bytes()
    read = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(int(generator.integers(1, 6))):
            data[int(generator.integers(len(data)))] = int(generator.integers(256))
        path = tmp_path / "fuzzed.mid"
        path.write_bytes(bytes(data[: int(generator.integers(len(data) // 2, len(data) + 1))]))
        try:
            read_midi(path)
            read += 1
        except DataError:
            pass
    assert 0 < read < 400


# ---- JSON --------------------------------------------------------------------------------------


def test_json_there_and_back_is_the_score(tmp_path):
    tune = make_tune(3).cut(3, 30)
    assert tune.held
    assert Score.read(tune.save(tmp_path / "x.json")) == tune


def test_fuzzed_json_is_read_or_refused(tmp_path):
    generator = np.random.default_rng(0)
    values = make_tune(0, 1).cut(0, 16).to_dict()
    odd = [None, -1, 10**400, "x", [], {}, 1.5, True, [[0, 0, 0, 0]], [[1, 2]], float("nan")]
    for _ in range(300):
        changed = json.loads(json.dumps(values))
        place = changed if generator.random() < 0.6 else changed["tracks"][0]
        place[list(place)[int(generator.integers(len(place)))]] = odd[int(generator.integers(len(odd)))]
        with contextlib.suppress(DataError):
            Score.from_dict(changed)
    for values in odd:
        with refused(DataError, code="format", path=ANYTHING):
            Score.from_dict(values)


def chorales(path, **parts):
    path.write_text(json.dumps(parts))
    return path


def test_chorales_are_read_and_bad_ones_are_listed(tmp_path):
    good = [[60, 55], [60, 55], [62, -1]]
    path = chorales(
        tmp_path / "x.json",
        train=[good, [], [[60]], [[60, 200]], [[60, "a"]], [[60, 1.5]], [[60, True]], "x", [[-1, -1]], [60, 55]],
    )
    pieces = read_chorales(path, ("high", "low"))
    assert [piece.reason for piece in pieces] == [
        "", "empty", "other voices", "no pitch", "no pitch", "no pitch", "no pitch", "not a piece", "empty",
        "not a piece",
    ]  # fmt: skip
    assert [(n.onset, n.duration, n.pitch) for n in pieces[0].score.tracks[0].notes] == [(0, 2, 60), (2, 1, 62)]


@pytest.mark.parametrize("content", ["[]", "{}", '{"train": 3}', "3", "{", '"\\ud800"'])
def test_another_json_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with refused(DataError, code="format", path=ANYTHING):
        read_chorales(path)
