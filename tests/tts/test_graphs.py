"""Voices as graphs: what the voice itself says, by onnxruntime, whatever is asked."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from refused import refused
from unisono import Synthesizer
from unisono.errors import RequestError
from unisono.graphs import Graphs, write_graphs
from unisono.graphs.check import distance
from unisono.recipe import Recipe
from unisono_sound.signal import LogMel, MelSpec
from unisono_tts.speaking import griffin_lim

ROOT = Path(__file__).parents[2]
ASKED = ("pitch_shift", "pitch_range", "energy")


def with_vocoder(model, source: str = "harmonic"):
    """Attach a small vocoder, whose network is one block."""
    torch.manual_seed(0)
    recipe = Recipe.read("codec/vocos-tiny", [f"--model.source={source}", "--model.network.num_blocks=1"])
    model.attach("vocoder", recipe.build_model({"mel_spec": MelSpec().to_dict(), "pitch": True}).eval())
    return model


@pytest.fixture(scope="module")
def voice(make_voice):
    torch.manual_seed(0)
    return with_vocoder(make_voice("tts/fastpitch-tiny"))


@pytest.fixture(scope="module")
def graphs(voice) -> Graphs:
    return voice.graph_modules()


def asked(model, text: str, **fields):
    """Return the arguments of a graph for a text, and its reading."""
    (reading,) = model.voice.read(model.Request.parse(text=text, **fields), 400)
    numbers = [torch.tensor([getattr(reading.request, name)], dtype=torch.float32) for name in ASKED]
    pace = torch.tensor([reading.pace], dtype=torch.float32)
    return (torch.tensor([reading.ids]), torch.tensor([reading.speaker]), pace, *numbers), reading


TEXTS = ["Short.", "A longer one, which is to be spoken by both of them, and more slowly than the other."]
FIELDS = [{}, {"speaker": "lj", "pace": 0.75, "pitch_shift": 3.0, "pitch_range": 0.5, "energy": 4.0}]


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_modules_say_what_the_voice_says(voice, graphs, text, fields):
    arguments, reading = asked(voice, text, **fields)
    lengths = torch.tensor([len(reading.ids)])
    with torch.inference_mode():
        said = voice.say(arguments[0], lengths, [reading])
        wave = voice.vocoder.decode(said.mel, said.alignment.tgt_lengths)
        mel, durations = graphs.modules["mel"].module(*arguments)
        spoken, again = graphs.modules["speak"].module(*arguments)
    torch.testing.assert_close(durations, said.alignment.durations, rtol=0, atol=0)
    torch.testing.assert_close(again, durations, rtol=0, atol=0)
    assert distance(said.mel, mel) < 1e-5
    log_mel = LogMel(voice.mel_spec)
    assert spoken.shape == wave.shape
    assert distance(log_mel(wave, "constant"), log_mel(spoken, "constant")) < 2e-3


def test_pieces_of_a_mel_join_up_to_the_whole(voice, graphs):
    """The first frames are vocoded alone; the rest goes on where they end, in phase: a lost one is off by 1 and more.

    Sums of another order are off by some 1e-5, by the processor's instructions (4e-5 with AVX-512).
    """
    graph, hop = graphs.modules["wave"].module, voice.mel_spec.hop_length
    context, n = graphs.facts["context_frames"], 80
    mel = voice.vocoder.log_mel(0.1 * torch.randn(1, 200 * hop, generator=torch.Generator().manual_seed(0)))
    start = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        whole = graph(mel, torch.zeros(1, 200), *start)[0]
        first, pitch, turns = graph(mel[:, :n], torch.zeros(1, n), *start)
        ready, drop = n - context, max(n - 2 * context, 0)
        known = torch.cat([pitch[:, drop:ready], torch.zeros(1, 200 - ready)], dim=1)
        second = graph(mel[:, drop:], known, turns[:, drop], torch.tensor([drop * hop]))[0]
    joined = torch.cat([first[:, : ready * hop], second[:, (ready - drop) * hop :]], dim=1)
    assert 0 < drop < ready < n
    assert distance(whole, joined) < 2e-4


def test_a_vocoder_without_a_form_for_graphs_is_refused(make_voice):
    model = make_voice()
    model.attach("vocoder", griffin_lim(model.facts))
    with refused(RequestError, "unsupported", "vocoder", value="GriffinLim", names=["codec/vocos"]):
        model.graph_modules()


def test_fastspeech_has_no_controls_of_pitch(make_voice):
    model = with_vocoder(make_voice("tts/fastspeech-tiny"), "none")
    graphs = model.graph_modules()
    speak = graphs.modules["speak"]
    assert [port.name for port in speak.inputs] == ["symbols", "speaker", "pace"]
    assert [port.name for port in graphs.modules["wave"].inputs] == ["mel"]
    with torch.inference_mode():
        wanted, made = speak.reference(*speak.examples[0]), speak.module(*speak.examples[0])
    assert torch.equal(wanted[1], made[1]) and distance(wanted[0], made[0]) < 1e-4


def load_example():
    spec = importlib.util.spec_from_file_location("speak_onnx", ROOT / "examples" / "speak_onnx.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OneGraph:
    """A voice that offers ``speak`` alone, so that a test is light."""

    def __init__(self, model):
        self.model, self.recipe = model, model.recipe

    def graph_modules(self) -> Graphs:
        offered = self.model.graph_modules()
        return Graphs({"speak": offered.modules["speak"]}, offered.facts)


@pytest.mark.slow
def test_the_example_speaks_as_the_voice_does(voice, tmp_path):
    """Texts of several pieces, by onnxruntime and the front end alone."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "onnx"
    write_graphs(OneGraph(voice), folder)
    speak, log_mel = load_example().speak, LogMel(voice.mel_spec)
    cases = [("One. Two, three, four and five!", {}), ("Slower, and higher.", {"pace": 0.8, "pitch_shift": 2.0})]
    for text, fields in cases:
        wanted = Synthesizer(voice)(text, **fields).waveform
        samples, rate = speak(str(folder), text, **fields)
        assert rate == 22050 and samples.shape == wanted.shape[1:]
        seen = [log_mel(torch.from_numpy(np.float32(wave))[None], "constant") for wave in (wanted[0], samples)]
        assert distance(*seen) < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_the_shipped_voice_keeps_its_durations(tmp_path, int8):
    """All lengths to the frame, in float32 and in int8, and spectra within what a recogniser does not hear."""
    import unisono

    model = unisono.load(ROOT / "checkpoints" / "tts-en").model
    manifest = write_graphs(model, tmp_path / "onnx", int8=int8)
    limit = 0.15 if int8 else 5e-3
    for graph in manifest["graphs"].values():
        assert all(case["distances"].get("durations", 0.0) == 0 for case in graph["checked"])
        assert all(case["distances"].get("wave", 0.0) < limit for case in graph["checked"])
    assert manifest["graphs"]["speak"]["bytes"] < (13.1e6 if int8 else 19e6)
    speak, log_mel = load_example().speak, LogMel(model.mel_spec)
    for text in model.facts.held_out[:10]:
        wanted = Synthesizer(model)(text).waveform
        samples, _ = speak(str(tmp_path / "onnx"), text)
        assert samples.shape == wanted.shape[1:]
        seen = [log_mel(torch.from_numpy(np.float32(wave))[None], "constant") for wave in (wanted[0], samples)]
        assert (seen[0] - seen[1]).abs().mean() < (0.15 if int8 else 1e-3)
