"""Coding: latents to bytes and back, so that another machine finds the same tables or knows that it does not.

The table of each symbol depends on floating-point numbers, which differ in their last places between machines, threads
and versions; one other table, and all that follows is noise. What is done about it:

1. The decoder's network runs in float64 at both ends, on one picture at a time, by one function; the encoder goes the
   decoder's way. Results of two machines then agree to some 1e-12.
2. What decides is rounded to whole numbers: log σ to the number of a table, the mean to 1/64 of a step. A latent is a
   whole number of 1/64: the same number on every machine, so that differences do not add up from latent to latent.
3. Where a number lies within ``GUARD`` (1e-8) of a border between two whole numbers, another machine could round it the
   other way. The encoder then moves all borders of that latent by a whole number of 1/256, and says so in the file: the
   least shift that leaves no number near a border. It refuses to write where there is none. A shift of 0 costs next to
   nothing; a list of the numbers near borders would cost bits for each of them, at any width of the guard.
4. The file has checksums of the latents and of the picture: latents that came out otherwise are refused, and a picture
   that differs (a value that lies on the border of two of 256) is told.

So a file is decoded, to the same latents, by any machine whose predictions in float64 are within 1e-8 of the encoder's,
counted in tables and in 1/64 of a step; on another one it is refused. Nothing else is promised.

Shapes: *s the shape of a latent.
"""

import math
import zlib
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.coding import ONE, Decoder, Encoder, Tables, gaussian_tables, scale_grid
from unisono.errors import DataError

GUARD = 1e-8
SHIFTS = 256
MEAN_PARTS = 64
MAX_SYMBOL = 1 << 29
SHIFT_TABLE = Tables.of_weights([[ONE - SHIFTS + 1, *[1] * (SHIFTS - 1)]], [0], escapes=False)

Posterior = Callable[[], Float[Tensor, "*s"]]


class Unsure(Exception):
    """A prediction that no shift brings away from the borders, or that is no number."""


class Quantised:
    """Rounds the predictions of latents; the encoder's half chooses shifts, the decoder's is told them.

    ``scales`` are a network's: the least and the greatest deviation, and how many there are.
    """

    def __init__(self, scales: tuple[str, str, int]) -> None:
        low, high, self.num_scales = scales
        self.lowest = math.log(float(low))
        self.step = math.log(float(high) / float(low)) / (self.num_scales - 1)
        self.tables = gaussian_tables(scale_grid(*scales))
        self.sum = 0
        """Checksum of the latents so far."""
        self.nearest = math.inf
        """The least distance of a prediction from a border so far, in whole numbers."""

    def rounded(
        self, mean: Float[Tensor, "*s"], log_scale: Float[Tensor, "*s"], shift: int | None
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], int]:
        """Return means in 1/64, numbers of tables, and the shift; a shift of None is to be found.

        Raises ``Unsure`` for predictions that are not finite, and where no shift serves.
        """
        whole, kinds = self.numbers(mean, log_scale)
        for number in range(SHIFTS) if shift is None else (shift,):
            moved = ((number + 1) // 2 * (1 if number % 2 else -1)) / SHIFTS
            borders = [values + (0.5 + moved) for values in (whole, kinds)]
            if shift is None:
                # Beyond the first and the last table there is no border.
                inside = borders[1][(borders[1] > 0.5) & (borders[1] < self.num_scales - 0.5)]
                nearest = min(float(np.abs(v - np.rint(v)).min(initial=1.0)) for v in (borders[0], inside))
                if nearest < GUARD:
                    continue
                self.nearest = min(self.nearest, nearest)
            means, indices = (np.floor(values).astype(np.int64) for values in borders)
            return means, indices.clip(0, self.num_scales - 1), number
        raise Unsure

    def numbers(
        self, mean: Float[Tensor, "*s"], log_scale: Float[Tensor, "*s"]
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Return what is rounded: means in 1/64, and places among the tables."""
        whole = mean.detach().double().cpu().numpy().ravel() * MEAN_PARTS
        kinds = (log_scale.detach().double().cpu().numpy().ravel() - self.lowest) / self.step
        if not (np.isfinite(whole).all() and np.isfinite(kinds).all() and np.abs(whole).max(initial=0) < 2**40):
            raise Unsure
        return whole, kinds.clip(-1, self.num_scales)

    def latent(
        self, means: Int[np.ndarray, "n"], symbols: Int[np.ndarray, "n"], like: Float[Tensor, "*s"]
    ) -> Float[Tensor, "*s"]:
        """Return the latent of rounded means and symbols, and add it to the checksum."""
        values = means + MEAN_PARTS * symbols
        self.sum = zlib.crc32(values.astype("<i8").tobytes(), self.sum)
        return torch.from_numpy(values / MEAN_PARTS).reshape(like.shape).to(like)


class Writer(Quantised):
    """A reader that decides: each latent is the nearest to the posterior's mean, and is written down.

    ``latents`` are written; those that follow are what they are expected to be.
    """

    def __init__(self, latents: int, scales: tuple[str, str, int]):
        super().__init__(scales)
        self.latents, self.encoder, self.bits = latents, Encoder(), 0.0
        self.by_latent: dict[int, float] = {}

    def __call__(
        self, number: int, mean: Float[Tensor, "*s"], log_scale: Float[Tensor, "*s"], posterior: Posterior
    ) -> Float[Tensor, "*s"]:
        if number >= self.latents:
            return mean
        means, indices, shift = self.rounded(mean, log_scale, None)
        wanted = posterior().detach().double().cpu().numpy().ravel()
        symbols = np.rint(wanted - means / MEAN_PARTS)
        if not np.isfinite(symbols).all() or np.abs(symbols).max(initial=0) > MAX_SYMBOL:
            raise Unsure
        symbols = symbols.astype(np.int64)
        self.encoder.put(np.array([shift]), np.zeros(1, np.int64), SHIFT_TABLE)
        self.encoder.put(symbols, indices, self.tables)
        spent = self.tables.bits(symbols, indices)
        self.bits += spent
        self.by_latent[number] = self.by_latent.get(number, 0.0) + spent
        return self.latent(means, symbols, mean)


class Reader(Quantised):
    """A reader of what a ``Writer`` wrote; raises ``DataError`` where the message is none of these latents."""

    def __init__(self, message: bytes, latents: int, scales: tuple[str, str, int]):
        super().__init__(scales)
        self.latents, self.decoder = latents, Decoder(message)

    def __call__(
        self, number: int, mean: Float[Tensor, "*s"], log_scale: Float[Tensor, "*s"], posterior: Posterior
    ) -> Float[Tensor, "*s"]:
        if number >= self.latents:
            return mean
        shift = int(self.decoder.take(np.zeros(1, np.int64), SHIFT_TABLE)[0])
        try:
            means, indices, _ = self.rounded(mean, log_scale, shift)
        except Unsure:
            raise DataError("the latents of a message are no numbers", code="damaged", path="message") from None
        return self.latent(means, self.decoder.take(indices, self.tables), mean)
