"""WaveFit: its network and its iteration by hand, levels, noise, the game on all iterates, what is refused."""

import copy
import json
import math

import pytest
import torch
from lightning.pytorch import Trainer
from refused import refused
from torch import nn
from torch.nn import functional as F
from unisono.data import DataModule, derive_seed
from unisono.errors import RecipeError, RequestError
from unisono.export import load, save_export
from unisono.optim import OptimSpec
from unisono.recipe import Recipe
from unisono_codec.vocoders.vocoder import SILENCE
from unisono_codec.vocoders.wavefit import WaveFit
from unisono_codec.vocoders.wavefit_judge import WaveScales
from unisono_codec.vocoders.wavefit_net import WaveFitNet, with_peak
from unisono_codec.vocoders.wavefit_noise import ShapedNoise
from unisono_codec.vocoders.wavefit_sizes import WaveFitSizes, derived
from unisono_codec.vocoders.wavefit_unet import UNet, step_places
from unisono_sound.signal import LogMel, MelSpec, write_audio

SIZES = {"up_channels": [6, 5, 4], "down_channels": [4, 6], "first_channels": 2, "mel_channels": 7}
MODEL = {
    "network": SIZES,
    "num_iterations": 2,
    "objective": {"stft_resolutions": [[512, 50, 240], [256, 64, 256]]},
    "game": {"scales": 2, "channels": 2, "most_channels": 8},
}
# So large an eps makes the step proportional to the gradient: rounding in a tiny gradient would
# otherwise become a full step, and no comparison of two sums in another order could hold.
OPTIM = {"lr": 0.1, "eps": 1.0, "betas": [0.8, 0.9], "weight_decay": 0.0, "warmup_steps": 0}
SMALL = MelSpec(sample_rate=8000, n_fft=128, win_length=128, hop_length=24, n_mels=20, f_max=4000.0)

pytestmark = [  # Lightning's own, none of them about this model
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


def make(**model) -> tuple[WaveFit, DataModule]:
    recipe = Recipe.from_dict(
        {
            "format": 2,
            "model": {"name": "codec/wavefit", **MODEL, **model},
            "data": {"name": "codec/tones", "num_items": 8, "batch_size": 2, "crop_frames": 4},
            "optim": OPTIM,
        }
    )
    data = recipe.build_data()
    data.prepare(progress=False)
    return recipe.build_model(data.describe()), data


def small_net(gain="power", num_iterations=3, seed=0, **sizes) -> WaveFitNet:
    torch.manual_seed(seed)
    given = {"up_channels": (6, 5, 4), "down_channels": (4, 6), "first_channels": 2, "mel_channels": 7, **sizes}
    return WaveFitNet(SMALL, WaveFitSizes(**given), num_iterations, gain).eval()


def speech_like(samples: int = 2400) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    tone = torch.sin(torch.arange(samples) * 0.2) * torch.linspace(0.1, 0.5, samples)
    return (tone + 0.05 * torch.randn(samples, generator=generator))[None]


def weights(module: nn.Module) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if not name.endswith("original0"))


# ---- the network -----------------------------------------------------------------------------------


def test_both_players_have_the_published_size():
    """WaveGrad's Base has 15 million weights, 15.5 with strided convolutions as wide as their strides; MelGAN's three
    discriminators have 16.9."""
    with torch.device("meta"):
        net = UNet(128, WaveFitSizes().factors_for(300), WaveFitSizes(), 5)
        lean = UNet(128, (5, 4, 3, 2, 2), WaveFitSizes(repeat=4, lean=True), 5)
        judge = WaveScales()
    assert net.factors == (5, 5, 3, 2, 2)
    assert weights(net) == 15_513_569
    assert len(lean.films) == 4 and not any(hasattr(film, "scale") for film in lean.films)
    assert weights(judge) == 3 * (
        256 + (64 * 4 * 41 + 64) + (256 * 4 * 41 + 256) + 2 * (1024 * 4 * 41 + 1024) + (5 * 1024**2 + 1024) + 3073
    )


def plain_unet(net: UNet, wave, mel, step: int):
    """WaveGrad's appendix A in plain words."""

    def act(x):
        return torch.where(x > 0, x, 0.2 * x)

    def run(layer, x):
        return F.conv1d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation)

    def larger(x, factor):
        return F.interpolate(x, scale_factor=factor) if factor > 1 else x

    seen = [run(net.first, wave[:, None])]
    for down in net.downs:
        x = seen[-1]
        beside = run(down.beside[1], run(down.beside[0], x))
        x = run(down.shrink, x)
        for layer in down.convs:
            x = run(layer, act(x))
        seen.append(x + beside)
    told = []
    for x, film in zip(seen[len(seen) - len(net.films) :], net.films, strict=True):
        place = step_places(x.shape[1], 3)[step]
        lean = not hasattr(film, "scale")
        if lean:
            place = film.tell.weight @ place + film.tell.bias
        x = act(run(film.inside, x)) + place[:, None]
        told.append((run(film.shift, x), 1.0 if lean else run(film.scale, x)))
    if len(told) < len(seen):
        told.insert(0, (0.0, 1.0))
    x = larger(run(net.listen, mel.mT), net.repeat)
    for up, (shift, scale) in zip(net.ups, reversed(told), strict=True):
        h = run(up.convs[0], larger(act(x), up.factor))
        h = run(up.convs[1], act(shift + scale * h))
        x = run(up.beside, larger(x, up.factor)) + h
        h = run(up.convs[2], act(shift + scale * x))
        x = x + run(up.convs[3], act(shift + scale * h))
    return run(net.last, x)[:, 0]


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"lean": True, "repeat": 2, "factors": (3, 2, 2)}])
def test_the_network_in_plain_words(sizes):
    net = small_net(**sizes).unet
    for parameter in net.parameters():  # biases begin at 0 and would tell nothing
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    wave, mel = torch.randn(2, 5 * 24), torch.randn(2, 5, 20)
    for step in range(3):
        expected = plain_unet(net, wave, mel, step)
        torch.testing.assert_close(net(wave, mel, step), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(net(wave, mel, 0), net(wave, mel, 2), atol=1e-3)


@torch.no_grad()
def test_the_discriminator_in_plain_words():
    torch.manual_seed(0)
    judge = WaveScales(2, 4, 32)
    x = torch.randn(2, 1, 400)
    for number, said in enumerate(judge(x[:, 0])):
        y = x if number == 0 else F.avg_pool1d(x, 4, 2, 1, count_include_pad=False)
        layers = judge.judges[number].convs
        y = F.leaky_relu(F.conv1d(F.pad(y, (7, 7), mode="reflect"), layers[0].weight, layers[0].bias), 0.2)
        for i, layer in enumerate(layers[1:5]):
            assert layer.groups == (1, 4, 8, 8)[i]
            y = F.leaky_relu(F.conv1d(y, layer.weight, layer.bias, 4, 20, groups=layer.groups), 0.2)
        torch.testing.assert_close(said.features[4], y, atol=1e-6, rtol=1e-5)
        assert len(said.features) == 6 and said.scores.shape == (2, y.shape[2])


# ---- the iteration ---------------------------------------------------------------------------------


@torch.no_grad()
def test_one_iteration_is_one_pass():
    net, mel = small_net(num_iterations=1), LogMel(SMALL)(speech_like())
    noise = net.noise(mel, None, [4])
    expected = net.with_power(noise - net.unet(noise, (mel - SILENCE) / -SILENCE, 0), mel)
    torch.testing.assert_close(net(mel, seeds=[4]), expected, atol=0, rtol=0)


def test_no_gradient_goes_from_one_iterate_to_the_one_before():
    net, mel = small_net(num_iterations=2), LogMel(SMALL)(speech_like(480))
    first, second = net.iterates(mel, seeds=[1])
    (second.square() * torch.linspace(0, 1, second.shape[1])).sum().backward()
    own = {name: p.grad.clone() for name, p in net.unet.named_parameters()}
    net.unet.zero_grad()
    constant = first.detach()
    again = net.with_power(constant - net.unet(constant, (mel - SILENCE) / -SILENCE, 1), mel)
    (again.square() * torch.linspace(0, 1, second.shape[1])).sum().backward()
    for name, parameter in net.unet.named_parameters():
        assert torch.equal(parameter.grad, own[name]), name


@torch.no_grad()
@pytest.mark.parametrize("gain", ["power", "peak"])
def test_the_level_is_the_mels(gain):
    net, wave = small_net(gain), speech_like()
    mel = LogMel(SMALL)(wave)
    made = net(mel, seeds=[1])
    own = LogMel(SMALL).magnitude(made, "constant") @ net.log_mel.filters
    assert float(own.square().sum()) == pytest.approx(float(mel.exp().square().sum()), rel=1e-3)
    torch.testing.assert_close(net.with_power(made, mel), made, atol=1e-6, rtol=1e-4)
    # The waveform that the mel was made of keeps its level, but for the mirrored ends.
    torch.testing.assert_close(net.with_power(wave, mel), wave, atol=0, rtol=5e-3)
    if gain == "peak":
        for iterate in net.iterates(mel, seeds=[1]):
            assert float(iterate.abs().max()) == pytest.approx(0.9, abs=1e-5)
        torch.testing.assert_close(with_peak(with_peak(made)), with_peak(made), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_silence_stays_silent():
    for gain in ("power", "peak"):
        made = small_net(gain)(torch.full((1, 20, 20), SILENCE))
        assert made.isfinite().all() and float(made.abs().max()) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("gain", ["power", "peak"])
def test_an_item_alone_is_the_item_in_a_batch(gain):
    net = small_net(gain, lean=gain == "peak")
    mels = [LogMel(SMALL)(speech_like(n))[0] for n in (480, 1200, 24 * 33)]
    lengths = torch.tensor([len(mel) for mel in mels])
    # What stands behind an item's end is of no account.
    padded = nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=2.0)
    together = net(padded, lengths, [5, 6, 7])
    for row, mel in enumerate(mels):
        alone = net(mel[None], seeds=[5 + row])[0]
        # Float32 sums in another order, through three iterations.
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=1e-4)
        assert not together[row, len(alone) :].any()


# ---- the noise -------------------------------------------------------------------------------------


@torch.no_grad()
def test_filters_are_of_minimum_phase_and_of_the_mels_envelope():
    shaped, mel = ShapedNoise(SMALL), LogMel(SMALL)(speech_like())
    found = shaped.filters(mel) * shaped.window.square().sum().sqrt()
    logs = shaped.inverse(mel).log()
    # The envelope: cosines up to the 24th of the log spectrum, even about both of its ends.
    whole = torch.cat([logs, logs[..., 1:-1].flip(-1)], dim=-1)
    cosines = torch.fft.fft(whole, dim=-1).real
    cosines[..., 25:-24] = 0
    envelope = torch.fft.ifft(cosines, dim=-1).real[..., : logs.shape[-1]]
    torch.testing.assert_close(found.abs().log(), envelope, atol=1e-4, rtol=1e-4)
    # Minimum phase: log H is analytic, so that its cepstrum has no anticausal half.
    spectrum = torch.cat([found, found[..., 1:-1].flip(-1).conj()], dim=-1)
    logs = torch.complex(spectrum.abs().log(), spectrum.angle())
    unwrapped = torch.fft.ifft(logs, dim=-1)
    smooth = unwrapped[(spectrum.angle().diff(dim=-1).abs() < math.pi).all(-1)]
    assert len(smooth)
    assert float(smooth[..., 65:].abs().max()) < 1e-4


@torch.no_grad()
def test_noise_has_the_level_of_a_flat_spectrum():
    level = 0.7
    spec = MelSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=64, n_mels=40, f_max=4000.0)
    shaped = ShapedNoise(spec)
    white = torch.full((129,), level) @ LogMel(spec).filters
    mel = white.log().expand(1, 4000, 40)
    power = LogMel(spec).magnitude(shaped(mel, None, [1])).square().mean(1)[0]
    assert float(power[2:-2].mean().sqrt()) == pytest.approx(level, rel=0.03)


def test_a_seed_is_the_noise_of_its_item():
    shaped, mel = ShapedNoise(SMALL), LogMel(SMALL)(speech_like()).repeat(3, 1, 1)
    one, other, again = shaped(mel, None, [1, 2, 1])
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=1e-3)


# ---- training --------------------------------------------------------------------------------------


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


def test_the_loop_equals_a_plain_one():
    """Each iterate against the recording, term by term; nothing shared or frozen."""
    pretrain, steps = 1, 3
    game = {**MODEL["game"], "pretrain_steps": pretrain}
    model, data = make(game=game)
    batches = list(data.train_dataloader())
    model.configure_model()
    with torch.no_grad():  # an untrained judge feels alike about all; exaggerate, so that each part moves
        for name, parameter in model.discriminators.named_parameters():
            if name.endswith("original0"):
                parameter.mul_(6)
    reference = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    fit(model, data, steps)

    spec = OptimSpec(**{**OPTIM, "betas": (0.8, 0.9)})
    judges = reference.discriminators["scales"]
    opt_g, opt_d = spec.make(reference.net), spec.make(judges)
    for step in range(steps):
        mel, real = batches[step]["mel"], batches[step]["wave"]
        seeds = [derive_seed("wavefit", 1, step, row) for row in batches[step]["row"].tolist()]
        for group in opt_g.param_groups:
            group["lr"] = spec.lr * spec.factor(step, steps)
        if step >= pretrain:
            for group in opt_d.param_groups:
                group["lr"] = 2 * spec.lr * spec.factor(step - pretrain, steps - pretrain)
            fakes = [fake.detach() for fake in reference.net.iterates(mel, seeds=seeds)]
            loss = sum((1 - said.scores).relu().mean() for said in judges(real)) / 2
            loss = loss + sum((1 + said.scores).relu().mean() for fake in fakes for said in judges(fake)) / 2 / 2
            opt_d.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(judges.parameters(), spec.clip_norm)
            opt_d.step()
        loss = 0.0
        for fake in reference.net.iterates(mel, seeds=seeds):
            loss = loss + 2.5 * reference.stft_loss(fake, real).mean() / 2
            if step >= pretrain:
                for true, said in zip(judges(real), judges(fake), strict=True):
                    loss = loss + (1 - said.scores).relu().mean() / 2 / 2
                    near = [(x - y).abs().mean() for x, y in zip(true.features, said.features, strict=True)]
                    loss = loss + 10 * sum(near) / 6 / 2 / 2
        opt_g.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reference.net.parameters(), spec.clip_norm)
        opt_g.step()

    expected = reference.state_dict()
    moved = 0
    for name, value in model.state_dict().items():
        moved += not torch.equal(value, before[name])
        # Float32 sums over a thousand samples in another order: a hundredth of the movement, or the last bits.
        allowed = 0.01 * (expected[name] - before[name]).abs().max() + 1e-6
        assert (value - expected[name]).abs().max() <= allowed, name
    assert moved > 0.9 * len(expected)


def test_losses_stay_in_float32_under_autocast():
    model, data = make(gain="peak")
    with torch.autocast("cpu", torch.bfloat16):
        played = model.play(next(iter(data.train_dataloader())))
    assert played.fake.dtype == played.parts["loss"].dtype == torch.float32
    assert len(played.fake) == 2 * len(played.real)
    torch.testing.assert_close(played.real.abs().amax(1), torch.full((2,), 0.9))


# ---- as a vocoder ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> WaveFit:
    return make()[0].eval()


@torch.inference_mode()
def test_requests_have_their_own_noise(model, tmp_path):
    kind, mel = model.Request, torch.randn(5, 80, generator=torch.Generator().manual_seed(0)) - 5
    one, other, again = model.synthesize([kind(mel=mel, seed=s) for s in (1, 2, 1)])
    assert (one.waveform == again.waveform).all()
    assert (one.waveform != other.waveform).any()
    drawn = [model.synthesize([kind(mel=mel)], torch.Generator().manual_seed(s))[0].waveform for s in (7, 7, 8)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    write_audio(tmp_path / "tone.wav", torch.sin(torch.arange(5000) * 0.05) * 0.3, 22050)
    (made,) = model.synthesize([kind(audio=str(tmp_path / "tone.wav"))])
    assert made.waveform.shape == (1, 5000 // 256 * 256)


def test_a_stream_is_refused(model):
    with refused(RequestError, "unsupported", "decode_stream", names="decode"):
        model.decode_stream(iter([torch.zeros(1, 4, 80)]))


def test_exports_hold_the_generator_alone(tmp_path):
    model, data = make()
    fit(model, data, 1)
    folder = save_export(model, tmp_path / "export")
    synth = load(folder)
    assert synth.model.discriminators is None
    assert json.loads((folder / "unisono.json").read_text())["model"] == "codec/wavefit"
    mel = torch.zeros(1, 9, 80)
    with torch.no_grad():
        assert torch.equal(synth.model.decode(mel), model.eval().decode(mel))


# ---- sizes -----------------------------------------------------------------------------------------


def test_factors_are_found_from_the_hop():
    expected = {80: (5, 2, 2, 2, 2), 240: (5, 4, 3, 2, 2), 256: (4, 4, 4, 2, 2), 300: (5, 5, 3, 2, 2)}
    assert {hop: derived(hop, 5) for hop in expected} == expected
    for hop in (1, 7, 16, 22, 243, 441, 512, 4096):
        if hop in (16, 441, 512, 4096):
            found = derived(hop, 4)
            assert math.prod(found) == hop and all(2 <= f <= 8 for f in found) and list(found) == sorted(found)[::-1]
        else:
            with refused(RecipeError, "conflict", "model.network.up_channels", value=4, names=str(hop)):
                derived(hop, 4)


def test_sizes_that_do_not_fit_are_refused():
    with refused(RecipeError, "conflict", "model.network.up_channels", value=5, names="441"):
        WaveFitSizes().factors_for(441)
    with refused(RecipeError, "conflict", "model.network.factors", value=(4, 4, 4, 4, 2), names="256"):
        WaveFitSizes(factors=(4, 4, 4, 4, 2)).factors_for(256)
    with refused(RecipeError, "conflict", "model.network.repeat", value=3, names="256"):
        WaveFitSizes(repeat=3).factors_for(256)
    with refused(RecipeError, "shape", "model.network.down_channels", value=(4,)):
        WaveFitSizes(down_channels=(4,))
    with refused(RecipeError, "value", "model.network.first_channels", value=3):
        WaveFitSizes(first_channels=3)
    with refused(RecipeError, "range", "model.network.repeat", value=0):
        WaveFitSizes(repeat=0)
    with refused(RecipeError, "range", "model.num_iterations", value=0):
        WaveFit(num_iterations=0)
