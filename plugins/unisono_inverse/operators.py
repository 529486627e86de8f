"""Operators: linear measurements of pictures y = A x with an exact pseudo-inverse, by their singular values.

With A = U S Vᵀ, all that a restorer needs of A beside A⁺y is the basis V: `analyse` gives Vᵀx, `synthesise` V·, both of
the picture's own shape, and `singular` the value of each coefficient, 0 in the null space.

    Mask             V = I                      s = 1 where a pixel is known
    MeanPool         cosines of each block      s = 1/f for a block's mean of f × f pixels
    Grey             a basis of the channels    s = ‖w‖ for the weighted sum w·x
    WalshHadamard    Walsh–Hadamard transform   s = 1 for the kept coefficients
    Blur             SVD of both axes' kernels  s = product of both, 0 below a threshold
    Both             a grey and a spatial one   s = product of both; they commute
    ByFunctions      a caller's own A and A⁺: no basis, unless all its singular values are said to be one number

Shapes: b batch (or 1, for all rows alike), c channels, h w height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.errors import RequestError

__all__ = ["LUMA", "Blur", "Both", "ByFunctions", "Grey", "Mask", "MeanPool", "Operator", "Spectral", "WalshHadamard"]

LUMA = (0.299, 0.587, 0.114)
"""How grey files are made of colours (ITU-R BT.601)."""
RELATIVE = 1e-4
"""How far A A⁺ A x may be from A x, relative to it, for a caller's own functions."""


class Operator:
    """A measurement."""

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Return A x."""
        raise TypeError(f"{type(self).__name__} defines no measure()")

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        """Return A⁺ y."""
        raise TypeError(f"{type(self).__name__} defines no back()")

    def project(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return A⁺A x: the part of x that the measurement sees."""
        return self.back(self.measure(x))

    def settle(self, x: Float[Tensor, "b c h w"], back: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return x − A⁺(A x − y): the nearest picture that was measured as ``back``, A⁺y, says."""
        return x - (self.project(x) - back)

    def rows(self, index: Int[Tensor, " n"]) -> Operator:
        """Return the operator of some rows, in any order."""
        return self


class Spectral(Operator):
    """An operator whose singular values and vectors are known."""

    singular: Float[Tensor, "#b #c #h #w"]

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return Vᵀ x."""
        raise TypeError(f"{type(self).__name__} defines no analyse()")

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return V times coefficients."""
        raise TypeError(f"{type(self).__name__} defines no synthesise()")

    def project(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.synthesise(self.analyse(x) * (self.singular.to(x) > 0))


class Mask(Spectral):
    """Known pixels: True is known; y is the picture with 0 elsewhere."""

    def __init__(self, known: Bool[Tensor, "#b 1 h w"]):
        self.known, self.singular = known, known.float()

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return torch.where(self.known, x, 0)

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        return torch.where(self.known, y, 0)

    def project(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.measure(x)

    def settle(self, x: Float[Tensor, "b c h w"], back: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.where(self.known, back, x)

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return coefficients

    def rows(self, index: Int[Tensor, " n"]) -> Operator:
        return self if len(self.known) == 1 else Mask(self.known[index])


class MeanPool(Spectral):
    """Means of blocks of `factor` × `factor` pixels; A⁺ repeats each. Raises ``RequestError`` for other sizes."""

    def __init__(self, factor: int, height: int, width: int):
        if height % factor or width % factor:
            raise RequestError(
                f"{width} × {height} pixels are no blocks of {factor} × {factor}: take a factor that divides both",
                code="shape",
                path="factor",
                value=factor,
            )
        self.factor = factor
        first = (torch.arange(height) % factor == 0)[:, None] & (torch.arange(width) % factor == 0)
        self.singular = (first.float() / factor)[None, None]

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, self.factor)

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        return y.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)

    def project(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.back(self.measure(x))

    @cached_property
    def _basis(self) -> Float[Tensor, "f f"]:
        k = torch.arange(self.factor, dtype=torch.float64)
        basis = torch.cos(math.pi * (k + 0.5) * k[:, None] / self.factor) * math.sqrt(2 / self.factor)
        basis[0] /= math.sqrt(2)
        return basis

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self._blocks(x, self._basis.to(x))

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self._blocks(coefficients, self._basis.to(coefficients).T)

    def _blocks(self, x: Tensor, matrix: Float[Tensor, "f f"]) -> Tensor:
        x = torch.einsum("ij,bcyjw->bcyiw", matrix, x.unflatten(2, (-1, self.factor))).flatten(2, 3)
        return torch.einsum("ij,bchxj->bchxi", matrix, x.unflatten(3, (-1, self.factor))).flatten(3, 4)


class Grey(Spectral):
    """One weighted sum of the channels; A⁺ spreads it over them by their weights."""

    def __init__(self, weights: tuple[float, ...] = LUMA):
        self.weights = torch.tensor(weights, dtype=torch.float64)
        values = torch.zeros(len(weights))
        values[0] = self.weights.norm()
        self.singular = values[None, :, None, None]
        # A basis that begins with the weights' direction: Householder's reflection of the first unit vector to it.
        unit = self.weights / self.weights.norm()
        axis = unit - torch.eye(len(weights), dtype=torch.float64)[0]
        self._basis = torch.eye(len(weights), dtype=torch.float64)
        if axis.norm() > 0:
            axis = axis / axis.norm()
            self._basis = self._basis - 2 * axis[:, None] * axis

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return (x * self.weights.to(x)[:, None, None]).sum(1, keepdim=True)

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        return y * (self.weights / self.weights.square().sum()).to(y)[:, None, None]

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.einsum("ij,bjhw->bihw", self._basis.to(x).T, x)

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.einsum("ij,bjhw->bihw", self._basis.to(coefficients), coefficients)


class WalshHadamard(Spectral):
    """A share of the Walsh–Hadamard coefficients of pixels in a random order: compressed sensing.

    Raises ``RequestError`` unless height · width is a power of two.
    """

    def __init__(self, ratio: float, height: int, width: int, seed: int = 0):
        self.size = height * width
        if self.size & (self.size - 1):
            raise RequestError(
                f"{width} × {height} = {self.size} pixels is no power of two, which the Walsh–Hadamard transform "
                "needs: cut the picture, such as to 32 × 32",
                code="shape",
                path="picture",
                value=[height, width],
            )
        self.kept = max(1, round(ratio * self.size))
        self.order = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))
        self.singular = (torch.arange(self.size) < self.kept).float().reshape(1, 1, height, width)

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.analyse(x).flatten(2)[..., : self.kept]

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        full = y.new_zeros(*y.shape[:2], self.size)
        full[..., : self.kept] = y
        return self.synthesise(full.unflatten(2, self.singular.shape[2:]))

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return _walsh_hadamard(x.flatten(2)[..., self.order.to(x.device)]).reshape(x.shape)

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        flat = _walsh_hadamard(coefficients.flatten(2))
        return flat[..., self.order.argsort().to(flat.device)].reshape(coefficients.shape)


class Blur(Spectral):
    """A separable blur with mirrored borders, by the singular values of each axis.

    Values below `threshold` (1 is the largest of a kernel that sums to 1) are taken for 0: what a blur has damped so
    far is not measured. `measure` is the blur without these; `whole` is the blur as it is.
    """

    def __init__(
        self,
        kernel: Float[Tensor, " k"],
        height: int,
        width: int,
        threshold: float = 0.03,
        across: Tensor | None = None,
    ):
        self.matrices = [_convolution(kernel, height), _convolution(kernel if across is None else across, width)]
        (self._u_h, s_h, v_h), (self._u_w, s_w, v_w) = (torch.linalg.svd(matrix) for matrix in self.matrices)
        self._v_h, self._v_w = v_h.T, v_w.T
        values = s_h[:, None] * s_w
        self.singular = torch.where(values < threshold, 0, values)[None, None]

    def whole(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the blurred picture, with what `measure` leaves out."""
        return self.matrices[0].to(x) @ x @ self.matrices[1].to(x).T

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        kept = self.analyse(x.double()) * self.singular.to(x.device)
        return (self._u_h.to(x.device) @ kept @ self._u_w.to(x.device).T).to(x.dtype)

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        s = self.singular.to(y.device)
        seen = self._u_h.to(y.device).T @ y.double() @ self._u_w.to(y.device)
        return self.synthesise(torch.where(s > 0, seen / s.clamp_min(1e-12), 0)).to(y.dtype)

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self._v_h.to(x).T @ x @ self._v_w.to(x)

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self._v_h.to(coefficients) @ coefficients @ self._v_w.to(coefficients).T


class Both(Spectral):
    """A spatial operator of a grey picture; the two act on different axes and commute."""

    def __init__(self, grey: Grey, spatial: Spectral):
        self.grey, self.spatial = grey, spatial
        self.singular = grey.singular * spatial.singular

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.spatial.measure(self.grey.measure(x))

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        return self.grey.back(self.spatial.back(y))

    def analyse(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.spatial.analyse(self.grey.analyse(x))

    def synthesise(self, coefficients: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.grey.synthesise(self.spatial.synthesise(coefficients))

    def rows(self, index: Int[Tensor, " n"]) -> Operator:
        spatial = self.spatial.rows(index)
        return self if spatial is self.spatial or not isinstance(spatial, Spectral) else Both(self.grey, spatial)


class ByFunctions(Operator):
    """A caller's own A and A⁺, checked on random pictures: A A⁺ A must be A.

    `singular` is the one value of all singular values that are not 0, where that is so (A⁺ = Aᵀ/s²); it is checked as
    well, and needed where the measurement has noise. Raises ``RequestError`` for functions that are no pair.
    """

    def __init__(
        self,
        measure: Callable[[Tensor], Tensor],
        back: Callable[[Tensor], Tensor],
        shape: tuple[int, int, int],
        singular: float | None = None,
    ):
        self._measure, self._back = measure, back
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, *shape, generator=generator)
        y = measure(x)
        again = back(y)
        if again.shape != x.shape:
            raise RequestError(
                f"A⁺ gives {tuple(again.shape)} for pictures of {tuple(x.shape)}: it must give pictures back",
                code="shape",
                path="operator",
                value=list(again.shape),
            )
        apart = float((measure(again) - y).norm() / y.norm().clamp_min(1e-12))
        linear = float((measure(2 * x[:1] - x[1:]) - (2 * y[:1] - y[1:])).norm() / y.norm().clamp_min(1e-12))
        for name, value in (("A A⁺ A x and A x", apart), ("A (2 x − z) and 2 A x − A z", linear)):
            if not value <= RELATIVE:
                raise RequestError(
                    f"{name} differ by {value:.1e} of their size, at most {RELATIVE:g}: the two functions must be a "
                    "linear measurement and its pseudo-inverse",
                    code="value",
                    path="operator",
                    value=value,
                )
        if singular is not None:
            other = torch.randn(y.shape, generator=generator)
            left, right = float((y * other).sum()), float(singular**2 * (x * back(other)).sum())
            size = float(y.norm() * other.norm())
            if not abs(left - right) <= RELATIVE * size:
                raise RequestError(
                    f"singular={singular:g} is not the one singular value of this measurement: ⟨A x, y⟩ and "
                    f"s²⟨x, A⁺ y⟩ differ by {abs(left - right) / size:.1e} of their size",
                    code="value",
                    path="operator.singular",
                    value=singular,
                )
        self.one_value = singular

    def measure(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self._measure(x)

    def back(self, y: Tensor) -> Float[Tensor, "b c h w"]:
        return self._back(y)


def gaussian_kernel(std: float) -> Float[Tensor, " k"]:
    """Return a kernel that sums to 1, three standard deviations to either side."""
    reach = math.ceil(3 * std)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / std).square())
    return kernel / kernel.sum()


def _convolution(kernel: Float[Tensor, " k"], size: int) -> Float[Tensor, "n n"]:
    """The matrix of a convolution whose borders are mirrored (the edge pixel is repeated)."""
    if len(kernel) % 2 == 0 or len(kernel) // 2 > size:
        raise RequestError(
            f"a kernel of {len(kernel)} pixels must be odd and reach at most {size} to either side",
            code="shape",
            path="blur",
            value=len(kernel),
        )
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for offset, weight in enumerate(kernel.double().tolist(), -(len(kernel) // 2)):
        for i in range(size):
            j = i + offset
            j = -1 - j if j < 0 else 2 * size - 1 - j if j >= size else j
            matrix[i, j] += weight
    return matrix


def _walsh_hadamard(x: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """The orthonormal transform; its own inverse."""
    n, half = x.shape[-1], 1
    while half < n:
        pairs = x.reshape(*x.shape[:-1], n // (2 * half), 2, half)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = torch.stack([a + b, a - b], dim=-2).reshape(*x.shape[:-1], n)
        half *= 2
    return x / math.sqrt(n)
