"""AP-BWE's generator: its sizes, what it sees, padding, silence, and what it is before it has learnt."""

import pytest
import torch
from unisono_restore.ap_bwe.network import FLOOR, BandNet, Spectrum, log_amplitude
from unisono_restore.ap_bwe.sizes import SPECTRUM, BandSizes
from unisono_sound.signal.phase import TransformSizes, phase

SMALL = TransformSizes(n_fft=128, win_length=80, hop_length=20)


def make_net(num_blocks: int = 2) -> BandNet:
    torch.manual_seed(0)
    net = BandNet(SMALL, BandSizes(dim=16, intermediate_dim=24, num_blocks=num_blocks)).eval()
    torch.nn.init.normal_(net.amplitude_head.weight, std=0.05)
    return net


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_published_sizes_have_the_published_parameters():
    with torch.device("meta"):
        net = BandNet(SPECTRUM, BandSizes())
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 29.76


@torch.no_grad()
def test_an_untrained_generator_returns_the_amplitude_that_it_is_given():
    net = BandNet(SMALL, BandSizes(dim=16, intermediate_dim=24, num_blocks=2))
    spectrum = net.transform(noise(2, 500))
    made = net.predict(net.analysed(spectrum))
    assert torch.equal(made.log_amplitude, (spectrum.abs() + FLOOR).log())
    assert made.phase.shape == spectrum.shape and made.phase.abs().max() <= torch.pi


@torch.no_grad()
def test_true_amplitude_and_phase_give_back_the_waveform(monkeypatch):
    net, wave = make_net(), noise(2, 511)
    spectrum = net.transform(wave)
    truth = Spectrum((spectrum.abs() + 1e-12).log(), spectrum.angle())
    monkeypatch.setattr(net, "predict", lambda heard, mask=None: truth)
    torch.testing.assert_close(net(wave), wave, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_exchange_is_amplitude_first_as_published():
    net = make_net(num_blocks=1)
    seen = {}
    net.amplitudes.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.update(loud=inputs[0]))
    net.phases.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.update(turn=inputs[0]))
    heard = net.analysed(net.transform(noise(1, 300)))
    net.predict(heard)
    loud, turn = net.amplitudes.begin(heard.log_amplitude, None), net.phases.begin(heard.phase, None)
    torch.testing.assert_close(seen["loud"], loud + turn)
    torch.testing.assert_close(seen["turn"], turn + (loud + turn))


@torch.no_grad()
@pytest.mark.parametrize("length", [*range(1, 9), 19, 20, 21, 39, 40, 41, 60, 61])
def test_every_length_is_kept(length):
    net = make_net()
    made = net(noise(1, length))
    assert made.shape == (1, length) and made.isfinite().all()


@torch.no_grad()
def test_a_sample_is_heard_within_the_reach_and_no_further():
    net = make_net()
    wave = noise(1, 1200)
    changed = wave.clone()
    changed[0, 600] += 0.3
    first, last = (net(wave) != net(changed))[0].nonzero()[[0, -1], 0].tolist()
    assert 600 - net.reach <= first and last <= 600 + net.reach
    assert first < 600 - net.reach + 2 * SMALL.hop_length  # and not much less, so that no context is wasted
    assert last > 600 + net.reach - 2 * SMALL.hop_length


@torch.no_grad()
def test_an_item_alone_equals_the_item_in_a_batch():
    net = make_net()
    lengths = torch.tensor([400, 173, 20, 1])
    waves = noise(4, 400)
    waves[1, 173:] = 9.0  # nothing that stands in the padding may count
    together = net(waves, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = net(waves[row : row + 1, :length])[0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=0)
        assert not together[row, length:].any()


@torch.no_grad()
def test_silence_stays_silent_and_sound_beside_it_does_not():
    net = make_net()
    wave = torch.cat([torch.zeros(1, 500), noise(1, 300), torch.zeros(1, 500)], dim=1)
    made = net(wave)
    assert not made[0, : 500 - 2 * SMALL.reach].any() and not made[0, 800 + 2 * SMALL.reach :].any()
    assert made[0, 520:780].abs().max() > 1e-3
    assert not net(torch.zeros(1, 700)).any()


def test_what_is_heard_of_a_rounding_has_no_phase():
    rounding = torch.complex(torch.tensor([[[-1e-9, 1e-9]]]), torch.tensor([[[1e-9, -1e-9]]]))
    heard = make_net().analysed(rounding)
    assert heard.phase.abs().max() < 1e-4 and phase(rounding, 0.0).abs().max() > 0.7
    torch.testing.assert_close(log_amplitude(rounding), torch.full((1, 1, 2), FLOOR).log(), atol=1e-4, rtol=0)
