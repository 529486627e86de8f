"""Speech over HTTP, by the real OpenAI client against a real server: formats, streams, voices, refusals, promise 4."""

import base64
import io
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import openai
import pytest
import soundfile
from refused import refused
from serving import events_of, running
from unisono.errors import RequestError
from unisono.media import Audio
from unisono.media.encoder import Encoder
from unisono.serve import Limits
from unisono_sound.serving.encoder import encoded, rate_of, whole

LONG = "The first sentence is short. " + "Then comes another one, with a few more words in it. " * 6


@pytest.fixture(scope="module")
def server(voice):
    with running({"voice": voice}, Limits(seconds=60)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def read(content: bytes) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(content), dtype="float32")


def unknown_length(content: bytes) -> np.ndarray:
    """The samples of a streamed wav, whose header says that its length is not known."""
    assert content[:4] == b"RIFF" and content[8:16] == b"WAVEfmt "
    assert struct.unpack("<I", content[4:8]) == struct.unpack("<I", content[40:44]) == (0xFFFFFFFF,)
    return np.frombuffer(content[44:], "<i2")


def said(voice, text: str, **fields) -> np.ndarray:
    return Audio.join(list(voice.stream(text, **fields))).waveform[0]


def test_the_default_is_mp3_in_chunks(client, voice):
    with client.audio.speech.with_streaming_response.create(model="voice", input=LONG, voice="default") as answer:
        assert answer.headers["content-type"] == "audio/mpeg" and "content-length" not in answer.headers
        content = b"".join(answer.iter_bytes())
    samples, rate = read(content)
    expected = said(voice, LONG)
    assert rate == 22050
    assert 0 <= len(samples) - len(expected) < 3 * 1152  # the codec's delay, which a table would have told
    assert np.abs(samples).max() > 0


@pytest.mark.parametrize("kind", ["wav", "pcm", "opus", "flac"])
def test_each_format_is_one_sound(client, voice, kind):
    answer = client.audio.speech.create(model="voice", input=LONG, voice="lj", response_format=kind)
    expected = said(voice, LONG, speaker="lj")
    if kind == "wav":
        made = unknown_length(answer.content) / 32768
        np.testing.assert_allclose(made, expected.clip(-1, 1), atol=1 / 32768)
    elif kind == "pcm":
        assert answer.response.headers["x-sample-rate"] == "24000"
        made = np.frombuffer(answer.content, "<i2")
        assert abs(len(made) - len(expected) * 24000 / 22050) < 5
    elif kind == "opus":
        made, rate = read(answer.content)
        assert rate == 24000 and abs(len(made) / rate - len(expected) / 22050) < 0.005
    else:
        assert answer.content[:4] == b"fLaC" and answer.content.count(b"fLaC") == 1
        count = int.from_bytes(answer.content[18:26], "big") & (2**36 - 1)
        assert count == 0  # unknown, as its standard has it


def test_the_whole_at_once_is_what_the_synthesizer_says_bit_by_bit(client, server, voice):
    expected = voice(LONG, pitch_shift=2.0, pace=1.5)
    more = {"stream": False, "pitch_shift": 2.0}
    answer = client.audio.speech.create(
        model="voice", input=LONG, voice="default", speed=1.5, response_format="wav", extra_body=more
    )
    assert answer.content == expected.encoded(".wav")
    assert int(answer.response.headers["content-length"]) == len(answer.content)
    native = server.post("voice", text=LONG, pitch_shift=2.0, pace=1.5)
    assert native.content == answer.content and native.headers["content-type"] == "audio/wav"
    for kind in ("mp3", "flac"):
        more["response_format"] = kind
        samples, _ = read(
            client.audio.speech.create(model="voice", input=LONG, voice="default", extra_body=more).content
        )
        assert abs(len(samples) - voice(LONG, pitch_shift=2.0).waveform.shape[1]) <= 1


def test_events_have_openais_names(client, voice):
    with client.audio.speech.with_streaming_response.create(
        model="voice", input=LONG, voice="default", response_format="wav", stream_format="sse"
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(data) for _, data in events_of(answer.read().decode())]
    *deltas, done = events
    assert len(deltas) > 2 and {event["type"] for event in deltas} == {"speech.audio.delta"}
    content = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert len(unknown_length(content)) == len(said(voice, LONG))
    assert done["type"] == "speech.audio.done"
    assert done["usage"] == {
        "input_tokens": len(LONG),
        "output_tokens": len(content),
        "total_tokens": len(LONG) + len(content),
    }


def test_voices_are_listed_by_model(server, client):
    told = server.http.get("/v1/audio/voices").json()
    assert [(voice["id"], voice["model"]) for voice in told["voices"]] == [("kathleen", "voice"), ("lj", "voice")]
    one, other = (
        client.audio.speech.create(model="voice", input="Hello.", voice=name, response_format="pcm").content
        for name in ("kathleen", {"id": "lj"})
    )
    first = client.audio.speech.create(model="voice", input="Hello.", voice="default", response_format="pcm").content
    assert one == first != other


@pytest.mark.parametrize(
    ("fields", "param", "names"),
    [
        ({"voice": "alloy"}, "voice", "kathleen"),
        ({"response_format": "aac"}, "response_format", "aac"),
        ({"speed": 9}, "pace", "4"),
        ({"speed": float("nan")}, "speed", "finite"),
        ({"instructions": "Whisper."}, "instructions", "instructions"),
        ({"stream_format": "flac"}, "stream_format", "sse"),
        ({"extra_body": {"pitchshift": 1}}, "pitchshift", "did you mean 'pitch_shift'"),
        ({"extra_body": {"stream": 1}}, "stream", "stream=1"),
        ({"input": 5}, "input", "input=5"),
    ],
)
def test_what_cannot_be_had_is_a_400_with_the_fields_sentence(client, fields, param, names):
    asked = {"model": "voice", "input": "Hello.", "voice": "default", **fields}
    with pytest.raises((openai.BadRequestError, ValueError)) as caught:
        client.audio.speech.create(**asked)
    if not isinstance(caught.value, openai.BadRequestError):
        return  # the client itself refuses NaN
    assert caught.value.param == param and names in caught.value.message


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="no model 'tts-1' is served here"):
        client.audio.speech.create(model="tts-1", input="Hello.", voice="default")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("tts-1")
    assert [model.id for model in client.models.list()] == ["voice"]
    assert client.models.retrieve("voice").owned_by == "FastPitch"


def test_a_wrong_key_is_the_clients_authentication_error(voice):
    with running({"voice": voice}, key="the-right-key-of-them-all") as server:
        wrong = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError, match="wrong key"):
            wrong.models.list()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="the-right-key-of-them-all") as client:
            assert client.models.list().data


def test_bytes_do_not_depend_on_who_else_is_there(server, voice):
    """Promise 4: each of many at a time gets what it gets alone, whole or streamed, whatever the others ask."""
    asked = [
        {
            "text": f"Sentence number {number}. " * (1 + number % 3),
            "speaker": ("kathleen", "lj")[number % 2],
            "pace": 1 + number / 10,
        }
        for number in range(12)
    ]
    with ThreadPoolExecutor(12) as pool:
        whole_ones = list(pool.map(lambda fields: server.post("voice", **fields).content, asked))
        streamed = list(pool.map(lambda fields: server.post("voice", "/stream", **fields).text, asked))
    assert whole_ones == [voice(fields).encoded(".wav") for fields in asked]
    assert streamed == [server.post("voice", "/stream", **fields).text for fields in asked]


def test_times_of_words_come_with_each_piece(server, voice):
    *pieces, (_, done) = events_of(server.post("voice", "/stream", text=LONG).text)
    told = [json.loads(data) for _, data in pieces]
    expected = list(voice.stream(LONG))
    assert [piece["about"]["seconds"] for piece in told] == [audio.seconds for audio in expected]
    offsets = np.cumsum([0.0, *(audio.seconds for audio in expected)])
    np.testing.assert_allclose([piece["offset"] for piece in told], offsets[:-1])
    assert json.loads(done)["seconds"] == pytest.approx(offsets[-1])
    words = [segment for segment in told[1]["about"]["segments"] if segment["kind"] == "word"]
    assert words and all(set(word) == {"label", "start", "end", "kind", "span"} for word in words)
    said = told[1]["about"]["text"]
    assert all(said[slice(*word["span"])] == word["label"] for word in words)
    assert "".join(piece["about"]["text"] for piece in told) == LONG
    assert None in told[0]["about"]["curves"]["pitch"]["values"]  # undefined in pauses; JSON knows no NaN


@pytest.mark.parametrize("kind", ["srt", ".VTT", "textgrid", "json"])
def test_times_come_as_a_file_of_subtitles_or_tiers(server, voice, tmp_path, kind):
    suffix = f".{kind.removeprefix('.')}"
    answer = server.post("voice", f"?times={kind}", text=LONG)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["format"], told["about"]["text"]) == ("wav", LONG)
    assert told["times"].encode() == voice(LONG).save_times(tmp_path / f"x{suffix}").read_bytes()
    *pieces, (_, done) = events_of(server.post("voice", f"/stream?times={kind}", text=LONG).text)
    whole = Audio.join(list(voice.stream(LONG)))
    assert len(pieces) > 1 and "times" not in json.loads(pieces[0][1])
    assert json.loads(done)["times"].encode() == whole.save_times(tmp_path / f"y{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?times=ass", "unsupported"),
        ("?times=", "unsupported"),
        ("?times=srt&format=wav", "conflict"),
        ("/stream?times=srt&view=snapshots", "conflict"),
        ("/stream?times=../x.srt", "unsupported"),
    ],
)
def test_times_that_cannot_be_are_refused(server, query, code):
    answer = server.post("voice", query, text="Hello.")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "times", code)


# ---- the encoder --------------------------------------------------------------------------------


def tone(seconds: float, rate: int = 22050, channels: int = 1) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return Audio(np.tile(0.5 * np.sin(2 * np.pi * 440 * time), (channels, 1)).astype(np.float32), rate)


@pytest.mark.parametrize("kind", ["mp3", "wav", "flac", "opus", "pcm"])
def test_a_sound_in_pieces_is_the_sound(kind):
    """One encoder and one resampler: pieces of any length give the bytes of one piece, and the end is there."""
    audio = tone(2.3)
    cuts = [0, 1, 300, 301, 9000, 22050, 50715]
    pieces = [Audio(audio.waveform[:, a:b], 22050) for a, b in pairwise(cuts)]
    one, many = (b"".join(encoded(iter(parts), kind)) for parts in ([audio], pieces))
    if kind == "opus":  # each file has a random serial number
        one, many = (read(content)[0] for content in (one, many))
        np.testing.assert_allclose(one, many, atol=1e-4)
    else:
        assert one == many
    if kind in ("mp3", "opus"):
        samples, rate = read(b"".join(encoded(iter(pieces), kind)))
        spectrum = np.abs(np.fft.rfft(samples))
        assert abs(spectrum.argmax() * rate / len(samples) - 440) < 1
        assert 0 <= len(samples) / rate - 2.3 < 0.12


def test_a_streamed_flac_holds_what_the_whole_file_holds():
    audio = tone(1.0)
    streamed, file = b"".join(encoded(iter([audio]), "flac")), audio.encoded(".flac")
    differing = [place for place in range(len(file)) if streamed[place] != file[place]]
    assert len(streamed) == len(file) and max(differing) < 42  # the first block alone: sizes, length, checksum
    mended = file[:42] + streamed[42:]
    np.testing.assert_array_equal(read(mended)[0], read(file)[0])


def test_rates_are_those_of_the_format():
    assert [rate_of("opus", rate) for rate in (8000, 16000, 22050, 44100, 96000)] == [8000, 16000, 24000, 48000, 48000]
    assert (rate_of("pcm", 44100), rate_of("wav", 44100)) == (24000, 44100)
    stereo = Encoder("wav", 8000, channels=2)
    made = stereo.write(tone(0.5, 8000, 2).waveform) + stereo.close()
    assert len(made) == 44 + 2 * 2 * 4000 and struct.unpack("<HIIH", made[22:34]) == (2, 8000, 32000, 4)
    assert read(whole(tone(0.5), "wav"))[1] == 22050


def test_what_is_no_sound_is_refused():
    with refused(RequestError, "damaged", "waveform"):
        Encoder("mp3", 22050).write(np.full((1, 10), np.nan, np.float32))
    with refused(RequestError, "unsupported", "response_format", value="mp3"):
        list(encoded(iter([tone(0.1, 96_000)]), "mp3"))
    with refused(RequestError, "unsupported", "format", value="mp3"):
        Encoder("mp3", 96_000)
