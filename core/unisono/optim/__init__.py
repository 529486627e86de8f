"""Optim: the optimiser of a recipe, the groups of its parameters, and the learning rate over the steps."""

from unisono.optim.groups import GroupSpec, Part, decays, groups_table, parts_of, settle
from unisono.optim.spec import GaLoreSpec, MuonSpec, OptimSpec

__all__ = ["GaLoreSpec", "GroupSpec", "MuonSpec", "OptimSpec", "Part", "decays", "groups_table", "parts_of", "settle"]
