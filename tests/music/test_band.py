"""music/band as a model: its losses by hand, what requests ask and what is refused, and faults that others had."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from unisono import Synthesizer
from unisono.errors import DataError, RequestError
from unisono.recipe import Recipe
from unisono_music.corpus.data import score_of_rows
from unisono_music.corpus.stored import Stored
from unisono_music.models.band.band import Band
from unisono_music.models.band.compose import Written
from unisono_music.models.band.controls import control_kinds, controls_of, withheld
from unisono_music.models.band.evaluate import evaluate, nats_per_step
from unisono_music.models.band.request import BandRequest, asked, bars_of
from unisono_music.scores import CHORDS, OTHER, Note, Score, Track, chord_number, features_of, grid_of


@pytest.fixture(scope="module")
def band() -> Synthesizer:
    return make()


def make(**fields) -> Synthesizer:
    recipe = Recipe.read("music/band-tiny", [f"--model.{name}={value}" for name, value in fields.items()])
    data = recipe.build_data()
    data.prepare(progress=False)
    model = recipe.build_model(data.describe())
    model.data = data
    return Synthesizer(model)


def batch_of(synthesizer: Synthesizer) -> dict:
    return next(iter(synthesizer.model.data.val_dataloader()))


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_nats_per_step_is_the_cost_of_all_words_by_steps(band):
    model, batch = band.model, batch_of(band)
    model.eval()
    with torch.no_grad():
        told = model.losses(batch)
        total, words = 0.0, 0
        for number in range(len(batch["steps"])):
            alone = {name: value[number : number + 1] for name, value in batch.items()}
            pieces = model.pieces(alone)
            cost = model.cost(pieces, model.measured(alone)[:, :, : pieces.kept.shape[1]])
            total, words = total + float(cost.sum()), words + int(pieces.there.sum())
    assert float(told["nats_per_step"]) == pytest.approx(total / int(batch["steps"].sum()), rel=1e-5)
    assert float(told["words"]) == pytest.approx(total / words, rel=1e-5)


def test_a_score_of_its_own_words_is_the_piece(band):
    """Words to notes to words, through the model's own batch and score."""
    model, batch = band.model, batch_of(band)
    pieces = model.pieces(batch)
    for number, steps in enumerate(batch["steps"].tolist()):
        rows = [
            [0, *targets[there].tolist()]
            for targets, there in zip(pieces.targets[:, number], pieces.there[:, number], strict=True)
        ]
        made = model.score(Written(tuple(map(tuple, rows)), 1), steps)
        notes = [
            (track, note.onset, note.duration, note.pitch)
            for track, own in enumerate(made.tracks)
            for note in own.notes
        ]
        given = batch["notes"][number]
        assert notes == [tuple(row[:4]) for row in given.tolist() if row[0] >= 0]


def test_what_a_model_without_controls_knows_is_its_words_alone():
    plain = make(features="false", cross_track="false")
    model, batch = plain.model, batch_of(plain)
    pieces = model.pieces(batch)
    with torch.no_grad():
        first = model.cost(pieces, model.measured(batch))
        second = model.cost(pieces, torch.zeros_like(model.measured(batch)))
    assert torch.equal(first, second) and model.coder is None
    with pytest.raises(RequestError) as caught:
        plain(chords="C | F")
    assert (caught.value.code, caught.value.path) == ("unsupported", "chords")


def test_codes_reach_the_band_and_send_it_no_gradient(band):
    model, batch = band.model, batch_of(band)
    pieces = model.pieces(batch)
    coded = model.coded(pieces, model.measured(batch))
    assert coded[..., -2:].min() >= 1 and torch.equal(coded[..., :-2], model.measured(batch)[..., :-2])
    model.zero_grad()
    model.cost(pieces, coded).sum().backward()
    assert all(value.grad is None for value in model.coder.parameters())
    model.zero_grad()


def test_tracks_of_several_notes_at_once_are_refused(band):
    with pytest.raises(DataError) as caught:
        Band().build(replace(band.model.facts, polyphonic=True))
    assert (caught.value.code, caught.value.path) == ("unsupported", "polyphonic")


def test_a_batch_is_learnt_by_heart():
    """Everything that a piece is made of can be heard: words, controls, and what other tracks have written."""
    model = make(**{"network.dim": 32, "network.same_bar": 2.0, "structure": "sum"}).model.train()
    batch = next(iter(model.data.train_dataloader()))
    pieces, controls = model.pieces(batch), model.measured(batch)
    optimizer = torch.optim.AdamW(model.net.parameters(), lr=5e-3)
    cost = torch.tensor(torch.inf)
    for _ in range(60):
        cost = model.cost(pieces, controls).sum() / pieces.there.sum()
        cost.backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert cost.item() < 0.1  # of 2.2 nats a word at first


# ---- requests --------------------------------------------------------------------------------------------------------


def test_what_is_asked_is_what_would_be_measured(band):
    """A request with the features of a piece gives the controls that the piece would be trained with."""
    facts = band.model.facts
    model, batch = band.model, batch_of(band)
    bars = int((batch["bars"][0] >= 0).sum()) - 1
    names = [voice.name for voice in facts.voices]
    chords = "|".join(" ".join(CHORDS[number] for number in row) for row in batch["chord"][0, :bars].tolist())

    def by_track(name: str) -> dict:
        rows = batch[name][0, :bars].T.tolist()
        return {
            track: [None if np.isnan(value) else value for value in row] for track, row in zip(names, rows, strict=True)
        }

    request = BandRequest(
        chords=chords,
        density=by_track("density"),
        mean_pitch=by_track("pitch"),
        mean_duration=by_track("duration"),
    )
    assert torch.equal(asked(request, bars, facts, 2), model.measured(batch)[:, 0, :bars].cpu())


def test_chords_of_a_bar_share_its_beats_and_open_ones_are_open(band):
    facts = band.model.facts
    controls = asked(BandRequest(chords="C | F Gm | ? | A ? Bb other"), 5, facts, 0)[0, :, :4].tolist()
    c, f, gm, a, bb = (1 + chord_number(name) for name in ("C", "F", "Gm", "A", "Bb"))
    assert controls == [[c] * 4, [f, f, gm, gm], [0] * 4, [a, 0, bb, 1 + OTHER], [0] * 4]
    listed = asked(BandRequest(chords=["C", "F Gm", "", "A ? Bb other"]), 5, facts, 0)[0, :, :4].tolist()
    assert listed == controls


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"chords": "C | H"}, "unknown", "chords"),
        ({"chords": "C F G"}, "shape", "chords"),
        ({"chords": "C | F | G", "bars": 2}, "conflict", "chords"),
        ({"chords": ["C", "H"]}, "unknown", "chords"),
        ({"bars": 7}, "limit", "bars"),
        ({"density": {"kazoo": 4}}, "unknown", "density"),
        ({"density": {"soprano": [4, 4]}, "bars": 3}, "shape", "density"),
        ({"density": {"soprano": 17}}, "range", "density.soprano.constrained-float"),
        ({"mean_pitch": {"soprano": 20}}, "range", "mean_pitch"),
        ({"like": "nowhere.mid"}, "missing", "like"),
    ],
)
def test_what_cannot_be_asked_is_refused(band, fields, code, path):
    with pytest.raises(RequestError) as caught:
        band(**fields)
    assert (caught.value.code, caught.value.path) == (code, path)


def test_a_score_of_other_tracks_or_pitches_is_not_followed(band, tmp_path):
    one = Score((Track("a", (Note(0, 4, 72),)),), 16).save(tmp_path / "one.json")
    low = Score((Track("a", (Note(0, 4, 20),)), Track("b")), 16).save(tmp_path / "low.json")
    for path, code in ((one, "shape"), (low, "range")):
        with pytest.raises(RequestError) as caught:
            band(like=str(path))
        assert (caught.value.code, caught.value.path) == (code, "like")


def test_a_score_that_is_followed_gives_its_codes(band, tmp_path):
    model, batch = band.model, batch_of(band)
    score = model.data.val_set.pieces[int(batch["row"][0])]
    path = score_of_rows(batch["notes"][0], int(batch["steps"][0]), model.facts).save(tmp_path / "it.mid")
    plan = model.plan(BandRequest(like=str(path), bars=score.num_bars), 0)
    coded = model.coded(model.pieces(batch), model.measured(batch))[:, 0, : score.num_bars]
    assert torch.equal(plan.controls[..., -2:], coded[..., -2:].cpu()) and not plan.controls[..., :-2].any()


def test_length_tempo_and_bars_are_as_asked(band):
    made = band(chords="C | F", bars=3, bpm=80)
    assert (made.num_steps, made.tempos[0].bpm, len(made.bars)) == (48, 80, 3)
    assert [track.name for track in made.tracks] == [voice.name for voice in band.model.facts.voices]
    assert bars_of(BandRequest(), 6) == 6 and bars_of(BandRequest(chords="C|F"), 6) == 2


def test_no_pitch_leaves_its_range(band):
    made = band([{"bars": 6, "seed": seed, "temperature": 10.0} for seed in range(3)])
    for score in made:
        for voice, row in zip(band.model.facts.voices, grid_of(score).pitch, strict=True):
            sounding = row[row >= 0]
            assert sounding.size and voice.lowest <= sounding.min() and sounding.max() <= voice.highest


# ---- faults that others had ------------------------------------------------------------------------------------------


def measured(score: Score, facts) -> torch.Tensor:
    own = features_of(score)
    arrays = (own.chord, own.density, own.pitch, own.duration)
    return controls_of(*(array[None] for array in arrays), facts)[:, 0]


def test_controls_of_a_bar_do_not_know_the_next(band):
    facts = band.model.facts
    top, low = facts.voices[0].lowest, facts.voices[1].lowest
    before = (Track("a", (Note(0, 8, top), Note(8, 8, top + 2))), Track("b", (Note(0, 16, low),)))
    after = (
        Track("a", (*before[0].notes, Note(16, 4, top + 5))),
        Track("b", (*before[1].notes, Note(16, 16, low + 7))),
    )
    assert torch.equal(measured(Score(before, 32), facts)[:, 0], measured(Score(after, 32), facts)[:, 0])


def test_an_empty_bar_has_no_notes_and_nothing_else_is_said_of_it(band):
    facts = band.model.facts
    held = Track("a", (Note(0, 24, facts.voices[0].lowest),))
    controls = measured(Score((held, Track("b")), 48), facts)
    density, rest = controls[..., 4], controls[..., 5:]
    assert density.tolist() == [[2, 1, 1], [1, 1, 1]]  # one note begins in the first bar, none after it
    assert rest[1].tolist() == [[0, 0]] * 3  # a track that rests has neither pitch nor duration
    assert rest[0, 1].tolist()[1] == 0 and rest[0, 1].tolist()[0] > 0  # a held note sounds, and none begins


def test_transposing_moves_chords_and_keeps_density():
    tune = Stored.of("a", Score((Track("a", (Note(0, 16, 60), Note(0, 16, 64), Note(0, 16, 67))),), 16))
    moved = tune.transposed(2)
    assert moved.features.chord.tolist() == [[chord_number("D")] * 4]
    assert np.array_equal(moved.features.density, tune.features.density)


def test_controls_are_withheld_by_kind_and_chords_from_all_tracks_at_once(band):
    kinds = control_kinds(band.model.facts, band.model.codes)
    full = torch.ones(2, 64, 6, len(kinds), dtype=torch.int64)
    generators = [torch.Generator().manual_seed(number) for number in range(64)]
    left = withheld(full, kinds, 0.4, generators)
    assert torch.equal(left[0, ..., :4], left[1, ..., :4])
    gone = (left == 0).all(2).all(0).float().mean(0)  # share of the pieces in which a control is never given
    assert gone[0] == gone[3] and 0.25 < gone[0] < 0.55 and 0.25 < gone[4] < 0.55 and 0.35 < gone[-1] < 0.65
    again = [torch.Generator().manual_seed(number) for number in range(64)]
    assert torch.equal(withheld(full, kinds, 0.0, again), full)


# ---- evaluation and streams ------------------------------------------------------------------------------------------


def test_a_report_has_costs_depth_and_controls_of_pieces_cut_to_what_the_model_writes():
    short = make(max_bars=2)
    report = evaluate(short, short.model.data, limit=2)
    assert report.value("pitches out of range", "model") == 0
    assert 1 / 2 <= report.value("evaluations that wait for one another, by words", "model") <= 1
    assert report.facts["bars"] <= 4
    pieces = short.model.data.val_set.pieces
    found = nats_per_step(short.model, pieces)
    assert report.value("told controls", "model") == pytest.approx(found["controls"], rel=1e-4)
    assert {"chord of a beat as asked", "notes in a bar off"} <= {r.measure for s in report.sections for r in s.rows}


def test_a_stream_has_a_piece_for_each_bar_and_is_the_whole(band):
    pieces = list(band.stream(chords="C | F | G", temperature=3.0))
    assert [len(piece.bars) for piece in pieces] == [1, 1, 1]
    assert Score.join(pieces).tracks == band(chords="C | F | G", temperature=3.0).tracks
