"""Programmes: General MIDI's instruments by family, and how each family sounds here."""

FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass",
    "reed", "pipe", "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects",
)  # fmt: skip
"""The 16 families, each of 8 programmes."""
STRUCK = frozenset(("piano", "chromatic percussion", "guitar", "bass", "ethnic", "percussive"))
"""Families whose sound fades while it is held."""


def family_of(programme: int) -> str:
    """Return the family of a programme in [0, 127]."""
    return FAMILIES[programme // 8]
