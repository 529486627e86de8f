"""Named: solvers by the names of requests, which run a sampler's steps one after the other or side by side."""

from typing import Literal, get_args

from unisono.diffusion.solvers.accept import Accept, FixedSteps, Tolerance
from unisono.diffusion.solvers.anderson import Anderson
from unisono.diffusion.solvers.job import Solver
from unisono.diffusion.solvers.parareal import Parareal
from unisono.diffusion.solvers.picard import Identity, Jacobi, Picard, Serial

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
