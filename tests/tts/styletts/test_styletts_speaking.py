"""Speaking with styles: references, means, and controls against what they promise, for any weights."""

import numpy as np
import pytest
import torch
from refused import refused
from unisono.errors import DataError, RecipeError, RequestError
from unisono_sound.signal import write_audio
from unisono_tts.styletts.reference import read_reference, sound_of
from unisono_tts.styletts.sizes import StyleSchedule, StyleSizes

TEXT = "One small step for man, one giant leap for everyone."
SEMITONES = 2 ** (1 / 12)


def voiced(seconds, rate=22050, hertz=140.0, loud=0.3):
    """A buzz that swells and falls, as a voice does."""
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 12))
    return torch.from_numpy(loud * wave / np.abs(wave).max() * (1 + 0.5 * np.sin(2 * np.pi * 3 * time)) / 1.5).float()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return a function that writes a recording, and its path."""
    folder = tmp_path_factory.mktemp("recordings")

    def write(name, wave, rate=22050):
        write_audio(folder / f"{name}.wav", wave, rate)
        return str(folder / f"{name}.wav")

    return write


@pytest.fixture(scope="module")
def say(styled):
    """Return a function that reads a text and says it: the reading and what was said."""
    model = styled.model

    def speak(**fields):
        readings = list(model.voice.read(model.Request.parse(**{"text": TEXT, **fields}), 220))
        assert len(readings) == 1
        ids = torch.tensor([readings[0].ids])
        with torch.inference_mode():
            return readings[0], model.say(ids, torch.tensor([ids.shape[1]]), readings)

    return speak


def test_a_style_is_of_the_recording_whatever_its_rate_and_level(styled, recordings):
    wave = voiced(1.5)
    from unisono_sound.signal import resample

    plain = styled.model.style_of(recordings("plain", wave))
    assert torch.equal(plain, styled.model.style_of(recordings("again", wave)))
    other = styled.model.style_of(recordings("other", voiced(1.5, hertz=260.0)))
    apart = (plain - other).norm().item()
    for name, same in {
        "fast": (resample(wave, 22050, 44100), 44100),
        "soft": (wave * 0.1, 22050),
        "framed": (torch.cat([torch.zeros(9000), wave, torch.zeros(4000)]), 22050),
    }.items():
        near = (styled.model.style_of(recordings(name, *same)) - plain).norm().item()
        assert near < 0.5 * apart, name


def test_a_recording_says_how_it_sounds(styled, recordings):
    low, high = (recordings(f"voice-{hertz}", voiced(1.2, hertz=hertz)) for hertz in (110.0, 300.0))
    mean, one, other = styled([{"text": TEXT}, {"text": TEXT, "style": low}, {"text": TEXT, "style": high}])
    waves = [audio.waveform[:, : min(a.waveform.shape[1] for a in (mean, one, other))] for audio in (mean, one, other)]
    assert min(np.abs(waves[a] - waves[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 1e-4
    alone = styled(TEXT, style=low)
    assert alone.waveform.shape == one.waveform.shape
    np.testing.assert_allclose(alone.waveform, one.waveform, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "wave", "code"),
    [
        ("short", voiced(0.3), "range"),
        ("mostly-silent", torch.cat([torch.zeros(40000), voiced(0.2)]), "range"),
        ("silent", torch.zeros(22050), "empty"),
        ("long", voiced(61.0), "limit"),
    ],
)
def test_recordings_that_hold_no_style_are_refused(styled, recordings, name, wave, code):
    with refused(RequestError, code, "style"):
        styled(TEXT, style=recordings(name, wave))


def test_a_recording_with_nan_and_one_that_is_not_there_are_refused(styled, tmp_path):
    import soundfile

    broken = np.full(22050, np.nan, dtype=np.float32)
    soundfile.write(tmp_path / "nan.wav", broken, 22050, subtype="FLOAT")
    with refused(DataError, "damaged", "nan.wav"):
        styled(TEXT, style=str(tmp_path / "nan.wav"))
    with refused(DataError, "missing", "nowhere.wav"):
        styled(TEXT, style=str(tmp_path / "nowhere.wav"))


def test_a_style_and_a_speaker_are_two_voices(styled):
    with refused(RequestError, "conflict", "speaker"):
        styled.request(TEXT, style="a.wav", speaker="lj")


def test_recordings_are_prepared_as_the_recipe_says(recordings):
    from unisono_sound.signal import MelSpec

    path = recordings("prepared", torch.cat([torch.zeros(11025), voiced(1.0)]))
    spec = MelSpec()
    whole = read_reference(path, spec, sound_of({"data": {"sound": {"trim_db": 0.0}}}))
    trimmed = read_reference(path, spec, sound_of({}))
    assert len(whole) == 33075 // 256 and abs(len(trimmed) * 256 / 22050 - 1.12) < 0.06
    softer = read_reference(path, spec, sound_of({"data": {"sound": {"loudness_dbfs": -33.0}}}))
    heard = softer > -8  # above the floor of the logarithm
    assert float((trimmed - softer)[heard].mean()) == pytest.approx(np.log(10) / 2, abs=0.01)


def test_means_are_the_speakers_own(styled):
    model = styled.model
    readings = [
        next(iter(model.voice.read(model.Request.parse(text="So.", speaker=s), 220))) for s in ("kathleen", "lj")
    ]
    styles = model.styles(readings)
    torch.testing.assert_close(styles, model.style_total / 2)


def test_a_speaker_that_training_never_met_is_refused(make_styled, make_vocoder):
    from unisono import Synthesizer

    model = make_styled()
    model.attach("vocoder", make_vocoder())
    model.style_count[1] = 0
    voice = Synthesizer(model)
    with refused(RequestError, "missing", "style", value="lj"):
        voice(TEXT, speaker="lj")
    assert voice(TEXT, speaker="kathleen").seconds > 0


@pytest.mark.parametrize("semitones", [-12, 4, 0.5])
def test_a_shift_in_semitones_multiplies_the_pitch_and_is_heard(say, semitones):
    _, plain = say()
    _, shifted = say(pitch_shift=semitones)
    ratio = shifted.tracks["pitch"] / plain.tracks["pitch"]
    torch.testing.assert_close(ratio, torch.full_like(ratio, SEMITONES**semitones), rtol=1e-4, atol=0)
    assert (shifted.mel - plain.mel).abs().max() > 1e-4


def test_a_range_of_zero_is_monotone_and_two_is_twice_as_lively(say):
    _, plain = say()
    _, flat = say(pitch_range=0)
    _, lively = say(pitch_range=2)
    mean = flat.tracks["pitch"][0, 0]
    torch.testing.assert_close(flat.tracks["pitch"], mean.expand_as(flat.tracks["pitch"]), rtol=1e-4, atol=0)
    spread = (plain.tracks["pitch"] / mean).log()
    assert spread.abs().max() > 1e-3
    torch.testing.assert_close((lively.tracks["pitch"] / mean).log(), 2 * spread, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("decibels", [-6.0, 12.0])
def test_energy_in_decibels_shifts_the_energy(say, decibels):
    _, plain = say()
    _, louder = say(energy=decibels)
    difference = louder.tracks["energy"] - plain.tracks["energy"]
    torch.testing.assert_close(difference, torch.full_like(difference, decibels), atol=1e-3, rtol=0)
    torch.testing.assert_close(louder.tracks["pitch"], plain.tracks["pitch"])
    assert (louder.mel - plain.mel).abs().max() > 1e-4


def test_marked_pitch_bends_its_own_words(say):
    reading, plain = say(markup="ssml", text="<speak>One small step.</speak>")
    _, bent = say(markup="ssml", text='<speak>One <prosody pitch="+4st">small</prosody> step.</speak>')
    own = torch.tensor([word == 1 for word in reading.symbols.word_of])
    ratio = (bent.tracks["pitch"] / plain.tracks["pitch"])[0]
    torch.testing.assert_close(ratio[own], torch.full_like(ratio[own], SEMITONES**4), rtol=1e-4, atol=0)
    torch.testing.assert_close(ratio[~own], torch.ones_like(ratio[~own]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("pace", [0.25, 1.7, 4.0])
def test_pace_divides_the_number_of_frames_to_the_frame(say, pace):
    _, plain = say()
    _, faster = say(pace=pace)
    exact = int(plain.alignment.tgt_lengths[0])
    assert int(faster.alignment.tgt_lengths[0]) == pytest.approx(exact / pace, abs=0.5 + 0.5 / pace)
    assert faster.mel.shape[1] == int(faster.alignment.tgt_lengths[0])  # an odd one too


def test_a_pause_lasts_as_long_as_it_is_asked_to(styled):
    plain, paused = styled("One, two."), styled("One, [0.5s] two.")
    words = [[s for s in audio.segments if s.kind == "word"] for audio in (plain, paused)]
    assert words[1][1].start - words[1][0].end == pytest.approx(0.5, abs=256 / 22050)
    assert words[1][0].start == pytest.approx(words[0][0].start, abs=2 * 256 / 22050)


def test_all_requests_of_a_batch_are_as_each_alone(styled, recordings):
    path = recordings("batch", voiced(0.8))
    asked = [
        {"text": "No."},
        {"text": f"{TEXT} {TEXT} {TEXT} {TEXT} {TEXT}", "style": path, "pitch_shift": 3},
        {"text": TEXT, "speaker": "lj", "pace": 0.7},
    ]
    for together, fields in zip(styled(asked), asked, strict=True):
        alone = styled(**fields)
        assert together.waveform.shape == alone.waveform.shape
        np.testing.assert_allclose(together.waveform, alone.waveform, atol=1e-5)


def test_a_stream_joins_up_to_the_whole(styled, monkeypatch, recordings):
    from unisono import Audio
    from unisono_tts import streaming

    monkeypatch.setattr(styled.model, "max_piece_characters", streaming.FIRST_PIECE_CHARACTERS)
    fields = {"text": f"{TEXT} {TEXT} {TEXT}", "style": recordings("stream", voiced(0.8))}
    pieces = list(styled.stream(**fields))
    assert len(pieces) > 2
    np.testing.assert_allclose(Audio.join(pieces).waveform, styled(**fields).waveform, atol=1e-5)


def test_sizes_that_cannot_be_are_refused():
    with refused(RecipeError, "shape", "model.network.dim", value=7):
        StyleSizes(dim=7)
    with refused(RecipeError, "shape", "model.network.kernel_size", value=4):
        StyleSizes(kernel_size=4)
    with refused(RecipeError, "range", "model.schedule.crop_frames", value=63):
        StyleSchedule(crop_frames=63)
    with refused(RecipeError, "range", "model.schedule.stretch", value=1.0):
        StyleSchedule(stretch=1.0)


def test_every_field_of_a_request_is_explained(styled):
    from pathlib import Path

    docs = Path(__file__).parents[3] / "docs"
    text = (docs / "styletts.md").read_text("utf-8") + (docs / "synthesis-api.md").read_text("utf-8")
    for field in styled.model.Request.model_fields:
        assert f"| `{field}` |" in text, field
