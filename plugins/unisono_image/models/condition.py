"""Condition: a class, a caption, both or neither, as vectors; `unisono.nn.condition` has it."""

from unisono.nn.condition import NO_LABEL, Condition, Conditioner

__all__ = ["NO_LABEL", "Condition", "Conditioner"]
