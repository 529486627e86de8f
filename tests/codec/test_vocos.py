"""Vocos: its inverse transform, what it may see, streaming, and what it can be asked."""

import math

import pytest
import torch
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_codec.vocoders.sizes import VocosSizes
from unisono_codec.vocoders.vocos import MAX_MAGNITUDE, SILENCE, Vocos, VocosNet
from unisono_sound.signal import MelSpec, stft_same, write_audio

SPEC = MelSpec(n_fft=256, win_length=256, hop_length=64, n_mels=20)
HOP = SPEC.hop_length
# Float32 sums in another order; waveforms here are about 0.1 loud.
TOLERANCE = 1e-6


def make_model(num_blocks: int = 2) -> Vocos:
    torch.manual_seed(0)
    model = Vocos(network=VocosSizes(dim=16, intermediate_dim=24, num_blocks=num_blocks))
    model.build({"mel_spec": SPEC.to_dict()})
    return model.eval()


def make_mel(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, SPEC.n_mels, generator=torch.Generator().manual_seed(seed)) - 5


@pytest.fixture(scope="module")
def model() -> Vocos:
    return make_model()


@torch.no_grad()
def test_true_coefficients_give_back_the_waveform(monkeypatch):
    net = VocosNet(SPEC, 16, 24, 2)
    wave = torch.randn(2, 40 * HOP, generator=torch.Generator().manual_seed(1))
    truth = stft_same(wave, SPEC.n_fft, HOP, net.window)
    monkeypatch.setattr(net, "coefficients", lambda mel, mask=None: truth)
    # 1e-5: single precision through a transform and back, of samples up to 4.
    torch.testing.assert_close(net(make_mel(2, 40)), wave, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_head_is_polar_and_limits_the_magnitude():
    net = VocosNet(SPEC, 16, 24, 2)
    bins = SPEC.n_fft // 2 + 1
    net.head.weight.zero_()
    net.head.bias[:bins] = torch.linspace(-3, 10, bins)
    net.head.bias[bins:] = 0.7
    predicted = net.coefficients(make_mel(1, 4))
    magnitude = torch.linspace(-3, 10, bins).exp().clamp(max=MAX_MAGNITUDE)
    torch.testing.assert_close(predicted.abs(), magnitude.expand(1, 4, bins))
    torch.testing.assert_close(predicted.angle(), torch.full((1, 4, bins), 0.7))


@torch.no_grad()
def test_zero_padding_is_silence():
    net = VocosNet(SPEC, 16, 24, 2)
    seen = []
    net.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(torch.full((1, 5, SPEC.n_mels), SILENCE))
    assert seen[0].abs().max() == 0


@torch.no_grad()
def test_an_item_alone_equals_the_item_in_a_batch(model):
    lengths = torch.tensor([30, 17, 2, 1])
    mel = make_mel(4, 30)
    mel[1, 17:] = torch.nan  # nothing that stands in the padding may count
    mel[2:, 2:] = 50.0
    mel = torch.where(mel.isnan(), torch.tensor(1e4), mel)
    together = model.decode(mel, lengths)
    for wave, item, length in zip(together, mel, lengths.tolist(), strict=True):
        alone = model.decode(item[None, :length])[0]
        torch.testing.assert_close(wave[: length * HOP], alone, atol=TOLERANCE, rtol=0)
        assert wave[length * HOP :].abs().sum() == 0


def test_a_frame_is_heard_within_the_context_and_no_further(model):
    # By the gradient: a difference in float32 may round away what comes from the very edge.
    mel = make_mel(1, 60).requires_grad_()
    model.decode(mel)[:, 30 * HOP : 31 * HOP].square().sum().backward()
    heard = mel.grad[0].abs().amax(1).nonzero()[:, 0]
    context = model.net.context
    assert (int(heard.min()), int(heard.max())) == (30 - context, 30 + context)


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7] * 8 + [4], [40, 20], [1, 58, 1]])
def test_a_stream_equals_the_whole(model, sizes):
    mel = make_mel(2, 60)
    pieces = list(model.decode_stream(mel.split(sizes, dim=1)))
    whole = model.decode(mel)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_a_stream_speaks_before_its_end(model):
    fed = []

    def chunks():
        for chunk in make_mel(1, 60).split(10, dim=1):
            fed.append(chunk)
            yield chunk

    first = next(model.decode_stream(chunks()))
    assert len(fed) == math.ceil((model.net.context + 1) / 10)
    assert first.shape[1] == (10 * len(fed) - model.net.context) * HOP
    assert list(model.decode_stream([])) == []


def test_a_gradient_reaches_every_parameter():
    model = make_model()
    batch = {"mel": make_mel(2, 20), "wave": torch.randn(2, 20 * HOP) * 0.1}
    model.losses(batch)["loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_head_and_losses_stay_in_float32_under_autocast():
    model = make_model()
    with torch.autocast("cpu", torch.bfloat16):
        parts = model.losses({"mel": make_mel(2, 20), "wave": torch.randn(2, 20 * HOP) * 0.1})
    assert {value.dtype for value in parts.values()} == {torch.float32}


@torch.inference_mode()
def test_requests(model, tmp_path):
    wave = torch.sin(torch.arange(5000) * 0.05) * 0.3
    write_audio(tmp_path / "tone.wav", wave, SPEC.sample_rate)
    spoken, short, *own = model.synthesize(
        [
            model.Request(audio=str(tmp_path / "tone.wav")),
            model.Request(mel=make_mel(3)),
            *model.preview_requests(),
        ]
    )
    assert spoken.waveform.shape == (1, 5000 // HOP * HOP)
    assert short.waveform.shape == (1, 3 * HOP)
    assert len(own) == len(model.preview_requests()) > 0
    assert all(0 < preview.seconds <= 1 + HOP / SPEC.sample_rate for preview in own)
    (alone,) = model.synthesize([model.Request(mel=make_mel(3))])
    torch.testing.assert_close(
        torch.from_numpy(alone.waveform), torch.from_numpy(short.waveform), atol=TOLERANCE, rtol=0
    )


def test_a_very_short_recording_is_resynthesised(model, tmp_path):
    write_audio(tmp_path / "click.wav", torch.ones(10) * 0.1, SPEC.sample_rate)
    (made,) = model.synthesize([model.Request(audio=str(tmp_path / "click.wav"))])
    assert made.waveform.shape[1] >= 10


@pytest.mark.parametrize(
    ("fields", "code", "path", "named"),
    [
        ({}, "value", "Request", "give either audio"),
        ({"audio": "a.wav", "mel": [[0.0]]}, "value", "Request", "give either audio"),
        ({"audi": "a.wav"}, "unknown", "audi", "did you mean 'audio'"),
        ({"mel": "loud"}, "type", "mel", "loud"),
    ],
)
def test_a_wrong_request_is_one_sentence(fields, code, path, named):
    with refused(RequestError, code, path, names=named):
        Vocos.Request.parse(**fields)


@pytest.mark.parametrize("mel", [[], [[0.0] * 3], [[0.0] * 20, [0.0]]])
def test_a_mel_of_another_size_is_refused(model, mel):
    with refused(RequestError, "shape", "mel", names="20"):
        model.synthesize([model.Request(mel=mel)])


def test_a_missing_recording_is_named(model):
    with refused(DataError, "missing", "nowhere.wav", value="no such audio file: does not exist"):
        model.synthesize([model.Request(audio="nowhere.wav")])
