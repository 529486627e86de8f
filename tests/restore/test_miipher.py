"""Miipher: before training nothing changes, encoders stay frozen and out of checkpoints, levels, losses by hand."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from recognisers import make_recogniser
from refused import refused
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.export import load, load_component, save_export
from unisono.recipe import Recipe
from unisono_restore.miipher import pairs
from unisono_restore.miipher.model import to_level
from unisono_restore.miipher.network import MelHead, spectral_convergence
from unisono_restore.miipher.sizes import AdapterSizes, CleanerSizes, HeadSizes, MiipherObjective
from unisono_sound.encoder import Encoder, FeatureSpec, LogMelEncoder
from unisono_sound.signal import GriffinLim, MelSpec, write_audio

MEL = MelSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=64, n_mels=20, f_max=4000.0)
SMALL = {
    "adapters": {"bottleneck": 5},
    "cleaner": {"dim": 8, "intermediate_dim": 12, "num_blocks": 1},
    "head": {"dim": 8, "intermediate_dim": 12, "num_blocks": 1},
}

pytestmark = [  # Lightning's own, none of them about this model
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode.*"),
]


def recogniser():
    return make_recogniser()


def codec():
    torch.manual_seed(0)
    return Recipe.read("codec/rvq-tiny").build_model({"mel_spec": MelSpec().to_dict(), "pitch": True}).eval()


def make(encoder=None, **model):
    recipe = Recipe.from_dict(
        {
            "format": 2,
            "model": {"name": "restore/miipher", **SMALL, **model},
            "data": {
                "name": "restore/made-damaged",
                "num_items": 8,
                "mel": MEL.to_dict(),
                "crops": {"samples": 2048},
                "batch_size": 2,
                "val_size": 2,
            },
            "optim": {"lr": 0.01, "warmup_steps": 0},
        }
    )
    data = recipe.build_data()
    if encoder is not None:
        data.attach("encoder", encoder)
    data.prepare(progress=False)
    made = recipe.build_model(data.describe())
    if encoder is not None:
        made.attach("encoder", encoder)
    made.attach("vocoder", load_component(type(made), "vocoder", "griffin-lim", made.facts))
    return made, data


def fit(model, data, max_steps) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    return trainer


def noise(*size: int, seed: int = 7) -> torch.Tensor:
    return 0.1 * torch.randn(*size, generator=torch.Generator().manual_seed(seed))


ENCODERS = {"log-mel": lambda: None, "recogniser": recogniser, "codec": codec}


@pytest.fixture(scope="module", params=ENCODERS)
def pair(request):
    """A model and its encoder; None where the mel is cleaned."""
    encoder = ENCODERS[request.param]()
    model, data = make(encoder)
    return model.eval(), data, encoder


# ---- encoders --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", [lambda: LogMelEncoder(MEL), recogniser, codec])
def test_features_do_not_depend_on_the_batch(kind):
    encoder = kind()
    assert isinstance(encoder, Encoder)
    spec = encoder.feature_spec
    lengths = torch.tensor([spec.sample_rate // 4 + 37, spec.sample_rate // 2])
    wave = noise(2, int(lengths.max()))
    wave[0, int(lengths[0]) :] = 5.0  # what stands behind an item's end is of no account
    together = encoder.features(wave, lengths)
    for row, count in enumerate(lengths.tolist()):
        alone = encoder.features(wave[row : row + 1, :count])
        assert int(alone.lengths[0]) == int(together.lengths[row]) == -(-count // spec.hop_length)
        assert alone.values.shape[2] == spec.dim
        mine = together.values[row, : int(alone.lengths[0])]
        torch.testing.assert_close(mine, alone.values[0, : len(mine)], atol=1e-4, rtol=1e-4)
    with refused(RequestError, "range", "layer", value=spec.num_layers + 1):
        encoder.features(wave, layer=spec.num_layers + 1)


@torch.no_grad()
def test_what_is_adapted_is_added_to_each_layer_of_a_recogniser():
    encoder = recogniser()
    wave = noise(1, 16000)
    seen = []

    def watch(number, x):
        seen.append((number, x))
        return torch.zeros_like(x)

    plain = encoder.features(wave)
    assert torch.equal(encoder.features(wave, adapt=watch).values, plain.values)
    assert [number for number, _ in seen] == [0, 1]
    assert torch.equal(encoder.features(wave, layer=1).values, seen[1][1])  # the second layer hears the first's output
    assert torch.equal(encoder.encoder.norm(encoder.features(wave, layer=2).values), plain.values)
    moved = encoder.features(wave, layer=1, adapt=lambda number, x: 2 * x).values
    torch.testing.assert_close(moved, encoder.features(wave, layer=1).values + 2 * seen[0][1])
    # As it is read: the encoder's own output is what CTC hears.
    torch.testing.assert_close(plain.values, encoder.posteriors([wave[0]], 16000).memory, atol=1e-4, rtol=1e-4)


# ---- the method ------------------------------------------------------------------------------------


def heard_by(model, wave):
    """Frozen and cleaned features of a wave at the encoder's rate."""
    return model.frozen(wave), model.cleaned(wave)


@torch.no_grad()
def test_before_training_cleaned_features_are_the_frozen_ones(pair):
    model, _, encoder = pair
    rate = 8000 if encoder is None else encoder.feature_spec.sample_rate
    true, made = heard_by(model, noise(2, rate // 2))
    assert torch.equal(true, made)
    assert true.shape[2] == (20 if encoder is None else encoder.feature_spec.dim)


def test_training_moves_what_is_learnt_and_nothing_of_the_encoder(pair, tmp_path):
    _, _, encoder = pair
    model, data = make(encoder)
    before = copy.deepcopy(model.state_dict())
    frozen = {} if encoder is None else copy.deepcopy(encoder.state_dict())
    trainer = fit(model, data, 3)
    assert all(name.startswith("net.") for name in before)
    learnt = {id(parameter) for parameter in model.net.parameters()}
    (optimizer,) = trainer.optimizers
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == learnt
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert len(moved) == len(before)
    trainer.save_checkpoint(tmp_path / "state.ckpt", weights_only=True)
    kept = torch.load(tmp_path / "state.ckpt", weights_only=True)["state_dict"]
    assert set(kept) == set(before)
    if encoder is not None:
        assert all(torch.equal(value, frozen[name]) for name, value in encoder.state_dict().items())
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in encoder.parameters())
        assert (model.net.adapters is not None) == bool(encoder.feature_spec.num_layers)
    rate = 8000 if encoder is None else encoder.feature_spec.sample_rate
    with torch.no_grad():
        true, made = heard_by(model.eval(), noise(2, rate // 2))
    assert not torch.equal(true, made)


def test_an_export_takes_its_encoder_along(tmp_path):
    encoder = recogniser()
    own = save_export(encoder, tmp_path / "recogniser")
    model, data = make(load(own).model)
    fit(model, data, 1)
    folder = save_export(model, tmp_path / "miipher")
    synth = load(folder, components={"vocoder": "griffin-lim"})
    assert set(synth.model.components) == {"encoder", "vocoder"}
    assert json.loads((folder / "unisono.json").read_text())["parameters"] == sum(
        p.numel() for p in model.net.parameters()
    )
    wave = noise(2, 8000)
    with torch.no_grad():
        assert torch.equal(synth.model.cleaned(wave), model.eval().cleaned(wave))


def test_losses_in_plain_words(pair):
    model, data, _ = pair
    with torch.no_grad():  # apart from the frozen ones, so that there is a distance to learn of
        for parameter in model.net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    batch = next(iter(data.train_dataloader()))
    found = model.losses(batch)
    gain = 0.05 / batch["heard"].square().mean(1, keepdim=True).sqrt()
    with torch.no_grad():
        made = model.cleaned(batch["heard"] * gain)
        true = model.frozen(batch.get("clean", batch["wave"]) * gain)
        l1, l2 = (made - true).abs().mean(), (made - true).square().mean()
        convergence = torch.stack([(a - b).norm() / b.norm() for a, b in zip(made, true, strict=True)]).mean()
        loss = l1 + l2 + convergence
        if model.net.head is not None:
            mel = LogMelEncoder(MEL).features(batch["wave"] * gain).values
            for name, features in (("mel", made), ("mel_clean", true)):
                apart = (model.net.head(features, 32) - mel).abs().mean()
                torch.testing.assert_close(found[name].detach(), apart)
                loss = loss + apart
    for name, value in (("l1", l1), ("l2", l2), ("convergence", convergence), ("loss", loss)):
        torch.testing.assert_close(found[name].detach(), value, rtol=1e-4, atol=1e-6)
    assert float(spectral_convergence(true, true).max()) < 1e-15


def test_no_gradient_goes_from_the_mel_to_the_adapters():
    model, data = make(recogniser(), objective={"l1": 0, "l2": 0, "convergence": 0})
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.1)
    model.losses(next(iter(data.train_dataloader())))["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.net.adapters.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.net.head.parameters())


def test_features_are_read_at_the_middles_of_frames():
    """A feature that tells the time of its middle is a clock at any other rate."""
    features = FeatureSpec(sample_rate=16000, hop_length=640, dim=1)
    head = MelHead(features, MelSpec(), HeadSizes(dim=4, intermediate_dim=4, num_blocks=1))
    clock = ((torch.arange(25, dtype=torch.float64) + 0.5) * 640 / 16000)[None, :, None]
    frames = 86
    middle = (torch.arange(frames, dtype=torch.float64) + 0.5) * 256 / 22050
    expected = middle.clamp(float(clock.min()), float(clock.max()))
    torch.testing.assert_close(head.at_frames(clock, frames)[0, :, 0], expected, atol=1e-9, rtol=0)
    assert head.at_frames(clock[:, :1], 3).unique().tolist() == [0.02]


# ---- restoring -------------------------------------------------------------------------------------


@torch.no_grad()
def test_level_and_length_and_silence_stay(pair):
    model, _, _ = pair
    sound = noise(2, 5001).cumsum(1) * 0.1
    sound[1] = 0
    made = model.restore(sound, None)
    assert made.shape == sound.shape and not made[1].any() and made[0].any()
    torch.testing.assert_close(model.restore(4 * sound, None), 4 * made, atol=1e-4, rtol=1e-3)
    assert model.restore(noise(1, 3), None).shape == (1, 3)
    (whole,) = model.synthesize([model.Request(samples=sound.tolist(), sample_rate=8000)])
    assert whole.waveform.shape == (2, 5001)
    gain = to_level(sound)
    torch.testing.assert_close((sound * gain)[0].square().mean().sqrt(), torch.tensor(0.05))


@torch.no_grad()
def test_a_long_sound_is_its_pieces_restored(monkeypatch):
    model, _ = make()
    monkeypatch.setattr("unisono_restore.miipher.model.LONGEST_SECONDS", 0.5)
    sound = noise(1, 3 * 8000)
    for start in (3100, 6900, 10400):
        sound[:, start : start + 900] = 0  # pauses
    given = []
    restore = type(model).restore
    monkeypatch.setattr(
        type(model), "restore", lambda self, wave, known: given.append(wave) or restore(self, wave, known)
    )
    (whole,) = model.synthesize([model.Request(samples=sound[0].tolist())])
    parts = list(given)
    assert torch.equal(torch.cat(parts, dim=1), sound) and max(part.shape[1] for part in parts) <= 4000
    pieces = [restore(model, part, None) for part in parts]
    np.testing.assert_array_equal(whole.waveform, torch.cat(pieces, dim=1).numpy())
    ends = torch.tensor([part.shape[1] for part in parts]).cumsum(0)[:-1]
    assert not sound[0, ends[0] - 64 : ends[0] + 64].any()
    streamed = np.concatenate([piece.waveform for piece in model.stream(model.Request(samples=sound[0].tolist()))], 1)
    np.testing.assert_array_equal(streamed, whole.waveform)


# ---- pairs -----------------------------------------------------------------------------------------


def test_pairs_are_what_a_vocoder_is_tuned_on(tmp_path, capsys):
    model, _ = make()
    folder = save_export(model, tmp_path / "model")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, count in (("one", 9000), ("two", 12345), ("short", 100)):
        write_audio(corpus / f"{name}.wav", noise(count), 8000)
    assert pairs.main([str(folder), str(tmp_path / "pairs"), "--data", str(corpus)]) == 0
    said = capsys.readouterr()
    assert "too short" in said.err and said.out.startswith("2 pairs")
    mel = np.load(tmp_path / "pairs" / "two.npy")
    assert mel.shape == (12345 // 64, 20) and np.isfinite(mel).all()
    with torch.no_grad():
        clean = LogMelEncoder(MEL).features(noise(12345)[None, : 192 * 64]).values[0].numpy()
    assert 0.01 < np.abs(mel - clean).mean() < 5  # damaged, at the recording's own level
    data = Recipe.from_dict(
        {
            "format": 2,
            "model": {"name": "codec/vocos"},
            "data": {
                "name": "codec/audio",
                "root": str(tmp_path / "pairs" / "pairs.jsonl"),
                "heard": {"mels": str(tmp_path / "pairs")},
                "mel": MEL.to_dict(),
                "val_size": 1,
            },
        }
    ).build_data()
    assert data.prepare(progress=False).kept == 2
    assert pairs.main([str(tmp_path / "none"), str(tmp_path / "p"), "--data", str(corpus)]) == 2


# ---- what is refused -------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused():
    encoder = recogniser()
    with refused(RecipeError, "range", "model.layer", value=3, names="2"):
        make(encoder, layer=3)
    with refused(RecipeError, "range", "model.layer", value=1):
        make(layer=1)
    model, data = make(encoder, layer=1)
    assert len(model.net.adapters.adapters) == 1
    with refused(RecipeError, "conflict", "components.vocoder"):
        model.attach("vocoder", GriffinLim(MelSpec()))
    with refused(RecipeError, "conflict", "components.encoder"):
        model.attach("encoder", codec())
    with refused(RecipeError, "type", "components.encoder", value="GriffinLim"):
        data.attach("encoder", GriffinLim(MEL))
    with refused(CheckpointError, "conflict", "run.init_from", value="features"):
        model.check_source({**model.facts.to_json(), "features": None})
    bare = Recipe.from_dict({"format": 2, "model": {"name": "restore/miipher", **SMALL}, "data": {"name": "x/y"}} | {
        "data": {"name": "restore/made-damaged"}
    }).build_model(model.facts)  # fmt: skip
    with refused(RequestError, "missing", "components.encoder"):
        bare.cleaned(noise(1, 4000))
    for kind, group, name in (
        (AdapterSizes, "adapters", "bottleneck"),
        (CleanerSizes, "cleaner", "dim"),
        (HeadSizes, "head", "num_blocks"),
    ):
        with refused(RecipeError, "range", f"model.{group}.{name}", value=0):
            kind(**{name: 0})
    with refused(RecipeError, "range", "model.objective.mel", value=-1):
        MiipherObjective(mel=-1)
    assert math.isclose(MiipherObjective().l1, 1.0)
