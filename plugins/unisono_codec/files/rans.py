"""rANS: codes as bytes, nearly as few as a fixed histogram of them allows.

Duda, "Asymmetric numeral systems" (arXiv:1311.2540), §3, in whole numbers: a symbol of frequency f among 2^16, with
the frequencies c of the symbols before it, takes the state x to ::

    x' = ⌊x / f⌋ · 2^16 + x mod f + c
    x  = f · ⌊x' / 2^16⌋ + x' mod 2^16 − c,     f and c of the symbol at x' mod 2^16

The state is kept from 2^16 up to 2^32 by writing or reading 16 bits; the coder goes through the symbols from the last
to the first, so that the decoder meets them in order. The decoder ends where the coder began, at 2^16, with nothing
left to read, which of a damaged message it hardly ever does.

Everything is whole numbers, tables included: the same histogram gives the same bytes on every machine.

Shapes: t frames, q codebooks (levels), v codes of each.
"""

from array import array
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int
from unisono.errors import DataError

PRECISION = 16
ONE = 1 << PRECISION
MAX_CODES = ONE // 4
"""Codebooks beyond this leave too little room for frequencies above 1."""


@dataclass(frozen=True, eq=False)
class CodeTable:
    """Frequencies [q, v] of every code of every codebook, each row a sum of 2^16 and nowhere 0."""

    frequencies: Int[np.ndarray, "q v"]

    @classmethod
    def of_counts(cls, counts: Int[np.ndarray, "q v"]) -> "CodeTable":
        """Make a table from how often each code was seen; a code never seen keeps a frequency of at least 1.

        A codebook without any count is even. What rounding leaves over goes to the most frequent code. Raises
        ``ValueError`` for a negative count and for more than ``MAX_CODES`` codes.
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
            rows.append(shares)
        return cls(np.array(rows, dtype=np.int64))

    @cached_property
    def starts(self) -> Int[np.ndarray, "q v"]:
        """Sum of the frequencies of the codes before each."""
        return self.frequencies.cumsum(1) - self.frequencies

    @cached_property
    def look_up(self) -> list[tuple[array, list[int], list[int]]]:
        """Per codebook: the code at each of 2^16 places, frequencies, starts."""
        codes = np.arange(self.frequencies.shape[1], dtype=np.uint16)
        return [
            (array("H", np.repeat(codes, row).tobytes()), row.tolist(), first.tolist())
            for row, first in zip(self.frequencies, self.starts, strict=True)
        ]

    def bits(self, codes: Int[np.ndarray, "t q"]) -> float:
        """Return the information of codes under this table, in bits: what ``encode`` needs, but for its ends."""
        levels = np.arange(codes.shape[1])
        return float((PRECISION - np.log2(self.frequencies[levels, codes])).sum())


def encode(codes: Int[np.ndarray, "t q"], table: CodeTable) -> bytes:
    """Return the codes' message; ``table`` may have more codebooks than there are columns."""
    levels = np.arange(codes.shape[1])
    frequencies = table.frequencies[levels, codes].ravel()[::-1].tolist()
    starts = table.starts[levels, codes].ravel()[::-1].tolist()
    state, words = ONE, array("H")
    for frequency, start in zip(frequencies, starts, strict=True):
        if state >= frequency << PRECISION:
            words.append(state & (ONE - 1))
            state >>= PRECISION
        quotient, rest = divmod(state, frequency)
        state = (quotient << PRECISION) + rest + start
    return state.to_bytes(4, "little") + np.array(words[::-1], dtype="<u2").tobytes()


def decode(message: bytes, num_frames: int, num_codebooks: int, table: CodeTable) -> Int[np.ndarray, "t q"]:
    """Return the codes of a message; raises ``DataError`` where it is not one of so many frames and codebooks."""
    if len(message) < 4 or len(message) % 2:
        raise DataError(
            f"a message of {len(message)} bytes is damaged: it takes 4 or more, in twos; copy it again",
            code="damaged",
            path="message",
            value=len(message),
        )
    state = int.from_bytes(message[:4], "little")
    words = np.frombuffer(message, "<u2", offset=4).tolist()
    words.reverse()
    books = table.look_up[:num_codebooks]
    codes = array("H")
    try:
        for _ in range(num_frames):
            for symbols, frequencies, starts in books:
                place = state & (ONE - 1)
                code = symbols[place]
                state = frequencies[code] * (state >> PRECISION) + place - starts[code]
                if state < ONE:
                    state = state << PRECISION | words.pop()
                codes.append(code)
    except IndexError:
        raise DataError(
            "a message of codes is damaged: it ends before its last code; copy it again", code="damaged", path="message"
        ) from None
    if state != ONE or words:
        raise DataError(
            "a message of codes is damaged: it does not end where it should; copy it again",
            code="damaged",
            path="message",
        )
    return np.array(codes, dtype=np.int64).reshape(num_frames, num_codebooks)
