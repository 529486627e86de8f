"""Hearing by a recogniser that makes no mistakes: sounds of any source, length and rate, and what is refused."""

import json

import numpy as np
import pytest
import torch
from refused import refused
from tones_heard import LETTERS, RATE, TONE, listener, say
from unisono import cli, export
from unisono.errors import RequestError
from unisono_asr.hearing import LEAST_SECONDS
from unisono_asr.request import Sound
from unisono_asr.transcript import Transcript
from unisono_sound.signal import write_audio

TEXT = "cab bad deaf head"


@pytest.fixture(scope="module")
def hear():
    return listener()


def long_text(words, seed=0):
    draw = np.random.default_rng(seed)
    return " ".join("".join(draw.choice(list(LETTERS), draw.integers(1, 6))) for _ in range(words))


def test_what_is_said_is_written_with_its_times(hear):
    wave, times = say(TEXT)
    heard = hear(samples=wave.tolist())
    assert heard.text == TEXT and [word.label for word in heard.words] == TEXT.split()
    assert all(TEXT[slice(*word.span)] == word.label for word in heard.words)
    letters = [segment for segment in heard.segments if segment.kind == "character"]
    assert [letter.label for letter in letters] == [letter for letter, _, _ in times]
    for word in heard.words:
        assert word.end - word.start > 0
    first, last = heard.words[1].start, heard.words[1].end
    assert (first, last) == (pytest.approx(times[3][1], abs=0.03), pytest.approx(times[5][2], abs=0.09))
    assert len(heard.confidences) == len(heard.segments) and min(heard.confidences) > 0.5
    assert heard.seconds == pytest.approx(len(wave) / RATE)


@pytest.mark.parametrize("suffix", [".txt", ".json", ".srt", ".vtt", ".TextGrid"])
def test_transcripts_are_written_as_text_times_and_numbers(hear, tmp_path, suffix):
    heard = hear(samples=say(TEXT)[0].tolist())
    content = heard.save(tmp_path / f"words{suffix}").read_text(encoding="utf-8")
    assert heard.encoded(suffix).decode() == content
    if suffix == ".json":
        told = json.loads(content)
        assert [row["label"] for row in told["words"]] == TEXT.split()
        assert all(0 <= row["confidence"] <= 1 and row["start"] < row["end"] for row in told["words"])
    else:
        assert all(word in content for word in TEXT.split())


def test_a_recording_is_written_down_by_the_command(hear, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load", lambda checkpoint, **options: hear)
    write_audio(tmp_path / "said.wav", torch.from_numpy(say(TEXT)[0]), RATE)
    command = ["generate", "MODEL", str(tmp_path / "said.wav"), "-o", str(tmp_path / "words.txt")]
    assert cli.main([*command, "--times", str(tmp_path / "words.srt")]) == 0
    assert (tmp_path / "words.txt").read_text("utf-8") == TEXT
    assert "cab bad" in (tmp_path / "words.srt").read_text("utf-8")


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100])
def test_any_rate_is_heard(hear, rate):
    wave, _ = say(TEXT, rate)
    assert hear(samples=wave.tolist(), sample_rate=rate).text == TEXT
    assert hear.model.hear(torch.from_numpy(wave), rate).text == TEXT


def test_channels_are_averaged_with_a_note(hear, tmp_path):
    wave = say(TEXT)[0]
    stereo = np.stack([wave, 0.5 * wave])
    heard = hear(samples=stereo.tolist())
    assert heard.text == TEXT and heard.notes == ("2 channels were averaged",)
    write_audio(tmp_path / "two.wav", torch.from_numpy(stereo), RATE)
    of_file = hear(str(tmp_path / "two.wav"))
    assert (of_file.text, of_file.notes) == (TEXT, heard.notes)
    assert hear(samples=wave.tolist()).notes == ()


def test_a_long_sound_is_heard_in_windows_whose_pieces_are_the_whole(hear):
    text = long_text(110)
    wave, times = say(text)
    assert len(wave) / RATE > 2 * hear.model.longest_seconds
    whole = hear(samples=wave.tolist())
    pieces = list(hear.stream(samples=wave.tolist()))
    assert len(pieces) > 2 and max(piece.seconds for piece in pieces) <= hear.model.longest_seconds
    assert pieces[-1].offset == pytest.approx(sum(piece.seconds for piece in pieces[:-1]))
    joined = Transcript.join(pieces)
    assert (joined.text, joined.segments, joined.length) == (whole.text, whole.segments, len(wave))
    assert whole.text == text
    streamed = b"".join(Transcript.encode_pieces(iter(pieces), ".txt"))
    assert streamed == whole.encoded(".txt")
    letters = [segment for segment in whole.segments if segment.kind == "character"]
    late = [abs(letter.start - start) for letter, (_, start, _) in zip(letters, times, strict=True)]
    assert max(late) < TONE


def test_a_sound_is_heard_while_it_comes(hear):
    """Of three hours no more is asked for than the first window takes."""
    asked = []
    wave = say("bad")[0]

    def blocks():
        for _ in range(3 * 3600 * RATE // len(wave)):
            asked.append(len(wave))
            yield wave

    first = next(hear.model.pieces(Sound(RATE, blocks())))
    assert first.text.startswith("bad") and first.seconds > 10
    assert sum(asked) < 2 * hear.model.longest_seconds * RATE


def test_silence_says_nothing(hear):
    for wave in (np.zeros(3 * RATE), np.full(3 * RATE, 1e-5)):
        heard = hear(samples=wave.tolist())
        assert (heard.text, heard.words, heard.confidence) == ("", (), None)
        assert heard.encoded(".txt") == b"" and json.loads(heard.encoded(".json"))["words"] == []
        with refused(RequestError, "empty", "words"):
            heard.encoded(".srt")


def test_a_sound_that_is_too_short_is_refused(hear, tmp_path):
    short = say("a")[0][: RATE // 100]
    with refused(RequestError, "range", "audio", value=0.01, names="0.010"):
        hear(samples=short.tolist())
    write_audio(tmp_path / "short.wav", torch.from_numpy(short), RATE)
    with refused(RequestError, "range", "audio"):
        hear(str(tmp_path / "short.wav"))
    assert hear(samples=[0.1, -0.1] * round(LEAST_SECONDS * RATE / 2)).text is not None


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, "conflict", "audio"),
        ({"audio": "a.wav", "samples": [0.0]}, "conflict", "audio"),
        ({"audio": "a.wav", "sample_rate": 8000}, "conflict", "sample_rate"),
        ({"audio": "no-such-file.wav"}, "missing", "audio"),
        ({"samples": []}, "empty", "samples"),
        ({"samples": [[0.0, 0.1], [0.0]]}, "shape", "samples"),
        ({"samples": [0.0, float("nan")]}, "range", "samples"),
        ({"samples": [0.0], "sample_rate": 10}, "range", "sample_rate"),
    ],
)
def test_wrong_requests_are_refused(hear, fields, code, path):
    with pytest.raises(RequestError) as caught:
        hear(**fields)
    assert caught.value.code == code and path in str(caught.value.path)


def test_arrays_that_are_no_sound_are_refused(hear):
    with refused(RequestError, "value", "samples"):
        hear.model.hear(np.array([0.0, np.inf]), RATE)
    with refused(RequestError, "shape", "samples", value=[1, 1, 5]):
        hear.model.hear(np.zeros((1, 1, 5)), RATE)


def test_transcripts_of_two_rates_are_not_joined(hear):
    with refused(RequestError, "conflict", "sample_rate", value=16_000):
        Transcript.join([Transcript("a", sample_rate=8000), Transcript("b", sample_rate=16_000)])
    with refused(RequestError, "empty", "pieces"):
        Transcript.join([])
