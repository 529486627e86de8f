"""DEER: a recurrent network in parallel over its length (Lim et al., ICLR 2024, arXiv:2309.12252).

The states h_t = f(u_t, h_{t−1}) of all t are the root of one equation. Each Newton round evaluates f and its Jacobian
at all t at once and solves the linear recurrence that is left by a parallel prefix scan of depth 2·log₂ l:

    δ_t = J_t δ_{t−1} + f(u_t, h_{t−1}) − h_t,    h ← h + δ

With the Jacobian's diagonal instead (quasi-DEER, Gonzalez et al., NeurIPS 2024) memory falls from l·d² to l·d and
rounds grow. Either way the first k states are exact after k rounds. Gradients are implicit: the adjoint recurrence is
linear, and the same scan solves it backwards; no round of the forward pass is kept.

Differs from the paper in that the scan carries the correction δ instead of the state, so that states that are done stay
as they are to the bit; that a guess may be bounded; and that where a correction overflows, the plain step is taken.

Letters: l length, b batch, c channels of an input, d channels of a state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unisono.diffusion.limits import positive, whole
from unisono.errors import UnisonoError
from unisono.nn.scan import prefix_scan

Step = Callable[[Tensor, Tensor], Tensor]
Jacobian = Callable[[Tensor, Tensor, bool], Tensor]
Kind = Literal["full", "diagonal"]


@dataclass
class DeerReport:
    """How Newton's rounds went: the largest relative residual before each round, forward and backward."""

    length: int
    jacobian: Kind
    tolerance: float
    residuals: list[float] = field(default_factory=list)
    backward_residuals: list[float] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """Evaluations of all positions at once."""
        return len(self.residuals)

    @property
    def converged(self) -> bool:
        """Whether the last residual is within the tolerance."""
        return bool(self.residuals) and self.residuals[-1] <= self.tolerance

    def __str__(self) -> str:
        last = f"{self.residuals[-1]:.1e}" if self.residuals else "none"
        return f"{self.length} positions in {self.rounds} rounds, {self.jacobian} Jacobian, residual {last}"


class DeerError(UnisonoError):
    """The rounds did not converge; `report` has their residuals."""

    def __init__(self, message: str, report: DeerReport):
        self.report = report
        super().__init__(message, code="failed", path="step", value=report.rounds)


def deer(
    step: Step,
    u: Float[Tensor, "l b c"],
    h0: Float[Tensor, "b d"],
    *,
    jacobian: Kind = "full",
    derivative: Jacobian | None = None,
    bound: float | None = None,
    tolerance: float | None = None,
    max_rounds: int = 100,
) -> tuple[Float[Tensor, "l b d"], DeerReport]:
    """All states of h_t = step(u_t, h_{t−1}), with gradients for u, h0 and the parameters that `step` uses.

    `step(u […, c], h […, d])` treats all leading dimensions alike. `derivative(u, h, diagonal)` gives dstep/dh
    […, d, d] or its diagonal […, d]; without it automatic differentiation does. States are within ±`bound`, if given.
    Done when every residual is at most `tolerance` (default eps^¾ of the dtype) times max(1, |h|).

    Raises:
        DeerError: if that takes more than `max_rounds`, or a state is not finite.
        UnisonoError: if the sequence is empty or an option is out of range.
    """
    if jacobian not in ("full", "diagonal"):
        raise UnisonoError(
            f"jacobian={jacobian!r} is unknown: use 'full' or 'diagonal'",
            code="unknown",
            path="jacobian",
            value=jacobian,
        )
    max_rounds = whole("max_rounds", max_rounds)
    limit = torch.finfo(h0.dtype).eps ** 0.75
    if tolerance is not None:
        limit = positive("tolerance", tolerance, ", such as 1e-6: none other can be reached")
    if bound is not None:
        bound = positive("bound", bound)
    if len(u) == 0:
        raise UnisonoError("the sequence is empty: give at least one position", code="empty", path="u", value=0)
    report = DeerReport(len(u), jacobian, limit)
    problem = _Problem(step, derivative or _automatic(step), jacobian == "diagonal", report, max_rounds)
    with torch.no_grad():
        h = problem.solve(u, h0, bound)
    previous = torch.cat([h0[None], h[:-1]])
    out = step(u, previous)
    if torch.is_grad_enabled() and out.requires_grad:
        out = _Implicit.apply(out, problem, u.detach(), previous.detach())
    return out, report


class ParallelGRU(nn.Module):
    """An `nn.GRU`, evaluated and trained in parallel over its length; its parameters are the module's own.

    Takes and gives what the module does: several layers, both directions, `batch_first`, one sequence without a batch.
    `reports` has the last call's `DeerReport`s, one per layer and direction.

    Raises:
        UnisonoError: if the module is no GRU.
    """

    def __init__(self, gru: nn.GRU, jacobian: Kind = "full", *, tolerance: float | None = None, max_rounds: int = 100):
        super().__init__()
        if not isinstance(gru, nn.GRU):
            raise UnisonoError(
                f"ParallelGRU wraps an nn.GRU, not {type(gru).__name__}: use deer() with its step",
                code="type",
                path="gru",
                value=type(gru).__name__,
            )
        self.gru = gru
        self.options: dict[str, Any] = {"jacobian": jacobian, "tolerance": tolerance, "max_rounds": max_rounds}
        self.reports: list[DeerReport] = []

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The last layer's states [l, b, directions·d] and each layer's last state [layers·directions, b, d].

        Raises:
            UnisonoError: if x is packed or has other channels than the GRU, or dropout between layers is on.
            DeerError: if a layer does not converge.
        """
        gru = self.gru
        if isinstance(x, PackedSequence):
            raise UnisonoError(
                "ParallelGRU takes padded tensors: use pad_packed_sequence, and mask what is padded",
                code="unsupported",
                path="x",
                value="PackedSequence",
            )
        if x.ndim not in (2, 3) or x.shape[-1] != gru.input_size:
            raise UnisonoError(
                f"an input of shape {tuple(x.shape)} has not the {gru.input_size} channels of the GRU",
                code="shape",
                path="x",
                value=tuple(x.shape),
            )
        if gru.training and gru.dropout > 0 and gru.num_layers > 1:
            raise UnisonoError(
                f"the GRU drops {gru.dropout:g} between layers at random: call eval() or set dropout=0",
                code="state",
                path="gru.dropout",
                value=gru.dropout,
            )
        single = x.ndim == 2
        if single:
            x, h0 = x[:, None], None if h0 is None else h0[:, None]
        elif gru.batch_first:
            x = x.transpose(0, 1)
        directions = 2 if gru.bidirectional else 1
        shape = (gru.num_layers * directions, x.shape[1], gru.hidden_size)
        if h0 is None:
            h0 = x.new_zeros(shape)
        elif tuple(h0.shape) != shape:
            raise UnisonoError(
                f"h0 has shape {tuple(h0.shape)}, not {shape}: one state per layer and direction",
                code="shape",
                path="h0",
                value=tuple(h0.shape),
            )
        self.reports, last = [], []
        for layer in range(gru.num_layers):
            outputs = []
            for backward in range(directions):
                start = h0[layer * directions + backward]
                h = self._direction(x.flip(0) if backward else x, start, f"l{layer}" + "_reverse" * backward)
                last.append(h[-1])
                outputs.append(h.flip(0) if backward else h)
            x = torch.cat(outputs, -1)
        if single:
            return x[:, 0], torch.stack(last)[:, 0]
        return x.transpose(0, 1) if gru.batch_first else x, torch.stack(last)

    def _direction(self, x: Tensor, h0: Tensor, suffix: str) -> Tensor:
        gru = self.gru
        weight, recurrent = getattr(gru, f"weight_ih_{suffix}"), getattr(gru, f"weight_hh_{suffix}")
        biases = [getattr(gru, f"bias_{part}_{suffix}") if gru.bias else None for part in ("ih", "hh")]
        cell = _GRUCell(recurrent, biases[1])
        # A new state is a mean of the old one and of a tanh, so that no state leaves this interval.
        bound = max(1.0, float(h0.detach().abs().max()))
        u = nn.functional.linear(x, weight, biases[0])
        h, report = deer(cell.step, u, h0, derivative=cell.derivative, bound=bound, **self.options)
        self.reports.append(report)
        return h


class _GRUCell:
    """h' = (1 − z)·n + z·h, with r, z, n from u + W h as in `nn.GRU`, and its Jacobian in closed form."""

    def __init__(self, weight: Float[Tensor, "3d d"], bias: Float[Tensor, " 3d"] | None):
        self.weight, self.bias = weight, bias

    def gates(self, u: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        u_r, u_z, u_n = u.chunk(3, -1)
        w_r, w_z, q = nn.functional.linear(h, self.weight, self.bias).chunk(3, -1)
        r, z = torch.sigmoid(u_r + w_r), torch.sigmoid(u_z + w_z)
        return r, z, q, torch.tanh(u_n + r * q)

    def step(self, u: Tensor, h: Tensor) -> Tensor:
        _, z, _, n = self.gates(u, h)
        return (1 - z) * n + z * h

    def derivative(self, u: Tensor, h: Tensor, diagonal: bool) -> Tensor:
        r, z, q, n = self.gates(u, h)
        by_z, by_n = (h - n) * z * (1 - z), (1 - z) * (1 - n * n)
        by_q, by_r = by_n * r, by_n * q * r * (1 - r)
        w_r, w_z, w_n = self.weight.chunk(3)
        if diagonal:
            return z + by_z * w_z.diagonal() + by_q * w_n.diagonal() + by_r * w_r.diagonal()
        whole = by_z[..., None] * w_z + by_q[..., None] * w_n + by_r[..., None] * w_r
        return whole + torch.diag_embed(z)


@dataclass(frozen=True)
class _Problem:
    step: Step
    derivative: Jacobian
    diagonal: bool
    report: DeerReport
    max_rounds: int

    def solve(self, u: Tensor, h0: Tensor, bound: float | None) -> Tensor:
        """The states, by Newton's rounds from zero."""
        report, h = self.report, h0.new_zeros(len(u), *h0.shape)
        for _ in range(self.max_rounds):
            previous = torch.cat([h0[None], h[:-1]])
            rest = self.step(u, previous) - h
            if not bool(rest.isfinite().all()):
                at = int((~rest.flatten(1).isfinite().all(1)).nonzero()[0])
                raise DeerError(
                    f"the state at position {at} of {len(u)} is not finite in round {report.rounds + 1}: look at the "
                    "input there, or bound the guesses (bound=) if the cell's states are bounded",
                    report,
                )
            report.residuals.append(float((rest.abs() / h.abs().clamp_min(1)).max()))
            if report.converged:
                return h
            h = h + _corrected(self.derivative(u, previous, self.diagonal), rest)
            if bound is not None:
                h = h.clamp(-bound, bound)
        raise self._stuck("forward", report.residuals)

    def adjoint(self, u: Tensor, previous: Tensor, grad: Tensor) -> Tensor:
        """λ_t = g_t + J_{t+1}ᵀ λ_{t+1}: one round with the full Jacobian, several with its diagonal."""
        a = self.derivative(u, previous, self.diagonal).flip(0).roll(1, 0)
        a = a if self.diagonal else a.transpose(-1, -2)
        with torch.enable_grad():
            leaf = previous.requires_grad_()
            out = self.step(u, leaf)
        residuals, tolerance, value = self.report.backward_residuals, self.report.tolerance, grad
        residuals.clear()
        for _ in range(self.max_rounds):
            (pulled,) = torch.autograd.grad(out, leaf, value, retain_graph=True)
            rest = grad - value
            rest[:-1] += pulled[1:]
            residuals.append(float(rest.abs().max() / value.abs().max().clamp_min(torch.finfo(value.dtype).tiny)))
            if residuals[-1] <= tolerance:
                return value
            value = value + _corrected(a, rest.flip(0)).flip(0)
        raise self._stuck("backward", residuals)

    def _stuck(self, way: str, residuals: list[float]) -> DeerError:
        report = self.report
        wider = "jacobian='full', " if self.diagonal else "float64, "
        return DeerError(
            f"the {way} rounds did not converge: after max_rounds={self.max_rounds} the residual over {report.length} "
            f"positions is {residuals[-1]:.1e}, above the tolerance {report.tolerance:.1e} (least {min(residuals):.1e}"
            f"); try {wider}more rounds ({report.length} always suffice in exact arithmetic), or a larger tolerance",
            report,
        )


class _Implicit(torch.autograd.Function):
    """The states, whose gradients flow to all earlier steps before they enter the step that made them."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, problem: _Problem, u: Tensor, previous: Tensor) -> Tensor:
        ctx.problem = problem
        ctx.save_for_backward(u, previous)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _adjoint(ctx, grads[0]), None, None, None


@torch.autograd.function.once_differentiable
def _adjoint(ctx: Any, grad: Tensor) -> Tensor:
    u, previous = ctx.saved_tensors
    return ctx.problem.adjoint(u, previous.detach(), grad)


def _corrected(a: Tensor, rest: Tensor) -> Tensor:
    """δ of the linear recurrence; where products of Jacobians overflow, the plain step."""
    delta = prefix_scan(a, rest)
    return torch.where(delta.isfinite(), delta, rest)


def _automatic(step: Step) -> Jacobian:
    """The Jacobian of a step with respect to its state, by automatic differentiation."""

    def derivative(u: Tensor, h: Tensor, diagonal: bool) -> Tensor:
        flat = u.reshape(-1, u.shape[-1]), h.reshape(-1, h.shape[-1])
        whole = torch.func.vmap(torch.func.jacrev(step, argnums=1))(*flat).reshape(*h.shape, h.shape[-1])
        return whole.diagonal(dim1=-2, dim2=-1) if diagonal else whole

    return derivative
