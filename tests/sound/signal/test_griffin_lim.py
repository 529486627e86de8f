"""Griffin-Lim: deterministic, alone as in a batch, and better with every iteration."""

import torch
from unisono_sound.signal import GriffinLim, LogMel, MelSpec

SPEC = MelSpec()


def harmonics(num_frames, hz=150.0):
    time = torch.arange(num_frames * 256) / 22050
    return 0.1 * sum(torch.sin(2 * torch.pi * hz * k * time) / k for k in range(1, 12))


def mel_of(num_frames, hz):
    wave = harmonics(max(num_frames, 2), hz)[None]
    return LogMel(SPEC)(wave)[0, :num_frames]


def mel_distance(wave, target):
    return (LogMel(SPEC)(wave) - target).abs().mean().item()


def test_copy_synthesis_improves_with_iterations():
    mel = LogMel(SPEC)(harmonics(40)[None])
    distances = [mel_distance(GriffinLim(SPEC, n).decode(mel), mel) for n in (0, 4, 32)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.3  # nepers; random phases are off by about 0.6


def test_deterministic_and_global_generator_untouched():
    mel = LogMel(SPEC)(harmonics(20)[None])
    state = torch.random.get_rng_state()
    first = GriffinLim(SPEC).decode(mel)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(123)
    assert torch.equal(GriffinLim(SPEC).decode(mel), first)


def test_alone_equals_in_a_batch():
    mels = [mel_of(n, hz) for n, hz in ((20, 120.0), (13, 200.0), (1, 99.0))]
    vocoder = GriffinLim(SPEC, num_iters=4)
    batch = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=7.0)
    waves = vocoder.decode(batch, torch.tensor([20, 13, 1]))
    assert waves.shape == (3, 20 * 256)
    for mel, wave in zip(mels, waves, strict=True):
        n = len(mel) * 256
        assert torch.equal(vocoder.decode(mel[None])[0], wave[:n])
        assert not wave[n:].any()


def test_it_is_a_vocoder_without_state():
    vocoder = GriffinLim()
    assert vocoder.mel_spec == MelSpec()
    assert not vocoder.state_dict()
    assert vocoder.decode(torch.zeros(1, 0, 80)).shape == (1, 0)
