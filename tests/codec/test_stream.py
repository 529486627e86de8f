"""Streamed recordings for vocoders: crops with the mel of the whole recording."""

import pytest
import torch
from refused import refused
from streams import check_ranks, shard_of, trained
from unisono.data.stream import StreamOptions
from unisono.errors import DataError
from unisono_codec.vocoders.stream import AudioStream
from unisono_sound.signal import LogMel, MelSpec, read_audio, write_audio

SPEC = MelSpec(sample_rate=16000, n_fft=512, hop_length=128, win_length=512, n_mels=20)
ONE = StreamOptions(num_processes=1)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    rows = []
    for number in range(10):
        wave = 0.1 * torch.randn(9000 + 500 * number, generator=torch.Generator().manual_seed(number))
        write_audio(tmp_path / f"{number}.flac", wave, 16000)
        rows.append({".flac": (tmp_path / f"{number}.flac").read_bytes(), ".spk": b"ab"[number % 2 : number % 2 + 1]})
    write_audio(tmp_path / "short.wav", torch.ones(600) / 3, 16000)
    return shard_of(tmp_path / "a.tar", [*rows, {".wav": (tmp_path / "short.wav").read_bytes()}])


def stream(root, **options):
    settings = {"mel": SPEC, "crop_frames": 16, "batch_size": 2, "val_size": 2, "stream": ONE}
    data = AudioStream(str(root), **{**settings, **options})
    data.prepare(progress=False)
    return data


def test_crops_are_stretches_of_recordings_and_of_their_mels(root, tmp_path):
    data = stream(root, val_size=0)
    wholes = {}
    for number in range(10):
        wave, _ = read_audio(tmp_path / f"{number}.flac")
        wholes[number] = wave, LogMel(SPEC)(wave[None])[0]
    assert data.audit.reasons == {"too short": 1}
    starts = set()
    for index in range(10):
        wave, mel = wholes[index]
        for seed in range(12):
            item = data.train_set.item(index, torch.Generator().manual_seed(seed))
            assert item["mel"].shape == (16, 20) and item["wave"].shape == (16 * 128,)
            places = [s for s in range(len(mel) - 15) if torch.allclose(mel[s : s + 16], item["mel"], atol=1e-4)]
            assert len(places) == 1
            starts.add(places[0])
            expected = wave[places[0] * 128 : places[0] * 128 + 2048]
            assert torch.equal(item["wave"][: len(expected)], expected)
    assert len(starts) > 20


def test_ranks_share_batches(root):
    check_ranks(stream(root), "wave")


def test_wrong_options(root):
    with refused(DataError, "range", "data.crop_frames", value=0):
        stream(root, crop_frames=0)


def test_a_vocoder_trains_on_a_stream(root, tmp_path):
    mel = {"sample_rate": 16000, "n_fft": 512, "hop_length": 128, "win_length": 512, "n_mels": 20}
    data = {"name": "codec/stream", "root": str(root), "mel": mel, "crop_frames": 16, "batch_size": 2, "val_size": 2}
    result = trained("codec/vocos-tiny", {**data, "stream": {"num_processes": 1}}, tmp_path)
    assert result.metrics and result.audit.kept == 10
