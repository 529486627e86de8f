"""EnCodec and DAC against transformers' own code, on small random weights: the same tokens, the same sound."""

import json
import sys

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import CheckpointError
from unisono.export import load, save_export
from unisono_codec.codecs.imported import DacCodec, EncodecCodec, from_transformers

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def encodec():
    config = transformers.EncodecConfig(
        num_filters=4,
        hidden_size=8,
        upsampling_ratios=[4, 5, 2],
        num_residual_layers=2,
        num_lstm_layers=2,
        codebook_size=16,
        target_bandwidths=[2.4, 9.6],
        sampling_rate=24000,
    )
    return random_weights(transformers.EncodecModel(config))


def make_dac(strides):
    config = transformers.DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=strides,
        decoder_hidden_size=16,
        n_codebooks=3,
        codebook_size=16,
        codebook_dim=4,
    )
    return random_weights(transformers.DacModel(config))


@pytest.fixture(scope="module")
def dac():
    return make_dac([2, 4])


def random_weights(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not name.endswith("inited"):
                # Positive where it is a length; so large that every layer matters.
                fresh = torch.randn(value.shape, generator=generator)
                value.copy_(fresh.abs() + 0.5 if name.endswith(("alpha", "original0")) else 0.3 * fresh)
        for layer in getattr(model.quantizer, "layers", []):
            layer.codebook.embed.copy_(torch.randn(layer.codebook.embed.shape, generator=generator))
    return model.eval()


def waves(samples, count=2):
    return 0.5 * torch.randn(count, samples, generator=torch.Generator().manual_seed(1))


def test_encodec_says_the_same_tokens_and_the_same_sound(encodec):
    ours = from_transformers(encodec)
    wave = waves(ours.hop_length * 13)
    with torch.no_grad():
        theirs = encodec.encode(wave[:, None], bandwidth=9.6).audio_codes[0].mT  # [b, t, q]
        tokens = ours.encode(wave)
        assert tokens.shape[-1] == ours.num_levels == theirs.shape[-1]
        assert torch.equal(tokens, theirs) and len(tokens.unique()) > 4
        fewer = encodec.encode(wave[:, None], bandwidth=2.4).audio_codes[0].mT
        assert torch.equal(ours.encode(wave, levels=fewer.shape[-1]), fewer)
        sound = encodec.decode(tokens.mT[None], [None])[0][:, 0]
        torch.testing.assert_close(ours.decode(tokens), sound, atol=1e-5, rtol=1e-4)
        assert sound.std() > 1e-3


@pytest.mark.parametrize("strides", [[2, 4], [2, 5], [5, 3]], ids=str)
def test_dac_says_the_same_tokens_and_the_same_sound(strides):
    dac = make_dac(strides)
    ours = from_transformers(dac)
    wave = waves(ours.hop_length * 17)
    with torch.no_grad():
        tokens = ours.encode(wave)
        assert torch.equal(tokens, dac.encode(wave[:, None]).audio_codes.mT) and len(tokens.unique()) > 4
        assert torch.equal(ours.encode(wave, levels=2), dac.encode(wave[:, None], n_quantizers=2).audio_codes.mT)
        # These weights magnify rounding: in float32 either differs from itself on two threads by more than the bound.
        sound = dac.double().decode(audio_codes=tokens.mT).audio_values.float()
        made = ours.double().decode(tokens)
        torch.testing.assert_close(made[:, : sound.shape[1]], sound, atol=1e-5, rtol=1e-4)
        assert (made[:, sound.shape[1] :] == 0).all() and made.shape[1] - sound.shape[1] < ours.hop_length
        assert sound.std() > 1e-3


@pytest.mark.parametrize("kind", ["encodec", "dac"])
def test_a_folder_becomes_an_export_that_loads_without_transformers(kind, request, tmp_path, monkeypatch):
    theirs = request.getfixturevalue(kind)
    theirs.save_pretrained(tmp_path / "theirs")
    monkeypatch.setitem(sys.modules, "transformers", None)
    codec = from_transformers(tmp_path / "theirs")
    loaded = load(save_export(codec, tmp_path / "ours")).model
    assert type(loaded) is {"encodec": EncodecCodec, "dac": DacCodec}[kind]
    wave = waves(500)
    tokens = loaded.encode(wave)
    assert torch.equal(tokens, from_transformers(theirs).encode(wave))
    np.testing.assert_array_equal(loaded.decode(tokens).numpy(), codec.decode(tokens).numpy())


def test_a_padded_batch_is_its_items(encodec):
    ours = from_transformers(encodec)
    wave, lengths = waves(720, 3), torch.tensor([720, 41, 300])
    together = ours.encode(wave, lengths)
    sound = ours.decode(together, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = ours.encode(wave[row : row + 1, :length])
        count = alone.shape[1]
        assert torch.equal(together[row, :count], alone[0]) and (together[row, count:] == 0).all()
        own = ours.decode(alone, torch.tensor([length]))[0, :length]
        # Products of another size are summed in another order.
        torch.testing.assert_close(sound[row, :length], own, atol=1e-5 * float(sound.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("theirs", "options", "ours", "millions"),
    [
        ("Encodec", {}, EncodecCodec, 14.85),
        ("Dac", {"sampling_rate": 44100}, DacCodec, 76.65),  # 76 M in the paper's table
    ],
)
def test_the_published_sizes(theirs, options, ours, millions):
    """Weights of the published models as transformers builds them, lengths of weight norm not counted."""
    with torch.device("meta"):
        config = getattr(transformers, f"{theirs}Config")(**options)
        model = getattr(transformers, f"{theirs}Model")(config)
    codec = ours()
    codec.build({"mel_spec": {"sample_rate": config.sampling_rate}})

    def count(net):
        return sum(p.numel() for n, p in net.named_parameters() if not n.endswith(("original0", "weight_g")))

    assert count(codec.net) == count(model)
    assert count(model) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("change", "code", "path", "named"),
    [
        ({"model_type": "mimi"}, "unsupported", None, "'mimi'"),
        ({"audio_channels": 2}, "unsupported", "audio_channels", "only 1"),
        ({"norm_type": "time_group_norm"}, "unsupported", "norm_type", "'weight_norm'"),
        ({"num_filters": 8}, "shape", None, "net.encoder.first.conv.weight"),
    ],
)
def test_what_cannot_be_read_is_named(encodec, tmp_path, change, code, path, named):
    encodec.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with refused(CheckpointError, code, path or repr(str(tmp_path)), names=named):
        from_transformers(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dac"}')
    with refused(CheckpointError, "missing", "model.safetensors"):
        from_transformers(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with refused(CheckpointError, "damaged"):
        from_transformers(tmp_path)
