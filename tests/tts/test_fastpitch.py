"""FastPitch: targets against loops, and controls against what they promise, for any weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from unisono.duration import Alignment
from unisono_sound.signal import fill_gaps

TEXT = "One small step for man, one giant leap for everyone."
SEMITONES = 2 ** (1 / 12)


@pytest.fixture(scope="module")
def model(voice):
    return voice.model


@pytest.fixture(scope="module")
def say(model):
    """Return a function that reads a text and says it: the reading and what was said."""

    def speak(**fields):
        readings = list(model.voice.read(model.Request.parse(**{"text": TEXT, **fields}), 220))
        assert len(readings) == 1
        ids = torch.tensor([readings[0].ids])
        with torch.inference_mode():
            return readings[0], model.say(ids, torch.tensor([ids.shape[1]]), readings)

    return speak


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.booleans()), min_size=1, max_size=12))
def test_gaps_are_filled_as_numpy_does(pairs):
    values, valid = (np.array(column) for column in zip(*pairs, strict=True))
    filled = fill_gaps(torch.tensor(values, dtype=torch.float64)[None], torch.tensor(valid)[None])[0]
    if valid.any():
        wanted = np.interp(np.arange(len(values)), np.nonzero(valid)[0], values[valid])
    else:
        wanted = np.zeros(len(values))
    np.testing.assert_allclose(filled.numpy(), wanted, atol=1e-12)


def make_batch(num_frames: int = 40) -> tuple[dict, Alignment]:
    """Two items, the second padded in both directions with what must not count."""
    generator = torch.Generator().manual_seed(0)
    durations = torch.tensor([[4, 0, 9, 7, 1, 19], [3, 8, 2, 0, 0, 0]])
    pitch = 100 + 200 * torch.rand(2, num_frames, generator=generator)
    pitch = pitch * (torch.rand(2, num_frames, generator=generator) > 0.4)
    pitch[0, 4:13] = 0  # a symbol without any voice
    batch = {
        "id": ["a", "b"],
        "symbols": torch.randint(1, 100, (2, 6), generator=generator),
        "durations": durations,
        "mel": torch.randn(2, num_frames, 80, generator=generator),
        "pitch": pitch,
        "energy": 30 * torch.rand(2, num_frames, generator=generator),
        "speaker": torch.tensor([0, 1]),
        "symbol_lengths": torch.tensor([6, 3]),
        "mel_lengths": torch.tensor([40, 13]),
    }
    for name in ("mel", "pitch", "energy"):
        batch[name][1, 13:] = 1e4
    return batch, Alignment.from_durations(durations, batch["symbol_lengths"], batch["mel_lengths"])


def test_targets_equal_loops(model):
    batch, alignment = make_batch()
    targets = model.targets(batch, alignment)
    for row, count in enumerate(batch["symbol_lengths"].tolist()):
        mean = {k: float(getattr(model, k)[row]) for k in ("pitch_mean", "pitch_std", "energy_mean", "energy_std")}
        start, pitches, energies = 0, [], []
        for frames in batch["durations"][row, :count].tolist():
            own = slice(start, start + frames)
            hertz = [float(h) for h in batch["pitch"][row, own] if h > 0]
            pitches.append((np.mean(np.log(hertz)) - mean["pitch_mean"]) / mean["pitch_std"] if hertz else None)
            loud = float(batch["energy"][row, own].mean()) if frames else 0.0
            energies.append((np.log1p(loud) - mean["energy_mean"]) / mean["energy_std"])
            start += frames
        known = [i for i, value in enumerate(pitches) if value is not None]
        assert 0 < len(known) < count or row == 1
        pitches = np.interp(range(count), known, [pitches[i] for i in known])
        # Single precision sums of up to 19 frames.
        np.testing.assert_allclose(targets["pitch"][row, :count], pitches, atol=1e-4)
        np.testing.assert_allclose(targets["energy"][row, :count], energies, atol=1e-4)
        assert targets["pitch"][row, count:].abs().sum() == targets["energy"][row, count:].abs().sum() == 0


@torch.no_grad()
def test_losses_of_a_batch_are_means_over_frames_and_symbols_and_ignore_padding(model):
    batch, _ = make_batch()
    together = {name: float(value) for name, value in model.losses(batch).items()}
    sums = dict.fromkeys(together, 0.0)
    for row in range(2):
        symbols, frames = int(batch["symbol_lengths"][row]), int(batch["mel_lengths"][row])
        own = {k: v[row : row + 1] for k, v in batch.items() if k != "id"}
        own |= {k: own[k][:, :frames] for k in ("mel", "pitch", "energy")}
        own |= {k: own[k][:, :symbols] for k in ("symbols", "durations")}
        for name, value in model.losses({"id": ["x"], **own}).items():
            share = frames / 53 if name == "mel" else symbols / 9
            sums[name] += float(value) * share
    for name in ("mel", "log_duration", "pitch", "energy"):
        assert together[name] == pytest.approx(sums[name], rel=1e-5)
    parts = [together[name] for name in ("mel", "log_duration", "pitch", "energy")]
    assert together["loss"] == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parametrize("speaker", ["kathleen", "lj"])
@pytest.mark.parametrize("semitones", [-12, -4, 4, 0.5])
def test_a_shift_in_semitones_multiplies_the_pitch(say, speaker, semitones):
    _, plain = say(speaker=speaker)
    _, shifted = say(speaker=speaker, pitch_shift=semitones)
    ratio = shifted.tracks["pitch"] / plain.tracks["pitch"]
    torch.testing.assert_close(ratio, torch.full_like(ratio, SEMITONES**semitones), rtol=1e-5, atol=0)


def test_a_range_of_zero_is_monotone_and_two_is_twice_as_lively(say, model):
    _, plain = say()
    _, flat = say(pitch_range=0)
    _, lively = say(pitch_range=2)
    mean = model.pitch_mean[0].exp()
    torch.testing.assert_close(flat.tracks["pitch"], mean.expand_as(flat.tracks["pitch"]))
    spread = (plain.tracks["pitch"] / mean).log()
    assert spread.abs().max() > 0.02
    torch.testing.assert_close((lively.tracks["pitch"] / mean).log(), 2 * spread, rtol=1e-3, atol=1e-5)
    _, shifted = say(pitch_range=0, pitch_shift=7)
    torch.testing.assert_close(shifted.tracks["pitch"], flat.tracks["pitch"] * SEMITONES**7)


@pytest.mark.parametrize("speaker", ["kathleen", "lj"])
@pytest.mark.parametrize("decibels", [-6.0, 3.0, 12.0])
def test_energy_in_decibels_shifts_the_energy(say, speaker, decibels):
    _, plain = say(speaker=speaker)
    _, louder = say(speaker=speaker, energy=decibels)
    difference = louder.tracks["energy"] - plain.tracks["energy"]
    torch.testing.assert_close(difference, torch.full_like(difference, decibels), atol=1e-3, rtol=0)
    torch.testing.assert_close(louder.tracks["pitch"], plain.tracks["pitch"])


def test_a_mel_is_as_wide_and_as_high_as_the_recordings(model, say, monkeypatch):
    """What the network says is standardised: the mean of the training mels is added, their deviation multiplied."""
    _, plain = say()
    core = (plain.mel - model.mel_mean) / model.mel_std
    monkeypatch.setitem(model._buffers, "mel_mean", torch.tensor(-3.5))
    monkeypatch.setitem(model._buffers, "mel_std", torch.tensor(1.75))
    _, other = say()
    torch.testing.assert_close(other.mel, core * 1.75 - 3.5, atol=1e-4, rtol=1e-4)


def test_controls_change_the_mel(say):
    _, plain = say()
    for fields in ({"pitch_shift": 4}, {"energy": 6}, {"pitch_range": 0}, {"speaker": "lj"}):
        _, other = say(**fields)
        size = min(plain.mel.shape[1], other.mel.shape[1])
        assert (plain.mel[:, :size] - other.mel[:, :size]).abs().max() > 1e-3, fields


@pytest.mark.parametrize("pace", [0.25, 0.5, 1.7, 2.0, 4.0])
def test_pace_divides_the_number_of_frames(say, pace):
    _, plain = say()
    _, faster = say(pace=pace)
    # Each total is within half a frame of the exact one.
    exact = int(plain.alignment.tgt_lengths[0])
    assert int(faster.alignment.tgt_lengths[0]) == pytest.approx(exact / pace, abs=0.5 + 0.5 / pace)


def test_a_word_pace_slows_its_word_only(say):
    reading, plain = say()
    paces = [1.0] * 10
    paces[5] = 0.5
    _, slowed = say(word_paces=paces)
    before, after = plain.alignment.durations[0], slowed.alignment.durations[0]
    own = torch.tensor([word == 5 for word in reading.symbols.word_of])
    assert reading.symbols.words[5].text == "one"
    assert (after - before)[~own].abs().max() <= 1  # cumulative rounding may move a border
    assert int(after[own].sum()) == pytest.approx(2 * int(before[own].sum()), abs=3)


def test_the_speaker_is_embedded_only_where_there_are_several(make_voice):
    for recipe in ("tts/fastpitch-tiny", "tts/fastspeech-tiny"):
        assert make_voice(recipe, ("one",)).speaker is None
        assert make_voice(recipe, ("one", "two", "three")).speaker.num_embeddings == 3


def test_a_learnt_alignment_is_trained_only(make_voice):
    from unisono.export import export_state

    model = make_voice(given_durations=False)
    assert any(name.startswith("aligner.") for name in model.state_dict())
    assert not any(name.startswith("aligner.") for name in export_state(model))
    batch, _ = make_batch()
    assert {"align", "mel"} <= model.losses(batch).keys()


def test_teacher_forced_mels_have_the_recordings_lengths(model):
    batch, _ = make_batch()
    assert [len(mel) for mel in model.teacher_forced(batch)] == [40, 13]


def test_padding_says_nothing(model):
    """Frames beyond an item's end are zero, whatever the layers make of zero input."""
    _, alignment = make_batch()
    with torch.no_grad():
        mel = model.decode(torch.randn(2, 6, model.embedding.embedding_dim), alignment)
    assert mel.shape[:2] == (2, 40)
    assert (mel[1, 13:] == 0).all() and (mel[1, :13].abs().sum(-1) > 0).all() and (mel[0].abs().sum(-1) > 0).all()
