"""Streamed speech to train a voice on: recordings with texts in shards, read when they are needed.

Items and facts are those of ``tts/speech``. Statistics are measured on a part of the rows, spread evenly over the
shards; symbols, pitch and energy are made when an item is read.
"""

import itertools
from typing import Any, ClassVar

import torch
from unisono.data import Audit, Drop, collate_items
from unisono.data.stream import Examined, Part, Row, StreamData, StreamOptions
from unisono.errors import DataError, RequestError
from unisono_sound.corpus import AudioLimits, PronunciationOptions, SoundOptions, pronouncing
from unisono_sound.corpus.recording import moments, sums
from unisono_sound.corpus.streamed import AUDIO, FACTS, SPEAKER, TEXT, speaker_of, speech_of, text_of
from unisono_sound.signal import LogMel, MelSpec, energy, pitch
from unisono_sound.text.direction import lexicon_rows
from unisono_sound.text.frontend import FrontEnd, front_end

from unisono_tts.facts import Spread, VoiceFacts

ALONE = "speaker"
"""The speaker of rows that name none."""


class SpeechStream(StreamData):
    """Recordings with texts of a stream.

    Args:
        root, stream, val_size, batch_size, num_workers: as of every ``StreamData``; rows
            of one text are held out together.
        reading: how texts are read.
        mel: the mel spec; recordings are resampled to its rate.
        limits: what a usable recording is.
        sound: how recordings are trimmed and levelled.
    """

    parts: ClassVar[tuple[Part, ...]] = (AUDIO, TEXT, SPEAKER, FACTS)
    items = "recordings"
    unit = "hours"

    def __init__(
        self,
        root: str,
        *,
        reading: PronunciationOptions = PronunciationOptions(),  # noqa: B008
        mel: MelSpec = MelSpec(),  # noqa: B008
        limits: AudioLimits = AudioLimits(max_seconds=20.0),  # noqa: B008
        sound: SoundOptions = SoundOptions(),  # noqa: B008
        stream: StreamOptions = StreamOptions(),  # noqa: B008
        val_size: int = 64,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(root, stream=stream, val_size=val_size, batch_size=batch_size, num_workers=num_workers)
        self.reading, self.mel, self.limits, self.sound = reading, mel, limits, sound
        self._reader: FrontEnd | None = None

    @property
    def reader(self) -> FrontEnd:
        """What reads texts."""
        if self._reader is None:
            try:
                reader = front_end(self.reading.front_end, self.reading.language)
            except RequestError as error:
                raise DataError(str(error), code="unknown", path="data.reading", value=self.reading.language) from None
            self._reader = pronouncing(reader, self.reading)
        return self._reader

    def version(self) -> str:
        reader = self.reader
        return f"1 {self.mel} {self.limits} {self.sound} {reader.name} {reader.version} {reader.language}"

    def examine(self, row: Row) -> Examined:
        text = text_of(row)
        wave = self._wave(row)
        frames, symbols = self.mel.frames(len(wave)), len(read_symbols(self.reader, text)[0])
        if symbols > frames:
            raise Drop("more symbols than frames", f"{symbols} and {frames}")
        return Examined(frames, len(wave) / self.mel.sample_rate / 3600, speaker_of(row) or ALONE, text)

    def _wave(self, row: Row) -> torch.Tensor:
        sound = self.sound
        return speech_of(row, self.mel, self.limits, sound.trim_db, sound.pad_seconds, sound.loudness_dbfs)

    def maker(self, random: bool) -> "Utter":
        assert self.index is not None
        return Utter(self.reading, self.mel, self.limits, self.sound, tuple(sorted(self.index.groups)))

    def settle(self, audit: Audit) -> None:
        assert self.index is not None
        speakers = tuple(sorted(self.index.groups))
        make, generator = self.maker(False), torch.Generator()
        kept: dict[str, list[Any]] = {"mel": [], "pitch": [], "energy": []}
        whose: list[int] = []
        for row in self.sample():
            item = make(row, generator)
            whose.append(item["speaker"])
            kept["mel"].append(sums(item["mel"]))
            kept["pitch"].append(sums(item["pitch"][item["pitch"] > 0].double().log()))
            kept["energy"].append(sums(item["energy"].double().log1p()))
        if len(whose) < len(self.train_set):
            audit.note(f"mel, pitch and energy are measured on {len(whose)} of {len(self.train_set)} recordings")
        mean, std = moments(kept["mel"])
        flat_mean, flat_std = moments([[sum(first), sum(square), n * len(first)] for first, square, n in kept["mel"]])
        held = sorted({text_of(self.val_set.row(i)) for i in range(len(self.val_set))}) if self.val_set else []
        shown = held or sorted({text_of(row) for row in itertools.islice(self.sample(), 16)})
        self.facts = VoiceFacts(
            symbols=tuple(self.reader.table),
            front_end=self.reader.name,
            front_end_version=self.reader.version,
            language=self.reader.language,
            speakers=speakers,
            mel_spec=self.mel,
            mel_mean=float(flat_mean),
            mel_std=float(flat_std),
            mel_bin_mean=tuple(mean.tolist()),
            mel_bin_std=tuple(std.tolist()),
            sample_texts=tuple(sorted(shown, key=lambda text: (abs(len(text) - 60), text))[:4]),
            held_out=tuple(held),
            lexicon=lexicon_rows(self.reader),
            hours=float(self.index.amounts[self.train_set.rows].sum()),
            pitch=_spread(kept["pitch"], whose, speakers),
            energy=_spread(kept["energy"], whose, speakers),
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to the longest (words with −1, all else with 0) and add the lengths."""
        batch = collate_items(items, {"words": -1})
        batch["symbol_lengths"] = torch.tensor([len(item["symbols"]) for item in items])
        batch["mel_lengths"] = torch.tensor([len(item["mel"]) for item in items])
        return batch

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_reader": None}


class Utter:
    """Makes an item of a row, as ``tts/speech`` has it."""

    def __init__(
        self,
        reading: PronunciationOptions,
        mel: MelSpec,
        limits: AudioLimits,
        sound: SoundOptions,
        speakers: tuple[str, ...],
    ):
        self.reading, self.mel, self.limits, self.sound, self.speakers = reading, mel, limits, sound, speakers
        self._reader: FrontEnd | None = None

    def __call__(self, row: Row, generator: torch.Generator) -> dict[str, Any]:
        if self._reader is None:
            self._reader = pronouncing(front_end(self.reading.front_end, self.reading.language), self.reading)
        text, sound = text_of(row), self.sound
        wave = speech_of(row, self.mel, self.limits, sound.trim_db, sound.pad_seconds, sound.loudness_dbfs)
        symbols, words = read_symbols(self._reader, text)
        return {
            "symbols": torch.tensor(symbols),
            "words": torch.tensor(words),
            "mel": LogMel(self.mel)(wave[None])[0],
            "pitch": pitch(wave, self.mel),
            "energy": energy(wave, self.mel),
            "speaker": self.speakers.index(speaker_of(row) or ALONE),
            "id": row.id,
            "text": text,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}


def read_symbols(reader: FrontEnd, text: str) -> tuple[list[int], list[int]]:
    """Return a text's symbols by number and the word of each; raises ``Drop`` where it cannot be read."""
    try:
        read = reader(text)
    except RequestError as error:
        raise Drop("text cannot be read", str(error)) from None
    return list(reader.table.encode(read.symbols)), list(read.word_of)


def _spread(rows: list[Any], whose: list[int], speakers: tuple[str, ...]) -> dict[str, Spread]:
    """Mean and standard deviation by speaker; everyone's for a speaker who was not measured."""
    result = {}
    for number, speaker in enumerate(speakers):
        own = [row for row, who in zip(rows, whose, strict=True) if who == number]
        mean, std = moments(own if sum(row[2] for row in own) else rows)
        result[speaker] = Spread(float(mean), float(std))
    return result
