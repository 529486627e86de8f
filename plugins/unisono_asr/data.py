"""Corpora to train a recogniser on: recordings with texts (``asr/speech``), and speech made on the spot
(``asr/espeak``).

Both are ``unisono_sound.corpus``'s corpora: LJSpeech layout, tables, the spoken digits. Of each recording there is a
log mel at every speed of ``variation.speeds``; each pass draws one of them, and noise where a folder of it is given.

Shapes: t frames, m mel channels, n units.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from unisono.data import Audit, collate_items
from unisono.errors import DataError, RequestError, did_you_mean
from unisono_sound.corpus import (
    AudioLimits,
    MadeOptions,
    MadeSpeech,
    ReadingOptions,
    SoundOptions,
    SpeechCorpus,
    SpeechItem,
)
from unisono_sound.signal import MelSpec
from unisono_sound.text import Symbols, tokenize

from unisono_asr.facts import RecognitionFacts, digest_of
from unisono_asr.features import SPEECH, extract
from unisono_asr.items import FRAMES_PER_STEP, RecognitionSet, UnitOptions, Variation, least_steps
from unisono_asr.noise import read_noise
from unisono_asr.units import Units, spelled

AS_RECORDED = SoundOptions(trim_db=0.0, pad_seconds=0.0)


class RecognitionData(SpeechCorpus):
    """Recordings with texts, ready to train a recogniser.

    Args:
        root, reading, val_size, mel, limits, sound, num_processes, batch_size, num_workers: as in ``tts/speech``;
            recordings are not trimmed by default. The same sentence is never trained on and held out.
        units: what is recognised.
        variation: how training recordings vary.
        held_out_speakers: their recordings are held out, all of them, and no others.
    """

    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        reading: ReadingOptions = ReadingOptions(),  # noqa: B008
        units: UnitOptions = UnitOptions(),  # noqa: B008
        variation: Variation = Variation(),  # noqa: B008
        held_out_speakers: tuple[str, ...] = (),
        val_size: float = 0.05,
        mel: MelSpec = SPEECH,
        limits: AudioLimits = AudioLimits(max_seconds=20.0),  # noqa: B008
        sound: SoundOptions = AS_RECORDED,
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(
            root,
            reading=reading,
            val_size=val_size,
            mel=mel,
            limits=limits,
            sound=sound,
            num_processes=num_processes,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        self.unit_options, self.variation, self.held_out_speakers = units, variation, tuple(held_out_speakers)

    def features(self) -> tuple[Callable[..., Any], str]:
        speeds = self.variation.speeds
        return partial(extract, speeds=speeds), f"asr 1 {speeds}"

    def prepare(self, progress: bool = True) -> Audit:
        audit = super().prepare(progress)
        reading = {item.utterance.id: self._spelled(item) for item in (*self.train_set.items, *self.val_set.items)}
        self.units = Units.of_corpus(
            self.unit_options.kind,
            [reading[item.utterance.id] for item in self.train_set.items],
            list(self.reader.table),
            self.unit_options.size,
        )
        noise = read_noise(self.variation.noise, self.mel, audit) if self.variation.noise else None
        sides = []
        for part, training in ((self.train_set, True), (self.val_set, False)):
            kept, targets = [], []
            for item in part.items:
                try:
                    ids = self.units.encode(reading[item.utterance.id])
                except RequestError as error:
                    audit.drop(item.utterance.id, "unit not in training", str(error))
                    continue
                if (need := least_steps(ids)) > (have := math.ceil(item.num_frames / FRAMES_PER_STEP)):
                    audit.drop(item.utterance.id, "more units than steps", f"{need} and {have}")
                    continue
                kept.append(item)
                targets.append(ids)
            sides.append(RecognitionSet(kept, targets, self.variation if training else None, noise))
        self.train_set, self.val_set = sides
        if not len(self.train_set):
            message = f"{self.root}: no recording is long enough for its units; use larger ones, such as bpe"
            raise DataError(message, code="empty", path="data.root", value=self.root)
        return self.finish(audit)

    def _spelled(self, item: SpeechItem) -> list[list[str]]:
        symbols = tuple(self.reader.table[number] for number in item.symbols.tolist())
        return spelled(Symbols(symbols, (), tuple(item.words.tolist())))

    def _split(self, kept: dict[str, SpeechItem]) -> None:
        if self.held_out_speakers:
            if strange := [name for name in self.held_out_speakers if name not in self.speakers]:
                message = f"data.held_out_speakers names {strange[0]!r}{did_you_mean(strange[0], self.speakers)}"
                raise DataError(message, code="unknown", path="data.held_out_speakers", value=strange[0])
            for item in kept.values():
                out = item.utterance.speaker in self.held_out_speakers
                item.utterance = replace(item.utterance, held_out=out)
        super()._split(kept)

    def describe(self) -> RecognitionFacts:
        """Return the corpus' facts, with its units and, where these are phones, the words that they spell."""
        facts = super().describe()
        return RecognitionFacts(
            **facts,
            units=self.units,
            loudness_dbfs=self.sound.loudness_dbfs,
            vocabulary=self._vocabulary(),
            trained_on=tuple(sorted({digest_of(item.utterance.text) for item in self.train_set.items})),
        )

    def _vocabulary(self) -> tuple[tuple[str, str, int], ...]:
        if self.units.kind != "phones":
            return ()
        found: Counter[tuple[str, str]] = Counter()
        for item in self.train_set.items:
            words, written = self._spelled(item), [token.text for token in tokenize(item.utterance.text)]
            if len(words) == len(written):  # else a word has no sound of its own
                found.update((word.lower(), " ".join(phones)) for word, phones in zip(written, words, strict=True))
        return tuple((word, phones, count) for (word, phones), count in found.most_common())

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to the longest with 0 and add the lengths."""
        batch = collate_items(items, {})
        batch["mel_lengths"] = torch.tensor([len(item["mel"]) for item in items])
        batch["target_lengths"] = torch.tensor([len(item["targets"]) for item in items])
        return batch


class EspeakRecognition(MadeSpeech, RecognitionData):
    """A corpus spoken by espeak-ng: made on the spot, no download.

    Args:
        made: what is said, and how.
        language, units, variation, val_size, mel, num_processes, batch_size, num_workers: as in ``asr/speech``; the
            front end is ``espeak``.
    """

    flat: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        *,
        made: MadeOptions = MadeOptions(),  # noqa: B008
        language: str = "en-us",
        units: UnitOptions = UnitOptions(),  # noqa: B008
        variation: Variation = Variation(),  # noqa: B008
        val_size: float = 0.05,
        mel: MelSpec = SPEECH,
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        self.made = made
        super().__init__(
            root="",
            reading=ReadingOptions(language=language),
            units=units,
            variation=variation,
            val_size=val_size,
            mel=mel,
            sound=replace(AS_RECORDED, pad_seconds=0.06),
            num_processes=num_processes,
            batch_size=batch_size,
            num_workers=num_workers,
        )
