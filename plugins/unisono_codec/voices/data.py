"""Voice data: recordings with texts as codec tokens and semantic tokens.

``codec/voice`` reads a corpus; ``codec/spoken`` has espeak-ng speak one.

From a recording to an item::

    audio ─ judge, trim, level ─┬─ codec ─ codes [t, q]
                                └─ log mel ─┐
    text ─ front end ─ symbols [s] ─────────┴─ alignment ─ durations [s] ─ semantic tokens [t]

The recipe's component ``codec`` encodes the recordings while the data is prepared; codes are cached by the content of
the recording and of the codec's weights. Durations are given, or learnt (``unisono.duration.learn_alignment``).
Recordings are dropped, and sentences held out, as by ``unisono_sound.corpus.SpeechCorpus``.

An item may begin with a prompt, which the model is given: its own first frames (SoundStorm, arXiv:2305.09636, section
3.3), or the end of another recording of the same speaker. Differences from the paper: the second kind of prompt trains
the start of a new sentence; a share of the prompts comes without semantic tokens, as a recording without a transcript
does; a share comes without the speaker's number, as a recording of an unknown speaker does.

Shapes: s symbols, t codec frames, q codebooks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import Audit, collate_items, numbered
from unisono.duration import learn_alignment
from unisono.errors import DataError
from unisono_sound.corpus import (
    AudioLimits,
    MadeOptions,
    MadeSpeech,
    ReadingOptions,
    SoundOptions,
    SpeechCorpus,
    SpeechItem,
    Utterance,
    read_speech,
)
from unisono_sound.corpus.corpus import digest
from unisono_sound.corpus.options import FLAT, MADE
from unisono_sound.corpus.recording import sums
from unisono_sound.signal import LogMel, MelSpec

from unisono_codec.codecs.codec import Codec
from unisono_codec.files.recordings import fingerprint
from unisono_codec.voices.facts import TokenFacts
from unisono_codec.voices.semantic import HUBERT, PHONEMES, UNITS, HubertUnits, Phonemes


@dataclass(frozen=True, kw_only=True)
class TokenReading(ReadingOptions):
    """How texts are read, how long their symbols last, and what semantic tokens are made of.

    semantic: ``phonemes``, or ``hubert:FOLDER`` with clusters made by ``python -m unisono_codec.voices.semantic``.
    align_steps: how long durations are learnt where none are given.
    """

    semantic: str = "phonemes"
    align_steps: int = 1200

    def __post_init__(self):
        if self.align_steps < 1:
            message = f"data.reading.align_steps={self.align_steps} must be at least 1"
            raise DataError(message, code="range", path="data.reading.align_steps", value=self.align_steps)
        kind, _, folder = self.semantic.partition(":")
        if kind not in (PHONEMES, HUBERT) or (kind == HUBERT) != bool(folder):
            message = f"data.reading.semantic={self.semantic!r} must be 'phonemes' or 'hubert:FOLDER'"
            raise DataError(message, code="value", path="data.reading.semantic", value=self.semantic)


@dataclass(frozen=True, kw_only=True)
class ItemOptions:
    """How items are cut, and how they begin.

    max_frames: the longest item, in codec frames; longer ones are cut, another stretch each time.
    prompt_share: the share of items that begin with their own first frames as a prompt; published: all.
    join_share: the share that begin with the end of another recording of the same speaker.
    max_prompt_frames: the longest end of another recording.
    hide_share: the share of prompts without semantic tokens; as many, drawn apart from it, are without a speaker.
    """

    max_frames: int = 512
    prompt_share: float = 0.5
    join_share: float = 0.25
    max_prompt_frames: int = 128
    hide_share: float = 0.5

    def __post_init__(self):
        shares = {"prompt_share": self.prompt_share, "join_share": self.join_share, "hide_share": self.hide_share}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise DataError(
                    f"data.items.{name}={share} must be in [0, 1]", code="range", path=f"data.items.{name}", value=share
                )
        if self.prompt_share + self.join_share > 1:
            message = (
                f"data.items.prompt_share={self.prompt_share} and join_share={self.join_share} must not exceed 1 "
                "together"
            )
            raise DataError(
                message, code="range", path="data.items.join_share", value=self.prompt_share + self.join_share
            )
        if not 1 <= self.max_prompt_frames < self.max_frames:
            message = (
                f"data.items.max_prompt_frames={self.max_prompt_frames} must be at least 1 and below "
                f"max_frames={self.max_frames}"
            )
            raise DataError(message, code="range", path="data.items.max_prompt_frames", value=self.max_prompt_frames)


READING = {field.name: f"reading.{field.name}" for field in fields(TokenReading)} | {"tokens": "reading"}
"""Where recipe format 1's arguments of reading are, and the group ``tokens`` that format 2 began with."""
ITEMS = {field.name: f"items.{field.name}" for field in fields(ItemOptions)}
"""Where recipe format 1's arguments of items are."""


class VoiceData(SpeechCorpus):
    """Recordings with texts, as the codes of a codec and semantic tokens.

    Args:
        root, val_size, mel, limits, sound, batch_size, num_workers: as in ``tts/speech``; the mel spec serves the
            alignment, and its sample rate is the codec's.
        reading: how texts are read, and what semantic tokens are made of.
        items: how items are cut, and how they begin.
    """

    uses: ClassVar[tuple[str, ...]] = ("codec",)
    flat: ClassVar[dict[str, str]] = FLAT | READING | ITEMS

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        reading: TokenReading = TokenReading(),
        items: ItemOptions = ItemOptions(),
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
            val_size=val_size,
            mel=mel,
            limits=limits,
            sound=sound,
            num_processes=1,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        self.items, self.semantic, self.align_steps = items, reading.semantic, reading.align_steps

    def attach(self, role: str, component: Any) -> None:
        """Take the codec; its sample rate must be the mel spec's."""
        super().attach(role, component)
        if component.sample_rate != self.mel.sample_rate:
            message = (
                f"the codec works at {component.sample_rate} Hz, data.mel at {self.mel.sample_rate} Hz: "
                f"set data.mel.sample_rate={component.sample_rate}, and the bands that go with it"
            )
            raise DataError(message, code="conflict", path="data.mel.sample_rate", value=self.mel.sample_rate)
        component.to("cuda" if torch.cuda.is_available() else "cpu")

    def features(self) -> tuple[Callable[..., Any], str]:
        codec, units, version = self.component("codec"), None, ""
        if self.semantic != PHONEMES:
            folder = self.semantic.partition(":")[2]
            units = HubertUnits.read(folder, codec.frame_rate)
            version = digest((Path(folder).expanduser() / UNITS).read_bytes().hex())
        return partial(extract, codec=codec, units=units), f"voice 1 {fingerprint(codec)} {version}"

    def prepare(self, progress: bool = True) -> Audit:
        codec = self.component("codec")
        audit = super().prepare(progress)
        items = [*self.train_set.items, *self.val_set.items]
        if self.semantic == PHONEMES:
            provider = Phonemes(list(self.reader.table), codec.frame_rate, self.mel.sample_rate / self.mel.hop_length)
            self.spec = provider.spec
            durations = [item.durations for item in items]
            if any(known is None for known in durations):
                symbols, mels = [item.symbols for item in items], Mels(items)
                durations = learn_alignment(symbols, mels, len(self.reader.table), num_steps=self.align_steps)
            voiced = [VoiceItem(item, frames, provider) for item, frames in zip(items, durations, strict=True)]
        else:
            extraction: Any = self.features()[0]  # a partial of `extract`
            self.spec = extraction.keywords["units"].spec
            voiced = [VoiceItem(item, None, None) for item in items]
        cut = len(self.train_set.items)
        self.train_set, self.val_set = (VoiceSet(part, self) for part in (voiced[:cut], voiced[cut:]))
        self.codec_facts = facts_of(codec)
        return self.finish(audit)

    def describe(self) -> TokenFacts:
        """Return a corpus' facts, with the codec, the semantic tokens and what they are made with."""
        return TokenFacts(
            **super().describe(),
            codec=self.codec_facts,
            semantic=self.spec,
            duration_rate=self.mel.sample_rate / self.mel.hop_length,
            loudness_dbfs=self.sound.loudness_dbfs,
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to the longest and add the lengths."""
        batch = collate_items(items)
        batch["lengths"] = torch.tensor([len(item["codes"]) for item in items])
        batch["symbol_lengths"] = torch.tensor([len(item["symbols"]) for item in items])
        return batch


class SpokenData(MadeSpeech, VoiceData):
    """The same of speech made by espeak-ng, with its exact phoneme times: on the spot, no download.

    Args:
        made: what is said, and how.
        language, val_size, mel, items, batch_size, num_workers: as in ``codec/voice``.
    """

    flat: ClassVar[dict[str, str]] = MADE | ITEMS

    def __init__(
        self,
        *,
        made: MadeOptions = MadeOptions(),  # noqa: B008
        items: ItemOptions = ItemOptions(),
        language: str = "en-us",
        val_size: float = 0.05,
        mel: MelSpec = MelSpec(),  # noqa: B008
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        self.made = made
        super().__init__(
            "",
            reading=TokenReading(language=language),
            items=items,
            val_size=val_size,
            mel=mel,
            sound=SoundOptions(trim_db=0.0),
            batch_size=batch_size,
            num_workers=num_workers,
        )


class VoiceItem:
    """One utterance: its codes in the cache, its semantic tokens and durations at hand.

    ``durations`` count mel frames; without a ``provider``, semantic tokens are those in the cache.
    """

    def __init__(self, item: SpeechItem, durations: Int[Tensor, " s"] | None, provider: Phonemes | None):
        self.utterance, self.speaker, self.features = item.utterance, item.speaker, item.features
        self.symbols, self.durations = item.symbols, durations
        self.num_frames = self.features.shapes["codes"][0]
        if provider is None or durations is None:
            self.semantic: Tensor = self.features.load("semantic").long()
        else:
            lengths, total = torch.tensor([len(self.symbols)]), torch.tensor([self.num_frames])
            self.semantic = provider(self.symbols, provider.durations(durations[None], lengths, total)[0])


class VoiceSet:
    """Utterances as a map-style set; an item's cut and prompt are drawn from the generator it is given."""

    def __init__(self, items: list[VoiceItem], data: VoiceData):
        self.items = items
        cut = data.items
        self.max_frames, self.max_prompt = cut.max_frames, cut.max_prompt_frames
        self.join_share, self.prompt_share, self.hide_share = cut.join_share, cut.prompt_share, cut.hide_share
        self.of_speaker: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            self.of_speaker.setdefault(item.speaker, []).append(index)

    def __len__(self) -> int:
        return len(self.items)

    def size(self, index: int) -> int:
        return min(self.items[index].num_frames, self.max_frames)

    def groups(self) -> tuple[list[str], list[int]]:
        """Return the speakers' names, and the number of each item's speaker among them."""
        return numbered([item.utterance.speaker for item in self.items])

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return codes [t, q], semantic [t], ``given`` (frames of the prompt), ``hidden`` (whether its semantic tokens
        are), ``anonymous`` (whether the speaker is), speaker, symbols [s], durations [s], row, id, text.
        """
        item = self.items[index]
        which, hide, forget = torch.rand(3, generator=generator).tolist()
        codes, semantic, given = [], [], 0
        if which < self.join_share:
            others = self.of_speaker[item.speaker]
            other = self.items[others[self._below(len(others), generator)]]
            given = 1 + self._below(min(other.num_frames, self.max_prompt), generator)
            codes.append(other.features.load("codes", other.num_frames - given))
            semantic.append(other.semantic[-given:])
        size = min(item.num_frames, self.max_frames - given)
        start = self._below(item.num_frames - size + 1, generator)
        codes.append(item.features.load("codes", start, start + size))
        semantic.append(item.semantic[start : start + size])
        if self.join_share <= which < self.join_share + self.prompt_share:
            given = self._below(size, generator)
        result = {
            "codes": torch.cat(codes).long(),
            "semantic": torch.cat(semantic),
            "given": given,
            "hidden": bool(given) and hide < self.hide_share,
            "anonymous": bool(given) and forget < self.hide_share,
            "speaker": item.speaker,
            "symbols": item.symbols,
            "id": item.utterance.id,
            "text": item.utterance.text,
        }
        if item.durations is not None:
            result["durations"] = item.durations
        return result

    @staticmethod
    def _below(count: int, generator: torch.Generator) -> int:
        return int(torch.randint(count, (), generator=generator))


class Mels(Sequence[Float[Tensor, "t m"]]):
    """The mels of items, loaded one by one."""

    def __init__(self, items: Sequence[SpeechItem]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index].features.load("mel")


def extract(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
    codec: Any,
    units: HubertUnits | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compute one recording's codes and mel, and its semantic tokens where they are made of sound."""
    wave, cut_seconds = read_speech(utterance, spec, limits, trim_db, pad_seconds, loudness_dbfs)
    mel = LogMel(spec)(wave[None])[0]
    features = {"codes": codec.encode(wave[None].to(codec.device))[0].to(torch.int32).cpu(), "mel": mel}
    if units is not None:
        features["semantic"] = units(wave, spec.sample_rate).to(torch.int32)
    return features, {"seconds": len(wave) / spec.sample_rate, "cut_seconds": cut_seconds, "mel": sums(mel)}


def facts_of(codec: Any) -> dict[str, Any]:
    """Return what a token model stores of its codec, as plain JSON; raises ``DataError`` for another component."""
    if not isinstance(codec, Codec):
        message = f"a {type(codec).__name__} is no codec: attach one, such as an export of codec/rvq"
        raise DataError(message, code="type", path="codec", value=type(codec).__name__)
    return {
        "model": codec.recipe.get("model", {}).get("name", type(codec).__name__),
        "fingerprint": fingerprint(codec),
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        "codebook_size": codec.codebook_size,
        "streams": [list(stream) for stream in codec.streams],
    }


def check_codec(codec: Any, facts: dict[str, Any]) -> None:
    """Raise ``DataError`` unless a codec is the one that ``facts_of`` described."""
    its = facts_of(codec)
    for name in ("sample_rate", "hop_length", "codebook_size", "streams", "fingerprint"):
        if its[name] != facts[name]:
            message = (
                f"the codec has {name}={its[name]}, this model was made for {facts[name]} ({facts['model']}): "
                "attach the codec whose codes it has learnt"
            )
            raise DataError(message, code="conflict", path="codec", value=name)
