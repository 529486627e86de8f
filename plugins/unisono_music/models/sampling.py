"""Samplers of grids: the presets of ``unisono.masked`` by the names that a request gives.

Left out are presets that need a critic, and orders that belong to one size of canvas.
"""

from unisono.masked import PRESETS, Samplers

SAMPLING = Samplers({name: name for name, preset in PRESETS.items() if not (preset.needs or preset.whole_canvas)}, 32)
SAMPLERS = dict(SAMPLING.presets)
"""The preset that stands behind each sampler of a request."""
