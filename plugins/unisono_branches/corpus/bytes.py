"""Bytes: rows of a text's bytes, read from a file, or of sentences that are made on the spot.

The last tenth of the file is held out. Rows follow one another without overlap; what is left behind the last whole row
of a part is dropped and listed.

Batches: ``tokens`` int64 [b, t], bytes in [0, 256); ``row`` [b].
"""

from typing import Any

import numpy as np
import torch
from unisono.data import Audit, DataModule, collate_items, derive_seed
from unisono.errors import DataError
from unisono.files import read_bytes

from unisono_branches.corpus.facts import ByteFacts
from unisono_branches.corpus.tagged import check_least

HELD_OUT = 0.1
NUM_SAMPLES = 3
SAMPLE_BYTES = 16
WORDS = ("river", "stone", "light", "cloud", "field", "night", "bread", "glass")


class ByteData(DataModule):
    """Bytes of one file.

    Args:
        root: the file; empty makes sentences.
        num_bytes: how much is made, where no file is read.
        context: bytes of a row.
        batch_size: rows per step over all processes.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        *,
        root: str = "",
        num_bytes: int = 4096,
        context: int = 128,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        check_least({"num_bytes": (num_bytes, 1), "context": (context, 2)})
        self.root, self.num_bytes, self.context = root, num_bytes, context

    def prepare(self, progress: bool = True) -> Audit:
        data = np.frombuffer(read_bytes(self.root) if self.root else sentences(self.num_bytes), np.uint8)
        audit = Audit("rows")
        cut = len(data) - int(len(data) * HELD_OUT)
        parts = {"training": data[:cut], "validation": data[cut:]}
        rows = {name: len(part) // self.context for name, part in parts.items()}
        if not all(rows.values()):
            raise DataError(
                f"{len(data)} bytes give {rows['training']} rows of {self.context} to train on and "
                f"{rows['validation']} to validate on: give at least one of each, by more bytes or a smaller context",
                code="empty",
                path="data.root",
                value=len(data),
            )
        for name, part in parts.items():
            audit.keep_many(rows[name], rows[name] * self.context, "bytes", name)
            left = len(part) - rows[name] * self.context
            if left:
                audit.drop(f"end of {name}", "no whole row", f"{left} bytes")
        self.train_set, self.val_set = (ByteSet(part, self.context) for part in parts.values())
        shown = [bytes(self.val_set.rows[at][:SAMPLE_BYTES]) for at in range(min(NUM_SAMPLES, len(self.val_set)))]
        texts = (text.decode("utf-8", "ignore")[: SAMPLE_BYTES - 4 * number] for number, text in enumerate(shown))
        self.facts = ByteFacts(context=self.context, sample_texts=tuple(text for text in texts if text) or ("a",))
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class ByteSet:
    """Rows of as many bytes each."""

    def __init__(self, data: np.ndarray, context: int):
        self.rows = data[: len(data) // context * context].reshape(-1, context)

    def __len__(self) -> int:
        return len(self.rows)

    def size(self, index: int) -> int:
        return self.rows.shape[1]

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        return {"tokens": torch.from_numpy(self.rows[index].astype(np.int64))}


def sentences(count: int) -> bytes:
    """Return so many bytes of made sentences."""
    draws = np.random.default_rng(derive_seed("sentences")).integers(0, len(WORDS), count)
    return " ".join(f"the {WORDS[draw]}." for draw in draws).encode()[:count]
