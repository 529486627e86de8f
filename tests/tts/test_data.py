"""Speech corpora: what is kept, what is dropped and why, items, facts, splits, durations."""

import itertools
import json
import os
import tarfile
from pathlib import Path

import flat
import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("espeakng_loader", reason="espeak-ng's wheel is not installed")
pytest.importorskip("swift_f0", reason="the pitch tracker is not installed")

from refused import refused
from unisono.errors import DataError
from unisono_sound.corpus import level, trim
from unisono_sound.signal import MelSpec
from unisono_tts.data import EspeakData, SpeechData

RATE = 22050
SHARED = Path(os.environ.get("UNISONO_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))


def buzz(seconds, hz=150.0, gain=0.3, rate=RATE):
    times = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hz * k * times) / k for k in range(1, 12))
    return gain * wave / np.abs(wave).max() if len(wave) else wave


def corpus(folder, rows):
    """Write an LJSpeech folder from (id, text, waveform)."""
    (folder / "wavs").mkdir(parents=True)
    for name, _, wave in rows:
        soundfile.write(folder / "wavs" / f"{name}.wav", wave, RATE)
    lines = [f"{name}|{text}|{text}" for name, text, _ in rows]
    (folder / "metadata.csv").write_text("\n".join(lines), "utf-8")
    return folder


def good(count, seconds=1.5):
    names = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return [(f"ok{i}", f"The number is {names[i]}.", buzz(seconds + i / 9, 120 + 9 * i)) for i in range(count)]


def test_items_and_batches(tmp_path):
    root = corpus(tmp_path / "voice", good(5))
    data = flat.make(SpeechData, root=str(root), val_size=1, batch_size=4)
    audit = data.prepare(progress=False)
    assert (audit.kept, len(data.train_set), len(data.val_set)) == (5, 4, 1)
    item = data.train_set.item(0)
    frames = len(item["mel"])
    assert item["mel"].shape == (frames, 80) and item["mel"].dtype == torch.float32
    assert item["pitch"].shape == item["energy"].shape == (frames,)
    assert item["symbols"].dtype == item["words"].dtype == torch.int64
    assert item["symbols"].shape == item["words"].shape
    voiced = item["pitch"][item["pitch"] > 0]
    assert 110 < voiced.median() < 170
    assert data.train_set.size(0) == frames and "durations" not in item
    batch = next(iter(data.train_dataloader()))
    assert batch["mel"].shape == (4, int(batch["mel_lengths"].max()), 80)
    assert batch["symbols"].shape == (4, int(batch["symbol_lengths"].max()))
    shortest = int(batch["symbol_lengths"].argmin())
    end = int(batch["symbol_lengths"][shortest])
    assert (batch["symbols"][shortest, end:] == 0).all()
    assert (batch["words"][shortest, end:] == -1).all()


def test_facts_are_json_and_right(tmp_path):
    a = corpus(tmp_path / "anna", [(f"a{i}", f"say {i}", buzz(1.5, 120)) for i in range(4)])
    b = corpus(tmp_path / "bert", [(f"b{i}", f"tell {i}", buzz(1.5, 240)) for i in range(4)])
    data = flat.make(SpeechData, root={"anna": str(a), "bert": str(b)}, val_size=2, front_end="characters")
    data.prepare(progress=False)
    facts = json.loads(json.dumps(data.describe().to_json()))
    assert facts["speakers"] == ["anna", "bert"] and facts["front_end"] == "characters"
    assert np.exp(facts["pitch"]["anna"]["mean"]) == pytest.approx(120, rel=0.03)
    assert np.exp(facts["pitch"]["bert"]["mean"]) == pytest.approx(240, rel=0.03)
    mels = torch.cat([data.train_set.item(i)["mel"] for i in range(len(data.train_set))])
    assert facts["mel_mean"] == pytest.approx(float(mels.mean()), abs=1e-4)
    assert facts["mel_std"] == pytest.approx(float(mels.std()), rel=1e-3)
    assert facts["mel_bin_mean"] == pytest.approx(mels.mean(0).tolist(), abs=1e-4)
    assert MelSpec.from_dict(facts["mel_spec"]) == MelSpec()
    held = {i.utterance.text for i in data.val_set.items}
    assert set(facts["held_out"]) == held and set(facts["sample_texts"]) <= held


def test_audit_names_every_reason(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        *good(3),
        ("silent", "silence", np.zeros(RATE)),
        ("clipped", "clipping", np.sign(rng.standard_normal(RATE))),
        ("empty", "", buzz(1)),
        ("marks", "?!", buzz(1)),
        ("script", "so привет", buzz(1)),
        ("crowded", "a sentence with far more words than this recording has frames " * 3, buzz(1)),
        ("short", "short", buzz(0.05)),
        ("long", "long", buzz(3)),
        ("broken", "broken", buzz(1)),
        ("nothing", "nothing", buzz(1)),
    ]
    root = corpus(tmp_path / "voice", rows)
    whole = (root / "wavs" / "broken.wav").read_bytes()
    (root / "wavs" / "broken.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(root / "wavs" / "nothing.wav", np.zeros(0), RATE)
    from unisono_sound.corpus import AudioLimits

    data = flat.make(SpeechData, root=str(root), limits=AudioLimits(max_seconds=2.5), val_size=1)
    audit = data.prepare(progress=False)
    assert {d.id: d.reason for d in audit.dropped} == {
        "silent": "silent", "clipped": "clipped", "empty": "empty text",
        "marks": "text cannot be read", "script": "text cannot be read",
        "crowded": "more symbols than frames", "short": "too short", "long": "too long",
        "broken": "unreadable", "nothing": "unreadable",
    }  # fmt: skip
    assert audit.kept == 3
    assert "CYRILLIC SMALL LETTER PE" in next(d.detail for d in audit.dropped if d.id == "script")


def test_nothing_usable_is_an_error(tmp_path):
    root = corpus(tmp_path / "voice", [("a", "", buzz(1)), ("b", "...", buzz(1))])
    with refused(DataError, "empty", "data.root", names=["1 empty text", "1 text cannot be read"]):
        flat.make(SpeechData, root=str(root)).prepare(progress=False)


def test_a_stereo_file_of_another_rate_is_as_good(tmp_path):
    root = corpus(tmp_path / "voice", good(2))
    wide = buzz(1.5, 120, rate=44100)
    soundfile.write(root / "wavs" / "ok0.wav", np.stack([wide, wide], 1), 44100)
    data = flat.make(SpeechData, root=str(root), val_size=0)
    data.prepare(progress=False)
    mono = SpeechData(str(corpus(tmp_path / "mono", good(2))), val_size=0)
    mono.prepare(progress=False)
    ours, plain = data.train_set.item(0), mono.train_set.item(0)
    assert ours["mel"].shape == plain["mel"].shape
    # harmonics of the tone only: between them both are at the noise floor of two resamplers
    loud = plain["mel"] > plain["mel"].max() - 5
    assert (ours["mel"] - plain["mel"])[loud].abs().mean() < 0.05


def test_no_sentence_stands_on_both_sides(tmp_path):
    rows = []
    for i in range(12):
        for take, text in enumerate((f"Say {i} again, please.", f"say {i} again please")):
            rows.append((f"s{i}_{take}", text, buzz(1, 120 + 5 * i + take)))
    a, b = corpus(tmp_path / "a", rows), corpus(tmp_path / "b", rows)
    data = flat.make(SpeechData, root=[str(a), str(b)], val_size=0.2, front_end="characters")
    data.prepare(progress=False)

    def words(items):
        return {"".join(c for c in i.utterance.text.lower() if c.isalnum()) for i in items}

    assert not words(data.train_set.items) & words(data.val_set.items)
    assert len(data.train_set) + len(data.val_set) == 48 and len(data.val_set) >= 9
    assert len(data.val_set) % 4 == 0, "both takes of both speakers stay together"
    again = flat.make(SpeechData, root=[str(a), str(b)], val_size=0.2, front_end="characters", batch_size=3)
    again.prepare(progress=False)
    assert [i.utterance.id for i in again.val_set.items] == [i.utterance.id for i in data.val_set.items]


def test_trim_leaves_the_same_silence_everywhere():
    speech = torch.tensor(buzz(1), dtype=torch.float32)
    noise = 1e-4 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    pad = round(0.06 * RATE)
    for before, after in ((RATE // 2, RATE // 3), (0, 0), (300, RATE)):
        wave = torch.cat([noise[:before], speech, noise[:after]])
        trimmed, cut = trim(wave, RATE, 45.0, 0.06)
        assert len(trimmed) == pytest.approx(len(speech) + 2 * pad, abs=2 * RATE // 50)
        assert cut == pytest.approx(before / RATE - 0.06, abs=0.021)
    assert trim(wave, RATE, 0.0, 0.06)[0] is wave


@pytest.mark.parametrize("tail_db, kept", [(-40, True), (-44, True), (-46, False), (-55, False)])
def test_silence_is_told_by_decibels_of_power(tail_db, kept):
    """A tail 44 dB below the speech is speech at ``trim_db`` 45, one of 46 dB below is not."""
    speech = 0.5 * torch.sin(2 * torch.pi * 150 * torch.arange(RATE) / RATE)
    wave = torch.cat([speech, 10 ** (tail_db / 20) * speech])
    trimmed, _ = trim(wave, RATE, 45.0, 0.0)
    assert len(trimmed) == pytest.approx(2 * RATE if kept else RATE, abs=2 * RATE // 50)


def test_level():
    wave = torch.tensor(buzz(1, gain=0.05), dtype=torch.float32)
    with_pause = torch.cat([wave, torch.zeros(RATE)])
    for one in (wave, with_pause):
        out = level(one, RATE, -23.0)[: len(wave)]
        assert 20 * out.square().mean().sqrt().log10() == pytest.approx(-23, abs=0.1)
    assert level(wave, RATE, 0.0).abs().max() == pytest.approx(0.97, abs=1e-3)
    assert level(wave, RATE, None) is wave


def test_given_durations(tmp_path):
    root = corpus(tmp_path / "voice", [(f"u{i}", "ab c", buzz(1)) for i in range(5)])
    frames = RATE // 256
    # symbols: <start> a b space c <end>
    fitting = [5, 20, 20, 0, 30, frames - 75]
    rows = [
        {"id": "u0", "durations": fitting},
        {"id": "u1", "durations": fitting[:-1]},
        {"id": "u2", "durations": [*fitting[:-1], 99]},
        {"id": "u3", "times": [0, 0.1, 0.3, 0.5, 0.5, 0.9, 1.0]},
    ]
    path = tmp_path / "durations.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = flat.make(SpeechData, root=str(root), front_end="characters", trim_db=0, durations=str(path), val_size=0)
    audit = data.prepare(progress=False)
    assert {d.id: d.reason for d in audit.dropped} == {
        "u1": "durations do not fit", "u2": "durations do not fit", "u4": "no durations",
    }  # fmt: skip
    found = {i["id"]: i["durations"].tolist() for i in map(data.train_set.item, range(2))}
    assert found["u0"] == fitting
    assert found["u3"] == [9, 17, 17, 0, 35, frames - 78]
    assert data.describe()["given_durations"]
    path.write_text('{"id": "u0"}')
    with refused(DataError, "format", "durations.jsonl", names="line 1"):
        data.prepare(progress=False)
    path.write_text("{")
    with refused(DataError, "format", "durations.jsonl", names="line 1"):
        data.prepare(progress=False)


@pytest.mark.parametrize(
    ("options", "code", "path", "named"),
    [
        ({"language": "en-uz"}, "unknown", "language", "did you mean 'en-us'"),
        ({"front_end": "espek"}, "unknown", "front_end", "did you mean 'espeak'"),
        ({"val_size": 99}, "range", "val_size", "0 and 1"),
        ({"val_size": 1.5}, "range", "data.val_size", "below 1"),
        ({"trim_db": -1.0}, "range", "data.sound.trim_db", "trim_db"),
        ({"pad_seconds": -0.1}, "range", "data.sound.pad_seconds", "pad_seconds"),
        ({"durations": "nowhere"}, "missing", "data.reading.durations", "nowhere"),
    ],
)
def test_wrong_options(tmp_path, options, code, path, named):
    root = corpus(tmp_path / "voice", good(2))
    ((_, value),) = options.items()
    with refused(DataError, code, path, value=value, names=named):
        flat.make(SpeechData, root=str(root), **options).prepare(progress=False)


def test_a_missing_column_or_file_is_named(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("audio,words\na.wav,hello\n")
    with refused(DataError, "format", "list.csv", names="text"):
        flat.make(SpeechData, root=str(table)).prepare(progress=False)
    table.write_text("audio,text\na.wav,hello\n")
    with refused(DataError, "missing", "list.csv", names="line 2"):
        flat.make(SpeechData, root=str(table)).prepare(progress=False)
    with refused(DataError, "missing", "nowhere", value="no such folder or file"):
        flat.make(SpeechData, root=str(tmp_path / "nowhere")).prepare(progress=False)


def test_symbols_are_cached_by_front_end_and_text(tmp_path, monkeypatch):
    root = corpus(tmp_path / "voice", good(2))
    first = flat.make(SpeechData, root=str(root), val_size=0)
    first.prepare(progress=False)
    from unisono_sound.text import EspeakFrontEnd

    def refuse(self, text):
        raise AssertionError("read again")

    monkeypatch.setattr(EspeakFrontEnd, "__call__", refuse)
    again = flat.make(SpeechData, root=str(root), val_size=0)
    again.prepare(progress=False)
    assert torch.equal(again.train_set.item(0)["symbols"], first.train_set.item(0)["symbols"])


def test_espeak_corpus_has_exact_durations():
    data = flat.make(EspeakData, num_sentences=8, voices=["plain", "f2"], val_size=2)
    audit = data.prepare(progress=False)
    assert audit.kept + len(audit.dropped) == 8 and audit.kept >= 7
    assert set(data.describe()["speakers"]) == {"plain", "f2"}
    for index in range(len(data.train_set)):
        item = data.train_set.item(index)
        assert int(item["durations"].sum()) == len(item["mel"])
        assert item["durations"].shape == item["symbols"].shape
        assert (item["durations"] >= 0).all() and item["durations"][0] >= 4
    again = flat.make(EspeakData, num_sentences=8, voices=["plain", "f2"], val_size=2)
    again.prepare(progress=False)
    assert torch.equal(again.train_set.item(0)["mel"], data.train_set.item(0)["mel"])


def test_espeak_corpus_is_the_same_when_made_again(tmp_path, monkeypatch):
    mels = []
    for name in ("first", "second"):
        monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / name))
        data = flat.make(EspeakData, num_sentences=3, val_size=0)
        data.prepare(progress=False)
        mels.append([data.train_set.item(i)["mel"] for i in range(3)])
    assert all(torch.equal(one, other) for one, other in zip(*mels, strict=True))


def test_espeak_corpus_from_own_texts(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("Guten Tag.\n\nWie geht es Ihnen?\n", "utf-8")
    data = flat.make(EspeakData, texts=str(path), language="de", val_size=0)
    assert data.prepare(progress=False).kept == 2
    assert {i.utterance.text for i in data.train_set.items} == {"Guten Tag.", "Wie geht es Ihnen?"}


@pytest.mark.parametrize(
    ("options", "code", "path", "value", "named"),
    [
        ({"num_sentences": 1}, "range", "data.made.num_sentences", 1, "2"),
        ({"rates": [20]}, "range", "data.made.rates", [20], ["80", "450"]),
        ({"pitches": []}, "range", "data.made.pitches", [], ["0", "99"]),
        ({"voices": []}, "empty", "data.made.voices", [], "plain"),
        ({"voices": ["f22"]}, "unknown", "data.made.voices", "f22", "did you mean 'f2'"),
        ({"texts": "nowhere.txt"}, "missing", "data.made.texts", "nowhere.txt", "nowhere.txt"),
        ({"language": "en-uz"}, "unknown", "language", "en-uz", "en-uz"),
    ],
)
def test_wrong_espeak_options(options, code, path, value, named):
    with refused(DataError, code, path, value=value, names=named):
        flat.make(EspeakData, **{"num_sentences": 3, **options}).prepare(progress=False)


def test_real_recordings(tmp_path):
    archive = SHARED / "data" / "kathleen.tar"
    if not archive.is_file():
        pytest.skip(f"no recordings at {archive}")
    with tarfile.open(archive) as tar:
        members = list(itertools.islice(tar, 14))
        tar.extractall(tmp_path, members, filter="data")
    root = tmp_path / "kathleen"
    found = {path.stem for path in (root / "wavs").iterdir()}
    lines = (root / "metadata.csv").read_text("utf-8").splitlines()
    (root / "metadata.csv").write_text("\n".join(line for line in lines if line.split("|")[0] in found), "utf-8")
    data = flat.make(SpeechData, root=str(root), val_size=1)
    assert data.prepare(progress=False).kept == len(found) == 10
    voiced = data.describe()["pitch"]["kathleen"]["mean"]
    assert 120 < np.exp(voiced) < 220, "a low female voice"
    for index in range(len(data.train_set)):
        item = data.train_set.item(index)
        assert 4 < len(item["mel"]) / len(item["symbols"]) < 16
