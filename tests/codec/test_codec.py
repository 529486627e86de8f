"""Codecs: tokens and sound, levels and groups, lengths and padding, what they learn from, what they begin with."""

import math
from dataclasses import replace

import pytest
import torch
from live import check_snapshots
from refused import refused
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start

MEL = {
    "sample_rate": 8000,
    "n_fft": 256,
    "win_length": 256,
    "hop_length": 64,
    "n_mels": 20,
    "f_min": 0.0,
    "f_max": 4000.0,
}
FRAMES = {
    "dim": 16,
    "intermediate_dim": 16,
    "frame_blocks": 1,
    "token_blocks": 1,
    "head_dim": 8,
    "head_intermediate_dim": 8,
    "head_blocks": 1,
}
WAVE = {"channels": 2, "strides": [4, 4, 8], "dilations": [1], "residual_kernel": 3, "decoder_channels": 16}
LEVELS = {"frames": FRAMES, "latent_dim": 12, "codebook_size": 16, "num_levels": 3, "code_dim": 4}
KINDS = {
    "frames": {"name": "codec/rvq", **LEVELS},
    "harmonic": {"name": "codec/rvq", **LEVELS, "frames": {**FRAMES, "head": "harmonic"}},
    "waveform": {"name": "codec/rvq", **LEVELS, "encoder": "waveform", "decoder": "waveform", "waveform": WAVE},
    "average": {"name": "codec/rvq", **LEVELS, "codes": "average", "encoder": "waveform", "waveform": WAVE},
    "groups": {"name": "codec/grvq", **LEVELS, "num_groups": 2, "num_levels": 2},
    "scalar": {"name": "codec/fsq", "frames": FRAMES, "latent_dim": 12, "scales": [5, 4, 3]},
}
HOP = 128


def recipe(kind, crop_frames=32, **model):
    data = {"name": "codec/tones", "num_items": 8, "batch_size": 2, "crop_frames": crop_frames, "mel": MEL}
    return Recipe.from_dict({"model": {**KINDS[kind], **model}, "data": data, "seed": 0})


def make(kind, **model):
    chosen = recipe(kind, **model)
    data = chosen.build_data()
    data.prepare(progress=False)
    return chosen.build_model(data.describe()), data


@pytest.fixture(scope="module", params=KINDS)
def codec(request):
    return make(request.param)[0].eval()


def waves(samples=1500, count=3, seed=0):
    return 0.3 * torch.randn(count, samples, generator=torch.Generator().manual_seed(seed))


def test_tokens_and_sound_have_the_shapes_that_are_promised(codec):
    wave = waves()
    tokens = codec.encode(wave)
    assert tokens.shape == (3, math.ceil(1500 / HOP), codec.num_codebooks) and tokens.dtype == torch.int64
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < codec.codebook_size
    assert codec.decode(tokens).shape == (3, tokens.shape[1] * HOP)
    assert codec.hop_length == HOP and codec.frame_rate == 8000 / HOP == 62.5
    assert codec.embed(tokens).shape[:2] == tokens.shape[:2]
    assert len(codec.streams) == codec.num_codebooks == codec.num_levels * codec.num_groups
    assert codec.num_frames(1) == 1 and codec.num_frames(HOP) == 1 and codec.num_frames(HOP + 1) == 2


def test_levels_are_prefixes_and_bits_are_counted(codec):
    wave = waves()
    tokens = codec.encode(wave)
    for levels in range(1, codec.num_levels + 1):
        count = levels * codec.num_groups
        assert torch.equal(codec.encode(wave, levels=levels), tokens[..., :count])
        assert codec.decode(tokens[..., :count]).isfinite().all()
        assert codec.bit_rate(levels) == pytest.approx(62.5 * count * math.log2(codec.codebook_size))
    assert codec.bit_rate() == codec.bit_rate(codec.num_levels)
    for levels in (0, codec.num_levels + 1):
        with refused(RequestError, "range", "levels", value=levels, names=str(codec.num_levels)):
            codec.encode(wave, levels=levels)


def test_alone_as_in_a_padded_batch_whatever_stands_beyond(codec):
    wave, lengths = waves(), torch.tensor([1500, 1, 640])
    tokens = codec.encode(wave, lengths)
    sound = codec.decode(tokens, lengths)
    peak = float(sound.abs().max())
    for row, length in enumerate(lengths.tolist()):
        own = codec.encode(wave[row : row + 1, :length])
        count = own.shape[1]
        assert torch.equal(tokens[row, :count], own[0]) and (tokens[row, count:] == 0).all()
        made = codec.decode(own, torch.tensor([length]))[0, :length]
        torch.testing.assert_close(sound[row, :length], made, atol=1e-4 * peak, rtol=0)
        assert (sound[row, length:] == 0).all()


def test_what_no_codec_can_take_is_named(codec):
    wave, tokens = waves(), codec.encode(waves())
    with refused(RequestError, "value", "samples"):
        codec.encode(torch.where(torch.arange(1500) == 7, torch.nan, wave))
    with refused(RequestError, "range", "lengths", value=[1501, 3, 3], names=["1", "1500"]):
        codec.encode(wave, torch.tensor([1501, 3, 3]))
    with refused(RequestError, "range", "lengths", value=[0, 0, 0], names="1"):
        codec.encode(wave[:, :0])
    with refused(RequestError, "shape", "tokens", names=str(codec.num_codebooks)):
        codec.decode(torch.cat([tokens, tokens], -1))
    with refused(RequestError, "range", "tokens", names=str(codec.codebook_size - 1)):
        codec.decode(tokens + codec.codebook_size)
    with refused(RequestError, "empty", "samples"):
        codec.synthesize([codec.Request(samples=[])])


def test_requests_may_ask_for_different_levels(codec):
    wave = waves(700, 1)[0]
    asked = [codec.Request(samples=wave, levels=levels) for levels in (None, 1, codec.num_levels)]
    made = codec.synthesize(asked)
    assert [m.waveform.shape for m in made] == [(1, 700)] * 3
    torch.testing.assert_close(torch.tensor(made[0].waveform), torch.tensor(made[2].waveform))
    (alone,) = codec.synthesize(asked[1:2])
    torch.testing.assert_close(torch.tensor(made[1].waveform), torch.tensor(alone.waveform), atol=1e-5, rtol=1e-4)


def test_groups_stand_level_by_level():
    codec = make("groups")[0].eval()
    assert codec.streams == [(0, 0), (1, 0), (0, 1), (1, 1)]
    tokens = codec.encode(waves())
    z = codec.net.encoder(codec.net.encoder.read(codec._whole(waves(), None)[0]))
    first, second = codec.net.quantizer.groups
    assert torch.equal(tokens[..., 0::2], first.tokens(z[..., :6]))
    assert torch.equal(tokens[..., 1::2], second.tokens(z[..., 6:]))


def batch_of(data):
    return next(iter(data.train_dataloader()))


def test_the_loss_is_the_sum_that_is_written():
    codec, data = make("harmonic")
    batch = batch_of(data)
    parts = codec.train().losses(batch)
    weights = {"mel": 1, "stft": 1, "spectrogram": 1, "pitch": 0.2, "commitment": 0.25, "codebook": 1}
    expected = sum(weight * float(parts[name].detach()) for name, weight in weights.items())
    assert float(parts["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    for level in range(3):
        assert 1 <= float(parts[f"perplexity_{level}"]) <= 16 and 0 < float(parts[f"utilisation_{level}"]) <= 1


def test_the_waves_own_loss_is_the_mean_absolute_difference():
    codec, data = make("waveform")
    codec.objective = replace(codec.objective, wave_weight=0.5)
    batch = batch_of(data)
    with torch.no_grad():
        fake, parts = codec.eval()._made(batch)
    assert float(parts["wave"]) == pytest.approx(float((fake - batch["wave"]).abs().mean()), rel=1e-5)


def test_the_first_steps_may_teach_the_mel_alone():
    codec, data = make("harmonic", objective={"spectrogram_steps": 1})
    parts = codec.train().losses(batch_of(data))
    assert "mel" not in parts and "stft" not in parts and "pitch" not in parts
    parts["loss"].backward()
    assert all(p.grad is None for p in codec.net.decoder.head.parameters())
    assert all(p.grad is not None for p in codec.net.encoder.parameters())
    assert "mel" in codec.eval().losses(batch_of(data))


@pytest.mark.parametrize("judges", ["dac", "encodec"])
def test_judges_weigh_as_sums(judges):
    game = {"judges": judges, "windows": [256, 128], "channels": 2, "period_channels": [2, 2], "periods": [2, 3, 5]}
    codec, _ = make("waveform", game=game)
    codec.configure_model()
    expected = {"dac": {"period": 3, "band": 2}, "encodec": {"stft": 2}}[judges]
    assert codec.judge_weights == expected
    assert codec.scoring == {"dac": "squares", "encodec": "hinge"}[judges]


def test_a_vocoder_becomes_the_decoders_head(tmp_path):
    model = {"name": "codec/vocos", "dim": 8, "intermediate_dim": 8, "num_blocks": 1, "source": "harmonic"}
    vocoder = Recipe.from_dict({"model": model, "data": recipe("harmonic").data, "seed": 1}).build_model(
        {"mel_spec": MEL, "pitch": True}
    )
    folder = save_export(vocoder, tmp_path / "vocoder")
    codec, _ = make("harmonic")
    started = warm_start(codec, str(folder))
    assert not started.unused and not started.other_shape
    for name, value in vocoder.net.state_dict().items():
        assert torch.equal(codec.net.decoder.head.state_dict()[name], value)
    other = {**MEL, "f_max": 3000.0}
    data = {**recipe("harmonic").data, "mel": other}
    foreign = Recipe.from_dict({"model": KINDS["harmonic"], "data": data})
    foreign = foreign.build_model({"mel_spec": other, "pitch": True})
    with refused(CheckpointError, "conflict", "run.init_from", value="mel_spec"):
        warm_start(foreign, str(folder))


def test_crops_are_whole_token_frames():
    codec, _ = make("frames")
    with refused(DataError, "shape", "data.crop_frames", value=960, names="128"):
        codec.check_crop(torch.zeros(1, 15 * 64))


@pytest.mark.parametrize(
    ("kind", "change", "facts", "code", "path"),
    [
        ("harmonic", {}, {"pitch": False}, "conflict", "model.frames.head"),
        ("average", {"waveform": {**WAVE, "strides": [4, 4, 4]}}, {}, "conflict", "model.waveform.strides"),
        ("waveform", {"objective": {"spectrogram_steps": 5}}, {}, "conflict", "model.objective.spectrogram_steps"),
        ("groups", {"num_groups": 5}, {}, "range", "model.num_groups"),
        ("scalar", {"scales": [5, 1]}, {}, "range", "model.scales"),
    ],
)
def test_recipes_that_cannot_be_built_are_named(kind, change, facts, code, path):
    with refused(RecipeError, code, path):
        recipe(kind, **change).build_model({"mel_spec": MEL, "pitch": True, **facts})


def test_a_codec_over_samples_may_begin_with_one_of_another_mel():
    codec = make("waveform")[0]
    codec.check_source({"mel_spec": {**MEL, "n_mels": 40}})
    with refused(CheckpointError, "conflict", "run.init_from", value=16000):
        codec.check_source({"mel_spec": {**MEL, "sample_rate": 16000}})


def test_a_short_training_brings_tokens_to_bear():
    """On tones, some steps on the mel: the distance falls well below that of the silence-like start."""
    codec, data = make("frames", objective={"spectrogram_steps": 10**6})
    codec.train()
    optimizer = torch.optim.AdamW(codec.parameters(), lr=5e-3)
    batch = batch_of(data)
    first = None
    for _ in range(40):
        parts = codec.losses(batch)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        first = float(parts["spectrogram"].detach()) if first is None else first
    assert float(parts["spectrogram"].detach()) < 0.6 * first


@pytest.mark.parametrize("kind", KINDS)
def test_a_live_view_ends_with_the_output(kind):
    check_snapshots(make(kind)[0].eval(), {"samples": [0.1, -0.2] * 4000})
