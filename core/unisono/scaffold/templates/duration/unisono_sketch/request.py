"""Request: what can be asked, as typed fields; each is also a flag, a control of the page and a key of JSON."""

from pydantic import Field
from unisono import Request

from unisono_sketch.data import MAX_LETTERS


class SketchRequest(Request):
    """Which text becomes a line, and how fast."""

    text: str = Field(min_length=1, max_length=MAX_LETTERS, description="the text; letters that the data had")
    pace: float = Field(default=1.0, ge=0.25, le=4.0, description="speed: 2 is twice as fast")
