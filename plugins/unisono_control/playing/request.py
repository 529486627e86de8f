"""Episode requests: what can be asked of a policy: to play the episode of a seed, told what to do or not.

No value of ``decoding`` changes a single action: tokens are those of plain decoding, see
`unisono_control.playing.decoding`.
"""

from pydantic import Field, model_validator
from unisono import Request
from unisono.errors import RequestError

from unisono_control.playing.decoding import Decoding


class EpisodeRequest(Request):
    """What can be asked of every policy; the seed is the episode's, and of the draws of its actions."""

    instruction: str = Field(
        default="", max_length=400, description="what to do, where the environment can be told; empty: its own task"
    )
    execute: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="actions of a chunk that are carried out before the next is planned (default: all)",
    )
    max_steps: int | None = Field(
        default=None, ge=1, le=2**20, description="time limit, where it is to be shorter than the environment's"
    )


class ChunkRequest(EpisodeRequest):
    """What can be asked of ``control/policy``."""

    decoding: Decoding = Field(
        default="plain", description="how a chunk is had in fewer evaluations; none changes an action"
    )
    temperature: float = Field(default=0.0, ge=0, le=10, description="of the actions' draw; 0 takes the likeliest")
    block: int | None = Field(
        default=None, ge=1, le=4096, description="of gauss-seidel: tokens that are solved together (default 8)"
    )
    num_draft: int | None = Field(default=None, ge=1, le=256, description="of ngram: tokens of a draft (default 8)")

    @model_validator(mode="after")
    def _fits(self):
        for name, owner in (("block", "gauss-seidel"), ("num_draft", "ngram")):
            if getattr(self, name) is not None and self.decoding != owner:
                raise RequestError(
                    f"{name} is of {owner}, the decoding is {self.decoding}: leave it out",
                    code="conflict",
                    path=name,
                    value=getattr(self, name),
                )
        return self
