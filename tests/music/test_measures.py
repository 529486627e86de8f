"""Measures of scores: each by hand, the three borders apart, evaluation and probe of a tiny model."""

import math

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError
from unisono_music.corpus.tunes import TuneData, make_tune
from unisono_music.measure.borders import Bigram, shuffled_bars
from unisono_music.measure.controls import asked_of
from unisono_music.measure.evaluate import evaluate, probe
from unisono_music.measure.likelihood import nats_per_step
from unisono_music.measure.measures import BETTER, Reference, lines, parallels
from unisono_music.scores import Grid, Note, Score, Track, features_of, grid_of


@pytest.fixture(scope="module")
def tunes():
    data = TuneData(num_items=60, val_size=12)
    data.prepare()
    return data


@pytest.fixture(scope="module")
def corpus(tunes):
    return [make_tune(number) for number in range(60)]


@pytest.fixture(scope="module")
def reference(tunes, corpus):
    return Reference.of(corpus, tunes.describe().voices, 16)


def voices(*rows):
    return Grid.of_pitches(np.array(rows))


def test_parallels_by_hand():
    assert parallels([voices([67, 69], [60, 62])]) == 100  # a fifth moves on
    assert parallels([voices([72, 74], [60, 62])]) == 100  # an octave
    assert parallels([voices([67, 72], [60, 60])]) == 0  # one voice moves
    assert parallels([voices([64, 65], [60, 62])]) == 0  # thirds
    assert parallels([voices([67, 67], [60, 60])]) == 0  # nothing moves
    assert parallels([voices([-1, 69], [60, 62])]) == 0
    assert parallels([]) == 0


def measured(reference, *rows):
    tracks = tuple(
        Track(str(i), tuple(Note(4 * at, 4, p) for at, p in enumerate(row) if p >= 0)) for i, row in enumerate(rows)
    )
    return reference.measure([Score(tracks, 4 * len(rows[0]))])


def test_crossings_dissonances_and_ranges_by_hand(reference):
    found = measured(reference, (72, 72, 60, 72), (64, 65, 65, 71), (60, 60, 60, 60), (48, 48, 48, 30))
    assert found["crossed voices"] == pytest.approx(1 / 12)
    assert found["dissonant beats"] == pytest.approx(1 / 4)  # B against C on the last
    assert found["pitches out of range"] == 4 * 3  # 60 (soprano), 64 (alto) and 30 (bass), a beat each


def test_copies_are_found_in_any_key_and_repeats_within_a_piece(reference, corpus):
    moved = corpus[3].to_dict()
    for track in moved["tracks"]:
        for note in track["notes"]:
            note[2] += 2
    found = reference.measure([Score.from_dict(moved)])
    assert found["bars of the corpus"] == 1 and found["nearest bar"] == 1
    twice = Score.join([corpus[0].cut(0, 16)] * 4)
    assert reference.measure([twice])["repeated bars"] == 0.75


def test_distances_of_the_corpus_from_itself_are_nothing(reference, corpus):
    found = reference.measure(corpus)
    assert found.keys() == BETTER.keys()
    assert all(found[name] == pytest.approx(0) for name in ("pitch classes", "melodic intervals", "durations"))
    assert found["pitches out of range"] == 0


def test_borders_are_told_apart(tunes, corpus, reference):
    held = [make_tune(number) for number in range(60, 72)]
    facts = tunes.describe()
    bigram = Bigram(corpus, facts)
    real = reference.measure(held)
    shuffled = reference.measure(shuffled_bars(held, facts))
    drawn = reference.measure([bigram.draw(score.num_steps, seed) for seed, score in enumerate(held)])
    assert shuffled["pitch classes"] == pytest.approx(real["pitch classes"])
    assert drawn["beats without a triad"] > real["beats without a triad"] + 0.1
    assert drawn["intervals between voices"] > real["intervals between voices"]
    assert drawn["pitches out of range"] == 0


def test_a_bigram_gives_its_own_pieces_what_it_counts(tunes):
    facts = tunes.describe()
    one = Score(tuple(Track(v.name, (Note(0, 8, v.lowest),)) for v in facts.voices), 8)
    bigram = Bigram([one], facts)
    wanted = 0.0
    for voice in facts.voices:
        n = voice.num_pitches + 1
        wanted -= math.log(1.1 / (1 + 0.1 * n)) + 7 * math.log(7.1 / (7 + 0.1 * n))
    assert bigram.nats_per_step([one]) == pytest.approx(wanted / 8)


def test_drums_are_left_out_and_chords_have_a_top_line():
    score = Score((Track("a", (Note(0, 4, 60), Note(0, 4, 64))), Track("kit", (Note(0, 4, 36),), 0, True)), 4)
    assert lines(score).pitch.tolist() == [[64] * 4]


def test_the_bound_of_a_model_that_knows_nothing_is_that_of_a_guess(grid, tunes):
    from unisono_music.models.grid import GridModel
    from unisono_music.models.sizes import GridSizes

    model = GridModel(max_bars=2, network=GridSizes(dim=8, num_layers=1, num_heads=2))
    model.build(tunes.describe())
    torch.nn.init.zeros_(model.net.to_logits.weight)
    torch.nn.init.zeros_(model.net.to_logits.bias)
    pieces = tunes.val_set.pieces
    wanted = sum(math.log(size) for size in model.coding.sizes)
    assert nats_per_step(model.eval(), pieces, draws=2) == pytest.approx(wanted, rel=0.03)  # sizes differ by voice
    given = nats_per_step(model, pieces, 0, draws=2)
    assert given == pytest.approx(wanted - math.log(model.coding.sizes[0]), rel=0.03)


def test_what_is_asked_of_features_is_read_back(grid):
    from unisono_music.models.request import read_request

    tune = make_tune(1)
    asked = asked_of(features_of(tune), grid.model.facts)
    read = read_request(grid.model.facts, grid.model.coding, grid.model.Request.parse(**asked))
    assert (read.chord[::4] - 1).tolist() == features_of(tune).chord.ravel().tolist()
    assert (read.density[::16] - 1).tolist() == features_of(tune).density.tolist()


def test_a_tiny_model_is_evaluated_and_probed(grid):
    data = TuneData(num_items=8, val_size=3)
    report = evaluate(grid, data, limit=2, num_steps=2)
    assert report.value("pitches out of range", "model") == 0
    assert str(report.value("frozen cells changed", "model")).startswith("0 of ")
    assert report.value("pitch classes", "shuffled") is not None
    assert 0 <= report.value("chord of a beat as asked", "model") <= 1
    assert math.isfinite(report.value("all voices, any order", "bigram"))
    asked = probe(grid, data, limit=2)
    made = grid([{**fields, "num_steps": 1} for fields in asked.requests])
    assert asked.measure(made).keys() == asked.better.keys()


def test_data_of_another_kind_are_refused(grid):
    with refused(DataError, code="conflict", path="data"):
        evaluate(grid, TuneData(num_voices=2, num_items=8))
    with refused(DataError, code="range", path="limit"):
        evaluate(grid, TuneData(), limit=0)
    assert grid_of(make_tune(0)).pitch.shape[0] == 4
