"""Speech made on the spot by espeak-ng: a corpus like any other, with the exact time of each symbol.

What is spoken is cached by the arguments that made it; nothing is downloaded. ``MadeSpeech`` turns any
corpus of recordings (``SpeechCorpus``) into one of made speech.
"""

import json
import os
import random
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
import torch
from unisono.data import Audit, Drop, cache_root
from unisono.data.cache import log
from unisono.data.folder import REMEDY, CacheError, spare_root
from unisono.errors import DataError, RequestError
from unisono.files import composed, fault_of, folder_written_aside, read_json, read_lines, writing_to

from unisono_sound.corpus.corpus import SpeechCorpus, digest, make_front_end
from unisono_sound.corpus.options import MadeOptions, VoiceOptions
from unisono_sound.signal.io import write_audio
from unisono_sound.text.espeak import Spoken, espeak
from unisono_sound.text.frontend import EspeakFrontEnd, FrontEnd, Symbols
from unisono_sound.text.sentences import sentences
from unisono_sound.text.symbols import SymbolTable

LISTED = "whole.json"
"""The list of a made corpus's files with their sizes, written last."""
SILENCE = 0.003
"""A mean magnitude below this, of full scale 1, is a silence in espeak-ng's speech."""


class MadeSpeech:
    """What makes a corpus (a ``SpeechCorpus``, named after it among the bases) one spoken by espeak-ng.

    ``made`` says what is spoken, and how; ``prepare`` makes the corpus where the cache has none, points
    ``root`` and ``durations`` to it and goes on as for recordings.
    """

    made: MadeOptions

    def lines(self) -> list[str]:
        """Return what is spoken, an utterance each: made-up sentences, or those of ``texts``."""
        if self.made.texts is None:
            return sentences(self.made.num_sentences, self.made.corpus_seed)
        return _read_lines(self.made.texts)[: self.made.num_sentences]

    def prepare(self, progress: bool = True) -> Audit:
        corpus, data = cast("SpeechCorpus", self), cast("SpeechCorpus", super())
        reader = make_front_end(corpus.reading.front_end, corpus.reading.language)
        made = make_corpus(self.lines(), reader, self.made, corpus.sound.pad_seconds)
        corpus.root, corpus.durations = str(made / "corpus.jsonl"), str(made / "durations.jsonl")
        audit = data.prepare(progress)
        for line in read_json(made / "skipped.json"):
            audit.drop(line["id"], line["reason"], line["detail"])
        return audit


def make_corpus(
    lines: Sequence[str],
    reader: FrontEnd,
    how: VoiceOptions,
    pad_seconds: float,
) -> Path:
    """Let espeak-ng speak sentences into a folder of the cache; the same arguments find it again.

    The folder is a corpus like any other: ``corpus.jsonl``, ``durations.jsonl`` (the boundaries of
    each sentence's symbols, in seconds), ``wavs/``; ``skipped.json`` lists what could not be
    aligned.
    """
    engine, draw = espeak(), random.Random(how.corpus_seed)
    plan = [
        (
            f"{index:05d}",
            text,
            how.voices[index % len(how.voices)],
            draw.choice(how.rates),
            draw.choice(how.pitches),
        )
        for index, text in enumerate(lines)
    ]
    name = digest("espeak 3", reader.version, reader.language, repr(plan), repr(pad_seconds))
    folder = cache_root() / "espeak" / name
    if is_whole(folder):
        return folder
    for voice in dict.fromkeys(how.voices):
        try:
            engine.speak("a", reader.language, "" if voice == "plain" else voice)
        except RequestError as error:
            raise DataError(str(error), code=error.code, path="data.made.voices", value=voice) from None
    try:
        return _speak(folder, plan, reader, pad_seconds)
    except CacheError as error:
        log.warning("the corpus is spoken anew in each run: %s", error)
        return _speak(spare_root() / "espeak" / name, plan, reader, pad_seconds)


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a made corpus as it was written: all of its files, each with all of its bytes."""
    try:
        sizes = read_json(folder / LISTED)
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (DataError, OSError, AttributeError, TypeError, ValueError):
        return False


def _speak(folder: Path, plan: Sequence[tuple[str, str, str, int, int]], reader: FrontEnd, pad_seconds: float) -> Path:
    """Speak a corpus into a folder; raises ``CacheError`` where it cannot be written."""
    engine = espeak()
    if is_whole(folder):
        return folder
    with writing_to(folder, CacheError, REMEDY):
        if folder.exists():  # damaged
            broken = folder.with_name(f".unisono-{uuid4().hex}")
            os.replace(folder, broken)
            shutil.rmtree(broken, ignore_errors=True)
    corpus, times, skipped = [], [], []
    with folder_written_aside(folder, CacheError, REMEDY, sync=False, keep_other=True) as aside:
        (aside / "wavs").mkdir()
        for identity, text, voice, rate, pitch_level in plan:
            variant = "" if voice == "plain" else voice
            try:
                said = reader.spoken_text(text) if isinstance(reader, EspeakFrontEnd) else text
                spoken = engine.speak(said, reader.language, variant, rate, pitch_level)
                wave, bounds = symbol_times(spoken, reader(text), reader.table, pad_seconds)
            except RequestError as error:
                skipped.append({"id": identity, "reason": "text cannot be read", "detail": str(error)})
                continue
            except Drop as drop:
                skipped.append({"id": identity, "reason": drop.reason, "detail": drop.detail})
                continue
            try:
                write_audio(aside / "wavs" / f"{identity}.wav", torch.from_numpy(wave), spoken.sample_rate)
            except DataError as error:
                raise CacheError(f"{error}; {REMEDY}", code=error.code, path=error.path) from None
            row = {"id": identity, "audio": f"wavs/{identity}.wav", "text": text, "speaker": voice}
            corpus.append(json.dumps(row, ensure_ascii=False))
            times.append(json.dumps({"id": identity, "times": bounds}))
        (aside / "durations.jsonl").write_text("\n".join(times), "utf-8")
        (aside / "skipped.json").write_text(json.dumps(skipped, ensure_ascii=False), "utf-8")
        (aside / "corpus.jsonl").write_text("\n".join(corpus), "utf-8")
        written = sorted(file for file in aside.rglob("*") if file.is_file())
        sizes = {file.relative_to(aside).as_posix(): file.stat().st_size for file in written}
        (aside / LISTED).write_text(json.dumps(sizes), "utf-8")
    return folder


def symbol_times(
    spoken: Spoken, read: Symbols, table: SymbolTable, pad_seconds: float
) -> tuple[np.ndarray, list[float]]:
    """Return the speech with ``pad_seconds`` of silence on either side, and the boundaries of its
    symbols in
    seconds: ``len(read) + 1`` of them, non-decreasing, from 0 to the end.

    A phoneme lasts from its event to the next; one that espeak-ng runs into the phoneme before it
    (0 samples) is given the last third of that. A silence belongs to the pause symbol there, else
    to the space, else to the phoneme before it; a space without a silence lasts no time. Raises
    ``Drop`` where espeak-ng spoke other phonemes than the front end reads.
    """
    heard: list[list] = []  # [symbol, first sample, end]
    for phoneme, start, end in zip(spoken.phonemes, spoken.starts[:-1], spoken.starts[1:], strict=True):
        parts = table.spell(phoneme)
        edges = np.linspace(start, end, len(parts) + 1).astype(np.int64)
        heard += [list(row) for row in zip(parts, edges[:-1], edges[1:], strict=True)]
        stretch = np.abs(spoken.waveform[start:end])
        if not parts and heard and heard[-1][2] == start < end and stretch.mean() > SILENCE:
            heard[-1][2] = end  # an event without a name: not a silence but a glide without a letter
    slots = [index for index, word in enumerate(read.word_of) if word >= 0]
    if [read.symbols[i].lstrip("ˌˈ") for i in slots] != [row[0].lstrip("ˌˈ") for row in heard]:
        raise Drop("espeak-ng spoke other phonemes", f"{len(heard)} spoken, {len(slots)} read")
    for before, row in pairwise(heard):
        if row[1] == row[2] and before[2] == row[1]:
            before[2] = row[1] = before[2] - (before[2] - before[1]) // 3
    bounds = np.zeros(len(read) + 1, np.int64)
    for (_, start, end), slot, following in zip(heard, slots, [*slots[1:], len(read)], strict=True):
        bounds[slot] = start
        bounds[slot + 1 : following] = end  # the last symbol before the next word takes the silence
    pad = round(pad_seconds * spoken.sample_rate)
    first, last, closing = heard[0][1], heard[-1][2], len(read) - slots[-1] - 1
    bounds[slots[-1] + 1 :] = last + np.linspace(0, pad, closing + 1).astype(np.int64)
    wave = np.zeros(last - first + 2 * pad, np.float32)
    decay = spoken.waveform[first : last + pad]
    wave[pad : pad + len(decay)] = decay
    bounds += pad - first
    bounds[0] = 0
    return wave, (bounds / spoken.sample_rate).tolist()


def _read_lines(source: str) -> list[str]:
    path = Path(source).expanduser()
    if (fault := fault_of(path)) and fault.reason == "missing":
        message = f"texts={source!r:.200}: no such file; give one with a sentence per line"
        raise DataError(message, code="missing", path="data.made.texts", value=source)
    read = read_lines(path, fix="give a file with a sentence per line")
    lines = [composed(line.strip()) for line in read if line.strip()]
    if len(lines) < 2:
        message = f"texts={source!r}: {len(lines)} sentences; give at least 2, one per line"
        raise DataError(message, code="empty", path="data.made.texts", value=source)
    return list(dict.fromkeys(lines))
