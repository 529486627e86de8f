"""Named: solvers by the names of requests, which run a sampler's steps one after the other or side by side."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

from torch import Tensor

from unisono.diffusion.report import NonFiniteError, Round, Solution
from unisono.diffusion.solve import solve
from unisono.diffusion.solvers.accept import Accept, FixedSteps, Tolerance
from unisono.diffusion.solvers.anderson import Anderson
from unisono.diffusion.solvers.job import Solver
from unisono.diffusion.solvers.parareal import Parareal
from unisono.diffusion.solvers.picard import Identity, Jacobi, Picard, Serial
from unisono.errors import RequestError, UnisonoError

SolverName = Literal["serial", "picard", "anderson", "parareal", "identity", "jacobi", "parastep"]

SOLVERS = {
    "serial": Serial,
    "picard": Picard,
    "anderson": Anderson,
    "parareal": Parareal,
    "identity": Identity,
    "jacobi": Jacobi,
    "parastep": Picard,
}
"""How the steps are run; ``parastep`` is Picard that accepts every window after one round, untested."""

WINDOW = 8
"""Steps that ``parastep`` has open at once where none is asked for."""

FIELDS = {"rtol": "tolerance", "FixedSteps.steps": "window", "window": "window"}
"""Fields of a request by the names that solvers know them by."""

assert set(SOLVERS) == set(get_args(SolverName))


def solver_of(name: str, num_steps: int, window: int | None, tolerance: float) -> tuple[Solver, Accept, int | None]:
    """Return solver, rule of acceptance and window for a chain of ``num_steps``."""
    if name == "parastep":
        return Picard("output"), FixedSteps(min(window or WINDOW, num_steps)), None
    return SOLVERS[name](), Tolerance(tolerance), window


class Sampled(Protocol):
    """A request that says how a sampler's steps are run."""

    @property
    def solver(self) -> SolverName: ...
    @property
    def scheduler(self) -> str | None: ...
    @property
    def window(self) -> int | None: ...
    @property
    def tolerance(self) -> float: ...


def solve_as_asked(chain: Any, x: Tensor, asked: Sampled, on_round: Callable[[Round], None]) -> Solution:
    """Run a chain from states by the solver that a request asks for.

    Raises:
        RequestError: that names the field, for a solver and a scheduler that do not go together.
        NonFiniteError: where what is sampled is not finite.
    """
    try:
        solver, accept, window = solver_of(asked.solver, chain.num_steps, asked.window, asked.tolerance)
        return solve(chain, x, solver, accept, window, on_round=on_round)
    except NonFiniteError:
        raise
    except UnisonoError as error:
        field = FIELDS.get(error.path or "", "scheduler")
        raise RequestError(
            f"solver={asked.solver!r}, scheduler={asked.scheduler!r}: {error}",
            code=error.code,
            path=field,
            value=getattr(asked, field),
        ) from error
