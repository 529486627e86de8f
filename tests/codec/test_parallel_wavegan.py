"""Parallel WaveGAN: its players' sizes, its losses and steps by hand, seeds, exports."""

import copy
import json

import pytest
import torch
from lightning.pytorch import Trainer
from refused import refused
from torch.nn import functional as F
from unisono.data import DataModule, derive_seed
from unisono.errors import RecipeError
from unisono.export import load, save_export
from unisono.optim import OptimSpec
from unisono.recipe import Recipe
from unisono_codec.vocoders.parallel_wavegan import ParallelWaveGAN, WaveDiscriminator
from unisono_sound.signal import MelSpec, write_audio

SIZES = {
    "upsample_factors": [16, 16],
    "num_layers": 4,
    "num_stacks": 2,
    "channels": 4,
    "gate_channels": 6,
    "skip_channels": 4,
    "stft_resolutions": [[512, 50, 240], [256, 64, 256]],
    "discriminator_layers": 4,
    "discriminator_channels": 4,
}
# So large an eps makes the step proportional to the gradient: rounding in a tiny gradient would
# otherwise become a full step, and no comparison of two sums in another order could hold.
OPTIM = {"lr": 0.1, "eps": 1.0, "betas": [0.8, 0.9], "weight_decay": 0.0, "warmup_steps": 0}

pytestmark = [  # Lightning's own, none of them about this model
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


def make(**model) -> tuple[ParallelWaveGAN, DataModule]:
    recipe = Recipe.from_dict(
        {
            "model": {"name": "codec/parallel-wavegan", **SIZES, **model},
            "data": {"name": "codec/tones", "num_items": 8, "batch_size": 2, "crop_frames": 4},
            "optim": OPTIM,
        }
    )
    data = recipe.build_data()
    data.prepare(progress=False)
    return recipe.build_model(data.describe()), data


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


def make_mel(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 80, generator=torch.Generator().manual_seed(0)) - 5


@pytest.fixture(scope="module")
def model() -> ParallelWaveGAN:
    return make()[0].eval()


def test_both_players_have_the_published_size():
    """The paper's 1.44 M has no breakdown: its generator and discriminator together are within one in a hundred."""

    def weights(module):
        return sum(p.numel() for n, p in module.named_parameters() if not n.endswith("original0"))

    default = ParallelWaveGAN()
    default.build({"mel_spec": MelSpec().to_dict()})
    judge = default.judges()["wave"][0]
    assert weights(judge) == (3 * 64 + 64) + 8 * (3 * 64 * 64 + 64) + (3 * 64 + 1) == 99_265
    assert weights(default.net) + weights(judge) == pytest.approx(1.44e6, rel=0.01)
    assert [conv.dilation[0] for conv in judge.convs] == [1, 1, 2, 3, 4, 5, 6, 7, 8]
    assert (default.adversarial_weight, default.feature_weight, default.pretrain_steps) == (4.0, 0.0, 100_000)


@torch.no_grad()
def test_the_discriminator_in_plain_words():
    torch.manual_seed(0)
    judge = WaveDiscriminator(5, 3)
    x = torch.randn(2, 50)
    y = x[:, None]
    for conv, dilation in zip(judge.convs, (1, 1, 2, 3), strict=True):
        y = F.conv1d(y, conv.weight, conv.bias, padding=dilation, dilation=dilation)
        y = torch.where(y > 0, y, 0.2 * y)
    y = F.conv1d(y, judge.score.weight, judge.score.bias, padding=1)
    (judgement,) = judge(x)
    torch.testing.assert_close(judgement.scores, y[:, 0])


def test_a_discriminator_without_layers_is_refused():
    with refused(RecipeError, "range", "model.game.num_layers", value=1, names="2"):
        WaveDiscriminator(1, 4)


def test_the_loop_equals_a_plain_one():
    """Equations 1, 2 and 7, step by step: every term spelt out, nothing shared or frozen."""
    pretrain, steps = 1, 3
    model, data = make(pretrain_steps=pretrain)
    batches = list(data.train_dataloader())
    model.configure_model()
    with torch.no_grad():  # an untrained judge feels alike about all; exaggerate, so that each part moves
        for parameter in model.discriminators.parameters():
            parameter.mul_(2)
    reference = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    fit(model, data, steps)

    spec = OptimSpec(**{**OPTIM, "betas": (0.8, 0.9)})
    judge = reference.discriminators["wave"]
    opt_g, opt_d = spec.make(reference.net), spec.make(judge)
    for step in range(steps):
        mel, real = batches[step]["mel"], batches[step]["wave"]
        seeds = [derive_seed("parallel-wavegan", 1, step, row) for row in batches[step]["row"].tolist()]
        for group in opt_g.param_groups:
            group["lr"] = spec.lr * spec.factor(step, steps)
        if step >= pretrain:
            for group in opt_d.param_groups:
                group["lr"] = 0.5 * spec.lr * spec.factor(step - pretrain, steps - pretrain)
            fake = reference.net(mel, seeds=seeds).detach()
            loss = (1 - judge(real)[0].scores).square().mean() + judge(fake)[0].scores.square().mean()
            opt_d.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(judge.parameters(), spec.clip_norm)
            opt_d.step()
        fake = reference.net(mel, seeds=seeds)
        loss = reference.stft_loss(fake, real).mean()
        if step >= pretrain:
            loss = loss + 4 * (1 - judge(fake)[0].scores).square().mean()
        opt_g.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reference.net.parameters(), spec.clip_norm)
        opt_g.step()

    expected = reference.state_dict()
    for name, value in model.state_dict().items():
        # The direction of a single weight is its sign, which cannot move.
        still = name == "net.first.parametrizations.weight.original1"
        assert still or not torch.equal(value, before[name]), f"{name} has not moved"
        # Float32 sums over a thousand samples in another order: a hundredth of the movement, or the last bits.
        allowed = 0.01 * (expected[name] - before[name]).abs().max() + 1e-6
        assert (value - expected[name]).abs().max() <= allowed, name


def test_training_noise_is_new_at_each_step_and_validation_noise_is_not(monkeypatch):
    model, data = make()
    seen = []
    monkeypatch.setattr(
        model.net, "forward", lambda mel, seeds: seen.append(seeds) or torch.zeros(len(mel), mel.shape[1] * 256)
    )
    batch = next(iter(data.train_dataloader()))
    steps = iter([0, 1, 2, 3])
    monkeypatch.setattr(type(model), "global_step", property(lambda self: next(steps)))
    for training in (True, True, False, False):
        model.train(training)
        model.losses(batch)
    first, second, third, fourth = seen
    assert len(set(first + second + third)) == 6
    assert third == fourth


@torch.inference_mode()
def test_a_seed_is_the_noise_of_its_request(model):
    kind, mel = model.Request, make_mel(5)
    one, other, again = model.synthesize([kind(mel=mel, seed=s) for s in (1, 2, 1)])
    assert (one.waveform == again.waveform).all()
    assert (one.waveform != other.waveform).any()
    (alone,) = model.synthesize([kind(mel=mel)])
    torch.testing.assert_close(torch.from_numpy(alone.waveform), model.decode(mel[None]), atol=1e-6, rtol=0)
    drawn = [model.synthesize([kind(mel=mel)], torch.Generator().manual_seed(s))[0].waveform for s in (7, 7, 8)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


@torch.inference_mode()
def test_a_stream_equals_the_whole(model):
    mel = make_mel(1, 40)
    pieces = list(model.decode_stream(mel.split(9, dim=1)))
    torch.testing.assert_close(torch.cat(pieces, 1), model.decode(mel), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_recording_is_resynthesised(model, tmp_path):
    write_audio(tmp_path / "tone.wav", torch.sin(torch.arange(5000) * 0.05) * 0.3, 22050)
    (made,) = model.synthesize([model.Request(audio=str(tmp_path / "tone.wav"))])
    assert made.waveform.shape == (1, 5000 // 256 * 256)


def test_exports_hold_the_generator_alone(tmp_path):
    model, data = make(pretrain_steps=0)
    fit(model, data, 1)
    folder = save_export(model, tmp_path / "export")
    synth = load(folder)
    assert synth.model.discriminators is None
    assert json.loads((folder / "unisono.json").read_text())["model"] == "codec/parallel-wavegan"
    with torch.no_grad():
        assert torch.equal(synth.model.decode(make_mel(1, 9)), model.eval().decode(make_mel(1, 9)))


def test_losses_stay_in_float32_under_autocast():
    model, data = make()
    with torch.autocast("cpu", torch.bfloat16):
        played = model.play(next(iter(data.train_dataloader())))
    assert played.fake.dtype == played.parts["loss"].dtype == torch.float32


def test_factors_that_miss_the_hop_are_refused():
    with refused(RecipeError, "conflict", "model.network.upsample_factors", value=(4, 4, 4), names="256"):
        make(upsample_factors=[4, 4, 4])
