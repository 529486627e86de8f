"""The adversarial loop against a plain one, and what it promises: counting, freezing, resuming."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from refused import refused
from unisono.data import DataModule
from unisono.errors import CheckpointError, RecipeError
from unisono.export import load, save_export
from unisono.optim import OptimSpec
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_codec.vocoders.gan import VocosGAN

SIZES = {
    "dim": 8,
    "intermediate_dim": 12,
    "num_blocks": 2,
    "periods": [2, 3],
    "period_channels": [2, 4, 4],
    "resolutions": [[256, 64]],
    "resolution_channels": 2,
}
# So large an eps makes the step proportional to the gradient: rounding in a tiny gradient would
# otherwise become a full step, and no comparison of two sums in another order could hold.
OPTIM = {"lr": 0.02, "eps": 1.0, "betas": [0.8, 0.9], "weight_decay": 0.0, "warmup_steps": 0}


def make_recipe(**model) -> Recipe:
    return Recipe.from_dict(
        {
            "model": {"name": "codec/vocos-gan", **SIZES, **model},
            "data": {"name": "codec/tones", "num_items": 8, "batch_size": 2, "crop_frames": 8},
            "optim": OPTIM,
        }
    )


def make(**model) -> tuple[VocosGAN, DataModule]:
    recipe = make_recipe(**model)
    data = recipe.build_data()
    data.prepare(progress=False)
    return recipe.build_model(data.describe()), data


def fit(model, data, max_steps, *, resume=None, **kwargs) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **kwargs,
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


pytestmark = [  # Lightning's own, none of them about this model
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


def plain_loop(model: VocosGAN, batches: list[dict], num_steps: int) -> None:
    """Vocos, section 3.3, step by step: every term spelt out, nothing shared or frozen."""
    spec = OptimSpec(**{**OPTIM, "betas": (0.8, 0.9)})
    judges = model.discriminators
    opt_g, opt_d = spec.make(model.net), spec.make(judges)
    for step in range(num_steps):
        mel, real = batches[step]["mel"], batches[step]["wave"]
        for optimizer in (opt_g, opt_d):
            for group in optimizer.param_groups:
                group["lr"] = spec.lr * spec.factor(step, num_steps)
        with torch.no_grad():
            fake = model.net(mel)
        loss = 0.0
        for name, weight in (("period", 1.0), ("resolution", 0.1)):
            for judge in judges[name].judges:
                hinge = (1 - judge(real).scores).relu().mean() + (1 + judge(fake).scores).relu().mean()
                loss = loss + weight * hinge / len(judges[name].judges)
        opt_d.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judges.parameters(), spec.clip_norm)
        opt_d.step()
        fake = model.net(mel)
        loss = 45 * (model.log_mel(fake) - model.log_mel(real)).abs().mean()
        for name, weight in (("period", 1.0), ("resolution", 0.1)):
            for judge in judges[name].judges:
                truth, guess = judge(real), judge(fake)
                matching = sum((x - y).abs().mean() for x, y in zip(truth.features, guess.features, strict=True))
                adversarial = (1 - guess.scores).relu().mean()
                told = model.adversarial_weight * adversarial + model.feature_weight * matching
                loss = loss + weight * told / len(judges[name].judges)
        opt_g.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), spec.clip_norm)
        opt_g.step()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.25, 3.0)])
def test_the_loop_equals_a_plain_one(weights):
    model, data = make()
    model.adversarial_weight, model.feature_weight = weights
    batches = list(data.train_dataloader())
    model.configure_model()
    with torch.no_grad():  # untrained judges feel alike about all; exaggerate, so that each part moves
        for parameter in model.discriminators.parameters():
            parameter.mul_(4)
    reference = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    fit(model, data, 3)
    plain_loop(reference, batches, 3)
    expected = reference.state_dict()
    for name, value in model.state_dict().items():
        assert not torch.equal(value, before[name]), f"{name} has not moved"
        # 1e-6: float32; losses are averaged per item here and over the batch there.
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4, msg=name)


def test_steps_count_batches_and_warm_up_leaves_the_discriminators_alone():
    model, data = make(pretrain_steps=2)
    model.configure_model()
    before = copy.deepcopy(model.discriminators.state_dict())
    trainer = fit(model, data, 2)
    assert trainer.global_step == 2
    assert all(torch.equal(v, before[k]) for k, v in model.discriminators.state_dict().items())
    model, data = make(pretrain_steps=2)
    trainer = fit(model, data, 3)
    assert trainer.global_step == 3
    generator, discriminator = trainer.optimizers
    assert {int(s["step"]) for s in generator.state.values()} == {3}
    assert {int(s["step"]) for s in discriminator.state.values()} == {1}


def test_one_generator_pass_per_step_and_discriminators_frozen_meanwhile(monkeypatch):
    model, data = make()
    passes, frozen = [], []
    model.net.register_forward_hook(lambda *args: passes.append(1))
    losses = model._generator_losses

    def watched(*args):
        frozen.append(not any(p.requires_grad for p in model.discriminators.parameters()))
        return losses(*args)

    monkeypatch.setattr(model, "_generator_losses", watched)
    fit(model, data, 2)
    assert len(passes) == 2
    assert frozen == [True, True]
    assert all(p.requires_grad for p in model.parameters())


def test_bfloat16_trains_and_float16_is_refused():
    model, data = make()
    trainer = fit(model, data, 2, precision="bf16-mixed")
    assert all(p.isfinite().all() for p in model.parameters())
    assert trainer.callback_metrics["train/loss"].isfinite()
    model, _ = make()
    model._trainer = SimpleNamespace(precision="16-mixed")
    with pytest.raises(RecipeError, match="bf16-mixed"):
        model.configure_optimizers()


def test_exports_hold_the_generator_alone(tmp_path):
    model, data = make()
    fit(model, data, 1)
    folder = save_export(model, tmp_path / "export")
    synth = load(folder)
    assert synth.model.discriminators is None
    assert json.loads((folder / "unisono.json").read_text())["model"] == "codec/vocos-gan"
    with torch.no_grad():
        mel = torch.randn(1, 9, 80) - 5
        assert torch.equal(synth.model.decode(mel), model.eval().decode(mel))


def test_the_game_goes_on_from_another_generator(tmp_path):
    model, data = make()
    fit(model, data, 1)
    folder = save_export(model, tmp_path / "export")
    new, _ = make()
    started = warm_start(new, str(folder))
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, new.net.state_dict()[name])
    assert started.fresh and all(name.startswith("discriminators.") for name in started.fresh)
    assert not started.other_shape and not started.unused
    info = json.loads((folder / "unisono.json").read_text())
    info["facts"]["mel_spec"]["f_max"] = 11025.0
    (folder / "unisono.json").write_text(json.dumps(info))
    with refused(CheckpointError, "conflict", "run.init_from", value="mel_spec", names="11025"):
        warm_start(new, str(folder))


@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_equals_uninterrupted(tmp_path, stop):
    straight, data = make(pretrain_steps=2)
    fit(straight, data, 6)
    first, data = make(pretrain_steps=2)

    class Stop(Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == stop:
                trainer.save_checkpoint(tmp_path / "state.ckpt")
                trainer.should_stop = True

    fit(first, data, 6, callbacks=[Stop()])
    second, data = make(pretrain_steps=2)
    trainer = fit(second, data, 6, resume=tmp_path / "state.ckpt")
    assert trainer.global_step == 6
    expected = straight.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in second.state_dict().items())
