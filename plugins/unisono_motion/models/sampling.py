"""Samplers of motion: the presets of ``unisono.masked`` by the names that a request gives.

``num_steps`` is for the base tokens, with one step for each residual level above. Presets that decide by themselves
how much to fill (thresholds, certificates) refuse it. Left out are Token-Critic, which needs a critic, and orders
that belong to one size of canvas.
"""

from unisono.masked import PRESETS, Samplers

SAMPLERS: dict[str, str] = {
    "halton": "halton_in_time",
    **{
        name: name
        for name, preset in PRESETS.items()
        if not (preset.needs or preset.whole_canvas or name == "halton_in_time")
    },
}
"""The preset that stands behind each sampler of a request."""
SAMPLING = Samplers(SAMPLERS, 10)
