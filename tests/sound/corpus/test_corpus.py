"""Corpora of speech: caches that fail are done without, entries that are wrong drop themselves only."""

import json
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import flat
import numpy as np
import pytest
import torch
from refused import refused
from unisono.data import Audit, Drop, cache_root, spare_root
from unisono.data import cache as cache_module
from unisono.errors import DataError
from unisono_sound.corpus import (
    Manifest,
    SpeechCorpus,
    SpeechItem,
    Utterance,
    VoiceOptions,
    made,
    make_corpus,
    read_durations,
    read_texts,
)
from unisono_sound.signal import MelSpec, write_audio
from unisono_sound.text import front_end


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    spare_root.cache_clear()
    return tmp_path / "cache"


def voice(folder, texts):
    draw = np.random.default_rng(0)
    (folder / "wavs").mkdir(parents=True)
    for index in range(len(texts)):
        write_audio(folder / "wavs" / f"u{index}.wav", torch.from_numpy(draw.normal(0, 0.1, 22050)).float(), 22050)
    rows = [json.dumps({"id": f"u{i}", "audio": f"wavs/u{i}.wav", "text": text}) for i, text in enumerate(texts)]
    (folder / "list.jsonl").write_text("\n".join(rows))
    return str(folder / "list.jsonl")


def spoken(*texts):
    return Manifest(tuple(Utterance(f"u{i}", f"{i}.wav", text) for i, text in enumerate(texts)))


def symbols_file():
    (path,) = (cache_root() / "symbols").iterdir()
    return path


DAMAGES = {
    "no JSON": b"{",
    "zeros": bytes(200),
    "a list": b"[1, 2]",
    "another shape": b'{"checksum": "x", "symbols": {"Hello.": 3}}',
    "of an older version": b'{"Hello.": [["a"], [0]]}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", [*DAMAGES, "one letter"])
def test_a_damaged_cache_of_symbols_is_made_anew(damage):
    reader, audit = front_end("espeak", "en-us"), Audit()
    good = read_texts(spoken("Hello.", "Two."), reader, audit)
    path = symbols_file()
    whole = path.read_bytes()
    path.write_bytes(DAMAGES.get(damage, whole.replace(b"h", b"k", 1)))
    assert path.read_bytes() != whole
    assert read_texts(spoken("Hello.", "Two."), reader, audit) == good
    assert path.read_bytes() == whole and not audit.notes and not audit.dropped


def test_a_cache_of_symbols_that_cannot_be_written_is_done_without(cache):
    cache.write_text("mine")
    reader, audit = front_end("espeak", "en-us"), Audit()
    assert set(read_texts(spoken("Hello."), reader, audit)) == {"u0"}
    assert len(audit.notes) == 1 and "read anew in each run" in audit.notes[0] and "UNISONO_CACHE" in audit.notes[0]


def test_half_a_character_is_dropped_at_the_audit(tmp_path):
    audit = Audit()
    assert set(read_texts(spoken("Hello.", "a \ud83d box"), front_end("espeak", "en-us"), audit)) == {"u0"}
    assert [(d.id, d.reason) for d in audit.dropped] == [("u1", "half a character")]
    root = voice(tmp_path / "voice", ["one two", "a \ud83d box", "three"])
    data = flat.make(SpeechCorpus, root=root, front_end="characters", val_size=1)
    audit = data.prepare(progress=False)
    assert [(d.id, d.reason) for d in audit.dropped] == [("list.jsonl:2", "half a character")]
    json.dumps(data.describe().to_json(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"durations": "abc"}, {"durations": [1, "2"]}, {"durations": [[1], [2]]}, {"durations": []}, {"times": []},
        {"times": [0, float("nan")]}, {"times": [0, 1e300]}, {"durations": [10**400]}, {"durations": {"a": 1}},
        {"durations": [1.5, 1.2, 1, 83]}, {"times": None},
    ],
)  # fmt: skip
def test_durations_that_do_not_fit_drop_one_utterance(tmp_path, wrong):
    root = voice(tmp_path / "voice", ["ab", "ab"])
    frames = 22050 // 256
    rows = [{"id": "u0", "durations": [1, 1, 1, frames - 3]}, {"id": "u1", **wrong}]
    path = tmp_path / "durations.jsonl"
    path.write_text("\ufeff" + "\r\n".join(map(json.dumps, rows)))
    data = flat.make(SpeechCorpus, root=root, front_end="characters", trim_db=0, val_size=0, durations=str(path))
    audit = data.prepare(progress=False)
    assert [(d.id, d.reason) for d in audit.dropped] == [("u1", "durations do not fit")]
    assert data.train_set.item(0)["durations"].tolist() == [1, 1, 1, frames - 3]


def test_given_times_are_those_of_the_recording_before_it_was_trimmed():
    """Half a second was cut off in front; speakers are numbered as they are listed, not by the alphabet."""
    spec = MelSpec(sample_rate=1000, n_fft=200, win_length=200, hop_length=100, n_mels=4, f_max=500.0)
    features = SimpleNamespace(facts={"cut_seconds": 0.5}, shapes={"mel": (10, 4)})
    prepared = SimpleNamespace(item=Utterance("u", Path(), "ab", "bob"), features=features)
    given = {"u": {"times": [0.5, 0.7, 1.0, 1.2, 1.5]}}
    reader = front_end("characters")
    item = SpeechItem(prepared, reader("ab"), reader, ["zoe", "bob"], given, spec)
    assert item.durations.tolist() == [2, 3, 2, 3] and item.speaker == 1


def test_an_id_is_one_in_every_form(tmp_path):
    path = tmp_path / "d.jsonl"
    rows = [{"id": unicodedata.normalize(form, "café"), "times": [0, 1]} for form in ("NFC", "NFD")]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    audit = Audit()
    assert set(read_durations(str(path), audit)) == {"café"}
    assert [d.reason for d in audit.dropped] == ["same name"]


def test_hours_are_those_of_the_training_recordings(tmp_path):
    root = voice(tmp_path / "voice", ["one", "two", "three"])  # a second each
    data = flat.make(SpeechCorpus, root=root, front_end="characters", trim_db=0, pad_seconds=0.0, val_size=1)
    data.prepare(progress=False)
    assert len(data.train_set) == 2
    assert data.describe().hours == pytest.approx(2 / 3600, rel=0.01)


def test_bad_entries_of_durations_are_listed(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"id": "a", "times": [0, 1]}\n{"id": 3, "times": [0]}\n[1]\n{"id": "b", "times": ' + "9" * 5000)
    audit = Audit()
    assert set(read_durations(str(path), audit)) == {"a"}
    assert [d.id for d in audit.dropped] == ["d.jsonl:2", "d.jsonl:3", "d.jsonl:4"]
    with refused(DataError, "format", "d.jsonl", names="line 2"):
        read_durations(str(path))
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.json").write_text('{"times": [0, 1]}')
    (folder / "._x.json").write_bytes(b"\0\1")
    (folder / "bad.json").write_bytes(b"\xff\xfe{")
    audit = Audit()
    assert read_durations(str(folder), audit) == {"sub/x": {"id": "sub/x", "times": [0, 1]}}
    assert [d.id for d in audit.dropped] == ["bad.json"]
    (folder / "x.json").write_text('{"id": "sub/x", "times": [0, 2]}')
    audit = Audit()
    assert len(read_durations(str(folder), audit)) == 1
    assert [d.reason for d in audit.dropped] == ["invalid UTF-8", "same name"]
    for name in ("x" * 300, str(tmp_path / "gone")):
        with refused(DataError, "missing", "data.reading.durations"):
            read_durations(name)


def corpus(*lines):
    return make_corpus(lines, front_end("espeak", "en-us"), VoiceOptions(rates=(170,), pitches=(50,)), 0.06)


@pytest.mark.parametrize("damage", ["no durations", "a cut recording", "no list", "a list of nothing"])
def test_a_damaged_made_corpus_is_made_anew(damage):
    folder = corpus("Hello there.", "And you.")
    assert corpus("Hello there.", "And you.") == folder and made.is_whole(folder)
    wave = folder / "wavs" / "00001.wav"
    whole = wave.read_bytes()
    if damage == "no durations":
        (folder / "durations.jsonl").unlink()
    elif damage == "a cut recording":
        wave.write_bytes(whole[:100])
    else:
        (folder / made.LISTED).write_text("{}" if damage == "a list of nothing" else "{")
    assert not made.is_whole(folder)
    assert corpus("Hello there.", "And you.") == folder
    assert made.is_whole(folder) and wave.read_bytes() == whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_made_corpus_speaks_what_the_front_end_reads():
    folder = corpus("5 < 6 is true.", "It costs 500 ₽, or $-5.", "THIS IS IT, US!", "Nguyễn said 3 / 4.")
    assert json.loads((folder / "skipped.json").read_text()) == []
    assert len((folder / "durations.jsonl").read_text().splitlines()) == 4


def test_a_made_corpus_without_a_cache(cache, caplog):
    cache.write_text("mine")
    folder = corpus("Hello there.", "And you.")
    assert made.is_whole(folder) and cache.read_text() == "mine"
    assert "spoken anew in each run" in caplog.text and "UNISONO_CACHE" in caplog.text


def test_lines_to_speak_are_read_as_texts(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffOne\u2028line.\r\nTwo\x0c too.\r\n\r\nCafe\u0301.\n".encode())
    assert made._read_lines(str(path)) == ["One\u2028line.", "Two\x0c too.", "Café."]
    path.write_bytes("One line.\nAnother.".encode("utf-16"))
    with refused(DataError, "format", "lines.txt", value="is UTF-16, not UTF-8"):
        made._read_lines(str(path))
    os.mkfifo(tmp_path / "pipe")
    for name, code in ((tmp_path / "pipe", "format"), ("/dev/zero", "format"), ("x" * 300, "missing")):
        with refused(DataError, code, "data.made.texts" if code == "missing" else name):
            made._read_lines(str(name))


def test_whatever_makes_a_recording_unreadable_drops_it(tmp_path):
    root = voice(tmp_path / "voice", ["one", "two", "three"])
    os.remove(tmp_path / "voice" / "wavs" / "u1.wav")
    os.mkfifo(tmp_path / "voice" / "wavs" / "u1.wav")
    audit = flat.make(SpeechCorpus, root=root, front_end="characters", val_size=0).prepare(progress=False)
    assert audit.kept == 2
    (lost,) = audit.dropped
    assert (lost.id, lost.reason) == ("list.jsonl:2", "not a file") and "u1.wav is a pipe" in lost.detail
    lost = cache_module.prepare_features(
        [tmp_path / "voice" / "wavs" / "u1.wav"], str, "v", file=lambda path: path, progress=False
    )
    assert isinstance(lost[0], Drop) and lost[0].reason == "unreadable" and "is a pipe" in lost[0].detail
