"""The listener: its loss and its error rate against their definitions, padding, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from torch.nn import functional as F
from unisono import Synthesizer
from unisono.errors import DataError, RecipeError, RequestError
from unisono.nn.pooling import AttentiveStatistics
from unisono.recipe import Recipe
from unisono_codec.voices.listener import equal_error_rate
from unisono_sound.signal import MelSpec, resample, write_audio

SPEC = MelSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=40, f_max=4000)


def make(*overrides):
    facts = {
        "symbols": ["<pad>"],
        "front_end": "characters",
        "language": "en-us",
        "speakers": ["ann", "bob", "cem"],
        "words": ["one", "two"],
        "mel_spec": SPEC.to_dict(),
        "mel_bin_mean": [-5.0] * 40,
        "mel_bin_std": [2.0] * 40,
    }
    return Recipe.read("codec/listener-tiny", list(overrides)).build_model(facts).eval()


@pytest.fixture(scope="module")
def listener():
    return make()


def buzz(hertz=130.0, seconds=0.5, rate=8000):
    time = torch.arange(round(seconds * rate)) / rate
    return sum(torch.sin(2 * math.pi * hertz * k * time) / k for k in range(1, 9)) * 0.1


def batch(lengths=(30, 45, 45, 20)):
    mel = torch.randn(len(lengths), max(lengths), 40, generator=torch.Generator().manual_seed(0)) - 5
    return {
        "mel": mel,
        "lengths": torch.tensor(lengths),
        "speaker": torch.tensor([0, 1, 2, 1]),
        "word": torch.tensor([0, 1, 1, 0]),
        "row": torch.arange(4),
    }


def test_the_loss_is_the_additive_angular_margin(listener):
    data = batch()
    with torch.no_grad():
        parts = listener.losses(data)
        vectors, words = listener.listen(data["mel"], data["lengths"])
        theta = torch.arccos(vectors @ F.normalize(listener.centres, dim=-1).mT)
    loss = 0.0
    for i, true in enumerate(data["speaker"].tolist()):
        score = [math.exp(15 * math.cos(float(theta[i, k]) + 0.2 * (k == true))) for k in range(3)]
        loss -= math.log(score[true] / sum(score)) / 4
    assert float(parts["voice"]) == pytest.approx(loss, rel=1e-4)
    assert torch.allclose(parts["word"], F.cross_entropy(words, data["word"]))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4))


def test_padding_changes_nothing(listener):
    data = batch()
    with torch.no_grad():
        together = listener.listen(data["mel"], data["lengths"])
        for i, n in enumerate(data["lengths"].tolist()):
            alone = listener.listen(data["mel"][i : i + 1, :n], data["lengths"][i : i + 1])
            for one, all_ in zip(alone, together, strict=True):
                assert torch.allclose(one[0], all_[i], atol=1e-5)


def test_training_hears_other_microphones_the_same_ones_again(listener):
    listener.train()
    try:
        mel = batch()["mel"]
        one, same = (listener._colour([0, 1, 2, 3], mel) for _ in range(2))
    finally:
        listener.eval()
    assert torch.equal(one, same) and one.shape == (4, 1, 40)
    assert torch.allclose(one.diff(dim=2).diff(dim=2), torch.zeros(4, 1, 38), atol=1e-5)  # straight lines


def test_statistics_are_weighted_means_and_deviations():
    torch.manual_seed(0)
    pool, x = AttentiveStatistics(4).eval(), torch.randn(1, 6, 4)
    mask = torch.tensor([[True] * 5 + [False]])
    with torch.no_grad():
        weight = pool.weight(pool.inside(x[:, :5]).tanh()).softmax(1)
        mean = (weight * x[:, :5]).sum(1)
        std = ((weight * x[:, :5].square()).sum(1) - mean.square() + 1e-6).sqrt()
        assert torch.allclose(pool(x, mask), torch.cat([mean, std], -1), atol=1e-5)


def test_a_recording_of_another_rate_is_the_same_voice(listener):
    wave = buzz(rate=16000)
    one, other = listener.hear([wave], 16000)[0], listener.hear([resample(wave, 16000, 8000)], 8000)[0]
    assert np.allclose(one.vector, other.vector, atol=1e-5)
    assert one.similarity(other) == pytest.approx(1, abs=1e-5)
    assert sum(one.speakers.values()) == pytest.approx(1, abs=1e-5) and set(one.words) == {"one", "two"}
    louder = listener.hear([wave * 3], 16000)[0]  # brought to one level
    assert one.similarity(louder) == pytest.approx(1, abs=1e-4)


def test_a_file_is_heard_and_written(listener, tmp_path):
    write_audio(tmp_path / "a.wav", buzz(), 8000)
    heard = Synthesizer(listener)(str(tmp_path / "a.wav"))
    assert heard.save(tmp_path / "a.json").stat().st_size > 0 and heard.plot() is not None
    assert heard.speaker == max(heard.speakers, key=heard.speakers.get)


@pytest.mark.parametrize(
    ("wave", "code"),
    [(torch.zeros(4000), "empty"), (torch.full((4000,), math.nan), "value"), (torch.ones(10), "range")],
)
def test_what_cannot_be_heard_is_refused(listener, wave, code):
    with refused(RequestError, code, "samples"):
        listener.hear([wave], 8000)


@pytest.mark.parametrize(("name", "value"), [("margin", 2.0), ("gain_share", 1.5), ("gain_share", -0.1)])
def test_sizes_out_of_range_are_refused(name, value):
    with refused(RecipeError, "range", f"model.{name}", value=value):
        make(f"--model.{name}={value}")


def test_weights_in_half_precision_are_refused():
    with refused(RequestError, "unsupported", "dtype", value="bfloat16", names="Listener"):
        make().bfloat16().hear([buzz()], 8000)


# ---- the equal error rate ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("same", "different", "rate"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.8, 0.9], 1.0),
        ([0.9, 0.4], [0.6, 0.1], 0.5),
        ([4, 3, 2, 0], [1, -1, -2, -3], 0.25),
    ],
)
def test_the_error_rate_of_known_pairs(same, different, rate):
    assert equal_error_rate(same, different) == pytest.approx(rate)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.floats(-1, 3))
def test_the_error_rate_lies_where_both_rates_cross(seed, m, n, gap):
    draw = np.random.default_rng(seed)
    same, different = draw.normal(gap, 1, m), draw.normal(0, 1, n)
    rate = equal_error_rate(same, different)
    levels = [-np.inf, *np.sort(np.concatenate([same, different])), np.inf]
    rates = [(np.mean(same < t), np.mean(different >= t)) for t in levels]
    assert max(min(pair) for pair in rates) - 1e-12 <= rate <= min(max(pair) for pair in rates) + 1e-12


def test_the_error_rate_needs_both_kinds():
    with refused(DataError, "empty", "same", names="0"):
        equal_error_rate([], [0.1])
