"""Items of a corpus of speech: utterances with symbols, features and durations, packed so that many fit in memory.

Letters: s symbols, t frames, m mel channels.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import Drop, Features, Prepared

from unisono_sound.corpus.manifest import Utterance
from unisono_sound.signal.mel import MelSpec
from unisono_sound.text.frontend import FrontEnd, Symbols


class SpeechItem:
    """One utterance: symbols at hand, features in the cache or in memory.

    Raises ``Drop`` for more symbols than frames and for durations that do not fit.
    """

    __slots__ = ("durations", "features", "num_frames", "speaker", "symbols", "utterance", "words")

    def __init__(
        self,
        prepared: Prepared,
        read: Symbols,
        reader: FrontEnd,
        speakers: Sequence[str],
        given: dict[str, dict[str, Any]] | None,
        spec: MelSpec,
    ):
        self.utterance: Utterance = prepared.item
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
            times = _numbers(given["times"], "times") - self.features.facts["cut_seconds"]
            bounds = np.rint(times * spec.sample_rate / spec.hop_length).clip(0, self.num_frames).astype(np.int64)
            bounds[:1], bounds[-1:] = 0, self.num_frames
            frames = np.diff(bounds)
        else:
            numbers = _numbers(given["durations"], "durations")
            frames = numbers.clip(-1, self.num_frames + 1).astype(np.int64)
            if not (numbers == np.rint(numbers)).all():
                raise Drop("durations do not fit", "durations are whole numbers of frames")
        if len(frames) != len(self.symbols):
            raise Drop("durations do not fit", f"{len(frames)} for {len(self.symbols)} symbols")
        if (frames < 0).any() or frames.sum() != self.num_frames:
            raise Drop("durations do not fit", f"sum {frames.sum()} of {self.num_frames} frames")
        return torch.from_numpy(frames)

    @classmethod
    def of(
        cls,
        utterance: Utterance,
        features: Features,
        speaker: int,
        symbols: Int[Tensor, "s"],
        words: Int[Tensor, "s"],
        durations: Int[Tensor, "s"] | None,
    ) -> "SpeechItem":
        """Return an item of parts that were checked before."""
        item = cls.__new__(cls)
        item.utterance, item.features, item.speaker = utterance, features, speaker
        item.symbols, item.words, item.durations = symbols, words, durations
        item.num_frames = features.shapes["mel"][0]
        return item


class PackedItems(Sequence[SpeechItem]):
    """Utterances in arrays, some hundred bytes each; one is put together when it is asked for.

    Features that are in memory stay there as they are. What is changed in an item is not changed here.

    Attributes:
        num_frames: of each mel.
        speaker: the number of each item's speaker.
        speakers: the names of these numbers.
    """

    def __init__(self, items: Iterable[SpeechItem]):
        items = list(items)
        utterances = [item.utterance for item in items]
        self.num_frames = np.array([item.num_frames for item in items], np.int64)
        self.speaker = np.array([item.speaker for item in items], np.int64)
        self.speakers = {item.speaker: item.utterance.speaker for item in items}
        self._held_out = np.array([-1 if u.held_out is None else int(u.held_out) for u in utterances], np.int8)
        self._ids, self._texts = Strings(u.id for u in utterances), Strings(u.text for u in utterances)
        self._audio = Strings(str(u.audio) for u in utterances)
        self._symbols = Numbers(item.symbols.numpy() for item in items)
        self._words = Numbers(item.words.numpy() for item in items)
        self._timed = np.array([item.durations is not None for item in items], bool)
        self._durations = Numbers([] if item.durations is None else item.durations.numpy() for item in items)
        self._held = {i: item.features for i, item in enumerate(items) if item.features.in_memory}
        self._paths = Strings("" if i in self._held else str(item.features.path) for i, item in enumerate(items))
        forms = [tuple((name, len(shape)) for name, shape in item.features.shapes.items()) for item in items]
        self._forms = list(dict.fromkeys(forms))
        self._form = np.array([self._forms.index(form) for form in forms], np.int32)
        self._sizes = Numbers(itertools.chain(*item.features.shapes.values()) for item in items)

    def __len__(self) -> int:
        return len(self.num_frames)

    @overload
    def __getitem__(self, index: int) -> SpeechItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[SpeechItem]: ...
    def __getitem__(self, index: int | slice) -> SpeechItem | list[SpeechItem]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]  # raises IndexError, and counts from the end
        speaker = int(self.speaker[i])
        held_out = None if self._held_out[i] < 0 else bool(self._held_out[i])
        return SpeechItem.of(
            Utterance(self._ids[i], Path(self._audio[i]), self._texts[i], self.speakers[speaker], held_out),
            self._features(i),
            speaker,
            torch.from_numpy(self._symbols[i]),
            torch.from_numpy(self._words[i]),
            torch.from_numpy(self._durations[i]) if self._timed[i] else None,
        )

    def _features(self, i: int) -> Features:
        if i in self._held:
            return self._held[i]
        sizes = iter(self._sizes[i].tolist())
        form = self._forms[self._form[i]]
        return Features(Path(self._paths[i]), {name: tuple(itertools.islice(sizes, rank)) for name, rank in form})


class Strings:
    """Strings in one store of UTF-8; halves of characters, as names of files may have, are kept."""

    def __init__(self, strings: Iterable[str]):
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        self.ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self.store = b"".join(encoded)

    def __getitem__(self, index: int) -> str:
        return self.store[self.ends[index] : self.ends[index + 1]].decode("utf-8", "surrogatepass")


class Numbers:
    """Rows of whole numbers, each of its own length, in one array of as few bytes as they need; int64 where read."""

    def __init__(self, rows: Iterable[Iterable[int]]):
        arrays = [np.asarray(row if isinstance(row, np.ndarray) else list(row), np.int64) for row in rows]
        self.ends = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        joined = np.concatenate([np.zeros(0, np.int64), *arrays])
        low, high = joined.min(initial=0), joined.max(initial=0)
        kinds = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
        self.store = joined.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))

    def __getitem__(self, index: int) -> Int[np.ndarray, "n"]:
        return self.store[self.ends[index] : self.ends[index + 1]].astype(np.int64)


class SpeechSet:
    """Utterances as a map-style set; nothing is random here, models crop for themselves."""

    def __init__(self, items: Sequence[SpeechItem]):
        self.items = items if isinstance(items, PackedItems) else PackedItems(items)

    def __len__(self) -> int:
        return len(self.items)

    def size(self, index: int) -> int:
        return int(self.items.num_frames[index])

    def groups(self) -> tuple[list[str], list[int]]:
        """Return the speakers' names, and the number of each item's speaker among them."""
        speakers = self.items.speakers
        names = sorted(set(speakers.values()))
        number = {speaker: names.index(name) for speaker, name in speakers.items()}
        return names, [number[speaker] for speaker in self.items.speaker.tolist()]

    def item(self, index: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Return symbols [s], words [s], each feature (mel [t, m] and what else there is), speaker, id, text,
        durations [s].
        """
        item = self.items[index]
        result = {
            "symbols": item.symbols,
            "words": item.words,
            **{name: item.features.load(name) for name in item.features.shapes},
            "speaker": item.speaker,
            "id": item.utterance.id,
            "text": item.utterance.text,
        }
        if item.durations is not None:
            result["durations"] = item.durations
        return result


def _numbers(values: Any, name: str) -> Float[np.ndarray, "n"]:
    """Return a list of finite numbers; raises ``Drop`` where it is something else."""
    if not isinstance(values, list) or not all(type(v) in (int, float) and abs(v) < 2**53 for v in values):
        raise Drop("durations do not fit", f"{name} is no list of numbers: {values!r:.60}")
    return np.array(values, np.float64)
