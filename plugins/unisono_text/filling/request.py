"""Text request: what can be asked of a diffusion language model, and how it becomes a canvas of tokens.

::

    text                       ████░░░░░░░░          the prompt goes on; without one, a text begins
    text, suffix               ████░░░░░░███         in-filling: something between the two
    template                   ██░░░█░░██████        blanks between given text; after the prompt, if there is one
    json_schema                ██░░░███░░█           likewise, in the form that the schema says

What is given is frozen: no sampler can touch it. Settings of the decoding are the request's too; `sampling` says
which stages of ``unisono.masked`` they become.

Shapes: n token positions. Masks are True where a token is given.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field, model_validator
from torch import Tensor
from unisono import Request
from unisono.errors import RequestError

from unisono_text.filling.sampling import check_settings
from unisono_text.filling.template import Blank, Given, Piece, read_schema, read_template

LENGTH = 64
BLANK_LENGTH = 8

Order = Literal["random", "max_prob", "margin", "entropy", "drawn", "credit", "left_to_right"]
Sampler = Literal[
    "mdlm",
    "first_hitting",
    "remdm",
    "llada",
    "dream",
    "dimple",
    "fast_dllm",
    "frechet",
    "entropy_bounded",
    "kl_stable",
    "credit",
    "block_diffusion",
]
Cache = Literal["none", "unchanged", "prefix", "prefill", "frozen", "frozen_dual", "delayed", "free"]


class TextRequest(Request):
    """What can be asked of a diffusion language model."""

    text: str = Field(
        default="", description="the prompt, which the text goes on from; empty: a text from its beginning"
    )
    chat: bool = Field(default=False, description="put the prompt into the model's chat template: a question, answered")
    suffix: str = Field(default="", description="what follows what is made: it is filled in between text and suffix")
    template: str | None = Field(
        default=None, description="a text with blanks, such as '{name} is {age:2} years old'; follows the prompt"
    )
    json_schema: dict[str, Any] | None = Field(
        default=None, description="a JSON schema: the text is JSON of this form; follows the prompt"
    )
    length: int | None = Field(
        default=None,
        ge=1,
        le=2**20,
        description="tokens to make (default 64), or of a blank that gives no length (default 8)",
    )

    sampler: Sampler | None = Field(
        default=None, description="a published way to decode; default: composed from what follows"
    )
    order: Order | None = Field(default=None, description="which positions first (default: random, or as a rule needs)")
    num_steps: int | None = Field(
        default=None, ge=1, le=2**20, description="steps for each block (default 64), where no rule decides that"
    )
    threshold: float | None = Field(
        default=None, gt=0, le=1, description="fill all positions surer than this, at least one"
    )
    factor: float | None = Field(default=None, gt=0, description="fill as many as the factor rule of Fast-dLLM allows")
    frechet: float | None = Field(
        default=None, ge=0, lt=1, description="fill what is certified to be likeliest jointly: slack"
    )
    entropy_bound: float | None = Field(
        default=None, ge=0, description="fill as many as this bound on dependence allows, nats"
    )
    kl_stable: float | None = Field(
        default=None, gt=0, description="fill what is sure and moved less than this, in nats"
    )
    remask: Literal["cap", "rescale", "conf", "loop"] | None = Field(
        default=None, description="mask tokens again at the rate that ReMDM gives under this name"
    )
    remask_eta: float | None = Field(default=None, ge=0, le=1, description="ReMDM's eta (default: as published)")
    edit: float | None = Field(
        default=None, gt=0, le=1, description="exchange tokens where another one is likelier than this"
    )
    choice_temperature: float | None = Field(default=None, gt=0, le=1000, description="noise on the order of positions")
    temperature: float | None = Field(
        default=None, ge=0, le=10, description="of the tokens' draw, 0 takes the likeliest (default 1, or as published)"
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="draw from the likeliest tokens with this probability"
    )
    top_k: int | None = Field(default=None, ge=1, description="draw from so many of the likeliest tokens")
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="draw from tokens this many times as likely as the best"
    )
    typical_p: float | None = Field(
        default=None, gt=0, le=1, description="draw from the most typical tokens up to this mass"
    )
    block: int | None = Field(
        default=None,
        ge=1,
        le=2**20,
        description="fill blocks of so many tokens from left to right (default: all at once)",
    )

    guidance_scale: float = Field(
        default=1.0, ge=1, le=100, description="how much more the prompt counts; above 1 a step costs two evaluations"
    )
    negative: str | None = Field(default=None, description="with guidance, away from what this prompt would give")
    guide_weight: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="how much the guide's word counts in the draw, where it knows all before",
    )
    guide_top: int | None = Field(
        default=None,
        ge=1,
        description="keep the likeliest tokens up to the first that is not among so many of the guide's",
    )

    cache: Cache = Field(default="none", description="what of the network's keys and values is kept between steps")
    refresh: int | None = Field(default=None, ge=1, le=2**20, description="of the delayed cache, in steps (default 8)")
    drift: bool = Field(
        default=False, description="also report how far the cache leads from no cache; costs as much as none"
    )

    @model_validator(mode="after")
    def _whole(self):
        forms = [name for name in ("template", "json_schema", "suffix") if getattr(self, name) not in (None, "")]
        if len(forms) > 1:
            raise RequestError(
                f"{forms[0]} and {forms[1]} exclude each other: write a suffix into the template",
                code="conflict",
                path=forms[1],
            )
        if self.negative is not None and self.guidance_scale == 1:
            raise RequestError("a negative prompt needs guidance_scale above 1", code="conflict", path="negative")
        if self.guidance_scale > 1 and not self.text:
            raise RequestError(
                "guidance_scale makes the prompt count more, and there is none: give text", code="missing", path="text"
            )
        if self.guide_weight is not None and self.guide_top is not None:
            raise RequestError(
                "guide_weight and guide_top are two ways to be guided: give one", code="conflict", path="guide_top"
            )
        if self.refresh is not None and self.cache != "delayed":
            raise RequestError(
                f"refresh is the delayed cache's, this one is {self.cache}", code="conflict", path="refresh"
            )
        if self.drift and self.cache in ("none", "unchanged"):
            raise RequestError(
                f"drift needs a cache that approximates: cache={self.cache!r} is exact", code="conflict", path="drift"
            )
        check_settings(self)
        return self


@dataclass(eq=False)
class Task:
    """One request as tokens: ``tokens`` [n], what of them is ``given``, and in which ``blank`` each lies (−1: none).

    ``prompt`` counts the leading given tokens that are the prompt's; ``spans`` are the positions of each piece.
    """

    number: int
    request: TextRequest
    seed: int
    pieces: list[Piece]
    spans: list[tuple[int, int]]
    blanks: list[Blank]
    tokens: Int[Tensor, " n"]
    given: Bool[Tensor, " n"]
    blank: Int[Tensor, " n"]
    prompt: int
    negative: list[int] | None

    def __len__(self) -> int:
        return len(self.tokens)


def read_request(model: Any, number: int, request: TextRequest, seed: int) -> Task:
    """Return the task of a request.

    Raises ``RequestError`` for characters that the tokenizer does not have, blanks that it cannot fill, and more
    tokens than the model's context holds.
    """
    tokenizer, context = model.tokenizer, model.context
    prompt, shown = prompt_of(model, request.text, request.chat)
    negative = None if request.negative is None else prompt_of(model, request.negative, request.chat)[0]
    if request.template is not None:
        pieces = read_template(request.template, request.length or BLANK_LENGTH)
    elif request.json_schema is not None:
        pieces = read_schema(request.json_schema, request.length or BLANK_LENGTH)
    else:
        given = len(prompt) + len(tokenizer.encode(request.suffix))
        if given >= context:
            raise RequestError(
                f"the prompt has {given} tokens, and this model's context of {context} leaves no room: shorten it",
                code="limit",
                path="text",
                value=given,
            )
        length = min(LENGTH, context - given) if request.length is None else request.length
        pieces = [Blank("", length, exact=bool(request.suffix) or model.special["eos"] is None)]
        pieces += [Given(request.suffix)] if request.suffix else []
    pieces = [Given(shown), *pieces]
    blanks = [piece for piece in pieces if isinstance(piece, Blank)]
    if len(blanks) > context:
        raise RequestError(
            f"{len(blanks)} blanks need a token each, and this model's context holds {context}: ask in parts",
            code="limit",
            path="text",
            value=len(blanks),
        )
    tokens, given, blank = list(prompt), [True] * len(prompt), [-1] * len(prompt)
    spans, count = [(0, len(prompt))], 0
    for piece in pieces[1:]:
        if isinstance(piece, Given):
            own, where = tokenizer.encode(piece.text), -1
        else:
            own, where, count = [0] * min(_size(model, piece), context + 1), count, count + 1
        spans.append((len(tokens), len(tokens) + len(own)))
        tokens += own
        given += [where < 0] * len(own)
        blank += [where] * len(own)
        if len(tokens) > context:
            break
    if len(tokens) > context:
        made = f"{len(blanks)} blanks" if request.template or request.json_schema else f"{blanks[0].tokens} to make"
        raise RequestError(
            f"{len(prompt)} tokens of prompt and {made} are more than this model's context of {context}: ask for less",
            code="limit",
            path="length",
            value=len(tokens),
        )
    rest = len(tokens) - len(prompt)
    if negative is not None and len(negative) + rest > context:
        raise RequestError(
            f"the negative prompt has {len(negative)} tokens, which with {rest} to follow is more than this model's "
            f"context of {context}: shorten it",
            code="limit",
            path="negative",
            value=len(negative),
        )
    return Task(
        number=number,
        request=request,
        seed=seed,
        pieces=pieces,
        spans=spans,
        blanks=blanks,
        tokens=torch.tensor(tokens, dtype=torch.int64),
        given=torch.tensor(given, dtype=torch.bool),
        blank=torch.tensor(blank, dtype=torch.int64),
        prompt=len(prompt),
        negative=negative,
    )


def prompt_of(model: Any, text: str, chat: bool) -> tuple[list[int], str]:
    """Return a prompt's tokens and how it reads, with ``chat`` as the model's data wrote it.

    What the user says is plain text in any case: none of it becomes a special token. Raises ``RequestError`` for a
    model that was trained without a chat template.
    """
    plain = model.tokenizer.encode(text)
    if not chat:
        return plain, text
    template = model.facts.chat
    if template is None:
        raise RequestError(
            "this model was trained on no chats and has no template for them: leave chat out",
            code="unsupported",
            path="chat",
        )
    before, between = (model.tokenizer.encode(template[name], special=True) for name in ("before", "between"))
    return [*before, *plain, *between], f"{template['before']}{text}{template['between']}"


def _size(model: Any, blank: Blank) -> int:
    """How many positions a blank takes; raises ``RequestError`` where the tokenizer cannot leave some of them empty."""
    sizes = {len(model.tokenizer.encode(option)) for option in blank.options} or {blank.tokens}
    padded = not blank.exact if blank.kind != "choice" else len(sizes) > 1
    if padded and model.special["eos"] is None:
        raise RequestError(
            f"the blank {blank.name!r} may be shorter than its room, and this tokenizer has no end token to say so: "
            "give an exact length, as in {name:8}, or options of one length",
            code="unsupported",
            path=blank.name,
        )
    if not max(sizes):
        raise RequestError(f"the blank {blank.name!r} offers nothing but an empty text", code="empty", path=blank.name)
    return max(sizes)
