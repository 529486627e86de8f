"""Speech corpora: recordings with texts (``tts/speech``), and speech made on the spot
(``tts/espeak``).

From a recording to an item::

    audio ─ read, mono, resample ─ judge ─ trim silence ─ level ─┬─ log mel  [t, m]
                                                                 ├─ pitch    [t]  hertz, 0 unvoiced
                                                                 └─ energy   [t]  norm of magnitudes
    text ─ front end ─ symbols [s], word of each symbol [s], durations [s] where they are given

Features are cached by the recording's content, symbols by the text. An item is dropped, with its
reason, where the recording is unusable, the text has nothing to speak or something that cannot be
spoken, or there are more symbols than frames. The same sentence never stands in training and
validation, whoever says it.

Shapes: s symbols, t frames, m mel channels.
"""

import hashlib
import json
import math
import os
import random
import shutil
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.audio import MelSpec, energy, pitch, read_audio, write_audio
from unisono.audio.mel import LogMel
from unisono.data import (
    AudioLimits,
    Audit,
    DataModule,
    Drop,
    Features,
    Manifest,
    Prepared,
    Utterance,
    cache_root,
    collate_items,
    prepare_features,
    read_manifests,
    wave_facts,
)
from unisono.errors import DataError, RequestError

from unisono_tts.espeak import Spoken, espeak
from unisono_tts.text import FRONT_ENDS, FrontEnd, Symbols, SymbolTable, front_end
from unisono_tts.text.sentences import sentences

HOLD_BYTES = 2**30
"""A corpus with features below this size is kept in memory."""

PEAK = 0.97
SILENCE = 0.003
"""A mean magnitude below this, of full scale 1, is a silence in espeak-ng's speech."""


class SpeechData(DataModule):
    """Recordings with texts, ready to train a voice.

    Args:
        root: a folder in LJSpeech layout or a CSV/JSONL of ``audio|text[|speaker]``; several as a
            list, or as ``{speaker: path}``.
        front_end: ``espeak``, ``characters``, or ``module:attr``, a callable from text to symbols.
        language: what the texts are written in, by espeak-ng's names ("en-us", "de").
        val_size: sentences held out: a share below 1, or a number of recordings.
        mel: the mel spec; recordings are resampled to its rate.
        limits: what a usable recording is.
        trim_db: what is this far below the loudest stretch is silence, cut at both ends; 0 cuts
            nothing.
        pad_seconds: how much silence stays at each end, or is added where there is less.
        loudness_dbfs: recordings are brought to this level (speech only counted); None leaves them.
        durations: a JSONL of ``{"id", "times"}`` (boundaries of the symbols in seconds, one more
            than symbols) or ``{"id", "durations"}`` (frames per symbol), or a folder of one such
            JSON file per id.
        num_processes: for preparing features; all cores where None.
        batch_size, num_workers: as in ``unisono.data.DataModule``.
    """

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        front_end: str = "espeak",
        language: str = "en-us",
        val_size: float = 0.03,
        mel: MelSpec = MelSpec(),  # noqa: B008
        limits: AudioLimits = AudioLimits(max_seconds=20.0),  # noqa: B008
        trim_db: float = 45.0,
        pad_seconds: float = 0.06,
        loudness_dbfs: float | None = -23.0,
        durations: str | None = None,
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        if val_size < 0 or (val_size >= 1 and val_size != int(val_size)):
            raise DataError(f"val_size={val_size} must be a share below 1 or a whole number")
        if trim_db < 0 or pad_seconds < 0:
            raise DataError(f"trim_db={trim_db} and pad_seconds={pad_seconds} must not be negative")
        self.root = root
        self.front_end_name = front_end
        self.language = language
        self.val_size = val_size
        self.mel = mel
        self.limits = limits
        self.trim_db = trim_db
        self.pad_seconds = pad_seconds
        self.loudness_dbfs = loudness_dbfs
        self.durations = durations
        self.num_processes = num_processes
        self.audit: Audit | None = None

    def prepare(self, progress: bool = True) -> Audit:
        """Read texts and recordings, make what the cache lacks, split; return what was kept and
        dropped.
        """
        audit = Audit()
        manifest = read_manifests(self.root)
        self.speakers = manifest.speakers
        self.reader = _make_front_end(self.front_end_name, self.language)
        read = read_texts(manifest, self.reader, audit)
        given = _read_durations(self.durations) if self.durations else None
        usable = [utterance for utterance in manifest if utterance.id in read]
        prepared = prepare_features(
            usable,
            partial(
                extract,
                spec=self.mel,
                limits=self.limits,
                trim_db=self.trim_db,
                pad_seconds=self.pad_seconds,
                loudness_dbfs=self.loudness_dbfs,
            ),
            f"speech 2 {self.mel} {self.limits} "
            f"{self.trim_db} {self.pad_seconds} {self.loudness_dbfs}",
            num_processes=self.num_processes,
            progress=progress,
        )
        kept: dict[str, SpeechItem] = {}
        for utterance, result in zip(usable, prepared, strict=True):
            try:
                if isinstance(result, Drop):
                    raise result
                item = SpeechItem(
                    result, read[utterance.id], self.reader, self.speakers, given, self.mel
                )
            except Drop as drop:
                audit.drop(utterance.id, drop.reason, drop.detail)
                continue
            kept[utterance.id] = item
            audit.keep(utterance.id, result.features.facts["seconds"], utterance.speaker)
        if not kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in audit.reasons.items())
            raise DataError(f"no usable recording in {self.root}: {reasons or 'it is empty'}")
        self._split(kept)
        self.audit = audit
        return audit

    def _split(self, kept: dict[str, "SpeechItem"]) -> None:
        """Hold out sentences; two ways to write one sentence are one."""
        manifest = Manifest(tuple(item.utterance for item in kept.values()))
        size = round(self.val_size * len(kept)) if self.val_size < 1 else int(self.val_size)
        size = max(size, 1) if self.val_size and len(kept) > 1 else size
        train, val = manifest.split(size)
        self.train_set = SpeechSet([kept[utterance.id] for utterance in train])
        self.val_set = SpeechSet([kept[utterance.id] for utterance in val])
        total = sum(4 * math.prod(s) for i in kept.values() for s in i.features.shapes.values())
        if total <= HOLD_BYTES:
            for item in kept.values():
                item.features.hold()

    def describe(self) -> dict[str, Any]:
        """Return the facts of a voice: symbols, front end, speakers, mel spec, statistics, sample
        texts.

        ``mel_mean``, ``mel_std`` are over all training frames and channels, ``mel_bin_mean``,
        ``mel_bin_std`` per channel. ``pitch`` is per speaker: mean and standard deviation of the
        natural log of voiced hertz; ``energy`` per speaker: of log(1 + energy).
        """
        self.setup()
        statistics = _statistics(self.train_set.items, self.speakers)
        shown = self.val_set.items or self.train_set.items
        texts = sorted({i.utterance.text for i in shown}, key=lambda t: (abs(len(t) - 60), t))
        return {
            "symbols": list(self.reader.table),
            "front_end": self.reader.name,
            "front_end_version": self.reader.version,
            "language": self.reader.language,
            "speakers": list(self.speakers),
            "mel_spec": self.mel.to_dict(),
            **statistics,
            "sample_texts": texts[:4],
            "held_out": sorted({i.utterance.text for i in self.val_set.items}),
            "hours": sum(i.features.facts["seconds"] for i in self.train_set.items) / 3600,
            "given_durations": all(i.durations is not None for i in self.train_set.items),
        }

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to the longest (words with −1, all else with 0) and add the lengths."""
        batch = collate_items(items, {"words": -1})
        batch["symbol_lengths"] = torch.tensor([len(item["symbols"]) for item in items])
        batch["mel_lengths"] = torch.tensor([len(item["mel"]) for item in items])
        return batch


class EspeakData(SpeechData):
    """A corpus spoken by espeak-ng, with its exact phoneme times: made on the spot, no download.

    Args:
        num_sentences: how many; about 3 seconds each: 1,200 make an hour, in half a minute.
        voices: espeak-ng's voice variants, each a speaker ("plain", "f2", "m3"); sentences go round
            them.
        rates: words per minute, drawn per sentence.
        pitches: 0–99, drawn per sentence.
        texts: a file with a sentence per line instead of the made-up ones (English).
        corpus_seed: draws sentences, rates and pitches; the recipe's seed does not touch the
            corpus.
        front_end, language, val_size, mel, num_processes, batch_size, num_workers: as in
            ``tts/speech``; the front end must be ``espeak``, whose phonemes the times belong to.
    """

    def __init__(
        self,
        num_sentences: int = 300,
        voices: Sequence[str] = ("plain",),
        rates: Sequence[int] = (150, 165, 180),
        pitches: Sequence[int] = (40, 50, 60),
        texts: str | None = None,
        corpus_seed: int = 0,
        language: str = "en-us",
        val_size: float = 0.05,
        mel: MelSpec = MelSpec(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        if num_sentences < 2:
            raise DataError(f"num_sentences={num_sentences} must be at least 2")
        for name, values, low, high in (("rates", rates, 80, 450), ("pitches", pitches, 0, 99)):
            if not values or not all(low <= v <= high for v in values):
                raise DataError(f"{name}={list(values)} must hold numbers from {low} to {high}")
        if not voices:
            raise DataError("voices is empty: name at least one, such as plain")
        super().__init__(
            root="",
            language=language,
            val_size=val_size,
            mel=mel,
            trim_db=0.0,
            loudness_dbfs=-23.0,
            num_processes=num_processes,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        self.num_sentences = num_sentences
        self.voices, self.rates, self.pitches = tuple(voices), tuple(rates), tuple(pitches)
        self.texts, self.corpus_seed = texts, corpus_seed

    def prepare(self, progress: bool = True) -> Audit:
        reader = _make_front_end(self.front_end_name, self.language)
        if self.texts is None:
            lines = sentences(self.num_sentences, self.corpus_seed)
        else:
            lines = _read_lines(self.texts)[: self.num_sentences]
        made = make_corpus(
            lines, reader, self.voices, self.rates, self.pitches, self.corpus_seed, self.pad_seconds
        )
        self.root, self.durations = str(made / "corpus.jsonl"), str(made / "durations.jsonl")
        audit = super().prepare(progress)
        for line in json.loads((made / "skipped.json").read_text("utf-8")):
            audit.drop(line["id"], line["reason"], line["detail"])
        return audit


class SpeechItem:
    """One utterance: symbols at hand, features in the cache or in memory.

    Raises ``Drop`` for more symbols than frames and for durations that do not fit.
    """

    def __init__(
        self,
        prepared: Prepared,
        read: Symbols,
        reader: FrontEnd,
        speakers: Sequence[str],
        given: dict[str, dict[str, Any]] | None,
        spec: MelSpec,
    ):
        self.utterance: Utterance = prepared.utterance
        self.features: Features = prepared.features
        self.speaker = speakers.index(self.utterance.speaker)
        self.symbols = torch.tensor(reader.table.encode(read.symbols))
        self.words = torch.tensor(read.word_of)
        self.num_frames = self.features.shapes["mel"][0]
        self.durations: Tensor | None = None
        if given is not None:
            if self.utterance.id not in given:
                raise Drop("no durations", "the id is not in the file")
            self.durations = self._fit(given[self.utterance.id], spec)
        elif len(self.symbols) > self.num_frames:
            raise Drop("more symbols than frames", f"{len(self.symbols)} and {self.num_frames}")

    def _fit(self, given: dict[str, Any], spec: MelSpec) -> Int[Tensor, "s"]:
        if "times" in given:
            times = np.asarray(given["times"], np.float64) - self.features.facts["cut_seconds"]
            bounds = np.rint(times * spec.sample_rate / spec.hop_length).astype(np.int64)
            bounds = bounds.clip(0, self.num_frames)
            bounds[0], bounds[-1] = 0, self.num_frames
            frames = np.diff(bounds)
        else:
            frames = np.asarray(given["durations"], np.int64)
        if len(frames) != len(self.symbols):
            raise Drop("durations do not fit", f"{len(frames)} for {len(self.symbols)} symbols")
        if frames.min() < 0 or frames.sum() != self.num_frames:
            raise Drop("durations do not fit", f"sum {frames.sum()} of {self.num_frames} frames")
        return torch.from_numpy(frames)


class SpeechSet:
    """Utterances as a map-style set; nothing is random here, models crop for themselves."""

    def __init__(self, items: list[SpeechItem]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def size(self, index: int) -> int:
        return self.items[index].num_frames

    def item(self, index: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Return symbols [s], words [s], mel [t, m], pitch [t], energy [t], speaker, id, text,
        durations [s].
        """
        item = self.items[index]
        result = {
            "symbols": item.symbols,
            "words": item.words,
            "mel": item.features.load("mel"),
            "pitch": item.features.load("pitch"),
            "energy": item.features.load("energy"),
            "speaker": item.speaker,
            "id": item.utterance.id,
            "text": item.utterance.text,
        }
        if item.durations is not None:
            result["durations"] = item.durations
        return result


def extract(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compute one recording's mel, pitch and energy; facts hold its length and the sums for
    statistics.
    """
    wave, rate = read_audio(utterance.audio, spec.sample_rate)
    verdict = limits.judge(wave_facts(wave, rate))
    if verdict:
        raise Drop(*verdict)
    wave, cut_seconds = trim(wave, rate, trim_db, pad_seconds)
    if len(wave) < spec.n_fft:
        raise Drop("too short", f"{len(wave) / rate:.2f} s without the silence around it")
    wave = level(wave, rate, loudness_dbfs)
    log_mel = LogMel(spec)
    mel = log_mel(wave[None])[0]
    hertz, loud = pitch(wave, spec), energy(wave, spec)
    voiced = hertz[hertz > 0].double().log()
    bins, loud_log = mel.double(), loud.double().log1p()
    return {"mel": mel, "pitch": hertz, "energy": loud}, {
        "seconds": len(wave) / rate,
        "cut_seconds": cut_seconds,
        "mel": [bins.sum(0).tolist(), bins.square().sum(0).tolist(), len(bins)],
        "pitch": [float(voiced.sum()), float(voiced.square().sum()), len(voiced)],
        "energy": [float(loud_log.sum()), float(loud_log.square().sum()), len(loud_log)],
    }


def trim(
    wave: Float[Tensor, "n"], rate: int, trim_db: float, pad_seconds: float
) -> tuple[Float[Tensor, "k"], float]:
    """Cut a recording so that speech has ``pad_seconds`` of silence on either side; also return
    what was cut off its beginning, in seconds (negative where silence was added).

    Loudness is the RMS over 20 ms; silence is ``trim_db`` below the loudest 20 ms. Where a
    recording begins or ends with less silence than that, its own quietest stretch is repeated:
    every utterance then has the silence that the start and end symbols stand for.
    """
    size = max(1, rate // 50)
    power = wave[: len(wave) // size * size].reshape(-1, size).square().mean(1)
    loud = (power > power.max() * 10 ** (-trim_db / 10)).nonzero()[:, 0]
    if not trim_db or not len(loud):
        return wave, 0.0
    pad = round(pad_seconds * rate)
    start, stop = int(loud[0]) * size - pad, (int(loud[-1]) + 1) * size + pad
    span = min(-(-pad // size), len(power))
    quiet = size * int(power.unfold(0, span, 1).mean(1).argmin()) if span else 0
    tone = wave[quiet : quiet + pad]
    before, after = max(0, -start), max(0, stop - len(wave))
    parts = [
        tone[:before],
        wave[max(0, start) : stop],
        tone[len(tone) - after :] if after else tone[:0],
    ]
    return torch.cat(parts), (start if start > 0 else -len(parts[0])) / rate


def level(wave: Float[Tensor, "n"], rate: int, dbfs: float | None) -> Float[Tensor, "n"]:
    """Bring speech to an RMS level, pauses not counted, its peak at most 0.97."""
    if dbfs is None:
        return wave
    size = max(1, rate // 50)
    power = wave[: len(wave) // size * size].reshape(-1, size).square().mean(1)
    speech = power[power > power.max() * 1e-3].mean().clamp(min=1e-12)
    gain = min(10 ** (dbfs / 20) / float(speech.sqrt()), PEAK / max(float(wave.abs().max()), 1e-9))
    return wave * gain


def make_corpus(
    lines: Sequence[str],
    reader: FrontEnd,
    voices: Sequence[str],
    rates: Sequence[int],
    pitches: Sequence[int],
    seed: int,
    pad_seconds: float,
) -> Path:
    """Let espeak-ng speak sentences into a folder of the cache; the same arguments find it again.

    The folder is a corpus like any other: ``corpus.jsonl``, ``durations.jsonl`` (the boundaries of
    each sentence's symbols, in seconds), ``wavs/``; ``skipped.json`` lists what could not be
    aligned.
    """
    engine, draw = espeak(), random.Random(seed)
    plan = [
        (
            f"{index:05d}",
            text,
            voices[index % len(voices)],
            draw.choice(rates),
            draw.choice(pitches),
        )
        for index, text in enumerate(lines)
    ]
    name = _digest("espeak 2", reader.version, reader.language, repr(plan), repr(pad_seconds))
    folder = cache_root() / "espeak" / name
    if (folder / "corpus.jsonl").is_file():
        return folder
    for voice in dict.fromkeys(voices):
        try:
            engine.speak("a", reader.language, "" if voice == "plain" else voice)
        except RequestError as error:
            raise DataError(str(error)) from None
    aside = folder.with_name(f"{name}.{os.getpid()}.tmp")
    (aside / "wavs").mkdir(parents=True, exist_ok=True)
    corpus, times, skipped = [], [], []
    for identity, text, voice, rate, pitch_level in plan:
        variant = "" if voice == "plain" else voice
        try:
            spoken = engine.speak(text, reader.language, variant, rate, pitch_level)
            wave, bounds = symbol_times(spoken, reader(text), reader.table, pad_seconds)
        except RequestError as error:
            skipped.append({"id": identity, "reason": "text cannot be read", "detail": str(error)})
            continue
        except Drop as drop:
            skipped.append({"id": identity, "reason": drop.reason, "detail": drop.detail})
            continue
        write_audio(aside / "wavs" / f"{identity}.wav", torch.from_numpy(wave), spoken.sample_rate)
        row = {"id": identity, "audio": f"wavs/{identity}.wav", "text": text, "speaker": voice}
        corpus.append(json.dumps(row, ensure_ascii=False))
        times.append(json.dumps({"id": identity, "times": bounds}))
    (aside / "durations.jsonl").write_text("\n".join(times), "utf-8")
    (aside / "skipped.json").write_text(json.dumps(skipped, ensure_ascii=False), "utf-8")
    (aside / "corpus.jsonl").write_text("\n".join(corpus), "utf-8")
    try:
        os.replace(aside, folder)
    except OSError:  # another process was faster
        shutil.rmtree(aside)
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
    for phoneme, start, end in zip(
        spoken.phonemes, spoken.starts[:-1], spoken.starts[1:], strict=True
    ):
        parts = table.spell(phoneme)
        edges = np.linspace(start, end, len(parts) + 1).astype(np.int64)
        heard += [list(row) for row in zip(parts, edges[:-1], edges[1:], strict=True)]
        stretch = np.abs(spoken.waveform[start:end])
        if not parts and heard and heard[-1][2] == start < end and stretch.mean() > SILENCE:
            heard[-1][2] = (
                end  # an event without a name: not a silence but a glide without a letter
            )
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


def read_texts(manifest: Manifest, reader: FrontEnd, audit: Audit) -> dict[str, Symbols]:
    """Return each utterance's symbols; what cannot be read goes to the audit.

    Symbols of this plugin's own front ends are cached by text, front end, version and language.
    """
    cached = reader.name in FRONT_ENDS
    path = (
        cache_root() / "symbols" / f"{_digest(reader.name, reader.version, reader.language)}.json"
    )
    try:
        known: dict[str, list] = json.loads(path.read_text("utf-8")) if cached else {}
    except (FileNotFoundError, json.JSONDecodeError):
        known = {}
    before, result = len(known), {}
    for utterance in manifest:
        if not utterance.text:
            audit.drop(utterance.id, "empty text")
            continue
        try:
            if utterance.text not in known:
                read = reader(utterance.text)
                known[utterance.text] = [list(read.symbols), list(read.word_of)]
        except RequestError as error:
            audit.drop(utterance.id, "text cannot be read", str(error))
            continue
        symbols, word_of = known[utterance.text]
        result[utterance.id] = Symbols(tuple(symbols), (), tuple(word_of))
    if cached and len(known) > before:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps(known, ensure_ascii=False), "utf-8")
        os.replace(aside, path)
    return result


def _make_front_end(name: str, language: str) -> FrontEnd:
    try:
        return front_end(name, language)
    except RequestError as error:
        raise DataError(str(error)) from None


def _read_durations(source: str) -> dict[str, dict[str, Any]]:
    path = Path(source).expanduser()
    if path.is_dir():
        rows = []
        for file in sorted(path.rglob("*.json")):
            name = file.relative_to(path).with_suffix("").as_posix()
            rows.append((file, {"id": name, **json.loads(file.read_text("utf-8"))}))
    elif path.is_file():
        rows = []
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.strip():
                try:
                    rows.append((f"{path}, line {number}", json.loads(line)))
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from None
    else:
        raise DataError(f"durations={source!r}: no such file or folder")
    for place, row in rows:
        if "id" not in row or not ("times" in row or "durations" in row):
            raise DataError(f'{place}: expected {{"id", "times"}} or {{"id", "durations"}}')
    return {row["id"]: row for _, row in rows}


def _read_lines(source: str) -> list[str]:
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"texts={source!r}: no such file; give one with a sentence per line")
    lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    if len(lines) < 2:
        raise DataError(f"texts={source!r}: {len(lines)} sentences; give at least 2, one per line")
    return list(dict.fromkeys(lines))


def _statistics(items: Sequence[SpeechItem], speakers: Sequence[str]) -> dict[str, Any]:
    """Means and standard deviations from the sums that came with the features."""

    def moments(sums: list[list]) -> tuple[np.ndarray, np.ndarray]:
        first, second, count = (np.sum([s[i] for s in sums], axis=0) for i in range(3))
        mean = first / max(count, 1)
        return mean, np.sqrt(np.maximum(second / max(count, 1) - mean**2, 1e-8))

    mels = [item.features.facts["mel"] for item in items]
    mean, std = moments(mels)
    flat = [[sum(first), sum(second), count * len(first)] for first, second, count in mels]
    flat_mean, flat_std = moments(flat)
    result = {
        "mel_mean": float(flat_mean),
        "mel_std": float(flat_std),
        "mel_bin_mean": mean.tolist(),
        "mel_bin_std": std.tolist(),
    }
    for name in ("pitch", "energy"):
        rows = {}
        everyone = moments([item.features.facts[name] for item in items])
        for index, speaker in enumerate(speakers):
            own = [i.features.facts[name] for i in items if i.speaker == index]
            own_mean, own_std = moments(own) if sum(s[2] for s in own) else everyone
            rows[speaker] = {"mean": float(own_mean), "std": float(own_std)}
        result[name] = rows
    return result


def _digest(*parts: str) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
