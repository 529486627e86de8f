"""Word data: single words, such as digits, each recorded several times by several speakers.

- ``codec/words``: log mels with who speaks and which word it is, for ``codec/listener``
- ``codec/prompted``: codec tokens with semantic tokens, and another recording of the same speaker as the prompt, for
  ``codec/gmlm``; of words or of sentences
- ``codec/made-words``, ``codec/made-prompted``: the same of digits that espeak-ng says

A single word is short, so ``codec/prompted`` may join several recordings of one speaker to an item; each keeps the
silence around it.

Shapes: s symbols, t codec frames, p codec frames of the prompt, q codebooks, u mel frames, m mel bins.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Int
from torch import Tensor
from unisono.data import Audit
from unisono.errors import DataError
from unisono_sound.corpus import (
    AudioLimits,
    FrontEndOptions,
    MadeOptions,
    MadeSpeech,
    ReadingOptions,
    SoundOptions,
    SpeechCorpus,
    SpeechItem,
    VoiceOptions,
)
from unisono_sound.corpus.manifest import DIGITS
from unisono_sound.corpus.options import DIGITS as DIGITS_FLAT
from unisono_sound.corpus.options import FLAT, SOUND
from unisono_sound.signal import MelSpec

from unisono_codec.voices.data import READING, ItemOptions, TokenReading, VoiceData, VoiceItem, VoiceSet
from unisono_codec.voices.facts import TokenFacts, WordFacts

TAKES, HELD_TAKES = 6, 2
"""How often each voice of espeak-ng says a digit, at drawn rates and pitches, and how many of these are held out."""


TWO_VOICES = VoiceOptions(num_sentences=120, voices=("plain", "f2"))


@dataclass(frozen=True, kw_only=True)
class PromptedItems:
    """How items and their prompts are made.

    max_frames: the longest item, in codec frames; longer ones are cut, another stretch each time.
    max_prompt_frames: the longest prompt.
    max_join: the most recordings of a speaker that are joined to one item; the number is drawn from 1 up.
    max_prompts: the most recordings that a prompt is made of, drawn likewise; cut to ``max_prompt_frames``.
    """

    max_frames: int = 512
    max_prompt_frames: int = 128
    max_join: int = 1
    max_prompts: int = 3

    def __post_init__(self):
        for name, count in (("max_join", self.max_join), ("max_prompts", self.max_prompts)):
            if count < 1:
                message = f"data.items.{name}={count} must be at least 1"
                raise DataError(message, code="range", path=f"data.items.{name}", value=count)


@dataclass(frozen=True, kw_only=True)
class WordItems(PromptedItems):
    """With ``words``: texts are single words, and the model says these words only."""

    words: bool = False


FEW = PromptedItems(max_frames=128, max_prompt_frames=96, max_join=2, max_prompts=2)


class WordData(SpeechCorpus):
    """Recordings of single words, as log mels with the numbers of speaker and word.

    Args:
        root, reading, val_size, mel, limits, sound, num_processes, batch_size, num_workers: as in ``tts/speech``. A
            corpus that says itself what is held out, as the digits do, is split so.
    """

    flat: ClassVar[dict[str, str]] = SOUND | {field.name: f"reading.{field.name}" for field in fields(FrontEndOptions)}

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        reading: FrontEndOptions = FrontEndOptions(front_end="characters"),  # noqa: B008
        val_size: float = 0.1,
        mel: MelSpec = MelSpec(),  # noqa: B008
        limits: AudioLimits = AudioLimits(max_seconds=5.0),  # noqa: B008
        sound: SoundOptions = SoundOptions(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        super().__init__(
            root,
            reading=ReadingOptions(front_end=reading.front_end, language=reading.language),
            val_size=val_size,
            mel=mel,
            limits=limits,
            sound=sound,
            num_processes=num_processes,
            batch_size=batch_size,
            num_workers=num_workers,
        )

    def prepare(self, progress: bool = True) -> Audit:
        audit = super().prepare(progress)
        self.words = words_of(self.train_set.items)
        strange = [item.utterance.text for item in self.val_set.items if item.utterance.text not in self.words]
        if strange:
            message = (
                f"{strange[0]!r} is held out and never trained on: words need several recordings each, of which the "
                "corpus says what is held out"
            )
            raise DataError(message, code="conflict", path="data.val_size", value=strange[0])
        self.train_set, self.val_set = (WordSet(part.items, self.words) for part in (self.train_set, self.val_set))
        return self.finish(audit)

    def describe(self) -> WordFacts:
        """Return a corpus' facts, with the words."""
        return WordFacts(**super().describe(), words=tuple(self.words))

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().collate(items)
        batch["lengths"] = batch.pop("mel_lengths")
        return batch


class WordSet:
    """Single words as a map-style set."""

    def __init__(self, items: list[SpeechItem], words: list[str]):
        self.items, self.words = items, words

    def __len__(self) -> int:
        return len(self.items)

    def size(self, index: int) -> int:
        return self.items[index].num_frames

    def item(self, index: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Return symbols [s], mel [u, m], speaker, word (their numbers), row, id, text."""
        item = self.items[index]
        return {
            "symbols": item.symbols,
            "mel": item.features.load("mel"),
            "speaker": item.speaker,
            "word": self.words.index(item.utterance.text),
            "id": item.utterance.id,
            "text": item.utterance.text,
        }


class PromptedData(VoiceData):
    """Recordings as codec tokens, each with a prompt: other recordings of the same speaker.

    A recording of a speaker who has no other is dropped. Prompts of held-out items are training recordings.

    Args:
        root, reading, val_size, mel, limits, sound, batch_size, num_workers: as in ``codec/voice``.
        items: how items and their prompts are made.
    """

    flat: ClassVar[dict[str, str]] = FLAT | READING | {field.name: f"items.{field.name}" for field in fields(WordItems)}

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        reading: TokenReading = TokenReading(),  # noqa: B008
        items: WordItems = WordItems(),
        val_size: float = 0.03,
        mel: MelSpec = MelSpec(),  # noqa: B008
        limits: AudioLimits = AudioLimits(max_seconds=20.0),  # noqa: B008
        sound: SoundOptions = SoundOptions(),  # noqa: B008
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(
            root,
            reading=reading,
            items=ItemOptions(max_frames=items.max_frames, max_prompt_frames=items.max_prompt_frames),
            val_size=val_size,
            mel=mel,
            limits=limits,
            sound=sound,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        self.joining = items

    def prepare(self, progress: bool = True) -> Audit:
        audit = super().prepare(progress)
        known: dict[int, list[VoiceItem]] = {}
        for item in self.train_set.items:
            known.setdefault(item.speaker, []).append(item)
        sides = []
        for part, fewest in ((self.train_set.items, 2), (self.val_set.items, 1)):
            kept = [item for item in part if len(known.get(item.speaker, ())) >= fewest]
            for item in part:
                if len(known.get(item.speaker, ())) < fewest:
                    audit.drop(item.utterance.id, "no other recording of the speaker", "a prompt is made of one")
            sides.append(PromptedSet(kept, self, known))
        self.train_set, self.val_set = sides
        if not len(self.train_set):
            message = f"{self.root}: no speaker has two recordings, of which one could be the other's prompt"
            raise DataError(message, code="empty", path="data.root", value=self.root)
        return audit

    def describe(self) -> TokenFacts:
        """Return the facts of ``codec/voice``, with ``prompts`` (codes by speaker, of training recordings),
        ``max_prompt_frames``, ``max_frames``, ``max_join``; ``words`` with their symbols, where texts are words.
        """
        prompts = {}
        for number, name in enumerate(self.speakers):
            own = sorted(self.train_set.pool.get(number, ()), key=lambda item: item.num_frames)
            middle = own[len(own) // 2 :][: self.joining.max_prompts]
            if middle:
                codes = torch.cat([item.features.load("codes") for item in middle])
                prompts[name] = codes[: self.joining.max_prompt_frames].tolist()
        words = None
        if self.joining.words:
            symbols = {item.utterance.text: item.symbols.tolist() for item in self.train_set.items}
            words = {word: symbols[word] for word in words_of(self.train_set.items)}
        return replace(
            super().describe(),
            prompts=prompts,
            max_prompt_frames=self.joining.max_prompt_frames,
            max_frames=self.joining.max_frames,
            max_join=self.joining.max_join,
            words=words,
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().collate(items)
        batch["prompt_lengths"] = torch.tensor([len(item["prompt"]) for item in items])
        return batch


class PromptedSet(VoiceSet):
    """Utterances with prompts as a map-style set; joined recordings and prompts are drawn for each item."""

    def __init__(self, items: list[VoiceItem], data: PromptedData, pool: dict[int, list[VoiceItem]]):
        super().__init__(items, data)
        self.pool = pool
        self.max_join, self.max_prompts = data.joining.max_join, data.joining.max_prompts

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return codes [t, q], semantic [t], prompt [p, q], speaker, symbols [s], durations [s], row, id, text."""
        first = self.items[index]
        others = [item for item in self.pool[first.speaker] if item is not first]
        order = torch.randperm(len(others), generator=generator).tolist()
        joined = [first]
        for _ in range(self._below(self.max_join, generator)):
            if len(order) < 2 or sum(i.num_frames for i in joined) + others[order[-1]].num_frames > self.max_frames:
                break
            joined.append(others[order.pop()])
        asked = order[: 1 + self._below(self.max_prompts, generator)]
        prompt = torch.cat([others[i].features.load("codes") for i in asked])
        start = self._below(max(len(prompt) - self.max_prompt, 0) + 1, generator)
        codes = torch.cat([item.features.load("codes") for item in joined])
        cut = self._below(max(len(codes) - self.max_frames, 0) + 1, generator)
        result = {
            "codes": codes[cut : cut + self.max_frames].long(),
            "semantic": torch.cat([item.semantic for item in joined])[cut : cut + self.max_frames],
            "prompt": prompt[start : start + self.max_prompt].long(),
            "speaker": first.speaker,
            "symbols": torch.cat([item.symbols for item in joined]),
            "id": first.utterance.id,
            "text": " ".join(item.utterance.text for item in joined),
        }
        if first.durations is not None:
            result["durations"] = torch.cat([durations_of(item) for item in joined])
        return result


class MadeDigits(MadeSpeech):
    """Digits by espeak-ng: every voice says each digit ``TAKES`` times; the first base of a data class."""

    def lines(self) -> list[str]:
        """Return the digits in rounds, each said by every voice; the first ``made.num_sentences`` of them."""
        names = [DIGITS[i % len(DIGITS)] for i in range(TAKES * len(DIGITS))]
        return [name for name in names for _ in self.made.voices][: self.made.num_sentences]

    def _split(self, kept: dict[str, SpeechItem]) -> None:
        """Hold out the last takes of every digit and voice, as the digits' own corpus does with its first."""
        takes: dict[tuple[str, str], list[SpeechItem]] = {}
        for item in kept.values():
            takes.setdefault((item.utterance.speaker, item.utterance.text), []).append(item)
        for own in takes.values():
            for number, item in enumerate(own):
                held = 0 < len(own) - number <= HELD_TAKES and len(own) > HELD_TAKES
                item.utterance = replace(item.utterance, held_out=held)
        cast(SpeechCorpus, super())._split(kept)


class MadeWordData(MadeDigits, WordData):
    """``codec/words`` of digits by espeak-ng: made on the spot, no download.

    Args:
        made: how many digits are said, and how.
        mel, batch_size, num_workers: as in ``codec/words``.
    """

    flat: ClassVar[dict[str, str]] = DIGITS_FLAT

    def __init__(
        self,
        *,
        made: VoiceOptions = TWO_VOICES,
        mel: MelSpec = MelSpec(),  # noqa: B008
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        self.made = MadeOptions(**asdict(made))
        super().__init__(
            "",
            reading=FrontEndOptions(),
            mel=mel,
            sound=SoundOptions(trim_db=0.0),
            num_processes=1,
            batch_size=batch_size,
            num_workers=num_workers,
        )


class MadePromptedData(MadeDigits, PromptedData):
    """``codec/prompted`` of digits by espeak-ng, with their exact phoneme times: made on the spot, no download.

    Args:
        made: how many digits are said, and how.
        mel, items, batch_size, num_workers: as in ``codec/prompted``.
    """

    flat: ClassVar[dict[str, str]] = DIGITS_FLAT | {
        field.name: f"items.{field.name}" for field in fields(PromptedItems)
    }

    def __init__(
        self,
        *,
        made: VoiceOptions = TWO_VOICES,
        items: PromptedItems = FEW,
        mel: MelSpec = MelSpec(),  # noqa: B008
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        self.made = MadeOptions(**asdict(made))
        super().__init__(
            "",
            items=WordItems(**asdict(items), words=True),
            mel=mel,
            sound=SoundOptions(trim_db=0.0),
            batch_size=batch_size,
            num_workers=num_workers,
        )


def words_of(items: Sequence[Any]) -> list[str]:
    """Return the different texts of utterances, digits in their own order, others by the alphabet."""
    texts = {item.utterance.text for item in items}
    return sorted(texts, key=lambda text: (DIGITS.index(text) if text in DIGITS else len(DIGITS), text))


def durations_of(item: VoiceItem) -> Int[Tensor, " s"]:
    """Return an item's durations, which it has where semantic tokens are phonemes."""
    assert item.durations is not None
    return item.durations
