"""Media: what a model makes. Each kind saves and draws itself, and shows itself in a notebook, a terminal and a log."""

from unisono.media.audio import Audio, Curve
from unisono.media.base import Media
from unisono.media.image import Image
from unisono.media.pictures import code_of, read_image, read_rgba
from unisono.media.text import Text
from unisono.media.times import Segment, Stretch, Times, TimesFormat, TimesOptions, TimesWriter

__all__ = [
    "Audio",
    "Curve",
    "Image",
    "Media",
    "Segment",
    "Stretch",
    "Text",
    "Times",
    "TimesFormat",
    "TimesOptions",
    "TimesWriter",
    "code_of",
    "read_image",
    "read_rgba",
]
