"""ZipVoice: prompts, lengths and losses, for any weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono_sound.signal import write_audio
from unisono_tts.zipvoice.prompt import read_prompt
from unisono_tts.zipvoice.training import draws, duration_loss, laid_out

TEXT = "One small step for man."
SAID = "The ship left at dawn."
DURATIONS = ("predicted", "uniform")


def tone(seconds: float, hertz: float = 140.0, level: float = 0.3) -> torch.Tensor:
    t = torch.arange(int(22050 * seconds)) / 22050
    harmonics = sum(torch.sin(2 * math.pi * hertz * k * t) / k for k in range(1, 12))
    return level * harmonics * (0.6 + 0.4 * torch.sin(2 * math.pi * 3 * t))


@pytest.fixture(scope="module")
def prompt(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompt.wav"
    write_audio(path, torch.cat([torch.zeros(8000), tone(1.8), torch.zeros(12000)]), 22050)
    return path


@pytest.fixture(scope="module")
def models(make_voice, make_vocoder):
    from unisono.recipe import Recipe

    made = {"predicted": make_voice("tts/zipvoice-tiny")}
    facts = made["predicted"].facts
    made["uniform"] = (
        Recipe.read("tts/zipvoice-tiny", ["--model.infilling.durations=uniform"]).build_model(facts).eval()
    )
    made["learnt"] = make_voice("tts/zipvoice-tiny", given_durations=False)
    for model in made.values():
        model.attach("vocoder", make_vocoder())
    return made


@pytest.fixture(scope="module")
def say(models):
    """Return a function that says texts in one batch: log mels and alignment."""

    def speak(which, *requests, **fields):
        model = models[which]
        asked = [model.Request.parse(**{"text": TEXT, "num_steps": 3, **fields, **one}) for one in requests or ({},)]
        readings = [reading for one in asked for reading in model.voice.read(one, 220)]
        rows = [torch.tensor(reading.ids) for reading in readings]
        lengths = torch.tensor([len(row) for row in rows])
        with torch.inference_mode():
            return model.say(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths, readings)

    return speak


def make_batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(2, 40, 80, generator=generator)
    mel[1, 13:] = 1e4  # what must not count
    return {
        "id": ["a", "b"],
        "row": torch.tensor([3, 8]),
        "symbols": torch.randint(1, 100, (2, 6), generator=generator),
        "durations": torch.tensor([[4, 0, 9, 7, 1, 19], [3, 8, 2, 0, 0, 0]]),
        "mel": mel,
        "speaker": torch.tensor([0, 1]),
        "symbol_lengths": torch.tensor([6, 3]),
        "mel_lengths": torch.tensor([40, 13]),
    }


# ---- prompts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [*DURATIONS, "learnt"])
def test_only_the_text_is_said_and_the_prompt_is_heard(say, models, prompt, which):
    given = {"prompt": str(prompt), "prompt_text": SAID}
    spoken, other = say(which, given, seed=1), say(which, seed=1)
    reading = next(iter(models[which].voice.read(models[which].Request(text=TEXT), 220)))
    assert spoken.alignment.num_tokens == len(reading.ids)
    assert spoken.mel.shape[1] == int(spoken.alignment.durations.sum())
    size = min(spoken.mel.shape[1], other.mel.shape[1])
    assert (spoken.mel[:, :size] - other.mel[:, :size]).abs().max() > 1e-3


@pytest.mark.parametrize("which", [*DURATIONS, "learnt"])
def test_the_frames_of_a_prompt_stay_to_the_bit(say, models, prompt, which, monkeypatch):
    model, seen = models[which], {}
    fill = model.fill

    def watched(canvas, requests):
        seen.update(canvas=canvas, filled=fill(canvas, requests))
        return seen["filled"]

    monkeypatch.setattr(model, "fill", watched)
    spoken = say(which, {"prompt": str(prompt), "prompt_text": SAID}, {"text": "No."})
    request = model.Request(text=TEXT, prompt=str(prompt), prompt_text=SAID)
    mel = read_prompt(model, request).mel
    assert torch.equal(seen["filled"][0, : len(mel)], mel)
    assert not seen["canvas"].masked[0, : len(mel)].any() and seen["canvas"].masked[0, len(mel) :].all()
    own = (spoken.mel[0] - model.mel_mean) / model.mel_std
    torch.testing.assert_close(own, seen["filled"][0, len(mel) :], atol=1e-5, rtol=1e-5)
    assert seen["canvas"].lengths[1] == spoken.alignment.tgt_lengths[1]  # without a prompt nothing is before


@pytest.mark.parametrize("which", DURATIONS)
def test_a_prompt_is_a_whole_recording_trimmed_with_the_symbols_of_its_text(models, prompt, which):
    model = models[which]
    read = read_prompt(model, model.Request(text=TEXT, prompt=str(prompt), prompt_text=SAID))
    seconds = len(read.mel) * 256 / 22050
    assert seconds == pytest.approx(1.8 + 2 * 0.06, abs=0.05)
    names = [model.voice.symbols[i] for i in read.ids]
    assert names[0] == "<start>" and names[-1] not in (".", "<end>")
    assert model.voice.symbols[read.pause] == "." and [model.voice.symbols[i] for i in read.behind] == [".", "<end>"]


def test_a_prompt_alone_is_the_prompt_in_a_batch(say, prompt):
    asked = (
        {"seed": 1, "prompt": str(prompt), "prompt_text": SAID, "num_steps": 4},
        {"seed": 2, "text": "No.", "guidance_scale": 1.0, "speaker": "lj"},
        {"seed": 3, "text": "It is a much longer sentence than all the others here.", "solver": "picard"},
        {"seed": 4, "prompt": str(prompt), "prompt_text": SAID, "text": "Yes.", "guidance_scale": 1.0},
    )
    for which in (*DURATIONS, "learnt"):
        together = say(which, *asked)
        for row, one in enumerate(asked):
            alone, count = say(which, one), int(together.alignment.tgt_lengths[row])
            assert alone.mel.shape[1] == count
            torch.testing.assert_close(alone.mel[0], together.mel[row, :count], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"prompt_text": None}, "missing", "prompt_text"),
        ({"prompt": None}, "missing", "prompt"),
        ({"speaker": "lj"}, "conflict", "speaker"),
        ({"prompt": "nowhere.wav"}, "missing", "prompt"),
        ({"prompt_text": "Oh."}, "conflict", "prompt_text"),
        ({"prompt_text": SAID * 8}, "conflict", "prompt_text"),
        ({"prompt_text": "One line.\n\nAnother paragraph."}, "limit", "prompt_text"),
    ],
)
def test_what_is_no_prompt_is_refused(say, prompt, fields, code, path):
    with refused(RequestError, code, path):
        say("predicted", {"prompt": str(prompt), "prompt_text": SAID, **fields})


@pytest.mark.parametrize(
    ("wave", "code"),
    [
        (torch.zeros(22050), "empty"),
        (tone(0.2), "range"),
        (tone(25.0), "range"),
        (torch.full((22050,), float("nan")), "value"),
    ],
)
def test_sounds_that_are_no_voice_are_refused(say, tmp_path, wave, code):
    path = tmp_path / "sound.npy"
    from unisono_tts.zipvoice import prompt as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_audio", lambda file, rate: (wave, rate))
        with refused(RequestError, code, "prompt"):
            say("predicted", {"prompt": str(path), "prompt_text": SAID})


# ---- lengths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", DURATIONS)
@pytest.mark.parametrize("text", ["No.", "a", "Hm!", "Yes"])
def test_a_word_is_as_long_as_predicted_whatever_the_prompt_s_symbols_last(say, models, prompt, which, text):
    """The published rule gives a word the prompt's frames per symbol; here silence in a prompt counts at most twice."""
    spoken = say(which, {"text": text})
    prompted = say(which, {"text": text, "prompt": str(prompt), "prompt_text": SAID})
    symbols = spoken.alignment.num_tokens
    for one in (spoken, prompted):
        frames = int(one.alignment.tgt_lengths[0])
        assert symbols <= frames <= 2 * 200 * symbols
        assert int(one.alignment.durations.max()) >= 1
    ratio = prompted.mel.shape[1] / spoken.mel.shape[1]
    assert 0.35 < ratio < 2.9  # twice as slow or fast, and what the predictor makes of the context
    audio = Synthesizer(models[which])(text, num_steps=2)
    assert audio.words and np.isfinite(audio.waveform).all()


def test_uniform_symbols_share_their_length_evenly(say):
    durations = say("uniform").alignment.durations[0]
    assert int(durations.max()) - int(durations.min()) <= 1


@pytest.mark.parametrize("which", DURATIONS)
@pytest.mark.parametrize("pace", [0.5, 2.0])
def test_pace_divides_the_length(say, which, pace):
    plain, paced = (int(say(which, {"pace": p}).alignment.tgt_lengths[0]) for p in (1.0, pace))
    assert paced == pytest.approx(plain / pace, abs=1)


@pytest.mark.parametrize("which", DURATIONS)
def test_seconds_are_the_length(say, models, which):
    spoken = say(which, {"seconds": 2.0})
    assert int(spoken.alignment.tgt_lengths[0]) == round(2.0 * 22050 / 256)
    model = models[which]
    voice = Synthesizer(model)
    long = " ".join([TEXT] * 20)
    with refused(RequestError, "limit", "seconds", value=2.0):
        voice(long, seconds=2.0, num_steps=1)
    with refused(RequestError, "limit", "seconds"):
        list(voice.stream(f"{TEXT} {TEXT} {TEXT}", seconds=2.0, num_steps=1))
    with refused(RequestError, "range", "seconds", value=0.1):
        say(which, {"seconds": 0.1})
    with refused(RequestError, "conflict", "pace"):
        say(which, {"seconds": 2.0, "pace": 1.5})
    with refused(RequestError, "conflict", "seconds"):
        say("predicted", {"seconds": 2.0, "text": "One [0.5s] two."})


@pytest.mark.parametrize(
    ("fields", "path"),
    [({"word_paces": [1, 1, 1, 1, 0.5]}, "word_paces"), ({"text": "One [0.5s] two."}, "text")],
)
def test_uniform_durations_know_no_place_of_a_word(say, fields, path):
    with refused(RequestError, "unsupported", path):
        say("uniform", fields)
    assert say("predicted", fields).mel.isfinite().all()


# ---- speaking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", DURATIONS)
def test_seeds_differ_and_repeat_and_speakers_differ(say, which):
    one, other, again = (say(which, {"seed": seed}).mel for seed in (1, 2, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    voices = [say(which, {"speaker": name, "temperature": 0.0}).mel for name in ("kathleen", "lj")]
    size = min(mel.shape[1] for mel in voices)
    assert (voices[0][:, :size] - voices[1][:, :size]).abs().max() > 1e-4


def test_guidance_of_one_is_unguided_and_half_the_work(say, models):
    model = models["predicted"]
    counts = []
    for scale in (1.0, 2.0):
        before = model.evaluations
        say("predicted", {"guidance_scale": scale, "num_steps": 5})
        counts.append(model.evaluations - before)
    assert counts == [5, 10]


@pytest.mark.parametrize("solver", ["picard", "parareal"])
def test_a_parallel_solver_says_the_same(say, prompt, solver):
    asked = {"num_steps": 8, "prompt": str(prompt), "prompt_text": SAID}
    serial, other = say("predicted", asked), say("predicted", {**asked, "solver": solver, "tolerance": 1e-4})
    assert (serial.mel - other.mel).abs().max() < 1e-2 * serial.mel.abs().max()


def test_pieces_of_a_stream_have_the_prompt_s_voice(models, prompt):
    voice = Synthesizer(models["predicted"])
    parts = list(voice.stream(f"{TEXT} {TEXT} {TEXT}", num_steps=2, prompt=str(prompt), prompt_text=SAID))
    assert len(parts) >= 2
    words = [segment.label for part in parts for segment in part.words]
    assert words == ["One", "small", "step", "for", "man"] * 3


# ---- training ------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_loss_is_that_of_hidden_frames_and_padding_counts_nothing(models, monkeypatch):
    model, batch = models["predicted"], make_batch()
    losses = model.losses(batch)
    other = {**batch, "mel": batch["mel"].clone()}
    other["mel"][1, 13:] = -55.0
    for name, value in model.losses(other).items():
        torch.testing.assert_close(value, losses[name])
    seen = {}

    def perfect(x, lengths, time):
        """Knows the answer where something is hidden, and says nonsense elsewhere."""
        state, _, known = x.chunk(3, -1)
        target = (batch["mel"] - model.mel_mean) / model.mel_std
        drawn = draws(model.row_seeds(batch), 40, 80)
        masked = (known == 0).all(-1, keepdim=True)
        seen.update(masked=masked[..., 0], time=time, state=state)
        return torch.where(masked, drawn.noise - target, 1e3)

    monkeypatch.setattr(model.field, "forward", perfect)
    assert float(model.losses(batch)["flow"]) < 1e-6
    shares = [float(seen["masked"][row, :count].float().mean()) for row, count in enumerate((40, 13))]
    assert all(0.69 - 1 / 13 < share <= 1 for share in shares)


def test_text_and_speaker_are_dropped_as_often_as_asked(models):
    uniform = draws(range(4000), 1, 1).uniform
    assert uniform.shape == (4000, 5) and uniform.min() >= 0 and uniform.max() < 1
    assert abs(float((uniform[:, 3] < 0.2).double().mean()) - 0.2) < 0.03  # 4.7 standard deviations
    correlation = torch.corrcoef(uniform.T) - torch.eye(5)
    assert correlation.abs().max() < 0.08


def test_the_length_of_a_uniform_text_is_learnt_by_its_sum(models):
    model, batch = models["uniform"], make_batch()
    alignment, parts = laid_out(model, batch, batch["mel"])
    assert not parts and alignment.durations.sum(1).tolist() == [40, 13]
    exact = torch.log1p(torch.tensor([[1.0, 39.0, 0, 0, 0, 0], [13.0, 0, 0, 0, 0, 0]]))
    assert float(duration_loss(model, exact, alignment)) < 1e-10
    assert float(duration_loss(model, exact + 0.1, alignment)) > 1e-3


def test_an_aligner_learns_durations_and_is_kept_for_prompts(models):
    from unisono.export import export_state

    model, batch = models["learnt"], make_batch()
    losses = model.losses({k: v for k, v in batch.items() if k != "durations"})
    assert {"align", "flow", "log_duration"} <= losses.keys()
    assert any(name.startswith("aligner.") for name in export_state(model))
    assert models["uniform"].aligner is None and models["predicted"].aligner is None


@pytest.mark.parametrize("which", DURATIONS)
def test_teacher_forced_mels_have_the_recordings_lengths(models, which):
    assert [len(mel) for mel in models[which].teacher_forced(make_batch())] == [40, 13]
