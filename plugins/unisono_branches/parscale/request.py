"""Request: which text goes on, and for how long."""

from pydantic import Field
from unisono import Request


class ByteRequest(Request):
    """What can be asked of ``branches/parscale``."""

    text: str = Field(default="", max_length=2**20, description="the prompt, which the text goes on from")
    length: int = Field(default=32, ge=1, le=2**20, description="bytes to make")
    temperature: float = Field(default=1.0, ge=0.0, le=10.0, description="of the bytes' draw; 0 takes the likeliest")
