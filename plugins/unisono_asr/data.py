"""Corpora to train a recogniser on: recordings with texts (``asr/speech``), and speech made on the spot
(``asr/espeak``).

Both are ``unisono_sound.corpus``'s corpora: LJSpeech layout, tables, the spoken digits. Of each recording there is a
log mel at every speed of ``variation.speeds``; each pass draws one of them, and noise where a folder of it is given.

Shapes: t frames, m mel channels, n units.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
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
    SpeechSet,
)
from unisono_sound.signal import MelSpec
from unisono_sound.text import Symbols, tokenize

from unisono_asr.facts import RecognitionFacts, digest_of
from unisono_asr.features import SPEECH, extract, with_noise
from unisono_asr.noise import Noise, read_noise
from unisono_asr.units import Kind, Units, spelled

FRAMES_PER_STEP = 4
"""Mel frames to a step of every encoder here: two convolutions of stride 2."""
AS_RECORDED = SoundOptions(trim_db=0.0, pad_seconds=0.0)


@dataclass(frozen=True, kw_only=True)
class UnitOptions:
    """What is recognised: ``kind`` as in ``unisono_asr.units``, and for ``bpe`` how many ids there are."""

    kind: Kind = "phones"
    size: int = 256


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How training recordings vary from pass to pass.

    speeds: each pass plays a recording at one of these.
    noise: a folder of recordings of noise, or "white"; None adds none.
    noise_share: of the recordings, how many are heard in noise.
    snr_db: from and to which ratio of speech to noise, in decibels.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    noise: str | None = None
    noise_share: float = 0.5
    snr_db: tuple[float, float] = (5.0, 25.0)

    def __post_init__(self):
        if 1.0 not in self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            message = f"data.variation.speeds={list(self.speeds)} must hold 1.0, and speeds from 0.5 to 2"
            raise DataError(message, code="range", path="data.variation.speeds", value=list(self.speeds))
        if not 0 <= self.noise_share <= 1:
            message = f"data.variation.noise_share={self.noise_share} must be from 0 to 1"
            raise DataError(message, code="range", path="data.variation.noise_share", value=self.noise_share)
        if not self.snr_db[0] <= self.snr_db[1]:
            message = f"data.variation.snr_db={list(self.snr_db)} must be a lower and an upper ratio"
            raise DataError(message, code="range", path="data.variation.snr_db", value=list(self.snr_db))


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


class RecognitionSet(SpeechSet):
    """Utterances with the ids of their units as a map-style set; speed and noise are drawn for each training item."""

    def __init__(
        self,
        items: Sequence[SpeechItem],
        targets: Sequence[list[int]],
        variation: Variation | None,
        noise: Noise | None,
    ):
        super().__init__(items)
        self.targets, self.variation, self.noise = list(targets), variation, noise

    def item(self, index: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Return mel [t, m], targets [n], speaker, row, id, text."""
        item, targets = self.items[index], self.targets[index]
        mel = item.features.load("mel")
        if self.variation is not None:
            mel = self._varied(item, least_steps(targets), generator)
        return {
            "mel": mel,
            "targets": torch.tensor(targets),
            "speaker": item.speaker,
            "id": item.utterance.id,
            "text": item.utterance.text,
        }

    def _varied(self, item: SpeechItem, steps: int, generator: torch.Generator | None) -> Tensor:
        variation = self.variation
        assert variation is not None
        names = ["mel" if speed == 1.0 else f"mel_{speed:g}" for speed in variation.speeds]
        fit = [name for name in names if math.ceil(item.features.shapes[name][0] / FRAMES_PER_STEP) >= steps]
        draws = torch.rand(4, generator=generator).tolist()
        mel = item.features.load(fit[int(draws[0] * len(fit))])
        if self.noise is None or draws[1] >= variation.noise_share:
            return mel
        low, high = variation.snr_db
        return with_noise(mel, self.noise.stretch(len(mel), draws[2]), low + (high - low) * draws[3])


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


def least_steps(ids: Sequence[int]) -> int:
    """Return how many steps CTC needs for a transcript: one for each unit, and a blank between equal ones."""
    return len(ids) + sum(one == other for one, other in zip(ids, ids[1:], strict=False))
