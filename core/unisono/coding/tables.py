"""Tables: how often each symbol comes, as whole numbers of 2^16, one table for each index.

A row holds the symbols from ``low`` on, one after the other, and at its end, where ``escapes``, a slot for all others:
those follow as a sign and an Exp-Golomb code of what lies beyond the row (see ``rans``).

Shapes: i tables, n slots of a row, q v tables of one size.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

PRECISION = 16
ONE = 1 << PRECISION
MAX_CODES = ONE // 4
"""Tables of more slots leave too little room for frequencies above 1."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Frequencies of each table, a sum of 2^16 and nowhere 0; ``lows`` is the symbol of each row's first slot.

    Raises ``ValueError`` where a row is none.
    """

    rows: tuple[Int[np.ndarray, "n"], ...]
    lows: tuple[int, ...]
    escapes: bool = False

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.lows) or not self.rows:
            raise ValueError(f"{len(self.rows)} rows with {len(self.lows)} lowest symbols: give as many of both")
        for number, row in enumerate(self.rows):
            if len(row) > MAX_CODES or row.min() < 1 or row.sum() != ONE:
                raise ValueError(
                    f"row {number} of {len(row)} frequencies from {row.min()} with a sum of {row.sum()}: give up to "
                    f"{MAX_CODES} of at least 1 with a sum of {ONE}"
                )

    @classmethod
    def of_counts(cls, counts: Int[np.ndarray, "q v"]) -> "Tables":
        """Make tables of symbols from 0 on, from how often each was seen; one never seen keeps a frequency of 1.

        A table without any count is even. What rounding leaves over goes to the most frequent symbol, of several with
        the same share to the first; it stays so, for files were written by it. Raises
        ``ValueError`` for a negative count and for more than ``MAX_CODES`` symbols.
        """
        counts = np.asarray(counts, np.int64)
        size = counts.shape[1]
        if not 1 <= size <= MAX_CODES:
            raise ValueError(f"{size} codes: give 1 to {MAX_CODES}")
        if counts.min() < 0:
            raise ValueError(f"a count of {counts.min()}: give counts of at least 0")
        rows = []
        for row in counts.tolist():  # Python's whole numbers do not overflow
            total = sum(row)
            row, total = (row, total) if total else ([1] * size, size)
            shares = [1 + count * (ONE - size) // total for count in row]
            shares[shares.index(max(shares))] += ONE - sum(shares)
            rows.append(np.array(shares, np.int64))
        return cls(tuple(rows), (0,) * len(rows))

    @classmethod
    def of_weights(cls, weights: Sequence[Sequence[int]], lows: Sequence[int], escapes: bool) -> "Tables":
        """Make tables from whole weights, to the nearest 2^-16 and at least that; the last is the escape's.

        What rounding leaves over is taken from, or goes to, the most frequent symbols, one each. Whole numbers alone:
        the same tables on every machine.
        """
        rows = []
        for row in weights:
            total = sum(row)
            if total <= 0 or min(row) < 0:
                raise ValueError(f"weights with a sum of {total} and a least of {min(row)}: give some above 0")
            shares = [max((2 * weight * ONE + total) // (2 * total), 1) for weight in row]
            left = ONE - sum(shares)
            order, step = sorted(range(len(shares)), key=lambda p: (-shares[p], p)), 1 if left > 0 else -1
            while left:
                for place in order:
                    if left and shares[place] + step >= 1:
                        shares[place] += step
                        left -= step
            rows.append(np.array(shares, np.int64))
        return cls(tuple(rows), tuple(lows), escapes)

    @cached_property
    def starts(self) -> tuple[Int[np.ndarray, "n"], ...]:
        """Sum of the frequencies of the slots before each."""
        return tuple(row.cumsum() - row for row in self.rows)

    @cached_property
    def flat(self) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"], Int[np.ndarray, "i"], Int[np.ndarray, "i"]]:
        """Frequencies and starts of all rows one after the other, where each row begins, and how many slots it has."""
        sizes = np.array([len(row) for row in self.rows])
        return np.concatenate(self.rows), np.concatenate(self.starts), sizes.cumsum() - sizes, sizes

    @cached_property
    def look_up(self) -> list[tuple[array, list[int], list[int], int, int]]:
        """Per table: the slot at each of 2^16 places, frequencies, starts, the lowest symbol, and the escape's slot.

        The last is −1 where there is none.
        """
        found = []
        for row, starts, low in zip(self.rows, self.starts, self.lows, strict=True):
            slots = np.repeat(np.arange(len(row), dtype=np.uint16), row)
            escape = len(row) - 1 if self.escapes else -1
            found.append((array("H", slots.tobytes()), row.tolist(), starts.tolist(), low, escape))
        return found

    def slots(self, symbols: Int[np.ndarray, "t"], indices: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t"]:
        """Return the slot of each symbol in the table of its index.

        Raises ``ValueError`` where there is no such table, and for a symbol outside of one without an escape.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self.rows):
            raise ValueError(f"indices from {indices.min()} to {indices.max()}: there are {len(self.rows)} tables")
        sizes = self.flat[3][indices] - self.escapes
        slots = symbols - np.array(self.lows, np.int64)[indices]
        outside = (slots < 0) | (slots >= sizes)
        if outside.any():
            if not self.escapes:
                place = int(outside.argmax())
                raise ValueError(f"symbol {symbols[place]} is not in table {indices[place]}, which has no escape")
            slots = np.where(outside, sizes, slots)
        return slots

    def bits(self, symbols: Int[np.ndarray, "t"], indices: Int[np.ndarray, "t"]) -> float:
        """Return the information of symbols in bits: what a message of them takes, but for its ends."""
        frequencies, _, first, sizes = self.flat
        slots = self.slots(symbols, indices)
        found = float((PRECISION - np.log2(frequencies[first[indices] + slots])).sum())
        if self.escapes:
            for place in np.flatnonzero(slots == sizes[indices] - 1):
                beyond, _ = self.beyond(int(symbols[place]), int(indices[place]))
                found += 2 * (beyond + 1).bit_length()
        return found

    def beyond(self, symbol: int, index: int) -> tuple[int, bool]:
        """Return how far outside of its table a symbol lies, from 0 on, and whether it lies above."""
        low = self.lows[index]
        above = symbol - low - (len(self.rows[index]) - 1)
        return (above, True) if above >= 0 else (low - 1 - symbol, False)
