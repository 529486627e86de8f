"""Passages: requests to passages of tokens, and tokens to sound, piece by piece.

A text of any length is read sentence by sentence; each is one passage, begun with a prompt: the request's own, or the
end of the last passage of the same speaker, so that a voice stays itself. Passages longer than the network's window
are filled window after window, each with the end of the one before as frozen tokens; the codec then decodes a passage
whole, so that a joint is no joint for it. Requests of a batch go in step: their current windows are filled in one
decoding, and memory does not grow with the text.

Shapes: t codec frames of a passage, p of a prompt, q levels, s symbols.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from pydantic import Field, model_validator
from torch import Tensor
from unisono import Audio
from unisono.data import derive_seed
from unisono.errors import RequestError
from unisono.masked import Canvas, cut
from unisono.request import FILE, Request
from unisono_sound.corpus import level
from unisono_sound.signal import read_audio
from unisono_sound.voice import Reading, SpeechRequest, seams, segments

FIRST_PIECE_CHARACTERS = 48
"""The first passage of a stream is short, so that the first sound comes early."""

CONTEXT_SECONDS = 1.5
"""How much of a speaker's last passage the next one begins with."""

SHORTEST_PROMPT_SECONDS = 0.2
OVERLAP = 4
"""A window begins with a quarter of a window of the one before."""

AHEAD = 8
"""Half of that quarter is made anew: at its end a window does not know what comes, and speaks as if nothing did."""

TURN_SECONDS = 0.3
"""The silence between the turns of a dialogue, where the text gives none."""


class VoiceRequest(Request):
    """What can be asked of a token voice: a text, a dialogue, or semantic tokens."""

    text: str | None = Field(default=None, description="what to say; any length")
    turns: list[tuple[str, str]] | None = Field(default=None, description="a dialogue: (speaker, text) for each turn")
    semantic: list[int] | None = Field(default=None, description="semantic tokens to say, one per codec frame")
    semantic_rate: float | None = Field(default=None, gt=0, description="of semantic, how many come a second: checked")
    speaker: str | None = Field(
        default=None, description="who says it; default: the voice's first speaker, or the prompt's where there is one"
    )
    pace: float = Field(default=1.0, ge=0.25, le=4.0, description="speed: 2 is twice as fast")
    prompt: str | None = Field(
        default=None, description="path of a recording whose voice to take", json_schema_extra=FILE
    )
    prompt_text: str | None = Field(default=None, description="what the prompt says; helps to follow it")
    num_steps: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="evaluations for the coarsest level; finer ones take one; default: the voice's",
    )
    level_steps: list[int] | None = Field(default=None, description="evaluations for each level, in place of num_steps")
    temperature: float | None = Field(
        default=None, ge=0, le=4, description="of the levels with more than one step; 0 is greedy; default: the voice's"
    )
    choice_temperature: float | None = Field(
        default=None, ge=0, le=16, description="noise in which tokens are kept first; default: the voice's"
    )

    @model_validator(mode="after")
    def _one_source(self):
        if sum(x is not None for x in (self.text, self.turns, self.semantic)) != 1:
            raise ValueError("give one of text, turns or semantic")
        if self.turns is not None and (not self.turns or self.speaker is not None or self.prompt is not None):
            raise ValueError("turns holds at least one (speaker, text); no speaker and no prompt beside it")
        if self.prompt_text is not None and self.prompt is None:
            raise ValueError("prompt_text is given without a prompt")
        if self.semantic_rate is not None and self.semantic is None:
            raise ValueError("semantic_rate is given without semantic")
        if self.level_steps is not None and min(self.level_steps, default=0) < 1:
            raise ValueError("level_steps holds at least 1 for each level")
        return self


@dataclass
class Prompt:
    """Frames to begin with: codes [p, q], and semantic tokens [p], which may be the unknown one."""

    codes: Int[Tensor, "p q"]
    semantic: Int[Tensor, " p"]


@dataclass
class Passage:
    """One piece of a request, its prompt in front: frames up to ``given`` are frozen.

    ``frames`` are each symbol's, where there is a ``reading``; ``pause`` is in seconds; ``share`` counts the
    characters (or semantic tokens) of the request that it stands for.
    """

    request: VoiceRequest
    speaker: int
    semantic: Int[Tensor, " t"]
    codes: Int[Tensor, "t q"]
    known: Bool[Tensor, " t"]
    given: int
    share: int
    pause: float = 0.0
    reading: Reading | None = None
    frames: Int[Tensor, " s"] | None = None
    joints: list[int] = field(default_factory=list)

    @property
    def own(self) -> Prompt:
        """The passage without its prompt, as a prompt for the next."""
        return Prompt(self.codes[self.given :], self.semantic[self.given :])


@dataclass(frozen=True)
class Window:
    """Frames to fill at once; what is known stays."""

    passage: Passage
    start: int
    stop: int
    seed: int

    @property
    def request(self) -> VoiceRequest:
        return self.passage.request

    @property
    def tokens(self) -> Int[Tensor, "n q"]:
        return self.passage.codes[self.start : self.stop]

    @property
    def known(self) -> Bool[Tensor, "n q"]:
        return self.passage.known[self.start : self.stop, None].expand(-1, self.passage.codes.shape[1])

    @property
    def semantic(self) -> Int[Tensor, " n"]:
        return self.passage.semantic[self.start : self.stop]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Windows of one kind can be filled in one decoding."""
        asked = self.request
        steps = tuple(asked.level_steps) if asked.level_steps else asked.num_steps
        return steps, asked.temperature, asked.choice_temperature


class SpokenRequest:
    """A request under way: windows to be filled one after the other, and passages that are finished, as
    `unisono.masked.model.Task` has it."""

    def __init__(self, model: Any, request: VoiceRequest, seed: int, first_limit: int | None = None):
        self.model, self.request, self.seed, self.first_limit = model, request, seed, first_limit
        self.finished: list[Passage] = []
        self.heard = 0
        self.prompt = read_prompt(model, request) if request.prompt is not None else None

    @property
    def total(self) -> int:
        """Characters, or semantic tokens, of the request."""
        request = self.request
        if request.semantic is not None:
            return len(request.semantic)
        return sum(len(text) for _, text in self._turns())

    @property
    def done(self) -> int:
        return sum(passage.share for passage in self.finished)

    def runs(self) -> list[Generator[Window, Int[Tensor, "n q"], None]]:
        return [self._windows()]

    def _windows(self) -> Generator[Window, Int[Tensor, "n q"], None]:
        last: dict[int, Prompt] = {}
        context = round(CONTEXT_SECONDS * self.model.spec.frame_rate)
        for number, passage in enumerate(self._passages(last, context)):
            yield from fill_passage(passage, self.model.max_frames, derive_seed(self.seed, number))
            own = passage.own
            last[passage.speaker] = Prompt(own.codes[-context:], own.semantic[-context:])
            self.finished.append(passage)

    def pieces(self) -> Iterator[Audio]:
        """Yield the sound of each passage that has been finished since."""
        while self.heard < len(self.finished):
            self.heard += 1
            yield sound(self.model, self.finished[self.heard - 1])

    def whole(self) -> Audio:
        return Audio.join([sound(self.model, passage) for passage in self.finished])

    def view(self, canvas: Canvas, row: int) -> None:
        """A voice is heard when it is whole."""

    def _turns(self) -> list[tuple[str | None, str]]:
        if self.request.turns is None:
            return [(self.request.speaker, self.request.text or "")]
        return [(speaker, text) for speaker, text in self.request.turns]

    def _passages(self, last: dict[int, Prompt], context: int) -> Iterator[Passage]:
        request, model = self.request, self.model
        if request.semantic is not None:
            semantic = torch.tensor(request.semantic, dtype=torch.int64)
            model.spec.check(semantic, request.semantic_rate)
            speaker = self._speaker(request.speaker)
            yield self._passage(speaker, semantic, self.prompt, len(semantic))
            return
        turns = self._turns()
        for turn, (name, text) in enumerate(turns):
            speaker = self._speaker(name)
            asked = SpeechRequest(text=text, speaker=name, pace=request.pace)
            left = len(text)
            for reading in model.readings(asked, self.first_limit):
                ids = torch.tensor(reading.ids)
                frames = model.symbol_frames(ids, speaker, request.pace)
                passage = self._passage(
                    speaker, torch.repeat_interleave(ids, frames), self.prompt or last.get(speaker),
                    reading.characters, reading.pause, reading, frames,
                )  # fmt: skip
                left -= reading.characters
                if not left and turn + 1 < len(turns):
                    reading.text += "\n"  # what is written of a dialogue: a line for each turn
                if turn + 1 < len(turns):
                    passage.pause = max(passage.pause, TURN_SECONDS)
                yield passage

    def _speaker(self, name: str | None) -> int:
        if name is None and self.prompt is not None:
            return len(self.model.voice.speakers)  # nobody known: the prompt says who
        return self.model.voice.speaker_id(name)

    def _passage(
        self, speaker: int, semantic: Tensor, prompt: Prompt | None, share: int, pause: float = 0.0,
        reading: Reading | None = None, frames: Tensor | None = None,
    ) -> Passage:  # fmt: skip
        codes = torch.zeros(len(semantic), self.model.num_levels, dtype=torch.int64)
        known = torch.zeros(len(semantic), dtype=torch.bool)
        given = 0
        if prompt is not None:
            given = len(prompt.codes)
            codes, semantic = torch.cat([prompt.codes, codes]), torch.cat([prompt.semantic, semantic])
            known = torch.cat([torch.ones(given, dtype=torch.bool), known])
        return Passage(self.request, speaker, semantic, codes, known, given, share, pause, reading, frames)


def fill_passage(passage: Passage, limit: int, seed: int) -> Generator[Window, Int[Tensor, "n q"], None]:
    """Yield a passage's windows one after the other; the filled tokens of each are to be sent back.

    The last of them are kept where the passage ends, else left for the next window to make.
    """
    for number, (start, stop) in enumerate(cut(0, len(passage.codes), limit, limit // OVERLAP)):
        end = stop if stop == len(passage.codes) else stop - limit // AHEAD
        fresh = ~passage.known[start:end]
        if fresh.any():
            if start + int(fresh.int().argmax()) > passage.given:
                passage.joints.append(start + int(fresh.int().argmax()))
            filled = yield Window(passage, start, stop, derive_seed(seed, number))
            passage.codes[start:end] = filled[: end - start]
            passage.known[start:end] = True


def sound(model: Any, passage: Passage) -> Audio:
    """Decode a passage without its prompt, and describe what was said; silence where a phrase was cut is left out."""
    codec = model.codec
    rate, hop = codec.sample_rate, codec.hop_length
    codes = passage.codes[None, passage.given :].to(codec.device)
    wave = codec.decode(codes)[0].float().cpu().numpy()
    silence = np.zeros(round(passage.pause * rate), dtype=np.float32)
    parts: tuple[Any, ...] = ()
    text = ""
    if passage.reading is not None and passage.frames is not None:
        ends = passage.frames.cumsum(0).double().numpy() * hop / rate
        borders = np.concatenate([[0.0], ends])
        first, last = seams(passage.reading, borders)
        wave = wave[round(first * rate) : round(last * rate)]
        reading = passage.reading
        parts = segments(reading.symbols, borders.clip(first, last) - first, reading.spans)
        text = reading.text
    return Audio(np.concatenate([wave, silence])[None], rate, parts, text=text)


def read_prompt(model: Any, request: VoiceRequest) -> Prompt:
    """Encode a request's prompt, and align it with its text where that is given.

    Raises ``RequestError`` for a prompt that is too short, silent, or longer than the network's window.
    """
    codec, rate = model.codec, model.codec.sample_rate
    assert request.prompt is not None  # else nobody asks
    wave, _ = read_audio(request.prompt, rate)
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
    longest = model.max_frames - 1
    if codec.num_frames(len(wave)) > longest:
        message = (
            f"the prompt lasts {seconds:.1f} s, this model's window holds {longest / codec.frame_rate:.1f} s: "
            "give a shorter one"
        )
        raise RequestError(message, code="limit", path="prompt", value=seconds)
    wave = level(wave, rate, model.facts.loudness_dbfs)
    codes = codec.encode(wave[None].to(codec.device), levels=model.num_levels)[0].cpu()
    unknown = torch.full((len(codes),), model.spec.vocabulary)
    if request.prompt_text is None:
        return Prompt(codes, unknown)
    return Prompt(codes, model.align_prompt(codes, request.prompt_text))
