"""Sound in and out: pieces, levels, joints, and all that a request can have wrong."""

import numpy as np
import pytest
import soundfile
import torch
from converters import buzz, drawn, make_converter
from refused import refused
from unisono import Synthesizer
from unisono.errors import RecipeError, RequestError


@pytest.fixture(scope="module")
def convert():
    return Synthesizer(make_converter())


@pytest.mark.parametrize("block", [1, 77, 4000, 40000])
def test_pieces_are_the_sound_cut_at_whole_hops_in_quiet_places(block):
    from unisono_convert.sound import pieces

    wave = buzz(5.0).numpy()
    found = list(pieces((wave[i : i + block] for i in range(0, len(wave), block)), 8000, 1.0, 80))
    assert np.array_equal(np.concatenate([piece.wave for piece in found]), wave)
    assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True] and len(found) > 4
    assert all(len(piece.wave) % 80 == 0 and len(piece.wave) <= 8000 for piece in found[:-1])
    edges = np.cumsum([len(piece.wave) for piece in found])[:-1]
    assert all(np.abs(wave[max(edge - 160, 0) : edge + 160]).max() < 0.5 * np.abs(wave).max() for edge in edges)


def test_loudness_is_that_of_training_recordings():
    from unisono_convert.sound import loudness, source_of
    from unisono_sound.corpus import level

    wave = torch.cat([buzz(1.0) * 0.3, torch.zeros(4000)])
    told = loudness(source_of(None, wave, 8000, "audio"), -23.0)
    torch.testing.assert_close(wave * told.gain, level(wave, 8000, -23.0), rtol=1e-4, atol=1e-6)
    assert told.num_samples == len(wave)


class Local:
    """A vocoder that looks at nothing but its own frame: what is joined must be what is made at once."""

    def __init__(self, spec):
        self.mel_spec = spec

    def decode(self, mel, lengths=None):
        return mel[..., :1].repeat(1, 1, self.mel_spec.hop_length).flatten(1)


def test_joined_pieces_are_what_one_decoding_gives():
    from unisono_convert.vocoding import Joining
    from unisono_sound.signal import MelSpec

    spec = MelSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=16, f_max=4000)
    mel = drawn(100, 16)
    joining, made = Joining(Local(spec)), []
    for first, last in ((0, 40), (40, 43), (43, 90), (90, 100)):
        made.append(joining.push(mel[first:last], min(last * 80, 7950) - first * 80))
    made.append(joining.flush())
    torch.testing.assert_close(torch.cat(made), Local(spec).decode(mel[None])[0, :7950])


def test_silence_between_pieces_stays_silence():
    from unisono_convert.vocoding import Joining
    from unisono_sound.signal import MelSpec

    spec = MelSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=16, f_max=4000)
    joining, mel = Joining(Local(spec)), torch.ones(20, 16)
    joined = [joining.push(mel, 1600), joining.push(None, 800), joining.push(mel, 1600), joining.flush()]
    wave = torch.cat(joined)
    assert len(wave) == 4000 and not wave[1600:2400].any() and (wave[:1600] == 1).all() and (wave[2400:] == 1).all()


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 11025])
@pytest.mark.parametrize("seconds", [0.11, 0.377, 3.4])
def test_what_comes_out_has_the_rate_and_the_samples_of_what_went_in(convert, rate, seconds):
    wave = buzz(seconds, rate=rate)
    made = convert(samples=wave, sample_rate=rate, speaker="bob")
    assert made.sample_rate == rate and made.waveform.shape == (1, len(wave))
    assert np.isfinite(made.waveform).all() and np.abs(made.waveform).max() > 1e-3


def test_level_comes_back(convert):
    loud, soft = (convert(samples=gain * buzz(), speaker="ann").waveform for gain in (1.0, 0.05))
    np.testing.assert_allclose(soft, 0.05 * loud, atol=1e-4 * np.abs(loud).max())


def test_files_and_channels_are_heard_as_samples_are(convert, tmp_path):
    wave = torch.stack([buzz(), buzz(hertz=140.0)])
    soundfile.write(tmp_path / "two.wav", wave.T.numpy(), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "voice.wav", buzz(0.5, 220.0).numpy(), 8000, subtype="FLOAT")
    made = convert(str(tmp_path / "two.wav"), prompt=str(tmp_path / "voice.wav"))
    again = convert(samples=wave, prompt_samples=buzz(0.5, 220.0))
    assert np.array_equal(made.waveform, again.waveform) and made.waveform.shape[0] == 1
    np.testing.assert_array_equal(
        made.waveform, convert(samples=wave.mean(0), prompt_samples=buzz(0.5, 220.0)).waveform
    )
    eight = convert(samples=wave.repeat(4, 1), speaker="ann")
    assert eight.waveform.shape == (1, wave.shape[1])


def test_silence_in_is_silence_out(convert):
    wave = torch.cat([buzz(1.0), torch.zeros(40000), buzz(1.0)])
    made = convert(samples=wave, speaker="bob").waveform[0]
    assert not convert(samples=torch.zeros(4000), speaker="bob").waveform.any()
    assert not made[24000:32000].any() and np.abs(made[:8000]).max() > 0 and np.abs(made[-8000:]).max() > 0


def test_a_stream_is_the_whole(convert):
    asked = {"samples": buzz(9.0, rate=11025), "sample_rate": 11025, "speaker": "ann"}
    streamed = list(convert.stream(**asked))
    assert len(streamed) > 2
    assert np.array_equal(np.concatenate([piece.waveform for piece in streamed], 1), convert(**asked).waveform)
    assert streamed[1].offset == streamed[0].seconds


WRONG = {
    "unknown": ({"speaker": "anne"}, "unknown", "speaker", ["anne", "ann"]),
    "two voices": ({"speaker": "ann", "prompt_samples": [0.1] * 4000}, "conflict", "prompt_samples", []),
    "no voice": ({}, "missing", "speaker", []),
    "rate of no prompt": ({"speaker": "ann", "prompt_rate": 8000}, "conflict", "prompt_rate", []),
    "silent prompt": ({"prompt_samples": [0.0] * 4000}, "empty", "prompt_samples", []),
    "short prompt": ({"prompt_samples": [0.1] * 800}, "range", "prompt_samples", ["0.10", "0.3"]),
    "long prompt": ({"prompt_samples": [0.1] * 61000, "prompt_rate": 1000}, "limit", "prompt_samples", ["60"]),
    "prompt of NaN": ({"prompt_samples": np.full(4000, np.nan)}, "range", "prompt_samples", []),
    "no prompt file": ({"prompt": "nowhere.wav"}, "missing", "prompt", ["nowhere.wav"]),
    "10 ms": ({"samples": [0.1] * 80, "speaker": "ann"}, "range", "audio", ["0.010", "0.1"]),
    "nothing": ({"samples": [], "speaker": "ann"}, "empty", "audio", []),
    "NaN": ({"samples": np.full(800, np.nan), "speaker": "ann"}, "range", "samples", []),
    "uneven channels": ({"samples": [[0.1] * 900, [0.1] * 800], "speaker": "ann"}, "shape", "audio", []),
    "file and samples": ({"audio": "in.wav", "samples": [0.1], "speaker": "ann"}, "conflict", "audio", []),
    "rate of a file": ({"audio": "in.wav", "sample_rate": 8000, "speaker": "ann"}, "conflict", "sample_rate", []),
    "no file": ({"audio": "nowhere.wav", "speaker": "ann"}, "missing", "audio", ["nowhere.wav"]),
    "a rate of 1 Hz": ({"sample_rate": 1, "speaker": "ann"}, "range", "sample_rate", []),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_refused(convert, name):
    fields, code, path, names = WRONG[name]
    given = fields if "samples" in fields or "audio" in fields else {"samples": buzz(), **fields}
    with refused(RequestError, code, path, names=names):
        convert(**given)


def test_a_damaged_file_is_refused_by_its_field(convert, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF0000WAVEjunk")
    for field in ("audio", "prompt"):
        given = {"samples": buzz()} if field == "prompt" else {"speaker": "ann"}
        with pytest.raises(RequestError) as caught:
            convert(**given, **{field: str(tmp_path / "bad.wav")})
        assert caught.value.path == field


def test_vocoders_of_another_mel_and_no_vocoders_are_refused():
    from unisono_sound.signal import GriffinLim, MelSpec

    model = make_converter()
    with refused(RecipeError, "conflict", "vocoder", names=["n_mels=80", "n_mels=16"]):
        model.attach("vocoder", GriffinLim(MelSpec()))
    with refused(RecipeError, "type", "vocoder", value="Linear"):
        model.attach("vocoder", torch.nn.Linear(2, 2))


def test_without_a_vocoder_it_is_said_how_to_give_one(convert):
    model = make_converter()
    model._components.clear()
    with refused(RequestError, "missing", "components.vocoder", names="griffin-lim"):
        Synthesizer(model)(samples=buzz(), speaker="ann")


def test_a_model_without_names_takes_prompts_only():
    model = Synthesizer(make_converter(speakers=[], pitch={}, voices={}))
    assert model(samples=buzz(), prompt_samples=buzz(0.5, 200.0)).waveform.any()
    unlearnt = Synthesizer(make_converter("convert/pureformer-tiny", "--model.objective.speaker=0"))
    for one in (model, unlearnt):
        assert all(request.speaker is None for request in one.model.check_requests())
        with refused(RequestError, "unsupported", "speaker", value="ann"):
            one(samples=buzz(), speaker="ann")
