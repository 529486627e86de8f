"""Alignment against exact times: borders of phones by a recogniser, where a voice or espeak-ng says when they are.

    python benchmarks/align.py checkpoints/asr-en [--voice checkpoints/tts-en] [--sentences 40] [--json FILE]

A voice's sound has the times that it was made by; those of espeak-ng's speech are its own events. Errors are of the
beginning of each phone, in milliseconds: median, 95th percentile and mean, how many are within 20 and 50 ms, and the
median with its sign. `fit` is how well texts fit their own sound and that of the next sentence, lowest and highest.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import unisono
from rich.console import Console
from rich.table import Table
from unisono.files import read_json_lines
from unisono_asr.align import fit_of
from unisono_asr.aligner import Aligner
from unisono_asr.reading import reader_of
from unisono_asr.request import Sound, sound_of_file, sound_of_samples
from unisono_asr.units import STRESS, spelled
from unisono_sound.corpus import VoiceOptions, make_corpus
from unisono_sound.text.sentences import sentences
from unisono_sound.text.symbols import SPECIALS

Clip = tuple[str, Sound, list[tuple[str, float]]]
"""A text, its sound, and each phone with its beginning in seconds."""


def by_voice(checkpoint: str, texts: list[str]) -> Iterator[Clip]:
    """Sentences by a voice; its phones without stress."""
    voice = unisono.load(checkpoint)
    for text in texts:
        audio = voice(text)
        phones = [(s.label.lstrip(STRESS), s.start) for s in audio.segments if s.kind == "phoneme"]
        yield text, sound_of_samples(audio.waveform, audio.sample_rate), [p for p in phones if p[0] not in SPECIALS]


def by_espeak(aligner: Aligner, texts: list[str]) -> Iterator[Clip]:
    """Sentences by espeak-ng."""
    reader = reader_of(aligner.model.facts, normalise=False)
    folder = make_corpus(texts, reader, VoiceOptions(num_sentences=len(texts), corpus_seed=77), 0.06)
    rows = {row["id"]: row for _, row in read_json_lines(folder / "corpus.jsonl")}
    for _, row in read_json_lines(folder / "durations.jsonl"):
        about = rows[row["id"]]
        read = reader(about["text"])
        phones = [
            (symbol.lstrip(STRESS), start)
            for symbol, word, start in zip(read.symbols, read.word_of, row["times"][:-1], strict=True)
            if word >= 0
        ]
        yield about["text"], sound_of_file(folder / about["audio"]), phones


def measured(aligner: Aligner, clips: Iterator[Clip]) -> dict[str, float | str]:
    """Align each clip and compare; a clip in which a phone lasts no time, so that it has no beginning, is left out."""
    late, own, heard, said = [], [], [], []
    left_out = 0
    units = aligner.model.facts.units
    for text, sound, phones in clips:
        blocks = list(sound.blocks)
        found = aligner.align(Sound(sound.rate, iter(blocks)), text)
        made = [(s.label, s.start) for s in found.transcript.segments if s.kind == "phoneme"]
        own.append(found.fit)
        whole = aligner.model.hear(np.concatenate(blocks), sound.rate)
        heard.append([i for i in whole.tokens if units.tokens[i] != " "])
        said.append([i for i in units.encode(spelled(aligner.reader(text))) if units.tokens[i] != " "])
        if [label for label, _ in made] != [label for label, _ in phones]:
            left_out += 1
            continue
        late += [1000 * (start - true) for (_, start), (_, true) in zip(made, phones, strict=True)]
    other = [fit_of(text, sound) for text, sound in zip(said, [*heard[1:], heard[0]], strict=True)]
    off = np.abs(late)
    return {
        "clips": len(own),
        "left out": left_out,
        "phones": len(late),
        "median, ms": float(np.median(off)),
        "95 %, ms": float(np.percentile(off, 95)),
        "mean, ms": float(off.mean()),
        "within 20 ms, %": 100 * float((off <= 20).mean()),
        "within 50 ms, %": 100 * float((off <= 50).mean()),
        "median with sign, ms": float(np.median(late)),
        "fit": f"{min(own):.2f} to {max(own):.2f}",
        "fit of the next sentence": f"{min(other):.2f} to {max(other):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--voice", help="an export of a voice, whose sound is aligned too")
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    aligner = Aligner(unisono.load(args.checkpoint).model, min_fit=0.0)
    texts = sentences(args.sentences, 77)
    found = {"espeak-ng": measured(aligner, by_espeak(aligner, texts))}
    if args.voice:
        found[args.voice] = measured(aligner, by_voice(args.voice, texts))
    table = Table(title=f"{args.checkpoint}, borders of phones")
    table.add_column("measure")
    for name in found:
        table.add_column(name, justify="right")
    for measure in next(iter(found.values())):
        values = [rows[measure] for rows in found.values()]
        table.add_row(measure, *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values))
    Console(width=100).print(table)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
