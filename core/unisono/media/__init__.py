"""Media: what a model makes. Each kind saves and draws itself, and shows itself in a notebook, a terminal and a log."""

from unisono.media.audio import Audio, Curve, Segment
from unisono.media.base import Media
from unisono.media.image import Image
from unisono.media.text import Text

__all__ = ["Audio", "Curve", "Image", "Media", "Segment", "Text"]
