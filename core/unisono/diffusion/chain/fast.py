"""FastRecurrence: DDIM, DPM-Solver++(2M) and flow-matching Euler as one affine expression per step.

A diffusers step launches some tens of small kernels, which a parallel solver pays for in every round. These three
samplers are affine in state and output, with numbers that are known before the first step:

    m_i = P_i x_i + Q_i o_i                      what the output o says of x0
    x_{i+1} = R_i x_i + U_i m_i + V_i m_{i−1}    V = 0 but for the second order

P and Q follow from the prediction (Salimans and Ho, arXiv:2202.00512); R, U and V for DDIM (arXiv:2010.02502, η = 0)
and DPM-Solver++(2M) (arXiv:2211.01095) from α, σ and λ = log(α/σ) of the scheduler's own tables:

    R = σ'/σ   U = −α'(e^{−h} − 1)   h = λ' − λ   r = (λ − λ_prev)/h
    second order, midpoint: D = −½α'(e^{−h} − 1)/r, heun: D = α'((e^{−h} − 1)/h + 1)/r;  U + D and V = −D

The numbers are in float64; each table is checked against the scheduler's own step when it is made. Replay
(`SchedulerRecurrence`) stays the definition: it is equal to the serial sampler to the bit, a fast path to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.purity import check_pure
from unisono.diffusion.chain.recurrence import Quantity, Recurrence
from unisono.diffusion.chain.replay import Network, PostStep, SchedulerRecurrence, copy_state
from unisono.diffusion.chain.tree import tree_map
from unisono.errors import UnisonoError

TOLERANCE = 1e-5  # of a float32 step's norm; measured: up to 2e-6


@dataclass(frozen=True)
class Table:
    """The numbers of every step: x' = r·x + u·m + v·m_prev with m = p·x + q·output."""

    p: tuple[float, ...]
    q: tuple[float, ...]
    r: tuple[float, ...]
    u: tuple[float, ...]
    v: tuple[float, ...]

    @property
    def multistep(self) -> bool:
        """Whether a step looks at the output before its own."""
        return any(self.v)


class FastRecurrence:
    """A chain like `SchedulerRecurrence`, with one affine expression per step, for three schedulers.

    `DDIMScheduler` with eta 0, `DPMSolverMultistepScheduler` of order 1 or 2 ("dpmsolver++"), and
    `FlowMatchEulerDiscreteScheduler`; without clipping, thresholding or noise. `network`, `first` and `post_step` are
    as there.

    Raises:
        UnisonoError: if there is no table for the scheduler or a setting of it, or the table does not give what the
            scheduler's step gives, to 1e-5 in float32.
    """

    def __init__(self, scheduler: Any, network: Network, *, first: int = 0, post_step: PostStep | None = None):
        # Replay refuses what cannot be a chain at all, and has its timesteps and levels.
        replay = SchedulerRecurrence(scheduler, network, first=first)
        check_pure(network)
        self.network, self.post_step = network, post_step
        self.timesteps, self.num_steps, self.levels = replay.timesteps, replay.num_steps, replay.levels
        self.table = table_of(scheduler, first)
        self._class = type(scheduler).__name__
        self._sample, self._before = torch.zeros(0, dtype=torch.long), None
        _check(scheduler, self, first)

    def evaluate(self, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        """The network's output; these schedulers give it the state as it is."""
        return self.network(x, self.timesteps.to(step.device)[step], sample)

    def begin(self, sample: Int[Tensor, " k"]) -> Any:
        """The samples, and no output before the first."""
        return sample, None

    def snapshot(self) -> Any:
        """The samples and the last x0; tensors are never written into."""
        return self._sample, self._before

    def restore(self, carry: Any) -> None:
        """Go back to a snapshot."""
        self._sample, self._before = carry

    def advance(self, output: Any, i: int, x: Any) -> Any:
        """One step."""
        t = self.table
        if not t.multistep:
            a, b = t.r[i] + t.u[i] * t.p[i], t.u[i] * t.q[i]
            after = tree_map(lambda x, o: (a * _wide(x) + b * o).to(o.dtype), x, output)
        else:
            m = tree_map(lambda x, o: t.p[i] * x + t.q[i] * o, x, output)
            after = tree_map(lambda x, m: t.r[i] * _wide(x) + t.u[i] * m, x, m)
            if t.v[i]:
                after = tree_map(lambda y, m: y + t.v[i] * m, after, self._before)
            after = tree_map(lambda y, o: y.to(o.dtype), after, output)
            self._before = m
        return after if self.post_step is None else self.post_step(after, i, self._sample)

    def hold(self, output: Any, i: int, x_old: Any, x_new: Any, quantity: Quantity = "v", j: int | None = None) -> Any:
        """An output re-expressed at another state."""
        j = i if j is None else j
        return tree_map(
            lambda o, old, new: self.levels.hold(o, i, old, new - old, quantity, j), output, x_old, x_new
        )  # fmt: skip

    def history(self) -> tuple[str, ...]:
        """The last x0, where a step looks at it."""
        return ("x0 of the step before",) if self.table.multistep else ()

    @property
    def name(self) -> str:
        """The scheduler's class, and that this is not its own step."""
        return f"{self._class} (fast)"


def fastest(
    scheduler: Any,
    network: Network,
    *,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    first: int = 0,
    post_step: PostStep | None = None,
    step_kwargs: dict[str, Any] | None = None,
) -> Recurrence:
    """A fast path where the scheduler has one that was just checked against its own step, else replay.

    Which one it is, `.name` says. Arguments are `SchedulerRecurrence`'s; `step_kwargs` always takes replay.

    Raises:
        UnisonoError: if the scheduler cannot be replayed either.
    """
    if not step_kwargs:
        with suppress(NoTableError):
            return FastRecurrence(scheduler, network, first=first, post_step=post_step)
    return SchedulerRecurrence(
        scheduler, network, generator=generator, first=first, post_step=post_step, step_kwargs=step_kwargs
    )


class NoTableError(UnisonoError):
    """A scheduler, or a setting of it, has no fast path."""


def table_of(scheduler: Any, first: int = 0) -> Table:
    """The numbers of a scheduler's steps from step `first` on.

    Raises:
        NoTableError: if the scheduler's class or one of its settings has none; it is named.
    """
    name = type(scheduler).__name__
    makers: dict[str, Callable[[Any, int], Table]] = {
        "DDIMScheduler": _ddim,
        "DPMSolverMultistepScheduler": _dpm,
        "FlowMatchEulerDiscreteScheduler": _flow,
    }
    if name not in makers:
        raise NoTableError(
            f"{name} has no fast path ({', '.join(makers)} have one): use SchedulerRecurrence",
            code="unsupported",
            path="scheduler",
            value=name,
        )
    for setting in ("thresholding", "clip_sample", "stochastic_sampling"):
        if scheduler.config.get(setting):
            raise NoTableError(
                f"{name} with {setting}=True is not affine: switch it off, or use SchedulerRecurrence",
                code="unsupported",
                path=f"scheduler.config.{setting}",
                value=True,
            )
    return makers[name](scheduler, first)


def _ddim(scheduler: Any, first: int) -> Table:
    jump = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    cumulative = scheduler.alphas_cumprod.double()
    now, after = [], []
    for t in scheduler.timesteps[first:].tolist():
        now.append(float(cumulative[t]))
        after.append(float(cumulative[t - jump] if t >= jump else scheduler.final_alpha_cumprod))
    levels = [[(math.sqrt(square), math.sqrt(1 - square)) for square in squares] for squares in (now, after)]
    p, q = _x0_of(scheduler, levels[0])
    r, u = [], []
    for (a, s), (a_next, s_next) in zip(*levels, strict=True):
        r.append(s_next / s)
        u.append(a_next - a * s_next / s)
    return Table(p, q, tuple(r), tuple(u), (0.0,) * len(r))


def _dpm(scheduler: Any, first: int) -> Table:
    config, name = scheduler.config, type(scheduler).__name__
    at_fault = "solver_order" if config.algorithm_type == "dpmsolver++" else "algorithm_type"
    if at_fault == "algorithm_type" or config.solver_order > 2:
        raise NoTableError(
            f"{name} with algorithm_type={config.algorithm_type!r} and solver_order={config.solver_order} has no fast "
            "path (dpmsolver++ of order 1 or 2 has): use SchedulerRecurrence",
            code="unsupported",
            path=f"scheduler.config.{at_fault}",
            value=config[at_fault],
        )
    if config.get("variance_type") in ("learned", "learned_range"):
        raise NoTableError(
            f"{name} with a learned variance has no fast path: use SchedulerRecurrence",
            code="unsupported",
            path="scheduler.config.variance_type",
            value=config.variance_type,
        )
    sigmas = scheduler.sigmas.double().tolist()
    levels = [
        (1 - s, s) if config.get("use_flow_sigmas") else (1 / math.hypot(1, s), s / math.hypot(1, s)) for s in sigmas
    ]
    lambdas = [math.log(a) - math.log(s) if s > 0 and a > 0 else math.inf if s <= 0 else -math.inf for a, s in levels]
    total = len(scheduler.timesteps)
    r, u, v = [], [], []
    for i in range(first, total):
        a, s = levels[i + 1]
        r.append(s / levels[i][1])
        h = lambdas[i + 1] - lambdas[i]
        low = math.exp(-h) - 1
        last = i == total - 1 and (
            config.euler_at_final or (config.lower_order_final and total < 15) or config.final_sigmas_type == "zero"
        )
        extra = 0.0
        if config.solver_order == 2 and i > first and not last:
            ratio = (lambdas[i] - lambdas[i - 1]) / h
            heun = a * (low / h + 1)
            extra = (heun if config.solver_type == "heun" else -0.5 * a * low) / ratio
        u.append(-a * low + extra)
        v.append(-extra)
    p, q = _x0_of(scheduler, levels[first:total])
    return Table(p, q, tuple(r), tuple(u), tuple(v))


def _flow(scheduler: Any, first: int) -> Table:
    sigmas = scheduler.sigmas.double().tolist()[first:]
    steps = len(scheduler.timesteps) - first
    # The output is the velocity itself: m = output, x' = x + (σ' − σ)·m.
    u = tuple(sigmas[i + 1] - sigmas[i] for i in range(steps))
    return Table((0.0,) * steps, (1.0,) * steps, (1.0,) * steps, u, (0.0,) * steps)


def _x0_of(scheduler: Any, levels: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """P and Q of each step: x0 = P·x + Q·output."""
    forms: dict[str, Callable[[float, float], tuple[float, float]]] = {
        "epsilon": lambda a, s: (1 / a, -s / a),
        "sample": lambda a, s: (0.0, 1.0),
        "v_prediction": lambda a, s: (a, -s),
        "flow_prediction": lambda a, s: (1.0, -s),
    }
    form = forms[scheduler.config.prediction_type]
    try:
        pairs = [form(a, s) for a, s in levels]
    except ZeroDivisionError:
        raise NoTableError(
            f"{type(scheduler).__name__} starts at α = 0 (rescale_betas_zero_snr), where a prediction of epsilon says "
            "nothing of x0: use a scheduler with v_prediction, or SchedulerRecurrence",
            code="unsupported",
            path="scheduler.config.prediction_type",
            value=scheduler.config.prediction_type,
        ) from None
    return tuple(p for p, _ in pairs), tuple(q for _, q in pairs)


def _check(scheduler: Any, fast: FastRecurrence, first: int) -> None:
    """Drive the scheduler's own step and the table over one chain of random outputs."""
    own = copy_state(scheduler)
    if hasattr(own, "set_begin_index"):
        own.set_begin_index(first)
    generator = torch.Generator().manual_seed(0)
    post_step, fast.post_step = fast.post_step, None
    fast.restore(fast.begin(torch.zeros(1, dtype=torch.long)))
    x = torch.randn(1, 1, 4, 4, generator=generator)
    for i, t in enumerate(fast.timesteps):
        output = torch.randn(x.shape, generator=generator)
        ours = fast.advance(output, i, x)
        theirs = own.step(output, t, x, return_dict=False)[0]
        apart = float((ours - theirs).norm() / theirs.norm())
        if not apart <= TOLERANCE:
            raise NoTableError(
                f"the fast path of {fast.name} is {apart:.1e} from its own step {i}, more than {TOLERANCE:g}: use "
                "SchedulerRecurrence",
                code="unsupported",
                path="scheduler",
                value=apart,
            )
        x = theirs / theirs.norm() * 4  # a chain of random outputs would grow
    fast.post_step = post_step


def _wide(x: Tensor) -> Tensor:
    """As the schedulers do: a step in float32 at least."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
