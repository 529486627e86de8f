"""Masked parallel decoding: fill a canvas of tokens in a few passes of a network.

canvas.py   Layout (what a position is) and Canvas (what is known, frozen, how old)
random.py   counter-based randomness per row
handle.py   the model, counted

Masks are boolean, True = keep. See docs/masked.md.
"""

from unisono.masked.canvas import Canvas, Layout
from unisono.masked.handle import Handle, Model, Unconditional

__all__ = ["Canvas", "Handle", "Layout", "Model", "Unconditional"]
