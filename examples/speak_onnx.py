"""Speaks with onnxruntime and the front end alone: no PyTorch.

unisono export checkpoints/tts-en voice-onnx --format onnx --int8
python examples/speak_onnx.py voice-onnx "It speaks without PyTorch." out.wav
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from unisono_sound.text import front_end, split_text

SEAM = 0.02  # seconds of silence that stay on either side of a cut within a phrase


def speak(folder: str, text: str, **asked: float) -> tuple[np.ndarray, int]:
    """Return samples and their rate; ``asked`` are speaker (a row), pace, pitch_shift, pitch_range and energy."""
    manifest = json.loads((Path(folder) / "graphs.json").read_text(encoding="utf-8"))
    facts, graph = manifest["facts"], manifest["graphs"]["speak"]
    session = onnxruntime.InferenceSession(str(Path(folder) / graph["file"]), providers=["CPUExecutionProvider"])
    read, ids = front_end(facts["front_end"], facts["language"]), {s: i for i, s in enumerate(facts["symbols"])}
    rate, hop, parts, cut = facts["sample_rate"], facts["mel_spec"]["hop_length"], [], False
    for piece in split_text(text, facts["max_piece_characters"]):
        symbols = np.array([[ids[symbol] for symbol in read(piece.text).symbols]])
        inputs = {"symbols": symbols, "pace": np.full(symbols.shape, asked.get("pace", 1.0), np.float32)}
        inputs["speaker"] = np.array([int(asked.get("speaker", 0))])
        for name in [entry["name"] for entry in graph["inputs"] if entry["name"] not in inputs]:
            inputs[name] = np.array([asked.get(name, 1.0 if name == "pitch_range" else 0.0)], np.float32)
        sound, durations = session.run(None, inputs)
        ends, seam = durations[0].cumsum() * hop, round(SEAM * rate)
        first, last = max(ends[0] - seam, 0) if cut else 0, min(ends[-2] + seam, ends[-1]) if piece.cut else ends[-1]
        parts += [sound[0, first:last], np.zeros(round(piece.pause * rate), np.float32)]
        cut = piece.cut
    return np.concatenate(parts), rate


if __name__ == "__main__":
    samples, rate = speak(*sys.argv[1:3])
    with wave.open(sys.argv[3], "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
