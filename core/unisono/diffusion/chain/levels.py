"""Levels: what a network's input and output mean, x = α·x0 + σ·ε, so that an output can be held fixed.

Holding is a guess, re-expressed at a new x: it changes how fast a solver converges, never what it converges to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unisono.errors import UnisonoError

Prediction = Literal["eps", "x0", "v", "flow", "output"]

_NAMES: dict[str | None, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


@dataclass(frozen=True)
class Levels:
    """α and σ of the network's input at each step, as numbers, and what the network predicts.

    `prediction`: "eps", "x0", "v" = α·ε − σ·x0, "flow" = ε − x0 (with α = 1 − σ), or "output" for what is not known.
    """

    alpha: tuple[float, ...]
    sigma: tuple[float, ...]
    prediction: Prediction

    def hold(self, output: Tensor, i: int, x_old: Tensor, shift: Tensor, quantity: str, j: int) -> Tensor:
        """An output at (x_old, i), re-expressed at x_old + shift of step j with a quantity held.

        States are as the network sees them. Between steps (j ≠ i) the quantity at j is what the x0 and ε of step i
        make of it.

        Raises:
            UnisonoError: if the quantity is unknown, or cannot be had from this network's output.
        """
        if quantity == "output" or (quantity == "v" and self.prediction in ("flow", "output")):
            return output
        if quantity not in ("v", "x0", "eps"):
            raise UnisonoError(
                f"hold={quantity!r} is not known: use v, x0, eps or output", code="unknown", path="hold", value=quantity
            )
        if self.prediction == "output":
            raise UnisonoError(
                f"cannot hold {quantity}: the scheduler does not say what the network predicts; "
                "give levels=Levels(alpha, sigma, prediction), or hold the output",
                code="unsupported",
                path="hold",
                value=quantity,
            )
        a, s = self.alpha[j], self.sigma[j]
        if j != i:
            x0, eps = self._both(output, i, x_old)
            v = a * eps - s * x0
            x = x_old + shift
            match quantity, self.prediction:
                case ("v", "eps"):
                    return a * v + s * x
                case ("v", "x0"):
                    return a * x - s * v
                case ("v", "v"):
                    return v
                case ("x0", "x0"):
                    return x0
                case ("eps", "eps"):
                    return eps
                case ("x0", _):
                    return self._from_x0(x0, x, a, s)
                case _:
                    return self._from_eps(eps, x, a, s)
        slope = {
            ("v", "eps"): s,
            ("v", "x0"): a,
            ("v", "v"): 0.0,
            ("x0", "eps"): _over(1, s),
            ("x0", "x0"): 0.0,
            ("x0", "v"): _over(a, s),
            ("x0", "flow"): _over(1, s),
            ("eps", "eps"): 0.0,
            ("eps", "x0"): _over(1, a),
            ("eps", "v"): -_over(s, a),
            ("eps", "flow"): -_over(1, a),
        }[quantity, self.prediction]
        return output + slope * shift if slope else output

    def of_x0(self, x0: Tensor, i: int, x: Tensor) -> Tensor:
        """The output at (x, i) of a network that knows the clean state."""
        return x0 if self.prediction == "x0" else self._from_x0(x0, x, self.alpha[i], self.sigma[i])

    def _both(self, output: Tensor, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """x0 and ε that an output stands for."""
        a, s = self.alpha[i], self.sigma[i]
        match self.prediction:
            case "eps":
                return (x - s * output) * _over(1, a), output
            case "x0":
                return output, (x - a * output) * _over(1, s)
            case "v":
                return a * x - s * output, s * x + a * output
            case _:
                return x - s * output, x + (1 - s) * output

    def _from_x0(self, x0: Tensor, x: Tensor, a: float, s: float) -> Tensor:
        eps = (x - a * x0) * _over(1, s)
        return eps if self.prediction == "eps" else a * eps - s * x0 if self.prediction == "v" else eps - x0

    def _from_eps(self, eps: Tensor, x: Tensor, a: float, s: float) -> Tensor:
        x0 = (x - s * eps) * _over(1, a)
        return x0 if self.prediction == "x0" else a * eps - s * x0 if self.prediction == "v" else eps - x0


def levels_of(scheduler: Any) -> Levels:
    """The levels at a diffusers scheduler's timesteps, from its tables and its prediction type.

    A scheduler with neither table nor prediction type is one for flow matching: σ = t/1000. Where a prediction type
    comes without a table, as in EDM, "output" stands for both.
    """
    config = scheduler.config
    timesteps = scheduler.timesteps.double()
    named = config.get("prediction_type")
    table = getattr(scheduler, "alphas_cumprod", None)
    if named == "flow_prediction" or (named is None and table is None):
        sigma = (timesteps / config.get("num_train_timesteps", 1000)).clamp(0, 1)
        return Levels(tuple((1 - sigma).tolist()), tuple(sigma.tolist()), "flow")
    if table is None or named not in _NAMES:
        ones = (1.0,) * len(timesteps)
        return Levels(ones, ones, "output")
    # Timesteps between two of the table's are interpolated in the log of the signal-to-noise ratio.
    tiny = torch.finfo(torch.float64).tiny
    table = torch.as_tensor(table).double().cpu()
    ratio = table.clamp_min(tiny).log() - (1 - table).clamp_min(tiny).log()
    low = timesteps.cpu().floor().long().clamp(0, len(ratio) - 1)
    high = (low + 1).clamp_max(len(ratio) - 1)
    part = timesteps.cpu() - low
    square = (ratio[low] * (1 - part) + ratio[high] * part).sigmoid()
    return Levels(tuple(square.sqrt().tolist()), tuple((1 - square).sqrt().tolist()), _NAMES[named])


def _over(a: float, b: float) -> float:
    """a / b; 0 where b is 0: there the quantity says nothing, and the output itself is held."""
    return a / b if b else 0.0
