"""Continuation request: how a text goes on, and how that is computed by an autoregressive model.

How each ``decoding`` is related to plain decoding: `unisono_text.lossless.catalogue`.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from unisono import Request
from unisono.errors import RequestError, raised_as

from unisono_text.filling.request import prompt_of
from unisono_text.lossless.catalogue import CATALOGUE, OPTIONS, Decoding
from unisono_text.lossless.entry import fill

LENGTH = 64


class ContinueRequest(Request):
    """What can be asked of ``text/ar`` and of the models on one."""

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
        default="plain",
        description="how several tokens are had of one evaluation; cascade, ensemble and lud change the law",
    )
    num_draft: int | None = Field(
        default=None, ge=1, le=256, description="tokens of a draft at most (default: the method's)"
    )
    block: int | None = Field(
        default=None, ge=1, le=2**20, description="of gauss-seidel: tokens that are solved together (default 16)"
    )
    window: int | None = Field(
        default=None, ge=1, le=2**20, description="of jacobi: positions of a window that adapts, at most (default: all)"
    )
    tree: tuple[int, ...] | None = Field(
        default=None,
        description="of medusa and hidden-transfer: how many of each step's likeliest tokens are tried (default 3, 2); "
        "of tr-jacobi: ranks of each level (default: a template of 11 nodes)",
    )
    budget: int | None = Field(
        default=None, ge=1, le=2048, description="of specexec: nodes of the draft's tree at most (default 16)"
    )
    branch: int | None = Field(
        default=None, ge=1, le=64, description="of specexec: tokens tried behind a node at most (default 8)"
    )
    deferral: Literal["chow", "diff", "opt", "token-v1", "token-v2", "token-v3"] | None = Field(
        default=None, description="of cascade: what of the draft's law stands (default token-v3)"
    )
    alpha: float | None = Field(
        default=None,
        description="of cascade: how much is left to the draft, in the deferral's range; of lud: tokens are emitted "
        "while the probability of each is above it, in (0, 1) (default 0.9)",
    )
    weight: float | None = Field(
        default=None, ge=0, le=1, description="of ensemble: of the model's own law in the mixture (default 0.5)"
    )
    contrast: float | None = Field(
        default=None, ge=0, le=100, description="of ensemble: instead of a weight, how far from the draft's law"
    )
    alternate: bool | None = Field(
        default=None, description="of ensemble: the model proposes the token after a whole draft (default: no)"
    )
    beams: int | None = Field(
        default=None, ge=1, le=2**20, description="of arithmetic: how many samples cover the law together (default 1)"
    )
    beam: int = Field(default=0, ge=0, description="of arithmetic: which of them this one is, from 0")

    option_names: ClassVar[tuple[str, ...]] = OPTIONS
    """The fields that are options of a method."""

    @property
    def options(self) -> dict[str, Any]:
        """What the request says of its method; None where it says nothing."""
        return {name: getattr(self, name) for name in self.option_names}

    @model_validator(mode="after")
    def _fits(self):
        with raised_as(RequestError):
            fill(CATALOGUE[self.decoding], self.options)
        if self.beam >= (self.beams or 1):
            raise RequestError(
                f"beam={self.beam} must be below beams={self.beams or 1}: they are counted from 0",
                code="range",
                path="beam",
                value=self.beam,
            )
        nodes, level = 0, 1
        for width in self.tree or ():
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
