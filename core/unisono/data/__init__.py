"""Data: audits, splits, facts, feature caches, captions, and replayable batches.

``DataModule`` is Lightning's, which takes seconds to load: it is loaded by its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unisono.data.audit import Audit, Drop, Dropped
from unisono.data.cache import Features, Prepared, prepare_features, read_entry, write_entry
from unisono.data.captions import find_captions, mirrored, read_captions, words_of
from unisono.data.collate import collate_items, pad_stack
from unisono.data.facts import Facts, facts_of, to_plain
from unisono.data.folder import CacheError, cache_root, spare_root, written_aside
from unisono.data.loader import ReplayableLoader
from unisono.data.mixing import numbered
from unisono.data.parallel import map_processes
from unisono.data.sampler import (
    OrderedBatchSampler,
    ReplayableBatchSampler,
    derive_seed,
    item_generator,
)
from unisono.data.split import hold_out

if TYPE_CHECKING:
    from unisono.data.module import DataModule, ItemSet

__all__ = [
    "Audit",
    "CacheError",
    "DataModule",
    "Drop",
    "Dropped",
    "Facts",
    "Features",
    "ItemSet",
    "OrderedBatchSampler",
    "Prepared",
    "ReplayableBatchSampler",
    "ReplayableLoader",
    "cache_root",
    "collate_items",
    "derive_seed",
    "facts_of",
    "find_captions",
    "hold_out",
    "item_generator",
    "map_processes",
    "mirrored",
    "numbered",
    "pad_stack",
    "prepare_features",
    "read_captions",
    "read_entry",
    "spare_root",
    "to_plain",
    "words_of",
    "write_entry",
    "written_aside",
]


def __getattr__(name: str) -> Any:
    if name not in ("DataModule", "ItemSet"):
        raise AttributeError(f"module 'unisono.data' has no attribute {name!r}")
    return getattr(import_module("unisono.data.module"), name)
