"""MP-SENet's network and model: shapes and sizes as published, axes, masks, levels, windows, and what is refused."""

import math
from itertools import pairwise

import pytest
import torch
from refused import refused
from unisono.errors import RecipeError
from unisono_restore.mp_senet.blocks import Conformer, RecurrentFeedForward, SelfAttention, TimeFrequency, Transformer
from unisono_restore.mp_senet.decoders import LearnableSigmoid, SubPixel
from unisono_restore.mp_senet.dense import DenseBlock
from unisono_restore.mp_senet.facts import NoisyFacts
from unisono_restore.mp_senet.model import MPSENet
from unisono_restore.mp_senet.network import SENet
from unisono_restore.mp_senet.sizes import SPECTRUM, MetricGame, SENetObjective, SENetSizes, WindowSizes
from unisono_restore.mp_senet.spectra import Compressed, compressed, gain_to_unit
from unisono_sound.signal.phase import CentredTransform, TransformSizes, amplitude, compose
from unisono_sound.signal.phase_losses import complex_loss

KINDS = ("transformer", "conformer")
SMALL = TransformSizes(n_fft=64, win_length=64, hop_length=24)
RATE = 8000


def sizes(blocks: str, **more) -> SENetSizes:
    return SENetSizes(**{"blocks": blocks, "channels": 4, "num_blocks": 2, "num_heads": 2, "depth": 2, **more})


def network(blocks: str, spectrum: TransformSizes = SMALL, **more) -> SENet:
    torch.manual_seed(0)
    return SENet(spectrum, sizes(blocks, **more)).eval()


def waves(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1)) * 0.1
    counts = torch.tensor(lengths)
    return made * (torch.arange(made.shape[1]) < counts[:, None]), counts


def model(**arguments) -> MPSENet:
    torch.manual_seed(0)
    made = MPSENet(**{"network": sizes("transformer"), "spectrum": SMALL, **arguments})
    made.build(NoisyFacts(sample_rate=RATE))
    return made.eval()


def numbers(made: MPSENet, batch: dict) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(value) for name, value in made.losses(batch).items()}


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "millions"), [("transformer", 2.26), ("conformer", 2.05)])
def test_the_published_networks_have_the_published_size(blocks, millions):
    net = SENet(SPECTRUM, SENetSizes(blocks=blocks))
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("blocks", KINDS)
@pytest.mark.parametrize("n_fft", [64, 100, 256])
def test_every_frequency_gets_a_mask_and_a_phase(blocks, n_fft):
    net = network(blocks, TransformSizes(n_fft=n_fft, win_length=n_fft, hop_length=24), num_blocks=1)
    heard = compressed(net.transform(waves(300)[0]), 0.3)
    with torch.no_grad():
        mask, phase = net(heard)
    assert mask.shape == phase.shape == heard.magnitude.shape
    assert float(mask.min()) > 0 and float(mask.max()) < 2 and float(phase.abs().max()) <= math.pi


@pytest.mark.parametrize("blocks", KINDS)
def test_every_parameter_gets_a_gradient(blocks):
    net = network(blocks).train()
    made = net.estimate(waves(500)[0])
    (made.wave.square().sum() + made.spectrum.magnitude.sum() + made.spectrum.phase.cos().sum()).backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    assert not missing


# ---- oracles of the parts --------------------------------------------------------------------------------------------


def test_the_learnable_sigmoid_has_its_bounds_and_half_of_them_at_zero():
    sigmoid = LearnableSigmoid(3, 2.0)
    assert torch.equal(sigmoid(torch.zeros(2, 3)), torch.ones(2, 3))
    assert torch.equal(sigmoid(torch.tensor([-200.0, 0.0, 200.0])), torch.tensor([0.0, 1.0, 2.0]))
    with torch.no_grad():
        sigmoid.slope[1] = 3.0
    torch.testing.assert_close(
        sigmoid(torch.full((3,), 0.7)), 2 / (1 + torch.exp(-torch.tensor([1.0, 3.0, 1.0]) * 0.7))
    )


def test_sub_pixels_stand_side_by_side():
    layer = SubPixel(2)
    x = torch.randn(1, 2, 3, 5)
    made, channels = layer(x), layer.conv(x)
    assert made.shape == (1, 2, 3, 10)
    assert torch.equal(made[..., 0::2], channels[:, :2]) and torch.equal(made[..., 1::2], channels[:, 2:])


@pytest.mark.parametrize(("short", "seen"), [(False, [5, 6, 7, 8]), (True, [2, 3, 4, 5, 6, 7, 8])])
def test_dense_blocks_see_what_their_paper_lets_them(short, seen):
    block = DenseBlock(2, 2, short)
    for norm in block.norms:  # the norm sees everything
        norm.norm = torch.nn.Identity()
        norm.forward = lambda x, mask, norm=norm: norm.activation(x)
    x = torch.randn(1, 2, 12, 4, requires_grad=True)
    moved = torch.autograd.grad(block(x, None)[0, :, 5 if short else 8].sum(), x)[0]
    touched = moved[0].abs().sum((0, 2)).nonzero()[:, 0].tolist()
    assert touched == seen


@pytest.mark.parametrize("block", [Transformer, Conformer])
def test_blocks_look_along_their_sequence_and_at_no_other(block):
    made = block(sizes("transformer")).eval()
    x = torch.randn(3, 7, 4, requires_grad=True)
    moved = torch.autograd.grad(made(x, None)[1, 3].square().sum(), x)[0].abs().sum(2)
    assert bool((moved[1] > 0).all()) and not bool(moved[[0, 2]].any())


@pytest.mark.parametrize("blocks", KINDS)
def test_a_pair_looks_along_time_first_and_then_along_frequency(blocks):
    pair = TimeFrequency(sizes(blocks)).eval()
    x = torch.randn(2, 4, 5, 6)
    by_hand = x.clone()
    for item in range(2):
        for f in range(6):
            column = by_hand[item, :, :, f].mT[None]
            by_hand[item, :, :, f] = (column + pair.time(column, None))[0].mT
        for t in range(5):
            row = by_hand[item, :, t].mT[None]
            by_hand[item, :, t] = (row + pair.frequency(row, None))[0].mT
    torch.testing.assert_close(pair(x, None), by_hand.detach(), atol=1e-5, rtol=1e-5)


def test_attention_is_torchs_batch_first():
    mine, theirs = SelfAttention(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(mine.parts.weight)
        theirs.out_proj.weight.copy_(mine.out.weight)
    x, mask = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    expected, _ = theirs(x, x, x, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(mine(x, mask), expected, atol=1e-6, rtol=1e-5)


def test_the_recurrence_begins_at_each_sequences_own_end():
    layer = RecurrentFeedForward(4)
    x, counts = torch.randn(3, 6, 4), [6, 1, 4]
    together = layer(x, torch.arange(6) < torch.tensor(counts)[:, None])
    for row, count in enumerate(counts):
        torch.testing.assert_close(together[row, :count], layer(x[row : row + 1, :count], None)[0])


# ---- spectra and levels ----------------------------------------------------------------------------------------------


def test_a_mask_of_one_and_the_noisy_phase_give_the_sound_back():
    transform, wave = CentredTransform(SPECTRUM), waves(3000)[0]
    spectrum = transform(wave)
    heard = compressed(spectrum, 0.3)
    back = transform.inverse(compose(amplitude(spectrum, 0.0), heard.phase), 3000)
    torch.testing.assert_close(back, wave, atol=1e-5 * float(wave.abs().max()) * 30, rtol=0)


def test_compression_is_a_power_of_the_magnitude_and_has_finite_gradients_at_zero():
    spectrum = torch.tensor([[[3 + 4j, 0j, -1e-3j]]], requires_grad=True)
    made = compressed(spectrum, 0.3)
    assert made.magnitude[0, 0].tolist() == pytest.approx([5**0.3, 1e-9**0.15, (1e-6 + 1e-9) ** 0.15], rel=1e-5)
    torch.view_as_real(made.complex).sum().backward()
    assert spectrum.grad is not None and bool(torch.view_as_real(spectrum.grad).isfinite().all())


def test_a_true_spectrum_is_consistent():
    transform = CentredTransform(SPECTRUM)
    wave = waves(4000)[0] * 10
    true = compressed(transform(wave), 0.3)
    again = compressed(transform(transform.inverse(transform(wave), 4000)), 0.3)
    assert float(complex_loss(true.complex, again.complex)) < 1e-6


def test_gain_brings_an_items_own_samples_to_unit_power():
    wave, counts = waves(400, 100)
    gain = gain_to_unit(wave, counts)
    for row, count in enumerate(counts.tolist()):
        assert float((wave[row, :count] * gain[row]).square().mean()) == pytest.approx(1, rel=1e-5)
    assert float(gain_to_unit(torch.zeros(1, 5))) == pytest.approx(1e6)


@pytest.mark.parametrize("blocks", KINDS)
@pytest.mark.parametrize("gain", [1e-3, 0.3, 20.0])
def test_louder_in_is_louder_out(blocks, gain):
    net, (wave, _) = network(blocks), waves(900)
    with torch.no_grad():
        made, other = net.enhance(wave), net.enhance(gain * wave)
    torch.testing.assert_close(other / gain, made, atol=1e-4 * float(made.abs().max()), rtol=0)


@pytest.mark.parametrize("blocks", KINDS)
def test_silence_stays_silence(blocks):
    net, (wave, _) = network(blocks), waves(900)
    with torch.no_grad():
        assert not bool(net.enhance(torch.zeros(2, 500)).any())
        both = net.enhance(torch.cat([wave, torch.zeros_like(wave)]))
    assert bool(both[0].any()) and not bool(both[1].any())


@pytest.mark.parametrize("blocks", KINDS)
def test_alone_is_as_in_a_batch_of_other_lengths(blocks):
    net, (wave, counts) = network(blocks), waves(900, 411, 5, 24)
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        together = net.enhance(wave + noise * (torch.arange(900) >= counts[:, None]), counts)  # padding is ignored
        for row, count in enumerate(counts.tolist()):
            alone = net.enhance(wave[row : row + 1, :count])
            bound = 1e-4 * float(alone.abs().max())
            torch.testing.assert_close(together[row : row + 1, :count], alone, atol=bound, rtol=0)
            assert not bool(together[row, count:].any())


# ---- the model -------------------------------------------------------------------------------------------------------


def test_a_short_sound_is_one_window_and_the_seams_of_a_long_one_are_smooth():
    made = model(windows=WindowSizes(seconds=0.25, overlap_seconds=0.1))
    short, long = waves(2000)[0], waves(7001)[0]
    with torch.no_grad():
        whole = made.net.enhance(short)
    (heard,) = made.synthesize([made.Request(samples=short[0].tolist())])
    assert torch.equal(torch.from_numpy(heard.waveform), whole)
    (heard,) = made.synthesize([made.Request(samples=long[0].tolist())])
    joined = torch.from_numpy(heard.waveform)
    assert joined.shape == long.shape
    # in every overlap the join lies between what both windows say
    starts = [*range(0, 7001 - 2000, 1200), 7001 - 2000]
    with torch.no_grad():
        windows = {start: made.net.enhance(long[:, start : start + 2000])[0] for start in starts}
    for one, other in pairwise(starts):
        shared = slice(one + 1200, one + 2000)
        a = windows[one][shared.start - one : shared.stop - one]
        b = windows[other][shared.start - other : shared.stop - other]
        between = joined[0, shared]
        assert bool((between <= torch.maximum(a, b) + 1e-6).all() and (between >= torch.minimum(a, b) - 1e-6).all())


def test_the_losses_of_a_perfect_estimate_vanish(monkeypatch):
    made = model()
    clean = waves(600)[0]
    spectrum = made.net.transform(clean * gain_to_unit(clean))
    monkeypatch.setattr(
        SENet,
        "forward",
        lambda self, heard, mask=None: (torch.ones_like(heard.magnitude), compressed(spectrum, 0.3).phase),
    )
    parts = numbers(made, {"wave": clean, "heard": clean})
    # squares and absolute values of float32's rounding; the complex terms also hold the phase's offset at 1e-5
    limits = {"magnitude": 1e-8, "phase": 1e-4, "complex": 1e-6, "consistency": 1e-4, "waveform": 1e-4, "loss": 1e-4}
    assert {name: value < limits[name] for name, value in parts.items()} == dict.fromkeys(limits, True), parts


def test_losses_are_weighed_as_published_and_each_by_hand(monkeypatch):
    made = model()
    clean, noisy = waves(600, 600)[0]
    made_of = Compressed(torch.full((1, 26, 33), 0.5), torch.full((1, 26, 33), 0.25))
    monkeypatch.setattr(
        SENet, "forward", lambda self, heard, mask=None: (made_of.magnitude / heard.magnitude, made_of.phase)
    )
    parts = numbers(made, {"wave": clean[None], "heard": noisy[None]})
    gain = 1 / noisy.square().mean().sqrt()
    target = compressed(made.net.transform(clean[None] * gain), 0.3)
    assert parts["magnitude"] == pytest.approx(float((0.5 - target.magnitude).square().mean()), rel=1e-5)
    apart = torch.view_as_real(torch.polar(torch.tensor(0.5), torch.tensor(0.25)) - target.complex)
    assert parts["complex"] == pytest.approx(float(apart.square().mean()), rel=1e-5)
    weights = {"magnitude": 0.9, "phase": 0.3, "complex": 0.2, "consistency": 0.2, "waveform": 0.2}
    assert parts["loss"] == pytest.approx(sum(w * parts[name] for name, w in weights.items()), rel=1e-5)


def test_silent_crops_count_for_nothing():
    made = model()
    clean, noisy = waves(600, 600)[0]
    alone = numbers(made, {"wave": clean[None], "heard": noisy[None]})
    silence = torch.zeros(600)
    both = numbers(made, {"wave": torch.stack([clean, silence]), "heard": torch.stack([noisy, silence])})
    assert both == pytest.approx(alone, rel=1e-4)


REFUSED = [
    (lambda: SENetSizes(channels=6), "range", "model.network.channels", 6),
    (lambda: SENetSizes(num_blocks=0), "range", "model.network.num_blocks", 0),
    (lambda: SENetSizes(compression=0.0), "range", "model.network.compression", 0.0),
    (lambda: SENetSizes(mask_limit=1.0), "range", "model.network.mask_limit", 1.0),
    (lambda: SENetSizes(dropout=1.0), "range", "model.network.dropout", 1.0),
    (lambda: MetricGame(processes=-1), "range", "model.game.processes", -1),
    (lambda: SENetObjective(metric=-0.1), "range", "model.objective.metric", -0.1),
    (lambda: WindowSizes(seconds=0.1), "range", "model.windows.seconds", 0.1),
    (lambda: WindowSizes(seconds=1.0, overlap_seconds=0.6), "range", "model.windows.overlap_seconds", 0.6),
    (
        lambda: MPSENet(spectrum=TransformSizes(n_fft=66, win_length=66, hop_length=20)),
        "value",
        "model.spectrum.n_fft",
        66,
    ),
]


@pytest.mark.parametrize(("make", "code", "path", "value"), REFUSED)
def test_sizes_refuse(make, code, path, value):
    with refused(RecipeError, code=code, path=path, value=value):
        make()
