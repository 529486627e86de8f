"""Training of StyleTTS: what each stage learns and leaves alone, and whose batches are whose."""

import math

import numpy as np
import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import CheckpointError, RecipeError
from unisono.export import export_run, find_training_state, read_training_state
from unisono.recipe import Recipe
from unisono.train import train
from unisono_tts.styletts.training import MEMORY


def short_batch(make_batch, model, **kwargs):
    return make_batch(num_symbols=len(model.voice.symbols), **kwargs)


def values(parts):
    return {name: float(value) for name, value in parts.items()}


@pytest.fixture
def at_step(monkeypatch, make_styled):
    """Return a function that makes a model in training at a step."""

    def make(step, *overrides, **facts):
        model = make_styled(*overrides, **facts).train()
        monkeypatch.setattr(type(model), "global_step", property(lambda self: step))
        return model

    return make


@pytest.mark.parametrize("step", [0, 5])
@torch.no_grad()
def test_losses_of_a_batch_are_means_over_frames_and_padding_is_ignored(at_step, make_batch, take_alone, step):
    """In either stage, in validation, where nothing is drawn."""
    model = at_step(step).eval()
    batch = short_batch(make_batch, model, junk=1e4)
    together = values(model.losses(batch))
    assert ("duration" in together) == (step == 5)
    frames, symbols = batch["mel_lengths"].double(), batch["symbol_lengths"].double()
    sums = dict.fromkeys(together, 0.0)
    for row in range(2):
        for name, value in values(model.losses(take_alone(batch, row))).items():
            counts = symbols if name == "duration" else frames
            sums[name] += value * float(counts[row] / counts.sum())
    for name in together.keys() - {"loss"}:
        assert together[name] == pytest.approx(sums[name], rel=1e-4), name
    weighed = [getattr(model.objective, name) * value for name, value in together.items() if name != "loss"]
    assert together["loss"] == pytest.approx(sum(weighed), rel=1e-5)


def test_the_coin_is_fair_replayable_and_of_the_recipes_seed(at_step):
    model = at_step(0)

    def falls(seed):
        model.recipe = {"seed": seed}
        result = []
        for step in range(400):
            type(model).global_step = property(lambda self, step=step: step)
            result.append(model.reads_posterior)
        return result

    first = falls(1)
    assert first == falls(1) and first != falls(2)
    assert 160 < sum(first) < 240
    assert not any(model.eval().reads_posterior for _ in range(3))


def coin_steps(model):
    """A step at which the decoder reads the posterior, and one at which it reads the path."""
    found = {}
    for step in range(100):
        type(model).global_step = property(lambda self, step=step: step)
        found.setdefault(model.reads_posterior, step)
    return found[True], found[False]


LATE = ("--model.schedule.prosody_start=1000", "--model.schedule.mono_start=50")


def test_the_decoder_reads_the_posterior_or_its_path(at_step, make_batch, monkeypatch):
    model = at_step(0, *LATE, given_durations=False)
    batch = short_batch(make_batch, model)
    soft_step, hard_step = coin_steps(model)
    made = {}
    for step in (soft_step, hard_step):
        type(model).global_step = property(lambda self, step=step: step)
        monkeypatch.setattr(model, "row_seeds", lambda batch: [3, 4])
        made[step] = model.make(batch)
        torch.testing.assert_close(made[step].real, made[soft_step].real)
    assert (made[soft_step].fake - made[hard_step].fake).abs().max() > 1e-4
    assert {"align", "mel"} == made[soft_step].parts.keys()


def test_before_tma_mels_teach_the_aligner_nothing_and_then_they_do(at_step, make_batch):
    model = at_step(0, *LATE, given_durations=False)
    batch = short_batch(make_batch, model)
    aligner = list(model.net.aligner.parameters())
    steps = {}
    for step in range(100):
        type(model).global_step = property(lambda self, step=step: step)
        if model.reads_posterior:
            steps.setdefault(step >= 50, step)
    for late, step in steps.items():
        type(model).global_step = property(lambda self, step=step: step)
        made = model.make(batch)
        grads = torch.autograd.grad(made.parts["mel"], aligner, allow_unused=True)
        assert any(g is not None and g.abs().max() > 0 for g in grads) == late
        assert ("mono" in made.parts) == late


def test_the_aligner_alone_is_taught_at_first(at_step, make_batch):
    model = at_step(1, "--model.schedule.align_steps=2", "--model.schedule.prosody_start=9", given_durations=False)
    assert model.pretrain_steps == 2
    parts = model.losses(short_batch(make_batch, model))
    assert parts.keys() == {"align", "mono", "loss"}
    parts["loss"].backward()
    reached = {name.split(".")[0] for name, p in model.net.named_parameters() if p.grad is not None}
    assert reached == {"aligner", "text"}
    assert model.net.text.embedding.weight.grad.any() and model.net.text.recurrence.lstm.weight_ih_l0.grad is None


def test_the_soft_alignment_is_pulled_to_its_path(at_step, make_batch):
    """Ten times the published mean, by hand."""
    model = at_step(0, given_durations=False).eval()
    batch = short_batch(make_batch, model)
    parts = {}
    alignment, soft = model._align(batch, model.standardised(batch["mel"]), parts)
    total, count = 0.0, 0
    for row, (symbols, frames) in enumerate(
        zip(batch["symbol_lengths"].tolist(), batch["mel_lengths"].tolist(), strict=True)
    ):
        hard = F.one_hot(alignment.index[row, :frames], soft.shape[2])[:, :symbols]
        total += (soft[row, :frames, :symbols] - hard).abs().mean(1).sum().item()
        count += frames
    assert parts["mono"].item() == pytest.approx(total / count, rel=1e-4)
    assert model._weighed({"mono": parts["mono"]})["loss"].item() == pytest.approx(10 * total / count, rel=1e-4)


def test_short_clips_are_learnt_from(at_step, make_batch):
    """Utterances of 4 and 20 frames, which the published training leaves out in silence."""
    model = at_step(0)
    batch = short_batch(make_batch, model, symbol_lengths=(3, 2), mel_lengths=(20, 4))
    made = model.play(batch)
    assert made.fake.shape == (2, 64, 81) and made.fake[..., -1].sum(1).tolist() == [20, 4]
    made.parts["loss"].backward()
    assert model.net.style.out.weight.grad.any() and model.net.decoder.to_mel.bias.grad.any()


def test_the_second_stage_learns_prosody_alone_and_the_rest_is_as_in_use(at_step, make_batch):
    model = at_step(1)
    kept = {name: value.clone() for name, value in model.net.state_dict().items()}
    parts = model.losses(short_batch(make_batch, model))
    assert parts.keys() == {"duration", "mel", "pitch", "energy", "loss"}
    parts["loss"].backward()
    for name, parameter in model.net.named_parameters():
        assert (parameter.grad is not None) == name.startswith("prosody."), name
    assert not model.net.decoder.training and not model.net.style.training and model.net.prosody.training
    assert all(torch.equal(kept[name], value) for name, value in model.net.state_dict().items())  # spectral norms too
    training = [*model.net.style.modules(), *model.net.decoder.modules()]
    assert not any(module.training for module in training)


def test_what_a_recipe_freezes_stays_frozen(at_step, make_batch):
    model = at_step(0)
    model.net.text.embedding.weight.requires_grad_(False)
    model._begin_step()
    assert not model.net.text.embedding.weight.requires_grad and model.net.text.convs[0].bias.requires_grad


def test_what_is_real_in_the_second_stage_is_the_decoders_own(at_step, make_batch):
    """Without a stretch and on whole utterances it is what the decoder says of the recording's own curves."""
    model = at_step(1).eval()
    batch = short_batch(make_batch, model, symbol_lengths=(4,), mel_lengths=(50,))
    with torch.no_grad():
        made = model.make(batch)
        forced = (model.teacher_forced(batch)[0] - model.mel_mean) / model.mel_std
    torch.testing.assert_close(made.real[0, :50], forced, atol=1e-4, rtol=1e-4)


def test_clips_and_stretches_are_each_items_own(at_step, make_batch, take_alone):
    """Whoever shares the batch: two ranks learn what one does."""
    for step in (0, 1):
        model = at_step(step)
        batch = short_batch(make_batch, model, mel_lengths=(90, 120))
        with torch.no_grad():
            model.eval()  # spectral norms are as they are; what is drawn is that of training
            model.training = True
            together = model.make(batch)
            own = model.make(take_alone(batch, 1))
        torch.testing.assert_close(together.real[1:], own.real, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.fake[1:], own.fake, atol=1e-4, rtol=1e-4)


def test_a_mean_style_is_the_mean_of_what_a_speaker_was_met_with(make_styled):
    model = make_styled(ready=False).train()
    styles = torch.arange(24.0).reshape(3, 8)
    model._remember(styles, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(model._mean_style(0), styles[:2].mean(0))
    torch.testing.assert_close(model._mean_style(1), styles[2])
    model._remember(styles + 100, torch.tensor([0, 0, 0]))
    wanted = (MEMORY * styles[:2].sum(0) + (styles + 100).sum(0)) / (2 * MEMORY + 3)
    torch.testing.assert_close(model._mean_style(0), wanted)
    torch.testing.assert_close(model._mean_style(1), styles[2])


def test_curves_are_standardised_over_all_speakers_and_filled_where_there_is_no_voice(make_styled, make_batch):
    model = make_styled()
    spreads = {name: [getattr(model.facts, name)[s] for s in model.voice.speakers] for name in ("pitch", "energy")}
    batch = short_batch(make_batch, model, junk=1e4)
    batch["pitch"][0, 10:20] = 0
    batch["pitch"][1] = 0
    pitch, energy = model.curves(batch)
    for name, found, raw in (
        ("pitch", pitch[0], batch["pitch"][0].numpy()),
        ("energy", energy[0], batch["energy"][0].numpy()),
    ):
        means, stds = np.array([s.mean for s in spreads[name]]), np.array([s.std for s in spreads[name]])
        # as many frames of each speaker: drawn from one of two normal distributions
        std = math.sqrt((stds**2).mean() + ((means - means.mean()) ** 2).mean())
        known = np.flatnonzero(raw > 0) if name == "pitch" else np.arange(len(raw))
        logs = np.log(raw[known]) if name == "pitch" else np.log1p(raw)
        wanted = np.interp(np.arange(len(raw)), known, (logs - means.mean()) / std)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-4)
    assert not pitch[1].any() and not energy[1, 41:].any() and energy[1, :41].any()


# ---- whole runs ------------------------------------------------------------------------------------

FEW = ("--run.preview_seconds=0", "--data.made.num_sentences=6", "--data.num_processes=1", "--run.ema_decay=0")


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """The folder of two steps of the first stage, with an aligner. Read-only."""
    folder = tmp_path_factory.mktemp("first")
    return train(recipe(folder, "--model.schedule.prosody_start=null"), progress=False).folder


def recipe(folder, *overrides):
    return Recipe.read("tts/styletts-tiny", [*FEW, f"--run.dir={folder}", *overrides])


def test_the_second_stage_leaves_every_weight_of_the_first_as_it_is(first_stage, tmp_path):
    second = recipe(tmp_path, "--model.schedule.prosody_start=0", f"--run.init_from={first_stage}")
    before = read_training_state(find_training_state(first_stage))["state_dict"]
    after = read_training_state(find_training_state(train(second, progress=False).folder))["state_dict"]
    own = [name for name in before if name.startswith("net.")]
    still = [name for name in own if torch.equal(before[name], after[name])]
    assert [name for name in own if not name.startswith("net.prosody.")] == [
        name for name in still if not name.startswith("net.prosody.")
    ]
    moved = set(own) - set(still)
    assert len(moved) > 20 and before["trained"].tolist() == [2, 0] and after["trained"].tolist() == [2, 2]
    assert any(not torch.equal(before[n], after[n]) for n in before if n.startswith("discriminators."))


def test_a_second_stage_without_a_first_is_refused(tmp_path):
    with refused(RecipeError, "missing", "run.init_from"):
        train(recipe(tmp_path, "--model.schedule.prosody_start=0"), progress=False)


def test_a_second_stage_of_other_data_is_refused(first_stage, tmp_path):
    other = recipe(
        tmp_path, "--model.schedule.prosody_start=0", f"--run.init_from={first_stage}", "--data.made.num_sentences=7"
    )
    with refused(CheckpointError, "conflict", "run.init_from"):
        train(other, progress=False)


def test_a_second_stage_from_an_export_has_no_aligner_and_is_refused(make_styled):
    model = make_styled("--model.schedule.prosody_start=0", given_durations=False)
    assert not model.aligned and model.trained[0]
    with refused(RecipeError, "missing", "run.init_from"):
        model.on_train_start()
    model.aligned.fill_(5)
    model.on_train_start()


def test_an_export_holds_neither_the_aligner_nor_the_judge(make_styled):
    from unisono.export import export_state

    model = make_styled(given_durations=False)
    model.configure_model()
    names = export_state(model).keys()
    assert not [n for n in names if n.startswith(("net.aligner.", "discriminators.", "aligned"))]
    assert {"style_total", "style_count", "trained"} <= names
    fresh = make_styled(given_durations=False)
    fresh.load_state_dict(model.state_dict())  # a training state, whole but for the judge


def test_a_first_stage_is_exported_and_does_not_speak(first_stage, tmp_path):
    import unisono
    from unisono.errors import RequestError

    voice = unisono.load(export_run(first_stage, tmp_path / "export"))
    assert voice.model.preview_requests() == []
    with refused(RequestError, "unsupported", "text"):
        voice("Too early.")
