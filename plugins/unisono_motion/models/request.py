"""Motion request: what can be asked of a motion model, and how it becomes a sequence of tokens to fill.

::

    text, seconds                    ░░░░░░░░░░░░            one caption, nothing known
    texts, durations                 ░░░░░░░░│░░░░│░░░░░░    a caption each; transitions are made at the borders
    motion, keep                     ████░░░░░░████          in-betweening: █ are the clip's own tokens, frozen
    motion, keep, seconds (, at)     ████░░░░░░░░░░          the clip goes on, or (at) what came before it
    motion, part                     ▄▄▄▄▄▄▄▄▄▄▄▄            one part of the body anew, the other frozen

MMM (Pinyoanuntapong et al., arXiv:2312.03596, §3.4 and §4.3) edits in all these ways by tokens that are not
masked; here they are frozen on the canvas, so that no sampler can touch them.

Shapes: n token positions, q streams of tokens. Masks are True where a token is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor
from unisono import Request
from unisono.errors import RequestError
from unisono.masked import ChoiceTemperatureField, TemperatureField, TopKField, TopPField
from unisono.request import FILE

from unisono_motion.models.caption_encoders import read_caption
from unisono_motion.models.sampling import SAMPLING

MAX_SECONDS = 3600.0
MAX_TEXTS = 1000


class MotionRequest(Request):
    """What can be asked of a motion model."""

    text: str | None = Field(
        default=None, description="what the motion shows; may be left out where a motion is edited"
    )
    seconds: float | None = Field(
        default=None, gt=0, le=MAX_SECONDS, description="length; default: predicted from the text, or the edited clip's"
    )
    texts: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_TEXTS,
        description="instead of text: what happens one after the other",
    )
    durations: list[float] | None = Field(default=None, description="seconds of each of texts; default: predicted")
    transition: float = Field(default=0.5, ge=0, le=4, description="seconds made anew around each border between texts")
    num_steps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="evaluations for each window (default 10), where a sampler counts them",
    )
    sampler: str = Field(default="maskgit", description="how tokens are chosen: a preset of masked decoding")
    guidance_scale: float = Field(
        default=1.0, ge=1, le=20, description="how much more the text counts; above 1 every step costs two evaluations"
    )
    temperature: TemperatureField = None
    top_k: TopKField = None
    top_p: TopPField = None
    choice_temperature: ChoiceTemperatureField = None
    motion: str | None = Field(default=None, description="path of a BVH or NPZ file to edit", json_schema_extra=FILE)
    metres_per_unit: float = Field(default=0.01, gt=0, le=1000, description="the BVH file's unit of length, in metres")
    keep: list[tuple[float, float]] | None = Field(
        default=None, min_length=1, description="ranges of the clip to keep, in seconds, such as [[0, 1], [3, 4]]"
    )
    at: float = Field(default=0.0, ge=0, le=MAX_SECONDS, description="where the clip begins in the result, in seconds")
    part: Literal["lower", "upper"] | None = Field(
        default=None, description="make only this part of the body anew (with a tokenizer of parts)"
    )


@dataclass(frozen=True)
class Span:
    """Positions ``start`` to ``stop`` that one caption describes; None where there is none."""

    start: int
    stop: int
    caption: str | None


@dataclass
class Task:
    """One request as tokens: ``tokens`` [n, q], which of them are ``known``, and the spans that cover all n.

    ``frozen`` is what was known at the start. ``final`` counts positions that will not change any more.
    """

    request: MotionRequest
    frames: int
    tokens: Int[Tensor, "n q"]
    known: Bool[Tensor, "n q"]
    spans: list[Span]
    final: int = 0

    def __post_init__(self):
        self.frozen = self.known.clone()

    @property
    def caption(self) -> str:
        """What the whole shows."""
        return ", then ".join(span.caption for span in self.spans if span.caption)

    def seams(self, downsampling: int) -> list[int]:
        """Frames at which something frozen meets something made, or two captions meet."""
        whole = self.frozen.all(1).long()
        found = {int(i) + 1 for i in whole.diff().nonzero()} | {span.start for span in self.spans[1:]}
        return [position * downsampling for position in sorted(found)]


def read_request(model: Any, request: MotionRequest) -> Task:
    """Return the task of a request, lengths predicted where none is given; raises ``RequestError``."""
    SAMPLING.check(request)
    if request.motion is None:
        for name, default in (("keep", None), ("part", None), ("at", 0.0)):
            if getattr(request, name) != default:
                value = getattr(request, name)
                raise RequestError(
                    f"{name}={value!r} says how to edit a clip: give its path as motion",
                    code="conflict",
                    path=name,
                    value=value,
                )
    elif request.texts is not None:
        raise RequestError(
            "texts make a motion of its own: edit a clip with one text",
            code="conflict",
            path="texts",
            value=request.texts,
        )
    if request.texts is None:
        if request.durations is not None:
            raise RequestError(
                "durations are those of texts: give texts, or seconds with one text",
                code="conflict",
                path="durations",
                value=request.durations,
            )
        if request.text is not None:
            read_caption(request.text)
        if request.motion is not None:
            return _edit(model, request)
        if request.text is None:
            raise RequestError("text is required: say what the motion shows", code="missing", path="text")
        return _fresh(model, request, [request.text], [request.seconds])
    if request.text is not None or request.seconds is not None:
        given = "text" if request.text is not None else "seconds"
        raise RequestError(
            f"{given} and texts exclude each other: texts have durations, one each",
            code="conflict",
            path=given,
            value=getattr(request, given),
        )
    seconds = [None] * len(request.texts) if request.durations is None else request.durations
    if len(seconds) != len(request.texts):
        raise RequestError(
            f"{len(seconds)} durations for {len(request.texts)} texts: give one each",
            code="shape",
            path="durations",
            value=len(seconds),
        )
    for value in seconds:
        if value is not None and not 0 < value <= MAX_SECONDS:
            raise RequestError(
                f"durations hold {value!r}: each must be above 0, at most {MAX_SECONDS:g}",
                code="range",
                path="durations",
                value=value,
            )
    return _fresh(model, request, request.texts, seconds)


def _fresh(model: Any, request: MotionRequest, texts: list[str], seconds: Sequence[float | None]) -> Task:
    for text in texts:
        read_caption(text)
    tokenizer = model.tokenizer
    fps, down = tokenizer.spec.fps, tokenizer.downsampling
    spans, start, frames = [], 0, 0
    for index, (text, given) in enumerate(zip(texts, seconds, strict=True)):
        if given is None:
            own = down * model.predict_length(text, request.seed + index)
        else:
            own = _frames(given, fps)
            if index + 1 < len(texts):
                own = max(round(own / down), 1) * down  # spans meet between tokens
        frames += own
        stop = tokenizer.num_positions(frames)
        spans.append(Span(start, stop, text))
        start = stop
    tokens = torch.zeros(start, model.num_streams, dtype=torch.int64)
    return Task(request, frames, tokens, torch.zeros_like(tokens, dtype=torch.bool), spans)


def _edit(model: Any, request: MotionRequest) -> Task:
    assert request.motion is not None
    if request.keep is None and request.part is None:
        raise RequestError(
            "what of the motion should stay? give keep, such as [[0, 1]], or the part to make anew",
            code="missing",
            path="keep",
        )
    tokenizer = model.tokenizer
    fps, down = tokenizer.spec.fps, tokenizer.downsampling
    parts = [part for part, _ in model.streams]
    if request.part is not None and request.part not in parts:
        raise RequestError(
            f"part={request.part!r}: this model's tokenizer knows the body as a whole; "
            "load a model whose tokenizer has parts",
            code="unsupported",
            path="part",
            value=request.part,
        )
    features = tokenizer.read(request.motion, request.metres_per_unit)
    own = tokenizer.encode(features[None].to(model.device))[0].cpu()[:, model.columns]
    clip_seconds = len(features) / fps
    offset = round(request.at * fps / down)
    frames = offset * down + len(features) if request.seconds is None else _frames(request.seconds, fps)
    length = tokenizer.num_positions(frames)
    whole = torch.zeros(len(own), dtype=torch.bool)
    for start, end in request.keep or []:
        if not 0 <= start < end <= clip_seconds + 0.5 / fps:
            raise RequestError(
                f"keep holds [{start:g}, {end:g}]: a range must lie within the clip, 0 to {clip_seconds:.2f} s, "
                "and end after it starts",
                code="range",
                path="keep",
                value=(start, end),
            )
        first = math.ceil(start * fps / down - 1e-6)
        last = len(own) if end * fps > len(features) - 1 else math.floor(end * fps / down + 1e-6)
        if last <= first:
            raise RequestError(
                f"keep holds [{start:g}, {end:g}], which covers no whole token of {down / fps:.3f} s: keep more",
                code="range",
                path="keep",
                value=(start, end),
            )
        whole[first:last] = True
    kept = whole[:, None].expand(-1, own.shape[1]).clone()
    if request.part is not None:
        kept |= torch.tensor([part != request.part for part in parts])
    beyond = kept.any(1).nonzero()
    if len(beyond) and offset + int(beyond.max()) >= length:
        raise RequestError(
            f"what is kept ends {(offset + int(beyond.max()) + 1) * down / fps:.2f} s into a result of "
            f"{frames / fps:.2f} s: give more seconds, or keep less",
            code="conflict",
            path="keep",
        )
    tokens = torch.zeros(length, own.shape[1], dtype=torch.int64)
    known = torch.zeros_like(tokens, dtype=torch.bool)
    fits = min(len(own), length - offset)
    if fits > 0:
        known[offset : offset + fits] = kept[:fits]
        tokens[offset : offset + fits] = torch.where(kept[:fits], own[:fits], 0)
    return Task(request, frames, tokens, known, [Span(0, length, request.text)])


def _frames(seconds: float, fps: float) -> int:
    frames = round(seconds * fps)
    if frames < 2:
        raise RequestError(
            f"{seconds:g} s is less than two frames at {fps:g} a second: ask for at least {2 / fps:.3f}",
            code="range",
            path="seconds",
            value=seconds,
        )
    return frames
