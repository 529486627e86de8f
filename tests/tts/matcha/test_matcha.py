"""Matcha: the flow's path and losses against the paper's formulas, and what holds of its speech for any weights."""

import itertools
import math

import numpy as np
import pytest
import torch
from unisono import Synthesizer
from unisono_tts.matcha.alignment import crops, prior_durations, prior_loss, prior_scores
from unisono_tts.matcha.sizes import FlowObjective

TEXT = "One small step for man."


@pytest.fixture(scope="module")
def model(make_voice, make_vocoder):
    made = make_voice("tts/matcha-tiny")
    made.attach("vocoder", make_vocoder())
    return made


@pytest.fixture(scope="module")
def say(model):
    """Return a function that says a text: the standardised mel of it."""

    def speak(*requests, text=TEXT, **fields):
        asked = [model.Request.parse(**{"text": text, "num_steps": 3, **fields, **one}) for one in requests or ({},)]
        readings = [reading for one in asked for reading in model.voice.read(one, 220)]
        lengths = torch.tensor([len(reading.ids) for reading in readings])
        rows = [torch.tensor(reading.ids) for reading in readings]
        with torch.inference_mode():
            spoken = model.say(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths, readings)
        mel = (spoken.mel - model.mel_mean) / model.mel_std
        return [row[:length] for row, length in zip(mel, spoken.alignment.tgt_lengths.tolist(), strict=True)]

    return speak


def make_batch(frames: tuple[int, int] = (90, 31)) -> dict:
    generator = torch.Generator().manual_seed(0)
    durations = torch.tensor([[10, 20, 5, 15, frames[0] - 50], [3, 8, frames[1] - 11, 0, 0]])
    mel = torch.randn(2, frames[0], 80, generator=generator)
    mel[1, frames[1] :] = 1e4  # what must not count
    return {
        "id": ["a", "b"],
        "row": torch.tensor([3, 8]),
        "symbols": torch.randint(1, 100, (2, 5), generator=generator),
        "durations": durations,
        "mel": mel,
        "speaker": torch.tensor([0, 1]),
        "symbol_lengths": torch.tensor([5, 3]),
        "mel_lengths": torch.tensor(frames),
    }


# ---- alignment by the prior ----------------------------------------------------------------------


def test_scores_are_those_of_unit_gaussians():
    mean, mel = torch.randn(2, 4, 6).double(), torch.randn(2, 7, 6).double()
    normal = torch.distributions.Normal(mean[:, None], 1.0)
    wanted = normal.log_prob(mel[:, :, None]).sum(-1)
    torch.testing.assert_close(prior_scores(mean, mel).double(), wanted, atol=1e-4, rtol=1e-5)
    loss = prior_loss(mean, mel[:, :4]).sum(-1)
    torch.testing.assert_close(-loss.double(), wanted[:, :4].diagonal(dim1=1, dim2=2), atol=1e-4, rtol=1e-5)


def test_durations_are_the_likeliest_of_all():
    mean, mel = torch.randn(1, 3, 4), torch.randn(1, 7, 4)
    scores = prior_scores(mean, mel)[0]
    found = prior_durations(mean, mel, torch.tensor([3]), torch.tensor([7]), ["x"])[0].tolist()

    def total(durations: tuple[int, ...]) -> float:
        owner = [symbol for symbol, count in enumerate(durations) for _ in range(count)]
        return float(sum(scores[frame, symbol] for frame, symbol in enumerate(owner)))

    every = [d for d in itertools.product(range(1, 6), repeat=3) if sum(d) == 7]
    assert total(tuple(found)) == pytest.approx(max(map(total, every)), abs=1e-4)


def test_crops_are_frames_of_the_item_and_all_of_a_short_one():
    lengths = torch.tensor([9, 4])
    x = torch.arange(18.0).reshape(2, 9, 1)
    starts = set()
    for seed in range(40):
        crop = crops(lengths, 6, [seed, seed])
        cut = crop.cut(x)[..., 0]
        starts.add(int(cut[0, 0]))
        assert torch.equal(cut[0], cut[0, 0] + torch.arange(6.0))
        assert torch.equal(cut[1, :4], x[1, :4, 0]) and not cut[1, 4:].any()
    assert starts == {0, 1, 2, 3}
    assert crops(torch.tensor([3, 2]), 6, [0, 1]).frames.shape == (2, 3)


# ---- losses --------------------------------------------------------------------------------------


def test_the_network_is_trained_on_the_paper_s_path(model, monkeypatch):
    """x = t'·mel + (1 − (1 − σ)·t')·ε and the answer mel − (1 − σ)·ε, with t' = 1 − t, and the answer's sign turned."""
    batch, sigma = make_batch(), 0.2
    monkeypatch.setattr(model, "objective", FlowObjective(sigma_min=sigma))
    seen = {}

    def field(x, time, condition, inside):
        seen.update(x=x, time=time)
        t = (1 - time)[:, None, None]
        mel = ((batch["mel"] - model.mel_mean) / model.mel_std) * inside[..., None]
        noise = (x - t * mel) / (1 - (1 - sigma) * t)
        return -(mel - (1 - sigma) * noise)

    monkeypatch.setattr(model.field, "forward", field)
    losses = model.losses(batch)
    assert float(losses["flow"]) < 1e-6
    assert float(seen["time"].min()) > 0 and float(seen["time"].max()) < 1
    assert not seen["x"][1, 31:].any()


@torch.no_grad()
def test_losses_are_means_over_what_is_there(model):
    batch = make_batch()
    losses = model.losses(batch)
    other = {**batch, "mel": batch["mel"].clone()}
    other["mel"][1, 31:] = -77.0
    for name, value in model.losses(other).items():
        torch.testing.assert_close(value, losses[name])
    assert float(losses["loss"]) == pytest.approx(sum(float(v) for k, v in losses.items() if k != "loss"), rel=1e-6)
    target, mean, _, alignment = model.aligned(batch)
    inside = alignment.tgt_mask[..., None].expand_as(target)
    wanted = 0.5 * ((target - mean)[inside].square().mean() + math.log(2 * math.pi))
    torch.testing.assert_close(losses["prior"], wanted)


def test_a_step_draws_the_same_for_an_item_wherever_it_stands(model):
    both, _ = model.drawn([5, 9], 12)
    other, _ = model.drawn([9], 12)
    assert torch.equal(both[1], other[0])


def test_learnt_durations_need_no_times(make_voice):
    model = make_voice("tts/matcha-tiny", given_durations=False)
    batch = make_batch()
    del batch["durations"]
    assert not any("aligner" in name for name in model.state_dict())
    assert all(value.isfinite() for value in model.losses(batch).values())
    _, _, _, alignment = model.aligned(batch)
    assert alignment.durations.sum(1).tolist() == [90, 31]
    assert (alignment.durations[alignment.src_mask] >= 1).all()


def test_teacher_forced_mels_have_the_recordings_lengths(model):
    assert [len(mel) for mel in model.teacher_forced(make_batch())] == [90, 31]


# ---- speech --------------------------------------------------------------------------------------


def test_no_temperature_draws_nothing_and_more_spreads(say):
    (first,), (second,) = say(seed=1, temperature=0.0), say(seed=2, temperature=0.0)
    assert torch.equal(first, second)
    spreads = []
    for temperature in (0.3, 0.667, 1.3):
        drawn = torch.stack([say(seed=seed, temperature=temperature)[0] for seed in range(4)])
        spreads.append(float(drawn.std(0).mean()))
    assert spreads == sorted(spreads) and spreads[0] > 0


def test_seeds_differ_and_repeat(say):
    (one,), (other,), (again,) = say(seed=1), say(seed=2), say(seed=1)
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_no_steps_say_the_mean(say, model):
    (mel,) = say(num_steps=0)
    reading = next(iter(model.voice.read(model.Request(text=TEXT), 220)))
    ids = torch.tensor([reading.ids])
    with torch.inference_mode():
        mean, log_duration = model.encode(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([0]))
        asked = model.asked([reading], ids.shape[1])
        alignment = model.lay(torch.expm1(log_duration).clamp(min=0), torch.tensor([ids.shape[1]]), asked, [reading])
    torch.testing.assert_close(mel, alignment.expand(mean)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", ["picard", "parareal"])
def test_a_parallel_solver_says_the_same(say, solver):
    (serial,), (other,) = say(num_steps=8), say(num_steps=8, solver=solver, tolerance=1e-4)
    assert (serial - other).abs().max() < 1e-2 * serial.abs().max()


def test_a_piece_alone_is_the_piece_in_a_batch_whatever_the_others_ask(say):
    asked = (
        {"seed": 1, "num_steps": 4},
        {"seed": 2, "text": "No.", "num_steps": 6, "solver": "picard", "speaker": "lj"},
        {"seed": 3, "text": "It is a much longer sentence than all the others here.", "num_steps": 0},
        {"seed": 4, "temperature": 0.1, "duration_temperature": 0.4},
    )
    together = say(*asked)
    for one, mel in zip(asked, together, strict=True):
        (alone,) = say(one)
        torch.testing.assert_close(alone, mel, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text", ["No.", "a", "Hm!", "I"])
def test_single_words_are_said(model, text):
    audio = Synthesizer(model)(text, num_steps=2)
    assert audio.words and audio.seconds > 0.05
    assert np.isfinite(audio.waveform).all()


def test_one_frame_is_enough(say, model):
    with torch.no_grad():
        bias = model.durations.out.bias.clone()
        model.durations.out.bias.fill_(-9.0)
    try:
        (mel,) = say(text="No.")
    finally:
        with torch.no_grad():
            model.durations.out.bias.copy_(bias)
    assert mel.shape == (1, 80) and mel.isfinite().all()


def test_a_duration_temperature_changes_the_rhythm_alone(say):
    plain = {len(say(seed=seed)[0]) for seed in range(4)}
    swung = {len(say(seed=seed, duration_temperature=0.5)[0]) for seed in range(4)}
    assert len(plain) == 1 < len(swung)


def test_speakers_differ(say):
    (one,), (other,) = say(speaker="kathleen", temperature=0.0), say(speaker="lj", temperature=0.0)
    size = min(len(one), len(other))
    assert (one[:size] - other[:size]).abs().max() > 1e-3


def test_streamed_speech_and_asked_pauses_are_as_of_every_voice(model):
    voice = Synthesizer(model)
    parts = list(voice.stream(f"{TEXT} [0.5s] {TEXT}", num_steps=2))
    assert len(parts) >= 2
    words = [segment for part in parts for segment in part.words]
    assert [word.label for word in words] == ["One", "small", "step", "for", "man"] * 2


def test_steps_and_rounds_are_counted(model):
    before, rounds = model.evaluations, model.rounds
    Synthesizer(model)(TEXT, num_steps=5)
    assert (model.evaluations - before, model.rounds - rounds) == (5, 5)
    Synthesizer(model)(TEXT, num_steps=20, solver="picard")
    assert model.rounds - rounds - 5 < 20 <= model.evaluations - before - 5
