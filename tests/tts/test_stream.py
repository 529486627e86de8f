"""Streamed speech: as ``tts/speech`` prepares it, recording by recording."""

import io
import json

import pytest
import soundfile
import torch
from refused import refused
from streams import check_ranks, shard_of, trained
from unisono.data.stream import StreamOptions
from unisono.errors import DataError
from unisono_sound.corpus.options import FrontEndOptions
from unisono_sound.signal import MelSpec, write_audio
from unisono_tts.data import SpeechData
from unisono_tts.stream import SpeechStream

SENTENCES = [
    f"{a} {b}." for a in ("Good morning", "Red apples", "Seven dogs") for b in ("everyone", "fall", "run", "are here")
]


def tone(number: int) -> torch.Tensor:
    time = torch.arange(16000 + 800 * number) / 16000
    wave = sum(torch.sin(2 * torch.pi * (110 + 9 * number) * k * time) / k for k in range(1, 9))
    return 0.1 * wave * (0.6 + 0.4 * torch.sin(2 * torch.pi * 3 * time))


ONE = StreamOptions(num_processes=1)


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """The same recordings as a shard and as files with a list."""
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    rows, lines = [], ["audio|text|speaker"]
    for number, text in enumerate(SENTENCES):
        write_audio(tmp_path / f"{number}.wav", tone(number), 16000)
        data = (tmp_path / f"{number}.wav").read_bytes()
        speaker = "ab"[number % 2]
        said = {".json": json.dumps({"text": text, "speaker": speaker}).encode()}
        rows.append({".wav": data, **(said if number % 3 else {".txt": text.encode(), ".spk": speaker.encode()})})
        lines.append(f"{number}.wav|{text}|{speaker}")
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    return shard_of(tmp_path / "a.tar", rows), tmp_path / "list.csv"


SPEC = MelSpec(sample_rate=16000, n_fft=512, hop_length=128, win_length=512, n_mels=20)


def stream(root, **options):
    data = SpeechStream(str(root), **{"mel": SPEC, "batch_size": 4, "val_size": 2, "stream": ONE, **options})
    data.prepare(progress=False)
    return data


def test_items_and_facts_are_those_of_prepared_speech(corpus):
    shard, manifest = corpus
    mine = stream(shard, val_size=0)
    other = SpeechData(str(manifest), mel=SPEC, val_size=0, num_processes=1, batch_size=4)
    other.prepare(progress=False)
    theirs = {other.train_set.item(i)["text"]: other.train_set.item(i) for i in range(len(SENTENCES))}
    for index in range(len(SENTENCES)):
        item = mine.train_set.item(index, torch.Generator())
        same = theirs[item["text"]]
        for name in ("symbols", "words", "mel", "pitch", "energy"):
            torch.testing.assert_close(item[name], same[name], rtol=0, atol=1e-5)
        assert item["speaker"] == same["speaker"]
    ours, known = dict(mine.describe()), dict(other.describe())
    for name in ("symbols", "speakers", "front_end", "language", "mel_spec"):
        assert ours[name] == known[name]
    assert ours["hours"] == pytest.approx(known["hours"])
    assert ours["mel_bin_mean"] == pytest.approx(known["mel_bin_mean"], abs=1e-5)
    assert ours["pitch"]["a"] == pytest.approx(known["pitch"]["a"], abs=1e-5)
    assert mine.audit.by_group().keys() == {"a", "b"}


def test_ranks_share_batches(corpus):
    check_ranks(stream(corpus[0]), "symbols")


def test_what_cannot_be_used_is_listed(tmp_path, corpus):
    silent = io.BytesIO()
    soundfile.write(silent, torch.zeros(16000).numpy(), 16000, format="WAV")
    whole = (tmp_path / "0.wav").read_bytes()
    rows = [
        {".wav": whole, ".txt": b"fine"},
        {".wav": whole[:3000], ".txt": b"cut"},
        {".wav": silent.getvalue(), ".txt": b"silent"},
        {".wav": whole, ".txt": b"  "},
        {".wav": whole},
        {".wav": b"junk", ".txt": b"junk"},
        {".wav": whole, ".txt": b"fine too"},
    ]
    data = stream(shard_of(tmp_path / "b.tar", rows), val_size=0, batch_size=1)
    assert data.audit.kept == 2
    assert sum(data.audit.reasons.values()) == 5 and data.audit.reasons["empty text"] == 2


def test_wrong_options(corpus):
    with refused(DataError, "unknown", "data.reading", value="klingon"):
        stream(corpus[0], reading=FrontEndOptions(language="klingon"))


def test_a_voice_trains_on_a_stream(corpus, tmp_path):
    data = {
        "name": "tts/stream",
        "root": str(corpus[0]),
        "mel": {"sample_rate": 16000, "n_fft": 512, "hop_length": 128, "win_length": 512, "n_mels": 20},
        "batch_size": 4,
        "val_size": 2,
        "stream": {"num_processes": 1},
    }
    result = trained("tts/fastpitch-tiny", data, tmp_path, mixing={"a": 1, "b": 2})
    assert result.metrics and result.audit.kept == len(SENTENCES)
