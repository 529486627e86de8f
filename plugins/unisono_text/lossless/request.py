"""Continuation request: how a text goes on, and how that is computed by an autoregressive model.

No setting of ``decoding`` changes the law of what is made; see `unisono_text.lossless.decoding`.
"""

from typing import Any

from pydantic import Field, model_validator
from unisono import Request
from unisono.errors import RequestError

from unisono_text.filling.request import prompt_of
from unisono_text.lossless.decoding import NUM_DRAFT, Decoding

LENGTH = 64


class ContinueRequest(Request):
    """What can be asked of ``text/ar``, ``text/medusa`` and ``text/pass``."""

    text: str = Field(
        default="", description="the prompt, which the text goes on from; empty: a text from its beginning"
    )
    chat: bool = Field(default=False, description="put the prompt into the model's chat template: a question, answered")
    length: int | None = Field(default=None, ge=1, le=2**20, description="tokens to make at most (default 64)")
    temperature: float = Field(default=1.0, ge=0, le=10, description="of the tokens' draw; 0 takes the likeliest")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="draw from the likeliest tokens with this probability"
    )
    top_k: int | None = Field(default=None, ge=1, description="draw from so many of the likeliest tokens")
    decoding: Decoding = Field(
        default="plain", description="how several tokens are had of one evaluation; none changes the law"
    )
    num_draft: int | None = Field(
        default=None, ge=1, le=256, description="tokens of a draft at most (default: the method's)"
    )
    block: int = Field(default=16, ge=1, le=2**20, description="of gauss-seidel: tokens that are solved together")
    tree: tuple[int, ...] = Field(
        default=(3, 2), description="of medusa: how many of each head's likeliest tokens are tried"
    )
    beams: int = Field(default=1, ge=1, le=2**20, description="of arithmetic: how many samples cover the law together")
    beam: int = Field(default=0, ge=0, description="of arithmetic: which of them this one is, from 0")

    @model_validator(mode="after")
    def _fits(self):
        if self.num_draft is not None and self.decoding not in (*NUM_DRAFT, "pass"):
            raise RequestError(
                f"num_draft is of {', '.join(NUM_DRAFT)} and pass, the decoding is {self.decoding}",
                code="conflict",
                path="num_draft",
            )
        if self.decoding != "arithmetic" and (self.beams, self.beam) != (1, 0):
            raise RequestError(
                f"beams and beam are of arithmetic, the decoding is {self.decoding}",
                code="conflict",
                path="beams" if self.beams != 1 else "beam",
            )
        if self.beam >= self.beams:
            raise RequestError(
                f"beam={self.beam} must be below beams={self.beams}: they are counted from 0", code="range", path="beam"
            )
        nodes, level = 0, 1
        for width in self.tree:
            if width < 1:
                raise RequestError(f"a level of {width} tokens: each has at least 1", code="range", path="tree")
            level *= width
            nodes += level
        if nodes > 4096:
            raise RequestError(f"the tree has {nodes} nodes, at most 4096", code="limit", path="tree")
        return self


def read_prompt(model: Any, request: ContinueRequest) -> tuple[list[int], str, int]:
    """Return the prompt's tokens, how it reads, and how many tokens may follow.

    Raises ``RequestError`` for a prompt that fills the context, or a length that does not fit behind it.
    """
    prompt, shown = prompt_of(model, request.text, request.chat)
    room = model.context - len(prompt)
    if room < 1:
        raise RequestError(
            f"a prompt of {len(prompt)} tokens leaves no room: this model reads {model.context}, shorten it",
            code="limit",
            path="text",
            value=len(prompt),
        )
    if request.length is not None and request.length > room:
        raise RequestError(
            f"length={request.length} after a prompt of {len(prompt)} tokens: this model reads {model.context} at "
            f"once, so at most {room}",
            code="range",
            path="length",
            value=request.length,
        )
    return prompt, shown, min(room, LENGTH if request.length is None else request.length)
