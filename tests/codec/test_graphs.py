"""Codecs and vocoders as graphs: tokens and waves are those of the model."""

import pytest
import torch
from refused import refused
from unisono.errors import RequestError
from unisono.graphs import write_graphs
from unisono.graphs.check import distance
from unisono.recipe import Recipe
from unisono_sound.signal import LogMel, MelSpec

SPEC = MelSpec(sample_rate=16000, n_fft=64, win_length=64, hop_length=16, n_mels=10)
FACTS = {"mel_spec": SPEC.to_dict(), "pitch": True}


def build(name: str, *overrides: str):
    torch.manual_seed(0)
    return Recipe.read(name, list(overrides)).build_model(FACTS).eval()


def wave(frames: int, hop: int) -> torch.Tensor:
    return 0.1 * torch.randn(1, frames * hop, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("name", ["codec/rvq-tiny", "codec/fsq-tiny", "codec/grvq-tiny"])
@pytest.mark.parametrize("head", ["vocos", "harmonic"])
def test_tokens_and_waves_are_the_codecs(name, head):
    codec = build(name, "--model.encoder=frames", "--model.decoder=frames", f"--model.frames.head={head}")
    graphs = codec.graph_modules()
    log_mel = LogMel(SPEC)
    for frames in (5, 41):
        samples = wave(frames, codec.hop_length)
        with torch.inference_mode():
            tokens = graphs.modules["encode"].module(samples.view(1, frames, codec.hop_length))
            assert torch.equal(tokens, codec.encode(samples))
            wanted, made = codec.decode(tokens), graphs.modules["decode"].module(tokens)
        assert distance(log_mel(wanted, "constant"), log_mel(made, "constant")) < 2e-3


def test_a_codec_over_samples_is_refused():
    with refused(RequestError, "unsupported", "encoder", value="WaveformEncoder", names=["frames"]):
        build("codec/dac-tiny").graph_modules()


@pytest.mark.slow
def test_a_small_codec_is_written_and_says_the_same_by_onnxruntime(tmp_path):
    """``write_graphs`` checks both graphs at two lengths by onnxruntime; a third is checked here."""
    onnxruntime = pytest.importorskip("onnxruntime")
    codec = build("codec/rvq-tiny", "--model.frames.head=harmonic")
    write_graphs(codec, tmp_path / "codec")
    samples = wave(50, codec.hop_length)
    run = {
        name: onnxruntime.InferenceSession(
            str(tmp_path / "codec" / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        ).run
        for name in ("encode", "decode")
    }
    (tokens,) = run["encode"](None, {"wave": samples.view(1, 50, codec.hop_length).numpy()})
    wanted = codec.encode(samples)
    assert torch.equal(torch.from_numpy(tokens), wanted)
    (made,) = run["decode"](None, {"tokens": tokens})
    log_mel = LogMel(SPEC)
    seen = log_mel(codec.decode(wanted), "constant"), log_mel(torch.from_numpy(made), "constant")
    assert distance(*seen) < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("source", ["none", "harmonic"])
def test_a_small_vocoder_is_written(tmp_path, source):
    vocoder = build("codec/vocos-tiny", f"--model.source={source}")
    manifest = write_graphs(vocoder, tmp_path / "vocoder")
    assert all(case["distances"]["wave"] < 5e-3 for case in manifest["graphs"]["wave"]["checked"])
