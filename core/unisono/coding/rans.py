"""rANS: symbols as bytes, nearly as few as their tables allow, each symbol by the table of its index.

Duda, "Asymmetric numeral systems" (arXiv:1311.2540), §3, in whole numbers: a symbol of frequency f among 2^16, with
the frequencies c of the symbols before it, takes the state x to ::

    x' = ⌊x / f⌋ · 2^16 + x mod f + c
    x  = f · ⌊x' / 2^16⌋ + x' mod 2^16 − c,     f and c of the symbol at x' mod 2^16

The state is kept from 2^16 up to 2^32 by writing or reading 16 bits; the coder goes through the symbols from the last
to the first, so that the decoder meets them in order. The decoder ends where the coder began, at 2^16, with nothing
left to read, which of a damaged message it hardly ever does.

The decoder is asked for a few symbols at a time, so that the tables of the next ones may depend on those before. What
lies outside of a table follows its escape: a sign, and an Exp-Golomb code of the distance (Teuhola 1978), in even bits.

Everything is whole numbers, tables included: the same tables give the same bytes on every machine.

Shapes: t symbols.
"""

from array import array

import numpy as np
from jaxtyping import Int

from unisono.coding.tables import ONE, PRECISION, Tables
from unisono.errors import DataError

MAX_BEYOND = 1 << 30
"""What an escape can say, at most."""


class Encoder:
    """Takes symbols in the order in which they will be decoded; ``finish`` returns their message."""

    def __init__(self) -> None:
        self._frequencies: list[int] = []
        self._starts: list[int] = []

    def put(self, symbols: Int[np.ndarray, "t"], indices: Int[np.ndarray, "t"], tables: Tables) -> None:
        """Add symbols, each coded by the table of its index.

        Raises ``ValueError`` as ``Tables.slots`` does, and for a symbol more than 2^30 outside of its table.
        """
        symbols, indices = np.asarray(symbols, np.int64), np.asarray(indices, np.int64)
        frequencies, starts, first, sizes = tables.flat
        slots = tables.slots(symbols, indices)
        places = first[indices] + slots
        found, before = frequencies[places].tolist(), starts[places].tolist()
        last = 0
        if tables.escapes:
            for place in np.flatnonzero(slots == sizes[indices] - 1).tolist():
                self._frequencies += found[last : place + 1]
                self._starts += before[last : place + 1]
                last = place + 1
                self._put_beyond(*tables.beyond(int(symbols[place]), int(indices[place])))
        self._frequencies += found[last:]
        self._starts += before[last:]

    def put_bits(self, value: int, count: int) -> None:
        """Add a whole number below 2^count, as even bits, low ones first."""
        while count > 0:
            taken = min(count, PRECISION - 1)
            self._frequencies.append(ONE >> taken)
            self._starts.append((value & ((1 << taken) - 1)) << (PRECISION - taken))
            value, count = value >> taken, count - taken

    def _put_beyond(self, beyond: int, above: bool) -> None:
        if beyond > MAX_BEYOND:
            raise ValueError(f"a symbol {beyond} outside of its table: an escape reaches {MAX_BEYOND}")
        length = (beyond + 1).bit_length() - 1
        self.put_bits(int(above), 1)
        for _ in range(length):
            self.put_bits(1, 1)
        self.put_bits(0, 1)
        self.put_bits(beyond + 1 - (1 << length), length)

    def finish(self) -> bytes:
        """Return the message of all symbols so far."""
        state, words = ONE, array("H")
        for frequency, start in zip(reversed(self._frequencies), reversed(self._starts), strict=True):
            if state >= frequency << PRECISION:
                words.append(state & (ONE - 1))
                state >>= PRECISION
            quotient, rest = divmod(state, frequency)
            state = (quotient << PRECISION) + rest + start
        return state.to_bytes(4, "little") + np.array(words[::-1], dtype="<u2").tobytes()


class Decoder:
    """Gives the symbols of a message in their order; raises ``DataError`` where it is none of an ``Encoder``."""

    def __init__(self, message: bytes):
        if len(message) < 4 or len(message) % 2:
            raise DataError(
                f"a message of {len(message)} bytes is damaged: it takes 4 or more, in twos; copy it again",
                code="damaged",
                path="message",
                value=len(message),
            )
        self._state = int.from_bytes(message[:4], "little")
        self._words = np.frombuffer(message, "<u2", offset=4).tolist()
        self._words.reverse()

    def take(self, indices: Int[np.ndarray, "t"], tables: Tables) -> Int[np.ndarray, "t"]:
        """Return the next symbols, each by the table of its index.

        Raises ``DataError`` where the message ends before, and ``ValueError`` where there is no such table.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(tables.rows):
            raise ValueError(f"indices from {indices.min()} to {indices.max()}: there are {len(tables.rows)} tables")
        books, words, state = tables.look_up, self._words, self._state
        symbols = array("q")
        try:
            for index in indices.tolist():
                slots, frequencies, starts, low, escape = books[index]
                place = state & (ONE - 1)
                slot = slots[place]
                state = frequencies[slot] * (state >> PRECISION) + place - starts[slot]
                if state < ONE:
                    state = state << PRECISION | words.pop()
                if slot == escape:
                    self._state = state
                    symbols.append(self._beyond(low, escape))
                    state = self._state
                else:
                    symbols.append(low + slot)
        except IndexError:
            raise self._damaged("it ends before its last code") from None
        self._state = state
        return np.array(symbols, dtype=np.int64)

    def take_bits(self, count: int) -> int:
        """Return the next number of so many even bits; raises ``DataError`` where the message ends before."""
        try:
            return self._bits(count)
        except IndexError:
            raise self._damaged("it ends before its last code") from None

    def finish(self) -> None:
        """Raise ``DataError`` unless the message ends here."""
        if self._state != ONE or self._words:
            raise self._damaged("it does not end where it should")

    def _bits(self, count: int) -> int:
        value = taken = 0
        while taken < count:
            width = min(count - taken, PRECISION - 1)
            place = self._state & (ONE - 1)
            part = place >> (PRECISION - width)
            self._state = (ONE >> width) * (self._state >> PRECISION) + place - (part << (PRECISION - width))
            if self._state < ONE:
                self._state = self._state << PRECISION | self._words.pop()
            value |= part << taken
            taken += width
        return value

    def _beyond(self, low: int, count: int) -> int:
        above, length = self._bits(1), 0
        while self._bits(1):
            length += 1
            if 1 << length > MAX_BEYOND + 1:
                raise self._damaged("it holds a number that none is written with")
        beyond = (1 << length) + self._bits(length) - 1
        return low + count + beyond if above else low - 1 - beyond

    @staticmethod
    def _damaged(why: str) -> DataError:
        return DataError(f"a message of codes is damaged: {why}; copy it again", code="damaged", path="message")
