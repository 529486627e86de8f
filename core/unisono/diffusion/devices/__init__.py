"""Devices: samplers over several of them; every rank runs the same loop, and only what a network computes is split.

exchange.py  the one verb: gather now (Fresh), or what was gathered n calls before (Stale)
sharded.py   rows of a round over ranks (TimeSharded), branches of guidance (CFGSplit), ParaStep
patches.py   rows of a picture over ranks: what U-Nets and transformers share, and transformers
unet.py      convolutions, group norms and attention of U-Nets

Groups are the caller's, of any backend and size; nothing here calls `init_process_group`, and without one there is
one process. Rank and size are those within the group. Equations and limits are in docs/devices.md.
"""

from unisono.diffusion.devices.exchange import Fresh, Policy, Stale, exchange, group_rank, group_size
from unisono.diffusion.devices.patches import Patched, Patches, TransformerPatches
from unisono.diffusion.devices.sharded import CFGSplit, Replicated, TimeSharded, parastep
from unisono.diffusion.devices.unet import UNetPatches

__all__ = [
    "CFGSplit",
    "Fresh",
    "Patched",
    "Patches",
    "Policy",
    "Replicated",
    "Stale",
    "TimeSharded",
    "TransformerPatches",
    "UNetPatches",
    "exchange",
    "group_rank",
    "group_size",
    "parastep",
]
