"""Flow: mels drawn from noise along a learnt field, by Euler's steps, one after the other or several at once.

::

    noise · temperature = x at t = 1 ─ x + (t' − t) · field(x, t) ─ … ─ x at t = 0, the mel

Times are the toolkit's: 1 is noise and 0 is data, as `unisono.diffusion.Flow` trains; papers of speech (Matcha,
F5, ZipVoice) count the other way. Steps are run by `unisono.diffusion.solve`. Each request's noise comes of its own
seed, and a piece of a text is drawn as if alone.

Shapes: b batch, n rows of the network, t frames, m mel bins.
"""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from unisono.batching import grouped
from unisono.cases import cases
from unisono.diffusion import (
    Accept,
    Anderson,
    FixedSteps,
    Identity,
    Jacobi,
    Levels,
    NonFiniteError,
    Parareal,
    Picard,
    Serial,
    Solver,
    Tolerance,
    solve,
)
from unisono.errors import RequestError, UnisonoError
from unisono_sound.voice import MarkedRequest, Reading, SpeechRequest

from unisono_tts.acoustic import AcousticModel

Velocity = Callable[[Float[Tensor, "n t m"], Float[Tensor, " n"], Int[Tensor, " n"]], Float[Tensor, "n t m"]]
"""``field(x, t, row)``: the velocity of each state, of the item with that number."""

SOLVERS: dict[str, type[Solver]] = {
    "serial": Serial,
    "picard": Picard,
    "anderson": Anderson,
    "parareal": Parareal,
    "identity": Identity,
    "jacobi": Jacobi,
    "parastep": Picard,
}
WINDOW = 8
FIELDS = {"rtol": "tolerance", "FixedSteps.steps": "window", "window": "window", "num_steps": "num_steps"}
"""Fields of a request by the names that solvers know them by."""
_COUNTING = threading.Lock()


class FlowRequest(MarkedRequest):
    """What can be asked of a voice that draws its mels."""

    num_steps: int = Field(default=10, ge=1, le=1000, description="Euler steps from noise to speech")
    temperature: float = Field(default=1.0, ge=0, le=2, description="scale of the noise; 0 draws nothing")
    solver: Literal["serial", "picard", "anderson", "parareal", "identity", "jacobi", "parastep"] = Field(
        default="serial", description="serial takes one step after the other, the others several at once"
    )
    window: int | None = Field(
        default=None, ge=1, le=1000, description="steps that are open at once with a parallel solver; default 8"
    )
    tolerance: float = Field(
        default=0.01, gt=0, le=1, description="relative movement at which a parallel solver accepts a step"
    )

    @model_validator(mode="after")
    def _solvable(self):
        if self.solver != "serial" and self.num_steps < 2:
            message = f"num_steps={self.num_steps} has nothing to run in parallel: give 2 or more, or solver=serial"
            raise RequestError(message, code="conflict", path="num_steps", value=self.num_steps)
        if self.window is not None and self.solver in ("serial", "parareal"):
            message = f"window={self.window} is for solvers with a window, not solver={self.solver}: leave it out"
            raise RequestError(message, code="conflict", path="window", value=self.window)
        if self.window is not None and self.window > self.num_steps:
            message = f"window={self.window} is larger than num_steps={self.num_steps}: give at most that"
            raise RequestError(message, code="range", path="window", value=self.window)
        return self


class FlowVoice(AcousticModel):
    """The base of voices that draw their mels by a flow.

    Attributes:
        evaluations: of the field so far, per piece; guidance counts twice.
        rounds: batched evaluations so far; serial sampling takes one per step.
    """

    Request: ClassVar[type[SpeechRequest]] = FlowRequest
    deterministic: ClassVar[bool] = False

    def __init__(self):
        super().__init__()
        self.evaluations: int = 0
        self.rounds: int = 0

    def check_requests(self) -> list[Any]:
        """Return what the conformance kit tries, in few steps."""
        few = [request.model_copy(update={"num_steps": 4}) for request in self.preview_requests()]
        return cases(self.Request, few, self.text_field)

    def start(self, readings: Sequence[Reading], lengths: Sequence[int]) -> Float[Tensor, "b t m"]:
        """Return where each item begins: its noise, at its request's temperature; 0 beyond its length."""
        scale = torch.tensor([reading.request.temperature for reading in readings], device=self.device)
        return self.noise(readings, lengths, self.mel_spec.n_mels) * scale[:, None, None]

    def draw(
        self, field: Velocity, start: Float[Tensor, "b t m"], requests: Sequence[FlowRequest], shift: float = 1.0
    ) -> Float[Tensor, "b t m"]:
        """Carry each item from its start along the field, as its request asks; ``shift`` as of ``times``.

        Raises ``RequestError`` where a solver cannot do what is asked, and ``NonFiniteError`` for a broken network.
        """
        drawn = torch.empty_like(start)
        for members in grouped(range(len(requests)), lambda row: asked_of(requests[row])):
            request = requests[members[0]]
            rows = torch.tensor(members, device=start.device)

            def velocity(
                x: Float[Tensor, "n t m"], t: Float[Tensor, " n"], sample: Int[Tensor, " n"], rows: Tensor = rows
            ) -> Float[Tensor, "n t m"]:
                return field(x, t, rows[sample])

            chain = EulerChain(velocity, times(request.num_steps, shift))
            solver, accept, window = solver_of(request)
            try:
                solution = solve(chain, start[rows], solver, accept, window)
            except NonFiniteError:
                raise
            except UnisonoError as error:  # a solver that cannot run this chain
                at = FIELDS.get(error.path or "", "solver")
                message = f"solver={request.solver!r} with num_steps={request.num_steps}: {error}"
                raise RequestError(message, code=error.code, path=at, value=getattr(request, at)) from error
            drawn[rows] = solution.sample
            per_row = self.branches(request)
            with _COUNTING:
                self.evaluations += per_row * math.ceil(solution.report.rows / len(members))
                self.rounds += solution.report.rounds
        return drawn

    def branches(self, request: Any) -> int:
        """Return how often the field's network is evaluated for one velocity."""
        return 1


class EulerChain:
    """Euler's steps over a field, as `unisono.diffusion.Recurrence` has a chain; ``times`` are one more than steps."""

    def __init__(self, field: Velocity, times: Sequence[float]):
        self.field, self.times, self.num_steps = field, tuple(times), len(times) - 1
        self.levels = Levels(tuple(1 - t for t in times), self.times, "flow")
        self._sample = torch.zeros(0, dtype=torch.long)

    def evaluate(
        self, x: Float[Tensor, "n t m"], step: Int[Tensor, " n"], sample: Int[Tensor, " n"]
    ) -> Float[Tensor, "n t m"]:
        """The field at each row's step."""
        return self.field(x, torch.tensor(self.times, device=x.device)[step].to(x.dtype), sample)

    def begin(self, sample: Int[Tensor, " k"]) -> Int[Tensor, " k"]:
        """Nothing is carried but which samples these are."""
        return sample

    def snapshot(self) -> Int[Tensor, " k"]:
        """The samples."""
        return self._sample

    def restore(self, carry: Int[Tensor, " k"]) -> None:
        """Go back to a snapshot."""
        self._sample = carry

    def advance(self, output: Float[Tensor, "k t m"], i: int, x: Float[Tensor, "k t m"]) -> Float[Tensor, "k t m"]:
        """One step."""
        return x + (self.times[i + 1] - self.times[i]) * output

    def hold(
        self, output: Tensor, i: int, x_old: Tensor, x_new: Tensor, quantity: Any = "v", j: int | None = None
    ) -> Tensor:
        """An output re-expressed at another state, with a quantity held fixed."""
        return self.levels.hold(output, i, x_old, x_new - x_old, quantity, i if j is None else j)

    def history(self) -> tuple[str, ...]:
        """A step depends on its state alone."""
        return ()


def times(num_steps: int, shift: float = 1.0) -> list[float]:
    """Return the times of a chain, from 1 to 0: equal steps, or, with a shift above 1, smaller ones near the noise.

    t becomes shift·t / (1 + (shift − 1)·t) (arXiv:2403.03206, eq. 23); the published ``t_shift`` of ZipVoice is
    1 / shift.
    """
    even = [1 - step / num_steps for step in range(num_steps + 1)]
    return [shift * t / (1 + (shift - 1) * t) for t in even]


def asked_of(request: FlowRequest) -> tuple[Any, ...]:
    """Return what requests must share to be drawn together."""
    return request.num_steps, request.solver, request.window, request.tolerance, getattr(request, "guidance_scale", 1)


def solver_of(request: FlowRequest) -> tuple[Solver, Accept, int | None]:
    """Return solver, rule of acceptance and window of a request."""
    if request.solver == "parastep":
        return Picard("output"), FixedSteps(min(request.window or WINDOW, request.num_steps)), None
    return SOLVERS[request.solver](), Tolerance(request.tolerance), request.window
