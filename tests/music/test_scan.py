"""State-space models of voices: one evaluation, any split and any order write the same; their likelihoods are laws."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono import Synthesizer
from unisono.data import collate_items
from unisono.errors import DataError, RecipeError, RequestError
from unisono.recipe import Recipe
from unisono_music.corpus.facts import ScoreFacts, Voice
from unisono_music.corpus.stored import PADDING
from unisono_music.models.scan.bounds import (
    WINDOW,
    blockwise,
    exact,
    importance,
    log_weights,
    particle_estimate,
    windows,
)
from unisono_music.models.scan.evaluate import evaluate
from unisono_music.models.scan.network import cost
from unisono_music.models.scan.request import VSSMRequest, asked
from unisono_music.models.scan.sizes import Beginnings, LatentSpec, ScanSizes
from unisono_music.models.scan.ssm import SSM
from unisono_music.models.scan.steps import PLACES, Steps, read_steps, whole_bars
from unisono_music.models.scan.vssm import VSSM
from unisono_music.scores import Score

BEGINNING = [("soprano", 0, 8, 72), ("alto", 4, 15, 65), ("bass", 0, 19, 50)]


def make(name: str, *arguments: str) -> Synthesizer:
    recipe = Recipe.read(f"music/{name}-tiny", list(arguments))
    data = recipe.build_data()
    data.prepare(progress=False)
    model = recipe.build_model(data.describe()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    model.data = data
    return Synthesizer(model)


@pytest.fixture(scope="module")
def vssm() -> Synthesizer:
    return make("vssm")


@pytest.fixture(scope="module")
def ssm() -> Synthesizer:
    return make("ssm")


@pytest.fixture(scope="module", params=["vssm", "ssm"])
def either(request, vssm, ssm) -> Synthesizer:
    return {"vssm": vssm, "ssm": ssm}[request.param]


def batch_of(synthesizer: Synthesizer) -> dict:
    return next(iter(synthesizer.model.data.val_dataloader()))


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_a_vssm_writes_in_one_evaluation_and_an_ssm_in_one_for_each_step(vssm, ssm):
    for synthesizer, expected in ((vssm, 1), (ssm, 48)):
        before = synthesizer.model.evaluations
        synthesizer(bars=3)
        assert synthesizer.model.evaluations - before == expected
    before = vssm.model.evaluations
    vssm(bars=3, block_bars=1)
    assert vssm.model.evaluations - before == 5  # three blocks, and two of them read again
    before = ssm.model.evaluations
    ssm(notes=BEGINNING, bars=3)
    assert ssm.model.evaluations - before == 1 + 48 - 19  # the beginning at once


def test_bars_as_they_come_are_the_whole(either):
    for fields in ({"bars": 5, "seed": 3}, {"bars": 4, "notes": BEGINNING}):
        assert Score.join(list(either.stream(**fields))).tracks == either(**fields).tracks


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, 63), max_size=4), begun=st.booleans())
def test_resumed_at_any_step_it_writes_the_same(vssm, ssm, cuts, begun):
    for model in (vssm.model, ssm.model):
        request = model.Request(bars=4, seed=5, notes=BEGINNING if begun else None)
        row = asked(request, model.facts, model.coding)
        whole = model.writer([request], [row], [5])
        pieces = model.writer([request], [row], [5])
        for stop in whole.stops:
            whole.advance(stop)
        for stop in sorted({*cuts, 64}):
            pieces.advance(stop)
        assert torch.equal(whole.steps.tokens, pieces.steps.tokens)


@settings(max_examples=15, deadline=None)
@given(split=st.integers(1, 47), method=st.sampled_from(["convolution", "scan", "recurrence"]))
def test_the_decoder_in_float32_goes_on_where_it_stopped(vssm, split, method):
    model = vssm.model
    latents = torch.randn(2, 48, model.latents.dim, generator=torch.Generator().manual_seed(0))
    place, bar = whole_bars(48, 16)
    steps = Steps(
        torch.zeros(2, 48, 4, dtype=torch.int64), place.expand(2, -1), bar.expand(2, -1), torch.tensor([48, 48])
    )
    none = torch.zeros(2, 48, dtype=torch.bool)
    with torch.no_grad():
        whole = model.decoder(latents, steps, none)
        first, states = model.decoder.resume(
            latents[:, :split], steps.cut(0, split), none[:, :split], model.decoder.stack.begin(2), method
        )
        second, _ = model.decoder.resume(latents[:, split:], steps.cut(split, 48), none[:, split:], states, method)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-5, atol=1e-5)


def test_alone_is_as_in_a_batch_of_other_lengths(either):
    requests = [
        {"bars": 2, "seed": 1},
        {"bars": 7, "seed": 2, "notes": BEGINNING},
        {"bars": 3, "seed": 3, "temperature": 0.5},
        {"bars": 4, "seed": 4},
    ]
    together = either(requests)
    assert together == [either(**request) for request in requests]
    assert either(requests[::-1]) == together[::-1]


def test_a_seed_replays_and_another_one_does_not(either):
    assert either(bars=3, seed=9) == either(bars=3, seed=9) != either(bars=3, seed=10)


def test_what_is_written_before_does_not_hang_on_what_comes_after(vssm):
    """The decoder is causal, and a beginning is read instead of latents."""
    model = vssm.model
    place, bar = whole_bars(32, 16)
    latents = torch.randn(1, 32, model.latents.dim, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 20, (1, 32, 4), generator=torch.Generator().manual_seed(1))
    steps = Steps(tokens, place[None], bar[None], torch.tensor([32]))
    known = torch.arange(32)[None] < 10
    with torch.no_grad():
        base = model.decoder(latents, steps, known)
        other = latents.clone()
        other[:, :10] += 1
        assert torch.equal(model.decoder(other, steps, known), base)
        other = latents.clone()
        other[:, 20] += 1
        moved = (model.decoder(other, steps, known) - base).nan_to_num().abs().amax((0, 2, 3))
        assert moved[:20].max() < 1e-5 and moved[20] > 1e-4
        changed = replace(steps, tokens=tokens.clone())
        changed.tokens[:, 5] += 1
        moved = (model.decoder(latents, changed, known) - base).nan_to_num().abs().amax((0, 2, 3))
        assert moved[:5].max() < 1e-5 and moved[10:].max() > 1e-4
        changed.tokens[:, 5], changed.tokens[:, 25] = tokens[:, 5], tokens[:, 25] + 1
        assert torch.equal(model.decoder(latents, changed, known), base)


def test_no_voice_leaves_its_range(either):
    for voice, track in zip(either.model.facts.voices, either(bars=6, temperature=3.0).tracks, strict=True):
        assert all(voice.lowest <= note.pitch <= voice.highest for note in track.notes)


def test_a_beginning_stands_as_loud_as_it_was(either, tmp_path):
    score = either(bars=2, seed=1)
    tracks = [replace(track, notes=tuple(replace(n, velocity=33) for n in track.notes)) for track in score.tracks]
    path = replace(score, tracks=tuple(tracks)).save(tmp_path / "begun.json")
    made = either(score=str(path), bars=4)
    assert all(n.velocity == 33 for track in made.tracks for n in track.notes if n.onset < 32)
    assert grid_tokens(either, made)[:32].tolist() == grid_tokens(either, score).tolist()
    assert len(either(score=str(path)).bars) == 10  # 8 beyond the beginning


def grid_tokens(synthesizer, score):
    from unisono_music.scores import grid_of

    return synthesizer.model.coding.encode(grid_of(score))


# ---- likelihoods -----------------------------------------------------------------------------------------------------


def small(model):
    """Two voices of two pitches: 3 tokens each, so that all pieces of 2 steps can be counted."""
    torch.manual_seed(0)
    model.build(
        ScoreFacts(
            voices=(Voice(name="a", lowest=60, highest=61), Voice(name="b", lowest=50, highest=51)), repeats=False
        )
    )
    return model.eval()


def all_pieces() -> Steps:
    tokens = torch.tensor(list(itertools.product(range(3), repeat=4))).view(81, 2, 2)
    place, bar = whole_bars(2, 16)
    return Steps(tokens, place.expand(81, -1), bar.expand(81, -1), torch.full((81,), 2))


@torch.no_grad()
def test_an_ssms_chances_of_all_pieces_sum_to_one_and_are_what_it_draws():
    model, steps = small(SSM(network=ScanSizes(dim=8, num_layers=1, state_dim=4))), all_pieces()
    chances = (-cost(model.net(steps), steps.tokens).sum(1)).exp()
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
    rows = [asked(model.Request(bars=1), model.facts, model.coding)] * 4000
    writer = model.writer([model.Request(bars=1)], rows, list(range(4000)))
    writer.advance(2)
    drawn = torch.tensor([27, 9, 3, 1]) * writer.steps.tokens[:, :2].flatten(1)
    counts = torch.bincount(drawn.sum(1), minlength=81) / 4000
    # four standard errors of 4,000 draws, and what is told of 2 steps of a bar is told of the bar
    assert (counts - chances).abs().max() < 0.03


@torch.no_grad()
def test_a_vssms_bounds_are_below_its_own_chances():
    """log p by very many draws of the prior, for each of all pieces; the bounds of few draws stay below on average."""
    sizes = ScanSizes(dim=8, num_layers=1, state_dim=4)
    model, steps = small(VSSM(encoder=sizes, decoder=sizes, latents=LatentSpec(dim=2))), all_pieces()
    model.encoder.head.out.weight.mul_(0.2)
    model.encoder.head.out.bias[2:] = 0.5  # wider than the prior, so that weights have a mean to come to
    for parameter in model.decoder.parameters():
        parameter *= 2
    total = torch.zeros(81, dtype=torch.float64)
    none = torch.zeros(2000, 2, dtype=torch.bool)
    latents = torch.randn(2000, 2, 2, generator=torch.Generator().manual_seed(0))
    for number in range(81):
        own = Steps(
            *(
                getattr(steps, name)[number : number + 1].expand(2000, *[-1] * (getattr(steps, name).ndim - 1))
                for name in ("tokens", "place", "bar")
            ),
            length=torch.full((2000,), 2),
        )
        total[number] = (-cost(model.decoder(latents, own, none), own.tokens).sum(1)).double().exp().mean()
    assert float(total.sum()) == pytest.approx(1, abs=1e-5)  # the same latents for all: exactly a law
    weights = log_weights(model, steps, 256, 0).double()
    one, many = weights.mean(0), weights.logsumexp(0) - math.log(256)
    assert float((total.log() - one).mean()) > float((total.log() - many).mean()) - 1e-3
    assert float((one - total.log()).max()) < 0.1
    kept = Steps(steps.tokens[7:8], steps.place[7:8], steps.bar[7:8], steps.length[7:8])
    estimates = torch.stack([particle_estimate(model, kept, 32, seed) for seed in range(20)])
    assert float(estimates.exp().mean()) == pytest.approx(float(total[7]), rel=0.15)


@torch.inference_mode()
def test_bounds_of_windows_are_those_of_the_losses(vssm):
    model = vssm.model
    pieces = [piece for piece in model.data.val_set.pieces if piece.num_bars <= WINDOW]
    (steps,) = windows(pieces, model.facts, model.device)
    one = importance(model, pieces, (1, 16))
    assert one[16] < one[1]
    assert blockwise(model, pieces, WINDOW, draws=16) == pytest.approx(one[1], rel=0.02)
    alone = sum(importance(model, [piece], (1,))[1] for piece in pieces)
    assert alone == pytest.approx(one[1], rel=0.05)  # other draws
    assert int(steps.length.sum()) == sum(piece.num_steps for piece in pieces)


@torch.inference_mode()
def test_the_loss_of_an_ssm_is_the_exact_cost(ssm):
    model, batch = ssm.model, batch_of(ssm)
    total = float(model.losses(batch)["loss"]) * int(batch["steps"].sum())
    pieces = model.data.val_set.pieces
    assert exact(model, pieces) == pytest.approx(total, rel=1e-4)
    assert float(model.losses(batch)["bits_per_cell"]) == pytest.approx(
        total / int(batch["steps"].sum()) / 4 / math.log(2), rel=1e-4
    )


@torch.inference_mode()
def test_the_losses_of_a_vssm_are_those_of_its_items(vssm):
    model, batch = vssm.model, batch_of(vssm)
    told = model.losses(batch)
    assert float(told["nats_per_step"]) == pytest.approx(float(told["nll"] + told["kl"]), rel=1e-6)
    nll = kl = 0.0
    for number, steps in enumerate(batch["steps"].tolist()):
        alone = {name: value[number : number + 1] for name, value in batch.items()}
        own = model.losses(alone)
        nll, kl = nll + float(own["nll"]) * steps, kl + float(own["kl"]) * steps
    total = int(batch["steps"].sum())
    assert float(told["nll"]) == pytest.approx(nll / total, rel=1e-4)
    assert float(told["kl"]) == pytest.approx(kl / total, rel=1e-4)


def test_collapsed_latents_are_told():
    """An encoder that says N(0, 1) of everything tells nothing: no number of the latents is active."""
    model = make("vssm").model
    with torch.no_grad():
        model.encoder.head.out.weight.zero_()
        model.encoder.head.out.bias.zero_()
        parts = model.losses(batch_of(Synthesizer(model)))
    assert float(parts["active"]) == 0 and float(parts["kl"]) == 0
    assert float(parts["loss"]) == pytest.approx(float(parts["nll"]) + 4 * 0.1, rel=1e-5)  # the free nats


def test_the_price_of_latents_rises(vssm, monkeypatch):
    model = make("vssm", "--model.latents.warmup_steps=4").model
    for step, price in ((0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)):
        monkeypatch.setattr(type(model), "global_step", step)
        model.train()
        assert model.price() == price
        assert model.eval().price() == 1.0


def test_beginnings_of_training_lie_within_their_items(vssm):
    model = make("vssm").model.train()
    steps = read_steps(batch_of(vssm), model.facts, model.device)
    kinds = set()
    for draw in range(40):
        given, seen = model.parts(steps, [100 * draw + row for row in range(len(steps.length))])
        assert (given <= seen).all() and (seen <= steps.mask).all()
        assert ((seen & ~given).sum(1) >= 1).all()  # each item has something to be written
        for row in range(len(given)):
            kinds.add((bool(given[row].any()), bool((seen[row] != steps.mask[row]).any())))
    assert kinds == {(False, False), (True, False), (True, True)}
    given, seen = model.eval().parts(steps, [0] * len(steps.length))
    assert not given.any() and torch.equal(seen, steps.mask)


# ---- what is told of steps -------------------------------------------------------------------------------------------


def test_places_of_a_request_are_those_of_a_piece(vssm):
    """A piece that is read from the data stands as the same bars that are asked for."""
    model = vssm.model
    piece = model.data.val_set.pieces[0]
    item = {**piece.item(), "begins": True, "ends": True}
    steps = read_steps(collate_items([item], PADDING), model.facts, model.device)
    place, bar = whole_bars(piece.num_steps, model.facts.steps_per_bar)
    assert torch.equal(steps.place[0], place) and torch.equal(steps.bar[0], bar)
    assert bar[0] >= PLACES // 2 and bar[-1] in (0, PLACES // 2) and (place == np.arange(piece.num_steps) % 16).all()
    middle = whole_bars(48, 16, begins=False, ends=False)[1]
    assert middle.unique().tolist() == [2]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"notes": BEGINNING, "bars": 1}, "conflict", "bars"),
        ({"notes": [("soprano", 0, 4, 20)]}, "range", "notes"),
        ({"notes": [("piano", 0, 4, 60)]}, "unknown", "notes"),
        ({"notes": BEGINNING, "score": "x.mid"}, "conflict", "notes"),
        ({"bars": 0}, "range", "bars"),
        ({"temperature": -1}, "range", "temperature"),
        ({"chords": ["C"]}, "unknown", "chords"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(either, fields, code, path):
    with pytest.raises(RequestError) as caught:
        either(**fields)
    assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (lambda: ScanSizes(dim=0), "model.dim"),
        (lambda: ScanSizes(state_dim=3), "model.state_dim"),
        (lambda: ScanSizes(dropout=1.0), "model.dropout"),
        (lambda: ScanSizes(num_layers=2, selective=3), "model.selective"),
        (lambda: LatentSpec(dim=0), "model.latents.dim"),
        (lambda: LatentSpec(free_nats=-1), "model.latents.free_nats"),
        (lambda: Beginnings(share=1.5), "model.beginnings.share"),
        (lambda: VSSM(encoder=ScanSizes(selective=1)), "model.encoder.selective"),
    ],
)
def test_sizes_that_are_none_are_refused(made, path):
    with pytest.raises(RecipeError) as caught:
        made()
    assert caught.value.path == path


def test_several_notes_at_once_are_refused(vssm):
    with pytest.raises(DataError) as caught:
        VSSM().build(replace(vssm.model.facts, polyphonic=True))
    assert (caught.value.code, caught.value.path) == ("conflict", "data.midi.at_once")


def test_a_rival_of_another_kind_is_refused(vssm, grid, tmp_path):
    with pytest.raises(RecipeError) as caught:
        evaluate(vssm, vssm.model.data, limit=1, against=[str(export(grid, tmp_path / "grid"))])
    assert (caught.value.code, caught.value.path) == ("type", "--against")


# ---- evaluation ------------------------------------------------------------------------------------------------------


def export(synthesizer, path):
    from unisono.export import save_export

    synthesizer.model.recipe = synthesizer.model.recipe or {}
    save_export(synthesizer.model, path)
    return path


def test_a_vssm_is_measured_beside_an_ssm(vssm, ssm, tmp_path):
    report = evaluate(vssm, vssm.model.data, limit=2, against=[str(export(ssm, tmp_path / "ssm"))])
    notes = report.value("of a note, of which a voice holds one pitch", "model")
    assert report.value("bound, 64 draws", "model") == pytest.approx(notes)
    assert notes < report.value("bound, one draw", "model")
    assert report.value("bound, 64 particles", "model") > 0 < report.value("bound, one draw, blocks of 1 bar", "model")
    assert report.value("of a voice of a step", "ssm") > 0 and report.value("bound, 64 draws", "ssm") is None
    assert report.value("evaluations for 8 bars", "model") == 1
    assert VSSMRequest(block_bars=2).block_bars == 2
