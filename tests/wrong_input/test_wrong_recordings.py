"""Wrong recordings and corpora: one clear sentence that names the value and the fix, exit code 2, no traceback."""

import json
import unicodedata

import pytest
import soundfile
from wrong_input import AUDIT, RATE, empty, matches, not_audio, tone, truncated, zero_length

RECORDINGS = {
    truncated: ("truncated: its header promises", "copy it again"),
    zero_length: ("holds no samples", "record it again or take it off the list"),
    empty: ("is empty (0 bytes)", "copy it again"),
    not_audio: ("cannot be read as audio", "convert it to wav, flac or ogg"),
    lambda path: path: ("no such audio file", "check the path"),
}


@pytest.mark.parametrize("make", RECORDINGS, ids=lambda f: f.__name__)
def test_recordings_to_a_vocoder(complaint, vocoder_export, tmp_path, make):
    path = make(tmp_path / "in.wav")
    matches(
        complaint("generate", vocoder_export, path, "-o", tmp_path / "x.wav"),
        "in.wav",
        *RECORDINGS[make],
    )


def test_a_stereo_recording_of_another_rate_is_heard(said, vocoder_export, tmp_path):
    path = tone(tmp_path / "stereo.wav", seconds=2, rate=44100, channels=2)
    said("generate", vocoder_export, path, "-o", tmp_path / "x.wav")
    info = soundfile.info(tmp_path / "x.wav")
    assert (info.samplerate, info.channels) == (RATE, 1)
    assert info.duration == pytest.approx(2, abs=0.02)


def test_bad_recordings_are_dropped_with_their_reasons(said, corpus):
    truncated(corpus / "wavs" / "cut.wav")
    zero_length(corpus / "wavs" / "none.wav")
    not_audio(corpus / "wavs" / "text.wav")
    tone(corpus / "wavs" / "stereo.wav", rate=44100, channels=2)
    with (corpus / "metadata.csv").open("a") as file:
        file.write("".join(f"{name}|Some other words, {name}.\n" for name in ("cut", "none", "text", "stereo")))
        file.write("good0b|🎉\n")
    tone(corpus / "wavs" / "good0b.wav")
    report = corpus / "audit.json"
    said(*AUDIT, f"--data.root={corpus}", f"--json={report}")
    audit = json.loads(report.read_text())
    assert audit["kept"] == 4
    reasons = {item["id"]: (item["reason"], item["detail"]) for item in audit["dropped"]}
    assert set(reasons) == {"cut", "none", "text", "good0b"}
    assert "truncated" in " ".join(reasons["cut"])
    assert "no samples" in " ".join(reasons["none"])
    assert "🎉" in " ".join(reasons["good0b"])


def test_a_corpus_of_bad_recordings_only(complaint, corpus):
    for index in range(3):
        truncated(corpus / "wavs" / f"good{index}.wav")
    matches(
        complaint(*AUDIT, f"--data.root={corpus}"),
        "no usable recording in",
        "corpus",
        "3 unreadable",
    )


MANIFESTS = {
    "no column": (
        "id,audio,words\n1,wavs/good0.wav,Hello\n",
        "line 1: no column 'text'",
        "name it 'text'",
    ),
    "no file": (
        "audio,text\nwavs/gone.wav,Hello\n",
        "line 2: audio file",
        "gone.wav does not exist",
        "remove the line",
    ),
    "no fields": (
        "audio,text\nwavs/good0.wav\n",
        "line 2: 1 fields between commas, the header has 2 (audio, text)",
    ),
    "no rows": ("audio,text\n", "lists no utterances"),
    "an open quote": (
        'audio,text\nwavs/good0.wav,"Hello\nwavs/good1.wav,two\nwavs/good2.wav,three\n',
        "line 2: the quote that opens here is not closed",
        "close it",
    ),
    "another layout": (
        "good0|p225|Please call Stella.\ngood1|p226|Ask her to come.\n",
        "line 1: three columns without a header, that look like id|speaker|text",
        "write a first line",
    ),
    "a table of another encoding": (
        "audio,text\nwavs/good0.wav,Hello\n".encode("utf-16"),
        "is UTF-16, not UTF-8",
        "save it as UTF-8",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests(complaint, corpus, name):
    content, *parts = MANIFESTS[name]
    (corpus / "table.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    matches(complaint(*AUDIT, f"--data.root={corpus / 'table.csv'}"), "table.csv", *parts)


def test_a_name_that_stands_twice_is_dropped_and_listed(said, corpus):
    (corpus / "table.csv").write_text("audio,text\nwavs/good0.wav,A\nwavs/good0.wav,B\n")
    report = corpus / "audit.json"
    said(*AUDIT, f"--data.root={corpus / 'table.csv'}", f"--json={report}")
    found = json.loads(report.read_text())
    assert found["kept"] == 1
    assert [(d["id"], "2" in d["detail"]) for d in found["dropped"]] == [("table.csv:3", True)]


def test_lists_as_people_write_them(said, corpus):
    """A byte order mark, CR LF, accents in pieces, separators within a text, a suffix in capitals."""
    for old, new in (("good0", "UPPER"), ("good1", unicodedata.normalize("NFD", "Zoë"))):
        (corpus / "wavs" / f"{old}.wav").rename(corpus / "wavs" / f"{new}.WAV")
    lines = ["UPPER|Hello,\u2028there, you.", "Zoë|And\x0c so, on.", '{"audio": "good2"}|A "quoted one.']
    (corpus / "metadata.csv").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    (corpus / "wavs" / "good2.wav").rename(corpus / "wavs" / '{"audio": "good2"}.wav')
    report = corpus / "audit.json"
    said(*AUDIT, f"--data.root={corpus}", f"--json={report}")
    assert (found := json.loads(report.read_text()))["kept"] == 3, found


def test_half_a_character_is_dropped_and_listed(said, corpus):
    rows = [json.dumps({"audio": f"wavs/good{i}.wav", "text": f"Number {i}."}) for i in range(3)]
    rows[1] = '{"audio": "wavs/good1.wav", "text": "a \\ud83d box"}'
    (corpus / "list.jsonl").write_text("\n".join(rows))
    report = corpus / "audit.json"
    said(*AUDIT, f"--data.root={corpus / 'list.jsonl'}", f"--json={report}")
    found = json.loads(report.read_text())
    assert found["kept"] == 2
    assert [(d["id"], d["reason"]) for d in found["dropped"]] == [("list.jsonl:2", "half a character")]


def test_an_unwritable_cache_is_noted(said, corpus, monkeypatch):
    (corpus / "cache").write_text("mine")
    monkeypatch.setenv("UNISONO_CACHE", str(corpus / "cache"))
    report = corpus / "audit.json"
    said(*AUDIT, f"--data.root={corpus}", f"--json={report}")
    found = json.loads(report.read_text())
    assert found["kept"] == 3 and sum("UNISONO_CACHE" in note for note in found["notes"]) == 2


def test_places_without_a_corpus(complaint, tmp_path):
    matches(
        complaint(*AUDIT, f"--data.root={tmp_path / 'gone'}"),
        "gone: no such folder or file; check data.root",
    )
    matches(complaint(*AUDIT, f"--data.root={'x' * 300}"), "no such folder or file; check data.root")
    matches(complaint(*AUDIT, "--data.root=/dev/zero"), "is a device, no regular file")
    matches(complaint(*AUDIT, f"--data.root={tmp_path}"), "no metadata.csv in it", "LJSpeech layout")


def test_an_unknown_language(complaint, corpus):
    sentence = complaint(*AUDIT, f"--data.root={corpus}", "--data.language=xx-klingon")
    matches(sentence, "'xx-klingon'", "language")
