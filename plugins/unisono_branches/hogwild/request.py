"""Request: which letters to sort, and by how many workers."""

from typing import Literal

from pydantic import Field
from unisono import Request


class SortRequest(Request):
    """What can be asked of ``branches/hogwild``."""

    text: str = Field(min_length=1, max_length=256, description="letters from a to z, each once, in any order")
    workers: Literal[1, 2] = Field(default=2, description="who sorts: one alone, or two from both ends at once")
    temperature: float = Field(default=0.0, ge=0.0, le=10.0, description="of the tokens' draw; 0 takes the likeliest")
