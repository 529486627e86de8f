"""Prompting: requests to a model that speaks in the voice of a prompt, as parts of tokens, and tokens to sound.

A model whose data were single words says those and no others ("3 1 4", "314", "three one four"); any other model says
any text. Words are put side by side as recordings were in training, each with the silence around it, at most
``max_join`` to a part; a part is filled at once.

Shapes: s symbols, t codec frames, p frames of the prompt, q streams, n samples.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from unisono import Audio
from unisono.data import derive_seed
from unisono.errors import DataError, RequestError, did_you_mean
from unisono.masked import Canvas
from unisono.recipe import data_of
from unisono.request import FILE, Request
from unisono_sound.corpus import SoundOptions, level, trim
from unisono_sound.corpus.manifest import DIGITS
from unisono_sound.signal import read_audio
from unisono_sound.text import Symbols, Word
from unisono_sound.voice import SpeechRequest, segments

SHORTEST_PROMPT_SECONDS = 0.1


class PromptedRequest(Request):
    """What can be asked: a text or semantic tokens, and whose voice."""

    text: str | None = Field(
        default=None, description='what to say; of a model of digits, digits or their names: "3 1 4"'
    )
    semantic: list[int] | None = Field(default=None, description="semantic tokens to say, one per codec frame")
    semantic_rate: float | None = Field(default=None, gt=0, description="of semantic, how many come a second: checked")
    prompt: str | None = Field(
        default=None, description="path of a recording whose voice to take", json_schema_extra=FILE
    )
    speaker: str | None = Field(
        default=None, description="a known speaker's voice, in place of a prompt; default: the first"
    )
    pace: float = Field(default=1.0, ge=0.25, le=4.0, description="speed: 2 is twice as fast")
    num_steps: int = Field(default=6, ge=1, le=1024, description="evaluations in all, shared out over the groups")
    set_steps: list[int] | None = Field(default=None, description="evaluations for each group, in place of num_steps")
    temperature: float = Field(default=1.0, ge=0, le=4, description="of the draws; 0 takes the likeliest token")

    @model_validator(mode="after")
    def _whole(self):
        if (self.text is None) == (self.semantic is None):
            raise ValueError("give either text or semantic")
        if self.prompt is not None and self.speaker is not None:
            raise ValueError("give either a prompt or a speaker")
        if self.semantic_rate is not None and self.semantic is None:
            raise ValueError("semantic_rate is given without semantic")
        if self.set_steps is not None and min(self.set_steps, default=0) < 1:
            raise ValueError("set_steps holds at least 1 for each group")
        return self


@dataclass
class Part:
    """What is filled at once: semantic tokens [t] of a request, in the voice of row ``number`` of ``memory``.

    ``frames`` are each symbol's, where there are ``symbols``; ``pause`` is in seconds; ``text`` is what the part
    says, and ``spans`` are the places in it of the symbols' words.
    """

    request: PromptedRequest
    seed: int
    semantic: Int[Tensor, " t"]
    memory: Any
    number: int
    num_streams: int
    pause: float = 0.0
    symbols: Symbols | None = None
    frames: Int[Tensor, " s"] | None = None
    text: str = ""
    spans: Sequence[tuple[int, int]] = ()
    start: int = 0

    @property
    def stop(self) -> int:
        return len(self.semantic)

    @property
    def tokens(self) -> Int[Tensor, "t q"]:
        """Nothing is given."""
        return torch.zeros(len(self.semantic), self.num_streams, dtype=torch.int64)

    @property
    def known(self) -> Bool[Tensor, "t q"]:
        return torch.zeros(len(self.semantic), self.num_streams, dtype=torch.bool)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Parts of one kind can be filled in one decoding."""
        asked = self.request
        return asked.num_steps, None if asked.set_steps is None else tuple(asked.set_steps), asked.temperature


class PromptedTask:
    """A request under way, as `unisono.masked.model.Task` has it: parts that need not wait for each other.

    Streaming, they are filled one after the other, so that the first is heard early.
    """

    def __init__(self, model: Any, parts: Sequence[Part], streaming: bool = False):
        self.model, self.parts, self.streaming = model, parts, streaming
        self.filled: dict[int, Int[Tensor, "t q"]] = {}
        self.heard = 0

    @property
    def total(self) -> int:
        """Parts."""
        return len(self.parts)

    @property
    def done(self) -> int:
        return len(self.filled)

    def runs(self) -> list[Generator[Part, Int[Tensor, "t q"], None]]:
        everything = range(len(self.parts))
        return [self._fill(everything)] if self.streaming else [self._fill([number]) for number in everything]

    def _fill(self, numbers: Iterable[int]) -> Generator[Part, Int[Tensor, "t q"], None]:
        for number in numbers:
            self.filled[number] = yield self.parts[number]

    def pieces(self) -> Iterator[Audio]:
        """Yield the sound of each part that has been filled since."""
        while self.heard in self.filled:
            self.heard += 1
            yield sound_of(self.model, self.parts[self.heard - 1], self.filled[self.heard - 1])

    def whole(self) -> Audio:
        return Audio.join([sound_of(self.model, part, self.filled[i]) for i, part in enumerate(self.parts)])

    def view(self, canvas: Canvas, row: int) -> None:
        """A voice is heard when it is whole."""


def parts_of(model: Any, request: PromptedRequest, seed: int, memory: Any, number: int = 0) -> Iterator[Part]:
    """Yield the parts of a request, whose prompt is row ``number`` of ``memory``.

    Raises ``RequestError`` for words that the model does not know, and for semantic tokens that cannot be its own.
    """
    if request.semantic is not None:
        semantic = torch.tensor(request.semantic, dtype=torch.int64)
        model.spec.check(semantic, request.semantic_rate)
        longest = model.facts.max_frames
        if len(semantic) > longest:
            message = f"semantic holds {len(semantic)} tokens, this model fills at most {longest} at once: ask in parts"
            raise RequestError(message, code="limit", path="semantic", value=len(semantic))
        yield Part(request, derive_seed(seed, 0), semantic, memory, number, len(model.streams))
        return
    if not model.speaks:
        message = (
            f"this model's semantic tokens are {model.spec.provider}'s, which no text has: give semantic, "
            "made by unisono_codec.voices.semantic of a recording"
        )
        raise RequestError(message, code="unsupported", path="text", value=request.text)
    assert request.text is not None
    words = model.facts.words
    readings = _spoken_words(model, request.text, words) if words else _any_text(model, request)
    for count, (symbols, ids, pause, text, spans) in enumerate(readings):
        symbol_ids = torch.tensor(ids)
        own_voice = memory.rows(torch.tensor([number]))
        frames = model.symbol_frames(symbol_ids, own_voice, torch.full((len(ids),), request.pace, dtype=torch.float64))
        semantic = model.phonemes(symbol_ids, frames)
        own = derive_seed(seed, count)
        yield Part(request, own, semantic, memory, number, len(model.streams), pause, symbols, frames, text, spans)


Spoken = tuple[Symbols, list[int], float, str, Sequence[tuple[int, int]]]
"""A part's symbols, their ids, the pause behind it in seconds, its text, and its words' places in that."""


def words_of(text: str, words: dict[str, list[int]]) -> list[tuple[str, int, int]]:
    """Return the words of a text that may hold these and no others, with where they stand; digits may be written so.

    Raises ``RequestError`` that names what is unknown.
    """
    found = []
    for match in re.finditer(r"\d|[^\W\d_]+|[^\s,;.!?]", text):
        written = match.group()
        word = DIGITS[int(written)] if written.isdecimal() else written.lower()
        if word not in words:
            near = did_you_mean(word, words)
            message = f"this model does not say {written!r}{near}; it says {', '.join(words)}"
            raise RequestError(message, code="unknown", path="text", value=written)
        found.append((word, match.start(), match.end()))
    if not found:
        raise RequestError(
            f"text={text!r} holds no word: this model says {', '.join(words)}", code="empty", path="text", value=text
        )
    return found


def _spoken_words(model: Any, text: str, words: dict[str, list[int]]) -> Iterator[Spoken]:
    found = words_of(text, words)
    most = model.facts.max_join
    begins = [0, *(start for _, start, _ in found[most::most]), len(text)]
    for begin, stop, first in zip(begins[:-1], begins[1:], range(0, len(found), most), strict=True):
        symbols, ids, owners, written = [], [], [], []
        for index, (word, start, end) in enumerate(found[first : first + most]):
            names = [model.voice.symbols[i] for i in words[word]]
            symbols += names
            ids += words[word]
            owners += [-1 if name.startswith("<") else index for name in names]
            written.append(Word(text[start:end], start, end))
        spans = [(word.start - begin, word.end - begin) for word in written]
        yield Symbols(tuple(symbols), tuple(written), tuple(owners)), ids, 0.0, text[begin:stop], spans


def _any_text(model: Any, request: PromptedRequest) -> Iterator[Spoken]:
    assert request.text is not None
    for reading in model.voice.read(SpeechRequest(text=request.text), model.max_piece_characters):
        yield reading.symbols, reading.ids, reading.pause, reading.text, reading.spans


def prompt_of(model: Any, request: PromptedRequest) -> Int[Tensor, "p q"]:
    """Return the codes of a request's prompt: of its recording, of a known speaker, or of the first one.

    A recording of another rate is resampled, and treated as the training data were. Raises ``RequestError`` for one
    that cannot be read, is empty, silent or not finite, or is longer than what the model was trained to look at.
    """
    known = model.facts.prompts
    if request.prompt is None:
        name = next(iter(known)) if request.speaker is None else request.speaker
        if name not in known:
            message = f"unknown speaker {name!r}{did_you_mean(name, known)}; give a prompt for a new voice"
            raise RequestError(message, code="unknown", path="speaker", value=name)
        return torch.tensor(known[name], dtype=torch.int64)
    codec, rate = model.codec, model.codec.sample_rate
    try:
        wave, _ = read_audio(request.prompt, rate)
    except DataError as error:
        raise RequestError(str(error), code=error.code, path="prompt", value=request.prompt) from None
    seconds = len(wave) / rate
    if seconds < SHORTEST_PROMPT_SECONDS:
        message = f"the prompt holds {seconds:.2f} s: give at least {SHORTEST_PROMPT_SECONDS:g} s"
        raise RequestError(message, code="range", path="prompt", value=seconds)
    if not bool(wave.isfinite().all()):
        message = "the prompt holds NaN or infinite samples: repair it first"
        raise RequestError(message, code="value", path="prompt", value=request.prompt)
    if float(wave.abs().max()) < 1e-4:
        raise RequestError(
            "the prompt is silent: give a recording of a voice", code="empty", path="prompt", value=request.prompt
        )
    sound = SoundOptions(**data_of(model.recipe).get("sound", {}))
    wave, _ = trim(wave, rate, sound.trim_db, sound.pad_seconds)
    longest = model.facts.max_prompt_frames
    if codec.num_frames(len(wave)) > longest:
        message = (
            f"the prompt lasts {len(wave) / rate:.1f} s, this model looks at {longest / codec.frame_rate:.1f} s: "
            "give a shorter one"
        )
        raise RequestError(message, code="limit", path="prompt", value=len(wave) / rate)
    wave = level(wave, rate, model.facts.loudness_dbfs)
    return codec.encode(wave[None].to(codec.device))[0].cpu()


def sound_of(model: Any, part: Part, codes: Int[Tensor, "t q"]) -> Audio:
    """Decode a part, and describe what was said."""
    codec = model.codec
    wave = codec.decode(codes[None].to(codec.device))[0].float().cpu()
    wave = torch.cat([wave, wave.new_zeros(round(part.pause * codec.sample_rate))])
    said: tuple[Any, ...] = ()
    if part.symbols is not None and part.frames is not None:
        said = segments(part.symbols, borders(part.frames, codec.hop_length / codec.sample_rate), part.spans)
    return Audio(wave[None].numpy(), codec.sample_rate, said, text=part.text)


def borders(frames: Int[Tensor, " s"], seconds: float) -> Float[np.ndarray, " s+1"]:
    """Return where symbols begin and end, in seconds."""
    return np.concatenate([[0.0], frames.cumsum(0).double().numpy() * seconds])
