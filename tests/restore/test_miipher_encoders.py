"""Encoders of transformers: their own numbers, adapted layers, folders as components."""

import json

import pytest
import torch
from refused import refused
from unisono.errors import CheckpointError, RequestError
from unisono.export import load_component
from unisono_restore.miipher.imported import HOP, TransformersEncoder, read_encoder
from unisono_restore.miipher.model import Miipher
from unisono_sound.encoder import Encoder

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.1,
}
CONVS = {"conv_dim": [8] * 7}


def make(kind: str) -> TransformersEncoder:
    torch.manual_seed(0)
    if kind == "wav2vec2-bert":
        config = transformers.Wav2Vec2BertConfig(**SIZES, output_hidden_size=16, conv_depthwise_kernel_size=3)
        model = transformers.Wav2Vec2BertModel(config)
        return TransformersEncoder(model, transformers.SeamlessM4TFeatureExtractor())
    families = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}
    config = getattr(transformers, f"{families[kind]}Config")(**SIZES, **CONVS)
    model = getattr(transformers, f"{families[kind]}Model")(config)
    return TransformersEncoder(model, transformers.Wav2Vec2FeatureExtractor(do_normalize=kind != "wavlm"))


def noise(*size: int) -> torch.Tensor:
    return 0.1 * torch.randn(*size, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm", "wav2vec2-bert"])
def test_features_are_the_models_own(kind):
    encoder = make(kind)
    assert isinstance(encoder, Encoder)
    spec = encoder.feature_spec
    assert (spec.sample_rate, spec.hop_length, spec.dim, spec.num_layers) == (16000, 320, 16, 3)
    wave = noise(2, 20 * HOP + 5)
    heard = encoder.features(wave, layer=2)
    assert heard.values.shape == (2, 21, 16)
    # Bit by bit what they are without adapters, and with adapters that say nothing.
    assert torch.equal(
        encoder.features(wave, layer=2, adapt=lambda number, x: torch.zeros_like(x)).values, heard.values
    )
    around = (560 if kind == "wav2vec2-bert" else 400) - HOP
    padded = torch.nn.functional.pad(wave, (around // 2, 21 * HOP - wave.shape[1] + around // 2))
    given = encoder.front_end(list(padded.numpy()), sampling_rate=16000, return_tensors="pt")
    name = "input_features" if kind == "wav2vec2-bert" else "input_values"
    theirs = encoder.model(given[name], output_hidden_states=True).hidden_states
    torch.testing.assert_close(heard.values, theirs[2], atol=1e-5, rtol=1e-4)
    seen = {}
    moved = encoder.features(wave, layer=1, adapt=lambda number, x: seen.setdefault(number, x)).values
    torch.testing.assert_close(moved, theirs[1] + theirs[0], atol=1e-5, rtol=1e-4)
    hooks = [len(layer._forward_hooks) for layer in encoder.model.encoder.layers]  # transformers has its own
    encoder.features(wave)
    assert [len(layer._forward_hooks) for layer in encoder.model.encoder.layers] == hooks
    with refused(RequestError, "range", "layer", value=4, names="3"):
        encoder.features(wave, layer=4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-bert"])
def test_an_item_alone_is_the_item_in_a_batch(kind):
    encoder = make(kind)
    wave, lengths = noise(2, 8000), torch.tensor([5000, 8000])
    together = encoder.features(wave, lengths)
    assert together.lengths.tolist() == [16, 25]
    for row, count in enumerate(lengths.tolist()):
        alone = encoder.features(wave[row : row + 1, :count]).values[0]
        torch.testing.assert_close(together.values[row, : len(alone)], alone)


def test_gradients_reach_what_adapts_and_nothing_else():
    encoder = make("hubert").requires_grad_(False)
    scale = torch.zeros((), requires_grad=True)
    encoder.features(noise(1, 6400), layer=2, adapt=lambda number, x: scale * x).values.square().sum().backward()
    assert scale.grad is not None and float(scale.grad) != 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


@torch.no_grad()
def test_a_folder_is_a_component(tmp_path):
    encoder = make("hubert")
    encoder.model.save_pretrained(tmp_path)
    encoder.front_end.save_pretrained(tmp_path)
    read = load_component(Miipher, "encoder", tmp_path, {})
    wave = noise(1, 6400)
    torch.testing.assert_close(read.features(wave).values, encoder.features(wave).values)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with refused(CheckpointError, "damaged"):
        read_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "nothing"}))
    with refused(CheckpointError, "damaged"):
        read_encoder(tmp_path)
