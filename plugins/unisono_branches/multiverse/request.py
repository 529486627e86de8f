"""Request: which text to go on from, and how its branches are executed."""

from typing import Literal

from pydantic import Field, model_validator
from unisono import Request
from unisono.errors import RequestError

from unisono_branches.grammar.tags import MAX_BRANCHES, MAX_NESTING

MOST_LANES = 1024
"""Paths that may be open at once in the worst case, each of which keeps keys and values."""


class TaggedRequest(Request):
    """What can be asked of ``branches/multiverse`` and ``branches/chain``."""

    text: str = Field(
        min_length=1, max_length=2**20, description="the prompt; blocks of tags that it holds must be closed"
    )
    execution: Literal["parallel", "serial"] = Field(
        default="parallel", description="paths of a block side by side, or one after the other: the tokens are the same"
    )
    temperature: float = Field(default=0.0, ge=0.0, le=10.0, description="of the tokens' draw; 0 takes the likeliest")
    max_depth: int | None = Field(
        default=None, ge=1, le=2**20, description="positions at most, prompt included (default: the model's context)"
    )
    max_branches: int | None = Field(
        default=None, ge=1, le=MAX_BRANCHES, description="paths of a block at most (default: as in training)"
    )
    max_nesting: int | None = Field(
        default=None, ge=0, le=MAX_NESTING, description="blocks within blocks at most (default: as in training)"
    )

    @model_validator(mode="after")
    def _lanes_fit(self) -> "TaggedRequest":
        lanes = (self.max_branches or 1) ** (self.max_nesting or 1)
        if lanes > MOST_LANES:
            raise RequestError(
                f"max_branches={self.max_branches} in max_nesting={self.max_nesting} blocks may open {lanes} paths: "
                f"at most {MOST_LANES} may be open at once, lower one of them",
                code="limit",
                path="max_branches",
                value=self.max_branches,
            )
        return self
