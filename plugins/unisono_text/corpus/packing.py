"""Rows of tokens: documents cut into pieces of at most a context, and short ones put together.

No row crosses documents in what a model may see of it. Without packing a row is a piece of one document. With it a
row holds whole short documents one after another, and says for each place which of them it is of, so that attention
stays within a document and positions begin anew with each.

Shapes: n documents, m pieces, r rows, t places of a row.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from unisono.data import collate_items, derive_seed

ANSWER_END = ("draw", "context", "one")


class RowSet:
    """Items ``{"tokens" int64 [t], "prompt"}``, and ``"documents"`` int64 [t] with packing.

    Args:
        tokens: all documents' tokens one after another, or the file of a store that has them.
        documents: int64 [n, 3]: where each begins, how many tokens it has, and how many of them are given (a prompt).
        context: most tokens of a row.
        random: pieces of documents that are longer than the context begin anywhere instead of one after another,
            as many as it takes to see each token once on the average, all of ``context`` tokens.
        pack: put short pieces together in rows.
        fill: the id that answers are followed by, up to a length drawn for each item between its own and the context,
            the same in validation each time (``draw``), or always up to the context; None for nothing.
        dtype: of the store's numbers.
    """

    def __init__(
        self,
        tokens: np.ndarray | Path,
        documents: Int[np.ndarray, "n 3"],
        context: int,
        random: bool = False,
        pack: bool = False,
        fill: tuple[str, int] | None = None,
        dtype: str = "uint16",
    ):
        self.tokens, self.documents, self.context = tokens, documents, context
        self.random, self.fill, self.dtype = random, fill, dtype
        self.pieces = cut(documents, context, whole=random and not pack)
        self.packed = pack
        self.bounds = np.arange(len(self.pieces) + 1)
        if pack:
            order, self.bounds = packed_rows(self.pieces[:, 1], context)
            self.pieces = self.pieces[order]
        ends = np.concatenate([[0], self.pieces[:, 1].cumsum()])
        self.lengths = np.diff(ends[self.bounds])
        self.corpora: tuple[list[str], np.ndarray] = [""], np.zeros(len(documents), np.int64)
        """Names of corpora, and the number of each document's corpus."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def size(self, index: int) -> int:
        return self.context if self.fill and self.fill[0] == "context" else int(self.lengths[index])

    def sizes(self) -> Int[np.ndarray, "r"]:
        """Return all rows' tokens at once."""
        return self.lengths

    def groups(self) -> tuple[list[str], Int[np.ndarray, "r"]]:
        """Return the corpora's names, and the number of each row's corpus (of its first document) among them."""
        names, numbers = self.corpora
        return names, numbers[self.pieces[self.bounds[:-1], 2]]

    def text_tokens(self, start: int, length: int) -> Int[np.ndarray, "t"]:
        """Return a stretch of the tokens of all documents."""
        if isinstance(self.tokens, Path):  # mapped where it is used: workers get the path
            self.tokens = np.memmap(self.tokens, self.dtype, "r")
        return np.asarray(self.tokens[start : start + length]).astype(np.int64)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        pieces = self.pieces[self.bounds[index] : self.bounds[index + 1]]
        if self.packed:
            parts = [self.text_tokens(start, length) for start, length, _, _ in pieces]
            whose = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            tokens = torch.from_numpy(np.concatenate(parts))
            return {"tokens": tokens, "prompt": 0, "documents": torch.from_numpy(whose)}
        start, length, document, prompt = pieces[0].tolist()
        first, whole, _ = self.documents[document].tolist()
        if self.random and whole > self.context:
            half = self.context // 2
            shift = int(torch.randint(-half, self.context - half, (), generator=generator))
            start = first + min(max(start - first + shift, 0), whole - self.context)
        tokens = torch.from_numpy(self.text_tokens(start, length))
        if self.fill:
            way, end = self.fill
            most = self.context - length
            if way == "draw":
                if not self.random:
                    generator = torch.Generator().manual_seed(derive_seed("answer", index))
                most = int(torch.randint(0, most + 1, (), generator=generator))
            tokens = torch.nn.functional.pad(tokens, (0, most), value=end)
        return {"tokens": tokens, "prompt": prompt}

    def __getstate__(self) -> dict[str, Any]:
        tokens = self.tokens
        if isinstance(tokens, np.memmap):
            tokens = Path(str(tokens.filename))
        return {**self.__dict__, "tokens": tokens}


def collate_rows(items: list[dict[str, Any]], pad: int) -> dict[str, Any]:
    """Turn rows into a batch: padded with ``pad``, with ``lengths``; ``documents`` is −1 where there is padding."""
    batch = collate_items(items, {"tokens": pad, "documents": -1})
    batch["lengths"] = torch.tensor([len(item["tokens"]) for item in items])
    return batch


def cut(documents: Int[np.ndarray, "n 3"], context: int, whole: bool = False) -> Int[np.ndarray, "m 4"]:
    """Cut documents into pieces of at most ``context`` tokens, one after another: start, length, document, prompt.

    With ``whole`` the last piece of a document that is longer than the context has ``context`` tokens too, and
    overlaps the one before.
    """
    starts, lengths, prompts = documents.T
    counts = -(-lengths // context)
    of = np.repeat(np.arange(len(documents)), counts)
    number = np.arange(len(of)) - np.repeat(counts.cumsum() - counts, counts)
    begin = number * context
    size = np.minimum(lengths[of] - begin, context)
    if whole:
        begin = np.where(lengths[of] > context, np.minimum(begin, lengths[of] - context), begin)
        size = np.minimum(lengths[of], context)
    return np.stack([starts[of] + begin, size, of, np.where(number == 0, prompts[of], 0)], 1).astype(np.int64)


def packed_rows(
    lengths: Sequence[int] | Int[np.ndarray, "m"], context: int
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "r"]]:
    """Put pieces into rows of at most ``context`` tokens: the longest first, each into the fullest row that takes it.

    Returns the pieces' numbers row by row, and where each row begins and the last ends among them. (Best fit
    decreasing; Ding et al. 2024, *Fewer Truncations Improve Language Modeling*, §3.)
    """
    lengths = np.asarray(lengths)
    rows: list[list[int]] = []
    free: list[int] = []  # room that some row has, each amount once, ascending
    having: dict[int, list[int]] = {}
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        place = bisect_left(free, length)
        if place == len(free):
            row, room = len(rows), context
            rows.append([])
        else:
            room = free[place]
            row = having[room].pop()
            if not having[room]:
                free.pop(place)
                del having[room]
        rows[row].append(piece)
        room -= length
        if room:
            if room not in having:
                insort(free, room)
                having[room] = []
            having[room].append(row)
    # In the order of the first piece of each, so that a row's neighbours are those of the corpus.
    rows = sorted((sorted(row) for row in rows), key=lambda row: row[0])
    order = np.array([piece for row in rows for piece in row], np.int64)
    return order, np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
