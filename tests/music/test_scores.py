"""Scores: what a score refuses, time, cutting and joining, the grid, chords by hand, features, sound and pictures."""

from dataclasses import replace

import numpy as np
import pytest
from refused import refused
from unisono import Audio
from unisono.errors import DataError, RequestError
from unisono_music.corpus.tunes import make_tune
from unisono_music.scores import (
    CHORDS,
    OTHER,
    Grid,
    Meter,
    Note,
    Score,
    Tempo,
    Track,
    chord_number,
    chords_of,
    chords_within,
    density_bin,
    duration_bin,
    features_of,
    grid_of,
    pitch_bin,
    score_of,
    sound_of,
    top_line,
    velocity_bin,
)


def score(*voices, steps=16, **fields):
    """A score of voices, each a list of notes."""
    tracks = tuple(Track(f"v{i}", tuple(Note(*note) for note in notes)) for i, notes in enumerate(voices))
    return Score(tracks, steps, **fields)


@pytest.mark.parametrize(
    "code, path, make",
    [
        ("range", "num_steps", lambda: score(steps=1 << 18)),
        ("range", "steps_per_beat", lambda: score(steps_per_beat=0)),
        ("value", "meters", lambda: score(meters=(Meter(4),))),
        ("value", "meters", lambda: score(meters=(Meter(0, 1, 32),))),
        ("value", "meters", lambda: score(meters=())),
        ("value", "meters.unit", lambda: score(meters=(Meter(0, 4, 5),))),
        ("range", "tempos.bpm", lambda: score(tempos=(Tempo(0, 0.0),))),
        ("range", "tempos.bpm", lambda: score(tempos=(Tempo(0, float("nan")),))),
        ("range", "tracks['v0'].pitch", lambda: score([(0, 4, 128)])),
        ("range", "tracks['v0'].velocity", lambda: score([(0, 4, 60, 0)])),
        ("range", "tracks['v0'].duration", lambda: score([(14, 4, 60)])),
        ("range", "tracks['v0'].duration", lambda: score([(14, 0, 60)])),
        ("range", "tracks['v0'].onset", lambda: score([(-1, 4, 60)])),
        ("conflict", "tracks", lambda: score([(0, 4, 60), (2, 4, 60)])),
        ("value", "tracks", lambda: score([(4, 4, 60), (0, 4, 62)])),
        ("value", "held", lambda: score([(4, 4, 60)], held=((0, 60),))),
        ("limit", "tracks", lambda: Score(tuple(Track(str(i)) for i in range(300)), 4)),
    ],
)
def test_a_score_out_of_its_limits_is_refused(code, path, make):
    with refused(DataError, code=code, path=path):
        make()


def test_an_empty_score_and_one_note_are_scores():
    empty = score([], steps=0)
    assert (empty.seconds, empty.bars, empty.sound(), empty.num_notes) == (0.0, (), None, 0)
    assert features_of(empty).chord.shape == (0, 0)
    assert empty.plot() and empty._repr_html_() and empty.__rich__()
    one = score([(3, 1, 60)], steps=4)
    assert one.sound().seconds == pytest.approx(one.seconds, abs=0.2)
    assert features_of(one).density.tolist() == [[1]]


def test_time_follows_the_tempo_map():
    it = score([(0, 16, 60)], tempos=(Tempo(0, 60), Tempo(8, 120)))
    assert [it.time_of(step) for step in (0, 4, 8, 12, 16)] == [0, 1, 2, 2.5, 3]
    assert it.seconds == 3


def test_bars_follow_the_signatures_and_a_bar_may_be_cut_short():
    it = score([], steps=40, meters=(Meter(0, 3, 4), Meter(20, 4, 4)))
    assert [(bar.start, bar.stop) for bar in it.bars] == [(0, 12), (12, 20), (20, 36), (36, 40)]
    assert score(steps=24, meters=(Meter(0, 6, 8),)).bars[1].start == 12


@pytest.mark.parametrize("at", [1, 7, 16, 31])
def test_pieces_joined_are_the_whole(at):
    whole = replace(make_tune(1), tempos=(Tempo(0, 90.0), Tempo(8, 120.0)))
    first, second = whole.cut(0, at), whole.cut(at, whole.num_steps)
    assert Score.join([first, second]) == whole
    assert second.following(first).offset == at


def test_a_repeat_at_a_border_stays_two_notes():
    whole = score([(0, 4, 60), (4, 4, 60)], steps=8)
    assert Score.join([whole.cut(0, 4), whole.cut(4, 8)]) == whole


def test_scores_of_other_steps_are_not_joined():
    with refused(RequestError, code="conflict", path="pieces"):
        Score.join([score([], steps=4), score([], steps=4, steps_per_beat=8)])
    with refused(RequestError, code="empty", path="pieces"):
        Score.join([])


# ---- the grid ----------------------------------------------------------------------------------


def test_the_grid_tells_a_repeat_from_a_held_note():
    struck, held = score([(0, 2, 60), (2, 2, 60)], steps=5), score([(0, 4, 60)], steps=5)
    one, other = grid_of(struck), grid_of(held)
    assert one.pitch.tolist() == other.pitch.tolist() == [[60, 60, 60, 60, -1]]
    assert one.onset.tolist() == [[True, False, True, False, False]]
    assert (score_of(one, struck), score_of(other, held)) == (struck, held)


def test_grids_of_tunes_are_the_tunes():
    for number in range(20):
        tune = make_tune(number)
        again = score_of(grid_of(tune), tune)
        assert [(n.onset, n.end, n.pitch) for t in again.tracks for n in t.notes] == [
            (n.onset, n.end, n.pitch) for t in tune.tracks for n in t.notes
        ]


def test_a_chord_in_a_voice_is_refused_and_its_top_line_is_not():
    it = score([(0, 4, 60), (0, 4, 64), (2, 4, 67)], steps=8)
    with refused(DataError, code="conflict", path="tracks['v0']"):
        grid_of(it)
    line = top_line(it.tracks[0])
    assert [(n.onset, n.duration, n.pitch) for n in line.notes] == [(0, 2, 64), (2, 4, 67)]


def test_an_onset_within_silence_or_a_change_without_one_is_no_grid():
    with pytest.raises(ValueError):
        Grid(np.array([[60, 62]]), np.array([[True, False]]))
    with pytest.raises(ValueError):
        Grid(np.array([[-1, 60]]), np.array([[True, True]]))


# ---- chords and features -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "pitches, name",
    [
        ((60, 64, 67), "C"),
        ((57, 60, 64), "Am"),
        ((70, 62, 65), "A#"),
        ((48, 64, 55, 72), "C"),
        ((60, 64), "C"),  # root and third; A minor would need a third of its own root
        ((60, 67), "other"),  # no third
        ((60, 61, 62), "other"),
        ((60, 63, 66), "Cm"),  # diminished: two thirds of it are C minor's
        ((), "other"),
    ],
)
def test_chords_by_hand(pitches, name):
    column = np.array([[p] for p in pitches] or [[-1]])
    assert CHORDS[chords_within(column, 0, 1)] == name


def test_chord_names_are_read_and_others_refused():
    assert [CHORDS[chord_number(n)] for n in ("C", "F#m", "Bb", "Ebm", "other")] == ["C", "F#m", "A#", "D#m", "other"]
    for name in ("H", "C7", "", "Bbb", "mm", "c"):
        with refused(DataError, code="unknown", path="chords", value=name):
            chord_number(name)


def test_a_chord_depends_on_nothing_later():
    tune = make_tune(5)
    before = chords_of(tune.cut(0, 16))[0]
    assert before.tolist() == chords_of(tune)[0].tolist()
    changed = replace(tune, tracks=(replace(tune.tracks[0], notes=tune.tracks[0].notes[:1]), *tune.tracks[1:]))
    first = tune.tracks[0].notes[1].onset // 4
    assert chords_of(changed)[0][:first].tolist() == before[:first].tolist()


def test_drums_are_no_chord_and_have_no_pitch():
    it = Score((Track("kit", (Note(0, 4, 36), Note(0, 4, 40)), drums=True),), 16)
    found = features_of(it)
    assert set(chords_of(it)[0].tolist()) == {OTHER}
    assert found.density.tolist() == [[2]] and np.isnan(found.pitch).all()


def test_features_by_hand():
    it = score([(0, 4, 60, 40), (4, 20, 64, 80)], [], steps=32)
    found = features_of(it)
    assert found.density.tolist() == [[2, 0], [0, 0]]
    assert found.pitch[0, 0] == pytest.approx((4 * 60 + 12 * 64) / 16)
    assert found.pitch[1, 0] == 64 and np.isnan(found.pitch[:, 1]).all()  # held, then resting
    assert found.duration[0, 0] == 12 and np.isnan(found.duration[1, 0])  # a held note begins once
    assert found.velocity[0, 0] == 60


def test_bins_cover_their_ranges():
    assert density_bin(np.array([0, 3, 99])).tolist() == [0, 3, 16]
    assert pitch_bin(np.array([48.0, 55.9, 56.0, 63.0, 99.0, np.nan]), 48, 63).tolist() == [0, 3, 4, 7, 7, -1]
    assert duration_bin(np.array([1.0, 2, 3, 5, 7, 30, np.nan])).tolist() == [0, 1, 2, 3, 4, 5, -1]
    assert duration_bin(np.array([2.0]), 8).tolist() == [0]
    assert velocity_bin(np.array([1.0, 127, np.nan])).tolist() == [0, 7, -1]


# ---- sound, pictures, files --------------------------------------------------------------------


def test_a_note_sounds_at_its_pitch_and_place():
    it = score([(4, 8, 69)], steps=16, tempos=(Tempo(0, 60.0),))
    sound = sound_of(it)
    wave, rate = sound.waveform[0], sound.sample_rate
    assert not wave[: rate - 10].any()
    heard = wave[rate : 2 * rate]
    assert np.abs(np.fft.rfft(heard)).argmax() == 440  # one second: the bin is the frequency
    assert np.abs(wave).max() <= 1


def test_many_loud_notes_do_not_clip():
    it = score(*[[(0, 16, 40 + i, 127)] for i in range(30)])
    assert 0.5 < np.abs(sound_of(it).waveform).max() <= 1


def test_hours_of_sound_are_refused():
    with refused(RequestError, code="limit", path="seconds"):
        sound_of(score([(0, 4, 60)], steps=100_000))


def test_it_is_drawn_heard_and_shown(tmp_path):
    tune = make_tune(2)
    figure = tune.plot()
    assert len(figure.axes[0].collections) == 4
    assert "<img" in tune._repr_html_() and "<audio" in tune._repr_html_()
    assert "█" in tune.__rich__().plain
    assert isinstance(tune.sound(), Audio)
    assert tune.about()["tracks"][0]["notes"][0][0] == 0
    for suffix in Score.suffixes:
        assert tune.save(tmp_path / f"x{suffix}").stat().st_size > 100


def test_the_log_keeps_a_figure_and_the_sound():
    class Board:
        def __init__(self):
            self.kept = []

        def add_figure(self, tag, figure, step):
            self.kept.append("figure")

        def add_audio(self, tag, waveform, step, rate):
            self.kept.append(waveform.shape[0])

    board = Board()
    make_tune(0).log(board, "x", 1)
    assert board.kept == ["figure", 1]


def test_the_page_has_a_view_of_it():
    from unisono.serve.page import view_of

    name, script = view_of(Score)
    assert script is not None
    assert name == "unisono_music.scores.view.js" and "export function create" in script.decode()
