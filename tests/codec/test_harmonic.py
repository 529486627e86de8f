"""The harmonic source: pulses and noise against their definitions, one clock for whole, batch and stream."""

import math

import pytest
import torch
from refused import refused
from unisono.errors import RecipeError
from unisono_codec.vocoders.data import make_tone, tone_pitch
from unisono_codec.vocoders.harmonic import (
    BINS_PER_OCTAVE,
    LOWEST_HZ,
    NUM_BINS,
    Clock,
    Filters,
    HarmonicNet,
    centre_turns,
    numbered_noise,
    pitch_hz,
    pulse_train,
)
from unisono_codec.vocoders.sizes import VocosSizes
from unisono_codec.vocoders.vocos import SILENCE, Vocos
from unisono_sound.signal import MelSpec, pitch

SPEC = MelSpec(n_fft=256, win_length=256, hop_length=64, n_mels=20)
HOP = SPEC.hop_length
# Float32 sums in another order move the pitch by some 1e-6, and the hundredth harmonic half a second later by 0.03 of
# a turn at the most: of waveforms about 1.5 loud, a thousandth.
TOLERANCE = 1e-3
SIZES = VocosSizes(dim=16, intermediate_dim=24, num_blocks=2)


def make_net(spec: MelSpec = SPEC) -> HarmonicNet:
    torch.manual_seed(0)
    return HarmonicNet(spec, 16, 24, 2).eval()


def make_mel(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, SPEC.n_mels, generator=torch.Generator().manual_seed(0)) - 5


@pytest.mark.parametrize("hz", [70.0, 200.0, 333.3])
def test_pulses_are_the_sum_of_all_cosines_below_half_the_rate(hz):
    pulses = pulse_train(torch.full((1, 50), hz), SPEC)[0]
    seconds = torch.arange(50 * HOP, dtype=torch.float64) / SPEC.sample_rate
    harmonics = torch.arange(1, int(SPEC.sample_rate / 2 / hz) + 1)[:, None]
    truth = torch.cos(2 * math.pi * hz * harmonics * seconds).sum(0)
    # Dirichlet's kernel divides two small float32 sines: 1e-3 of its peak, the number of harmonics.
    torch.testing.assert_close(pulses.double(), truth, atol=1e-3 * len(harmonics), rtol=0)


def test_a_glide_turns_as_often_as_its_integral_says():
    track = torch.linspace(100, 300, 40)[None]
    turns = centre_turns(track, SPEC)[0]
    seconds = (torch.arange(40, dtype=torch.float64) + 0.5) * HOP / SPEC.sample_rate
    at_start, slope = 100.0, 200.0 / 39 * SPEC.sample_rate / HOP
    since = seconds - seconds[0]
    expected = at_start * seconds[0] + at_start * since + slope * since.square() / 2
    torch.testing.assert_close(turns, expected, atol=1e-5, rtol=0)  # the track is float32
    pulses = pulse_train(track, SPEC)[0]
    peaks = ((pulses[1:-1] > pulses[2:]) & (pulses[1:-1] > pulses[:-2]) & (pulses[1:-1] > 15)).sum()
    assert abs(int(peaks) - int(turns[-1])) <= 1


def test_noise_is_white_of_unit_variance_and_belongs_to_its_number():
    like = torch.empty(2, 50_000)
    noise = numbered_noise(1000, like)
    assert torch.equal(noise[0], noise[1])
    assert torch.equal(noise[:, 7:], numbered_noise(1007, like[:, 7:]))
    assert torch.equal(numbered_noise(torch.tensor([0, 1000]), like)[1], noise[0])
    # Standard errors of mean, variance and lagged products of 50,000 uniform numbers: below 0.005.
    assert abs(float(noise[0].mean())) < 0.02
    assert abs(float(noise[0].var()) - 1) < 0.02
    for lag in (1, 2, HOP):
        assert abs(float((noise[0, lag:] * noise[0, :-lag]).mean())) < 0.02


def test_the_pitch_of_a_blurred_bin_is_its_centre():
    place = torch.linspace(3, NUM_BINS - 4, 50)
    logits = -(torch.arange(NUM_BINS) - place[:, None]).square() / 2
    cents = 1200 * (pitch_hz(logits) / (LOWEST_HZ * 2 ** (place / BINS_PER_OCTAVE))).log2()
    assert cents.abs().max() < 10  # two bins on either side cut the bell off


@torch.no_grad()
def test_a_true_pitch_comes_out_as_asked():
    """With open filters the waveform has the pitch of the track, whatever the weights."""
    spec = MelSpec()
    net = make_net(spec)
    bins = spec.n_fft // 2 + 1
    zero = torch.zeros(1, 120, bins)
    filters = Filters(zero, zero, zero - 9, zero, torch.zeros(1, 120, NUM_BINS))
    track = torch.linspace(150, 250, 120)[None]
    wave = net.render(torch.full((1, 120, 80), -3.0), filters, track, None, Clock())
    heard = pitch(wave[0], spec)
    inner = slice(10, 110)
    assert (heard[inner] > 0).all()
    assert (1200 * (heard[inner] / track[0, inner]).log2()).abs().median() < 20


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[90], [1] * 90, [7] * 12 + [6], [60, 30], [1, 88, 1]])
def test_a_stream_equals_the_whole(sizes):
    net, mel = make_net(), make_mel(2, 90)
    pieces = list(net.stream(mel.split(sizes, dim=1)))
    torch.testing.assert_close(torch.cat(pieces, 1), net(mel), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_an_item_alone_equals_the_item_in_a_batch():
    net, mel = make_net(), make_mel(4, 50)
    lengths = torch.tensor([50, 23, 2, 1])
    mel[1, 23:] = 1e4  # nothing that stands in the padding may count
    together = net(mel, lengths)
    for wave, item, length in zip(together, mel, lengths.tolist(), strict=True):
        torch.testing.assert_close(wave[: length * HOP], net(item[None, :length])[0], atol=TOLERANCE, rtol=0)
        assert wave[length * HOP :].abs().sum() == 0


@torch.no_grad()
def test_silence_is_silent():
    wave = make_net()(torch.full((1, 30, SPEC.n_mels), SILENCE))
    assert wave.abs().max() < 3e-3  # -50 dB: the floor of a log mel, through untrained filters


def test_a_gradient_reaches_every_parameter():
    model = Vocos(network=SIZES, source="harmonic")
    model.build({"mel_spec": SPEC.to_dict(), "pitch": True})
    hz = torch.stack([tone_pitch(i, 20 * HOP)[HOP // 2 :: HOP] for i in range(2)])
    wave = torch.stack([make_tone(i, 20 * HOP, SPEC.sample_rate) for i in range(2)])
    batch = {"mel": model.log_mel(wave), "wave": wave, "pitch": hz, "voiced": hz > 0, "start": torch.zeros(2).long()}
    model.losses(batch)["loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_data_without_pitch_is_refused():
    with refused(RecipeError, "conflict", "model.source", value="harmonic"):
        Vocos(network=SIZES, source="harmonic").build({"mel_spec": SPEC.to_dict()})
