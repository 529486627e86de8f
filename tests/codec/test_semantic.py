"""Semantic tokens: phonemes stretched, HuBERT's clusters, and what does not fit."""

import importlib.util

import numpy as np
import pytest
import soundfile
import torch
from refused import refused
from unisono.errors import DataError, RequestError
from unisono_codec.voices.semantic import (
    HUBERT_FIELD,
    HUBERT_HOP,
    HUBERT_RATE,
    HubertUnits,
    Phonemes,
    SemanticSpec,
    hubert_frames,
    k_means,
    main,
    nearest,
    nearest_frames,
)

RATE, HOP = 22050, 512
FRAME_RATE = RATE / HOP


def phonemes():
    return Phonemes(["a", "b", "c"], FRAME_RATE, RATE / 256)


def test_phonemes_last_as_long_as_they_should():
    provider = phonemes()
    symbols = torch.tensor([0, 1, 2, 1])
    durations = torch.tensor([[4.0, 3.0, 6.0, 2.0]])  # mel frames, two to a codec frame
    frames = provider.durations(durations, torch.tensor([4]))
    assert frames.tolist() == [[2, 2, 3, 1]]  # 15 / 2, boundaries rounded: 2, 4, 7, 8
    assert provider(symbols, frames[0]).tolist() == [0, 0, 1, 1, 2, 2, 2, 1]


def test_rounding_does_not_drift_and_keeps_a_total():
    provider = phonemes()
    durations = torch.full((1, 101), 3.0)
    lengths = torch.tensor([101])
    assert int(provider.durations(durations, lengths).sum()) in (151, 152)
    total = torch.tensor([150])
    assert int(provider.durations(durations, lengths, total).sum()) == 150
    assert int(provider.durations(durations, lengths, pace=2.0).sum()) in (75, 76)


def test_nothing_can_be_said_of_no_frame():
    with refused(RequestError, "empty", "semantic"):
        phonemes()(torch.tensor([1]), torch.tensor([0]))


@pytest.mark.parametrize(
    ("tokens", "rate", "code", "path", "value", "named"),
    [
        ([0, 3], None, "range", "semantic", (0, 3), "phonemes have 3 kinds"),
        ([-1, 0], None, "range", "semantic", (-1, 0), "0 to 2"),
        ([0, 1], 50.0, "conflict", "semantic_rate", 50.0, "43.0664"),
        ([], None, "empty", "semantic", None, ()),
    ],
)
def test_tokens_of_another_kind_are_refused(tokens, rate, code, path, value, named):
    spec = SemanticSpec("phonemes", 3, FRAME_RATE)
    with refused(RequestError, code, path, value=value, names=named):
        spec.check(torch.tensor(tokens, dtype=torch.int64), rate)
    spec.check(torch.tensor([0, 2]), FRAME_RATE)


def test_nearest_frames_have_the_nearest_centre():
    found = nearest_frames(60, FRAME_RATE, 40)
    ours = (np.arange(60) + 0.5) / FRAME_RATE
    theirs = (np.arange(40) * HUBERT_HOP + HUBERT_FIELD / 2) / HUBERT_RATE
    best = np.abs(ours[:, None] - theirs).min(1)
    assert np.allclose(np.abs(ours - theirs[found.numpy()]), best)


def test_k_means_finds_clusters_and_reaches_a_fixed_point():
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [9.0, 9.0]])
    x = (true[:, None] + 0.3 * torch.randn(4, 50, 2, generator=generator)).flatten(0, 1)
    means = k_means(x, 4, seed=1)
    assert sorted(nearest(true, means).tolist()) == [0, 1, 2, 3]
    owner = nearest(x, means)
    assert torch.allclose(torch.stack([x[owner == i].mean(0) for i in range(4)]), means, atol=1e-5)
    assert torch.equal(means, k_means(x, 4, seed=1))


def test_every_cluster_is_used_even_where_vectors_repeat():
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0], [2.0]])
    assert sorted(k_means(x, 3).flatten().tolist()) == [0.0, 1.0, 2.0]
    with refused(DataError, "range", "num_clusters", value=6, names="5"):
        k_means(x, 6)


@pytest.fixture(scope="module")
def hubert():
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    from transformers import HubertConfig, HubertModel

    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        config = HubertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        )  # fmt: skip
        return HubertModel(config).eval()


def test_units_of_a_recording_lie_on_codec_frames(hubert):
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(RATE, generator=generator) * 0.1
    heard = hubert_frames(hubert, wave, RATE, 1, True)
    assert heard.shape[1] == 16 and abs(len(heard) - 49) <= 1
    units = HubertUnits(hubert, k_means(heard, 5), 1, FRAME_RATE)
    tokens = units(wave, RATE)
    assert len(tokens) == -(-RATE // HOP) and units.spec.vocabulary == 5
    units.spec.check(tokens, FRAME_RATE)
    assert torch.equal(tokens, nearest(heard, units.centres)[nearest_frames(len(tokens), FRAME_RATE, len(heard))])
    assert len(units(wave[:10], RATE)) == 1
    with refused(RequestError, "empty", "wave"):
        units(wave[:0], RATE)
    with refused(DataError, "range", "layer", value=3, names=["0", "2"]):
        HubertUnits(hubert, units.centres, 3, FRAME_RATE)
    with refused(DataError, "shape", "centres", value=7):
        HubertUnits(hubert, torch.zeros(4, 7), 1, FRAME_RATE)


def test_units_are_written_and_read(hubert, tmp_path, capsys):
    hubert.save_pretrained(tmp_path / "model")
    (tmp_path / "wavs").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(tmp_path / "wavs" / f"{i}.wav", 0.1 * rng.standard_normal(RATE // 2), RATE)
    common = [str(tmp_path / "model"), str(tmp_path / "units"), "--data", str(tmp_path / "wavs")]
    assert main([*common, "--layer", "1", "--clusters", "4"]) == 0
    units = HubertUnits.read(tmp_path / "units", FRAME_RATE)
    assert units.spec.vocabulary == 4 and units.layer == 1
    tokens = units(torch.from_numpy(rng.standard_normal(RATE).astype(np.float32)), RATE)
    assert len(tokens) == 44
    assert main([*common, "--layer", "9"]) == 2
    assert "layer=9 must be from 0 to 2" in capsys.readouterr().err
    with refused(DataError, "missing", "units.safetensors"):
        HubertUnits.read(tmp_path, FRAME_RATE)
