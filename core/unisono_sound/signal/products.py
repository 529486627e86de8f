"""Products: Fourier transforms as products of real matrices, the form that small runtimes run well.

ONNX has a transform and no complex numbers; its runtimes take many times as long for both as for a product. Cooley and
Tukey (1965) in two stages of products: with ``N = A · B``, ``n = B a + b`` and ``k = j + A i``::

    X[j + A i] = Σ_b  e^{−2πi b j / N} e^{−2πi b i / B}  Σ_a  x[B a + b] e^{−2πi a j / A}

The inner sum is one [A, A] product, the outer one, twiddles folded in, a [B, B] product for each j. Of a real signal j
need only go to A / 2. What comes out is in the order of j, then i: ``order`` says which frequency each column is (some
are there twice, as conjugates, where ``sign`` is −1). Nothing is put in order at run time: weights that meet these
columns are, once.

The transforms are those of ``stft`` in float32, to about 1e-6 of the largest coefficient; their oracles are there.

Shapes: b batch, n samples, t frames, w window, c columns of a spectrum, m mel bins.
"""

import math
from functools import reduce
from operator import add

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_sound.signal.mel import LOG_FLOOR, LogMel, MelInverse
from unisono_sound.signal.stft import same_padding

__all__ = ["ProductInverse", "ProductLogMel", "ProductMelInverse", "ProductTransform", "columns"]


def columns(n_fft: int) -> tuple[Int[Tensor, " c"], Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return of each column its frequency (0 to ``n_fft // 2``), its sign (−1 for a conjugate), and the share that it
    has in that frequency: 1, or 1/2 where there are two."""
    a, b = _factors(n_fft)
    k = (torch.arange(a // 2 + 1)[:, None] + a * torch.arange(b)).flatten()
    order = torch.minimum(k, n_fft - k)
    times = torch.bincount(order, minlength=n_fft // 2 + 1)[order]
    return order, torch.where(k > n_fft // 2, -1.0, 1.0), 1.0 / times


class ProductTransform(nn.Module):
    """``stft_same`` with zeros before and after; the real and the imaginary part apart."""

    window: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, n_fft: int, hop: int, window: Float[Tensor, " w"]):
        super().__init__()
        self.n_fft, self.hop, (self.a, self.b) = n_fft, hop, _factors(n_fft)
        self.register_buffer("window", _centred(window, n_fft), persistent=False)
        j, a, b = torch.arange(self.a // 2 + 1), torch.arange(self.a), torch.arange(self.b)
        turn = -2 * math.pi * (j[:, None] * a).double() / self.a
        first = torch.stack([turn.cos(), turn.sin()], dim=1).flatten(0, 1)  # [(j, re/im), a]
        self.register_buffer("first", first.float(), persistent=False)
        turn = -2 * math.pi * (b[:, None] * (j[:, None, None] + self.a * b)).double() / n_fft  # [j, b, i]
        self.register_buffer("second", _rotation(turn).float(), persistent=False)

    def forward(self, wave: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b t c"]]:
        parts = -(-self.n_fft // self.hop)
        left, _ = same_padding(self.n_fft, self.hop)
        rows = F.pad(wave, (left, (parts - 1) * self.hop - left)).unflatten(1, (-1, self.hop))
        count = wave.shape[1] // self.hop
        frames = torch.cat([rows[:, i : i + count] for i in range(parts)], dim=2)[..., : self.n_fft]
        inner = self.first @ (frames * self.window).unflatten(2, (self.a, self.b))  # [b, t, (j, re/im), b]
        inner = inner.unflatten(2, (-1, 2)).permute(2, 0, 1, 3, 4).flatten(3).flatten(1, 2)
        outer = (inner @ self.second).unflatten(2, (2, self.b)).unflatten(1, (-1, count))  # [j, b, t, re/im, i]
        outer = outer.permute(3, 1, 2, 0, 4).flatten(3)
        return outer[0], outer[1]


class ProductInverse(nn.Module):
    """``istft_same``, of spectra by real and imaginary part."""

    window: Tensor
    squares: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, n_fft: int, hop: int, window: Float[Tensor, " w"]):
        super().__init__()
        self.n_fft, self.hop, (self.a, self.b) = n_fft, hop, _factors(n_fft)
        window = _centred(window, n_fft)
        self.parts = -(-n_fft // hop)
        self.register_buffer("window", window, persistent=False)
        squares = F.pad(window.square(), (0, self.parts * hop - n_fft)).unflatten(0, (self.parts, hop))
        self.register_buffer("squares", squares, persistent=False)
        order, _, share = columns(n_fft)
        weight = torch.where((order == 0) | (2 * order == n_fft), 1.0, 2.0).double() * share / n_fft
        j, a, b = torch.arange(self.a // 2 + 1), torch.arange(self.a), torch.arange(self.b)
        turn = 2 * math.pi * ((j[:, None, None] + self.a * b[:, None]) * b).double() / n_fft  # [j, i, b]
        weight = weight.view(len(j), self.b).repeat(1, 2)
        self.register_buffer("first", (weight[..., None] * _rotation(turn)).float(), persistent=False)
        turn = 2 * math.pi * (a[:, None] * j).double() / self.a
        second = torch.stack([turn.cos(), -turn.sin()], dim=2).flatten(1)  # [a, (j, re/im)]: the real part
        self.register_buffer("second", second.float(), persistent=False)

    def forward(self, real: Float[Tensor, "b t c"], imaginary: Float[Tensor, "b t c"]) -> Float[Tensor, "b n"]:
        count = real.shape[1]
        both = torch.stack([real.unflatten(2, (-1, self.b)), imaginary.unflatten(2, (-1, self.b))], dim=3)
        outer = both.permute(2, 0, 1, 3, 4).flatten(3).flatten(1, 2)  # [j, (b, t), (re/im, i)]
        inner = (outer @ self.first).unflatten(1, (-1, count)).unflatten(3, (2, self.b))
        frames = (self.second @ inner.permute(1, 2, 0, 3, 4).flatten(2, 3)).flatten(2) * self.window
        rows = self.parts - 1
        left, _ = same_padding(self.n_fft, self.hop)
        inside = slice(left, left + count * self.hop)
        whole = F.pad(frames, (0, self.parts * self.hop - self.n_fft)).unflatten(2, (self.parts, self.hop))
        shifted = [F.pad(whole[:, :, i], (0, 0, i, rows - i)) for i in range(self.parts)]
        total = reduce(add, shifted)
        row = torch.arange(count + rows, device=real.device)[:, None] - torch.arange(self.parts, device=real.device)
        envelope = ((row >= 0) & (row < count)).to(total.dtype) @ self.squares
        return total.flatten(1)[:, inside] / envelope.flatten()[inside]


class ProductLogMel(nn.Module):
    """``LogMel`` with zeros before and after."""

    filters: Tensor

    def __init__(self, log_mel: LogMel):
        super().__init__()
        spec = log_mel.spec
        self.transform = ProductTransform(spec.n_fft, spec.hop_length, log_mel.window)
        order, _, share = columns(spec.n_fft)
        self.register_buffer("filters", log_mel.filters[order] * share[:, None], persistent=False)

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b t m"]:
        real, imaginary = self.transform(wave)
        return ((real.square() + imaginary.square()).sqrt() @ self.filters).clamp(min=LOG_FLOOR).log()


class ProductMelInverse(nn.Module):
    """``MelInverse``, its magnitudes in the order of the columns.

    Where no filter reaches, nothing is updated: there both sides of the ratio are 1, so that no choice is made of each.
    """

    spread: Tensor
    least: Tensor
    filters: Tensor
    shared: Tensor

    def __init__(self, inverse: MelInverse, n_fft: int):
        super().__init__()
        self.num_updates = inverse.num_updates
        order, _, share = columns(n_fft)
        self.register_buffer("spread", inverse.spread[:, order].contiguous(), persistent=False)
        self.register_buffer("filters", inverse.filters[order].T.contiguous(), persistent=False)
        beyond = inverse.filters[order].sum(1) == 0
        self.register_buffer("least", torch.where(beyond, 1.0, 1e-12), persistent=False)
        self.register_buffer("shared", inverse.filters[order] * share[:, None], persistent=False)

    def forward(self, mel: Float[Tensor, "b t m"]) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b t c"]]:
        """Return the magnitudes, and those without any update: the smooth envelope."""
        target = mel.exp()
        envelope = magnitude = target @ self.spread
        wanted = (target @ self.filters).maximum(self.least)
        for _ in range(self.num_updates):
            reached = (magnitude @ self.shared) @ self.filters
            magnitude = magnitude * (wanted / reached.maximum(self.least))
        return magnitude, envelope


def _factors(n: int) -> tuple[int, int]:
    a = max(d for d in range(1, math.isqrt(n) + 1) if n % d == 0)
    return a, n // a


def _centred(window: Tensor, n_fft: int) -> Float[Tensor, " w"]:
    short = n_fft - window.shape[0]
    return F.pad(window, (short // 2, short - short // 2))


def _rotation(turn: Float[Tensor, "j p q"]) -> Float[Tensor, "j p2 q2"]:
    """Return e^{i turn} as real matrices, from (re, im) rows to (re, im) columns."""
    cosine, sine = turn.cos(), turn.sin()
    return torch.cat([torch.cat([cosine, sine], 2), torch.cat([-sine, cosine], 2)], 1)
