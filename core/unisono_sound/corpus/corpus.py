"""Recordings with texts: read, judged, trimmed, levelled, their symbols beside them, split by sentence.

From a recording to an item::

    audio ─ read, mono, resample ─ judge ─ trim silence ─ level ─ log mel [t, m] and what a data set adds
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
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import torch
from unisono.data import Audit, DataModule, Drop, cache_root, collate_items, prepare_features
from unisono.data.folder import CacheError, written_aside
from unisono.errors import DataError, RequestError, raised_as
from unisono.files import (
    Fault,
    composed,
    fault_of,
    is_folder,
    lone_surrogate,
    parse_json,
    read_json,
    read_json_lines,
    read_text,
    walk,
)

from unisono_sound.corpus.facts import SpeechFacts
from unisono_sound.corpus.items import SpeechItem, SpeechSet
from unisono_sound.corpus.limits import AudioLimits
from unisono_sound.corpus.manifest import Manifest, read_manifests
from unisono_sound.corpus.options import FLAT, PronunciationOptions, ReadingOptions, SoundOptions
from unisono_sound.corpus.recording import extract_mel, moments
from unisono_sound.signal.mel import MelSpec
from unisono_sound.text.direction import Director, PronouncingFrontEnd, lexicon_rows
from unisono_sound.text.frontend import FRONT_ENDS, FrontEnd, Symbols, front_end
from unisono_sound.text.lexicon import Lexicon, read_lexicon
from unisono_sound.text.normalise import normaliser_of
from unisono_sound.text.reader import DirectedFrontEnd

HOLD_BYTES = 2**30
"""A corpus with features below this size is kept in memory."""


class SpeechCorpus(DataModule):
    """Recordings with texts, read, trimmed, levelled and split: the base of data sets that train voices.

    A subclass says by ``features`` what is computed of a recording beside its log mel.

    Args:
        root: a folder in LJSpeech layout or a CSV/JSONL of ``audio|text[|speaker]``; several as a
            list, or as ``{speaker: path}``.
        reading: how texts are read, and how long their symbols last.
        val_size: sentences held out: a share below 1, or a number of recordings.
        mel: the mel spec; recordings are resampled to its rate.
        limits: what a usable recording is.
        sound: how recordings are trimmed and levelled.
        num_processes: for preparing features; all cores where None.
        batch_size, num_workers: as in ``unisono.data.DataModule``.
    """

    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        reading: ReadingOptions = ReadingOptions(),  # noqa: B008
        val_size: float = 0.03,
        mel: MelSpec = MelSpec(),  # noqa: B008
        limits: AudioLimits = AudioLimits(max_seconds=20.0),  # noqa: B008
        sound: SoundOptions = SoundOptions(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        if val_size < 0 or (val_size >= 1 and val_size != int(val_size)):
            message = f"val_size={val_size} must be a share below 1 or a whole number"
            raise DataError(message, code="range", path="data.val_size", value=val_size)
        self.root = root
        self.reading, self.durations = reading, reading.durations
        self.val_size = val_size
        self.mel = mel
        self.limits = limits
        self.sound = sound
        self.num_processes = num_processes
        self.audit: Audit | None = None

    def features(self) -> tuple[Callable[..., Any], str]:
        """Return what computes an utterance's features (see ``extract_mel``), and its version for the cache."""
        return extract_mel, "speech-mel 1"

    def prepare(self, progress: bool = True) -> Audit:
        """Read texts and recordings, make what the cache lacks, split; return what was kept and
        dropped.
        """
        audit = Audit("recordings")
        manifest = read_manifests(self.root)
        manifest.tell(audit)
        self.speakers = manifest.speakers
        self.reader = pronouncing(make_front_end(self.reading.front_end, self.reading.language), self.reading)
        read = read_texts(manifest, self.reader, audit)
        given = read_durations(self.durations, audit) if self.durations else None
        usable = [utterance for utterance in manifest if utterance.id in read]
        compute, version = self.features()
        sound = self.sound
        prepared = prepare_features(
            usable,
            partial(
                compute,
                spec=self.mel,
                limits=self.limits,
                trim_db=sound.trim_db,
                pad_seconds=sound.pad_seconds,
                loudness_dbfs=sound.loudness_dbfs,
            ),
            f"{version} {self.mel} {self.limits} {sound.trim_db} {sound.pad_seconds} {sound.loudness_dbfs}",
            file=attrgetter("audio"),
            num_processes=self.num_processes,
            progress=progress,
            note=audit.note,
        )
        kept: dict[str, SpeechItem] = {}
        for utterance, result in zip(usable, prepared, strict=True):
            try:
                if isinstance(result, Drop):
                    raise result
                item = SpeechItem(result, read[utterance.id], self.reader, self.speakers, given, self.mel)
            except Drop as drop:
                audit.drop(utterance.id, drop.reason, drop.detail)
                continue
            kept[utterance.id] = item
            audit.keep(utterance.id, result.features.facts["seconds"] / 3600, "hours", utterance.speaker)
        if not kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in audit.reasons.items())
            message = f"no usable recording in {self.root}: {reasons or 'it is empty'}"
            raise DataError(message, code="empty", path="data.root", value=self.root)
        self._split(kept)
        self.audit = audit
        return audit

    def _split(self, kept: dict[str, "SpeechItem"]) -> None:
        """Hold out sentences; two ways to write one sentence are one."""
        manifest = Manifest(tuple(item.utterance for item in kept.values()))
        size = round(self.val_size * len(kept)) if self.val_size < 1 else int(self.val_size)
        size = max(size, 1) if self.val_size and len(kept) > 1 else size
        train, val = manifest.split(size)
        total = sum(4 * math.prod(s) for i in kept.values() for s in i.features.shapes.values())
        if total <= HOLD_BYTES:
            for item in kept.values():
                item.features.hold()
        self.train_set = SpeechSet([kept[utterance.id] for utterance in train])
        self.val_set = SpeechSet([kept[utterance.id] for utterance in val])

    def describe(self) -> SpeechFacts:
        """Return the facts of a voice; reads the corpus where ``prepare`` has not."""
        self.setup()
        shown = self.val_set.items or self.train_set.items
        texts = sorted({i.utterance.text for i in shown}, key=lambda t: (abs(len(t) - 60), t))
        return SpeechFacts(
            symbols=tuple(self.reader.table),
            front_end=self.reader.name,
            front_end_version=self.reader.version,
            language=self.reader.language,
            speakers=tuple(self.speakers),
            mel_spec=self.mel,
            **mel_statistics(self.train_set.items),
            sample_texts=tuple(texts[:4]),
            held_out=tuple(sorted({i.utterance.text for i in self.val_set.items})),
            hours=sum(i.features.facts["seconds"] for i in self.train_set.items) / 3600,
            given_durations=all(i.durations is not None for i in self.train_set.items),
            lexicon=lexicon_rows(self.reader),
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to the longest (words with −1, all else with 0) and add the lengths."""
        batch = collate_items(items, {"words": -1})
        batch["symbol_lengths"] = torch.tensor([len(item["symbols"]) for item in items])
        batch["mel_lengths"] = torch.tensor([len(item["mel"]) for item in items])
        return batch


def read_texts(manifest: Manifest, reader: FrontEnd, audit: Audit) -> dict[str, Symbols]:
    """Return each utterance's symbols; what cannot be read goes to the audit.

    Symbols of the toolkit's own front ends are cached by text, front end, version and language.
    """
    cached = reader.name in FRONT_ENDS
    path = cache_root() / "symbols" / f"{digest(reader.name, reader.version, reader.language)}.json"
    known = _known_symbols(path) if cached else {}
    before, result = len(known), {}
    for utterance in manifest:
        if not utterance.text:
            audit.drop(utterance.id, "empty text")
            continue
        if half := lone_surrogate(utterance.text):
            audit.drop(utterance.id, "half a character", f"{half} alone is half of a character")
            continue
        try:
            if utterance.text not in known:
                read = reader(utterance.text)
                known[utterance.text] = (list(read.symbols), list(read.word_of))
        except RequestError as error:
            audit.drop(utterance.id, "text cannot be read", str(error))
            continue
        symbols, word_of = known[utterance.text]
        result[utterance.id] = Symbols(tuple(symbols), (), tuple(word_of))
    if cached and len(known) > before:
        content = {"checksum": digest(repr(known)), "symbols": known}
        try:
            with written_aside(path) as aside:
                aside.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        except CacheError as error:
            audit.note(f"texts are read anew in each run: {error}")
    return result


def _known_symbols(path: Path) -> dict[str, tuple[list[str], list[int]]]:
    """Return the symbols of texts that were read before; nothing where the cache has none, or not as it was written."""
    try:
        content = parse_json(read_text(path))
        known = {text: (symbols, words) for text, (symbols, words) in content["symbols"].items()}
        return known if content["checksum"] == digest(repr(known)) else {}
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def make_front_end(name: str, language: str) -> FrontEnd:
    """Make a front end for a corpus; an unknown language is a ``DataError``."""
    with raised_as(DataError):
        return front_end(name, language)


def pronouncing(reader: FrontEnd, options: PronunciationOptions) -> FrontEnd:
    """Return a front end that reads by a lexicon and in words where that is asked for; it itself where it is not.

    Raises ``DataError`` for a lexicon that cannot be read and for a language without rules.
    """
    if options.lexicon is None and not options.normalise:
        return reader
    if not isinstance(reader, DirectedFrontEnd):
        message = f"the front end {reader.name!r} cannot be told how words are said: leave lexicon and normalise out"
        raise DataError(message, code="unsupported", path="data.reading", value=reader.name)
    normaliser = normaliser_of(reader.language) if options.normalise else None
    if options.normalise and normaliser is None:
        message = f"there are no rules for {reader.language!r}: leave normalise out, and write numbers in words"
        raise DataError(message, code="unsupported", path="data.reading.normalise", value=reader.language)
    lexicon = Lexicon() if options.lexicon is None else read_lexicon(options.lexicon, reader.table, DataError)
    return PronouncingFrontEnd(reader, Director(reader.language, reader.table, normaliser, lexicon))


def read_durations(source: str, audit: Audit | None = None) -> dict[str, dict[str, Any]]:
    """Read given durations by id: a JSONL, or a folder of JSON files; see ``SpeechCorpus``.

    Entries that cannot be read are listed in the audit; without one, or where there is no other, they are errors.
    """
    path = Path(source).expanduser()
    if not is_folder(path) and (fault := fault_of(path, "check data.durations")):
        if fault.reason == "missing":
            message = f"durations={source!r:.200}: no such file or folder"
            raise DataError(message, code="missing", path="data.reading.durations", value=source)
        raise fault.error()
    found: dict[str, dict[str, Any]] = {}
    faults: list[tuple[str, Fault]] = []
    for place, row in _duration_rows(path):
        if isinstance(row, Fault):
            faults.append((place, row))
        elif composed(str(row["id"])) in found:
            faults.append((place, Fault("same name", f"durations of {row['id']!r:.80} stand twice", "keep one", path)))
        else:
            found[composed(str(row["id"]))] = row
    if faults and (audit is None or not found):
        raise faults[0][1].error()
    for place, fault in faults:
        assert audit is not None
        audit.drop(place, fault.reason, fault.detail)
    return found


def _duration_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | Fault]]:
    wanted = 'expected {"id", "times"} or {"id", "durations"}'
    if not is_folder(path):
        for line, row in read_json_lines(path):
            if not isinstance(row, Fault) and not (
                isinstance(row.get("id"), str) and {"times", "durations"} & set(row)
            ):
                row = Fault("wrong fields", wanted, "", path, line)
            yield f"{path.name}:{line}", row
        return
    listed = walk(path, (".json",))
    yield from listed.faults
    for file in listed.files:
        try:
            row = read_json(file.path)
        except DataError as error:
            yield file.id, error.fault or Fault("unreadable", str(error), "", file.path)
            continue
        if isinstance(row, dict) and {"times", "durations"} & set(row):
            yield file.id, {"id": file.stem, **row}
        else:
            yield file.id, Fault("wrong fields", wanted, "", file.path)


def mel_statistics(items: Sequence[SpeechItem]) -> dict[str, Any]:
    """Return the mel's mean and standard deviation, over all and per channel, from sums in the cache."""
    mels = [item.features.facts["mel"] for item in items]
    mean, std = moments(mels)
    flat = [[sum(first), sum(second), count * len(first)] for first, second, count in mels]
    flat_mean, flat_std = moments(flat)
    return {
        "mel_mean": float(flat_mean),
        "mel_std": float(flat_std),
        "mel_bin_mean": mean.tolist(),
        "mel_bin_std": std.tolist(),
    }


def digest(*parts: str) -> str:
    """Return a name for a cache entry that depends on all of ``parts``."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
