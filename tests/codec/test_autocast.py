"""Autocast: networks run in bfloat16 where they can, and widen where they must; half weights are refused."""

import pytest
import torch
from refused import refused
from torch import nn
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono.recipe import Recipe
from unisono_codec.codecs import untrained
from unisono_codec.codecs.frames import FrameDecoder, FrameEncoder, FrameSizes
from unisono_codec.vocoders.harmonic import HarmonicNet
from unisono_codec.vocoders.sizes import WaveNetSizes
from unisono_codec.vocoders.vocos import VocosNet
from unisono_codec.vocoders.wavenet import WaveNet
from unisono_sound.signal import GriffinLim, LogMel, MelSpec

SPEC = MelSpec(n_fft=64, win_length=64, hop_length=16, n_mels=10)
WAVENET = WaveNetSizes(
    upsample_factors=(4, 4), num_layers=6, num_stacks=2, channels=8, gate_channels=8, skip_channels=8
)


class Coded(nn.Module):
    """A codec's two networks without the codes between them."""

    def __init__(self):
        super().__init__()
        sizes = FrameSizes(2, 12, 16, 1, 1, "harmonic", 12, 16, 2)
        self.encoder, self.decoder = FrameEncoder(SPEC, sizes, 20), FrameDecoder(SPEC, sizes, 20)

    def forward(self, mel):
        return self.decoder(self.encoder(mel))


NETS = {
    "vocos": (lambda: VocosNet(SPEC, 16, 24, 2), {"head"}),
    "harmonic": (lambda: HarmonicNet(SPEC, 16, 24, 2), {"head"}),
    "wavenet": (lambda: WaveNet(SPEC, WAVENET), {"before_last", "last"}),
    "frames": (
        Coded,
        {"encoder.past", "encoder.out", "decoder.past", "decoder.out", "decoder.head.head"},
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETS)
def test_the_trunk_runs_in_bfloat16_and_the_head_does_not(name, dtype):
    torch.manual_seed(0)
    make, wide = NETS[name]
    net = make().eval()
    mel = (torch.randn(2, 40, SPEC.n_mels) - 5).to(dtype)
    dtypes: dict[str, torch.dtype] = {}
    for path, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d) and ".smooth." not in f".{path}":
            module.register_forward_hook(lambda _m, _i, out, path=path: dtypes.__setitem__(path, out.dtype))
    with torch.no_grad():
        exact = net(mel.float())
        with torch.autocast("cpu", torch.bfloat16):
            wave = net(mel)
            if name == "harmonic":  # the likeliest bin of an untrained pitch may be another: without it
                filters = net.filters(mel)
                assert {part.dtype for part in filters} == {torch.float32}
        seen = dict(dtypes)
        if name == "harmonic":
            exact = net.filters(mel.float()).gain
    assert wave.dtype == torch.float32 and torch.isfinite(wave).all()
    assert {path for path, kind in seen.items() if kind == torch.float32} == wide
    assert len(dtypes) > len(wide) + 3
    # bfloat16 has 8 bits of mantissa; errors of 1 % in the filters are heard as such
    wave = filters.gain if name == "harmonic" else wave
    assert (wave - exact).square().mean().sqrt() < 0.2 * exact.square().mean().sqrt()
    with torch.autocast("cpu", torch.bfloat16):
        net(mel).square().mean().backward()
    without = [path for path, weight in net.named_parameters() if weight.grad is None]
    assert all("pitch" in path or path.startswith("head") for path in without), without


def test_transforms_widen_what_they_are_given():
    mel = torch.randn(1, 30, SPEC.n_mels) - 5
    griffin_lim, log_mel = GriffinLim(SPEC, 4), LogMel(SPEC)
    with torch.autocast("cpu", torch.bfloat16):
        wave = griffin_lim.decode(mel)
        again = log_mel(wave)
    assert wave.dtype == again.dtype == torch.float32
    torch.testing.assert_close(wave, griffin_lim.decode(mel))
    torch.testing.assert_close(again, log_mel(wave))


def test_weights_in_half_precision_are_refused_by_name():
    """Phases do not bear it: such a model says so at once, however it is asked, and is as before once it is wide."""
    for kind in (torch.bfloat16, torch.float16):
        name = str(kind).removeprefix("torch.")

        def no(model, ask, name=name):
            with refused(RequestError, "unsupported", "dtype", value=name, names=[type(model).__name__, ".float()"]):
                ask()

        for recipe in ("codec/vocos-tiny", "codec/parallel-wavegan-tiny"):
            vocoder = Recipe.read(recipe).build_model({"mel_spec": MelSpec().to_dict(), "pitch": False}).eval()
            mel = torch.randn(1, 9, vocoder.mel_spec.n_mels) - 5
            with torch.no_grad():
                before = vocoder.decode(mel)
            vocoder.to(kind)
            no(vocoder, lambda vocoder=vocoder, mel=mel: vocoder.decode(mel))
            no(vocoder, lambda vocoder=vocoder, mel=mel: list(vocoder.decode_stream([mel])))
            no(vocoder, lambda vocoder=vocoder, mel=mel: Synthesizer(vocoder)(None, mel=mel[0].tolist()))
            with torch.no_grad():
                assert vocoder.float().decode(mel).shape == before.shape
        codec = untrained.rvq({}).to(kind)
        wave, tokens = torch.randn(1, 3000), torch.zeros(1, 5, codec.num_codebooks, dtype=torch.int64)
        no(codec, lambda codec=codec, wave=wave: codec.encode(wave))
        no(codec, lambda codec=codec, tokens=tokens: codec.decode(tokens))
        no(codec, lambda codec=codec, wave=wave: list(codec.encode_stream([wave])))
        no(codec, lambda codec=codec, tokens=tokens: list(codec.decode_stream([tokens])))
        no(codec, lambda codec=codec: Synthesizer(codec)(None, samples=[0.1] * 3000))
