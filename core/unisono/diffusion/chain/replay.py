"""SchedulerRecurrence: any diffusers scheduler as a chain, with no line that knows a scheduler.

The network is evaluated on all states of a window at once; then the scheduler's own `step` runs through the window in
order on these outputs, from a copy of its state. Multistep history, correctors, two-stage steps and noise are thus
the scheduler's own, and a converged window is the serial one to the bit, as far as the network gives a row the same
output in any batch. In the terms of `unisono.diffusion.chain.recurrence`, G is the scheduler's own combination of
outputs.

Copies are shallow: tables are shared, lists are copied, and what can be neither shared nor copied is refused.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.levels import Levels, levels_of
from unisono.diffusion.chain.purity import check_pure
from unisono.diffusion.chain.recurrence import Quantity
from unisono.diffusion.chain.tree import leaves, tree_map
from unisono.diffusion.limits import whole
from unisono.errors import UnisonoError

Network = Callable[[Any, Tensor, Int[Tensor, " n"]], Any]
PostStep = Callable[[Any, int, Int[Tensor, " k"]], Any]

_STRAYS = 1e-3  # of a state's norm; measured: up to 2e-5 where a chain begins rightly
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, np.generic)


@dataclass(frozen=True)
class _Carry:
    """What a lane carries: one scheduler per tensor of the state, its generators and where they stand."""

    sample: Tensor
    schedulers: tuple[Any, ...]
    generators: list[torch.Generator]
    noise: list[Tensor]


class SchedulerRecurrence:
    """A chain of a diffusers scheduler's steps over a network.

    `network(x [n, …], timestep [n], sample [n])` gets rows as the scheduler scales them and answers with [n, …], or
    [n, 2c, …] where it predicts variances too; `sample` is each row's number in the batch, for conditions. `first`
    leaves out the first steps. `post_step(x, i, sample)` changes a state after its step (data consistency).
    `generator` is one per sample, or one for a batch that is accepted as a whole; they end where the serial loop
    leaves them. `step_kwargs` go to the scheduler's `step`. `levels` replaces what the scheduler says of the network.

    Raises:
        UnisonoError: if the scheduler has no timesteps yet, was used since they were set, or keeps what cannot be
            copied, or cannot begin at step `first`; if the network is not pure.
    """

    def __init__(
        self,
        scheduler: Any,
        network: Network,
        *,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        first: int = 0,
        post_step: PostStep | None = None,
        step_kwargs: dict[str, Any] | None = None,
        levels: Levels | None = None,
    ):
        name = type(scheduler).__name__
        if getattr(scheduler, "num_inference_steps", 0) is None or getattr(scheduler, "timesteps", None) is None:
            raise UnisonoError(
                f"{name} has no timesteps: call set_timesteps(num_steps) first",
                code="state",
                path="scheduler.timesteps",
            )
        if getattr(scheduler, "_step_index", None) is not None:
            raise UnisonoError(
                f"{name} is in the middle of a chain: call set_timesteps(num_steps) again",
                code="state",
                path="scheduler",
            )
        first = whole("first", first, 0)
        if first >= len(scheduler.timesteps):
            raise UnisonoError(
                f"first={first} leaves no step of {len(scheduler.timesteps)}: give less",
                code="range",
                path="first",
                value=first,
            )
        check_pure(network)
        self.network, self.first, self.post_step = network, first, post_step
        self.step_kwargs = dict(step_kwargs or {})
        accepted = inspect.signature(scheduler.step).parameters
        for key in self.step_kwargs:
            if key not in accepted:
                raise UnisonoError(
                    f"{name}.step takes no {key!r}: it takes {', '.join(accepted)}",
                    code="unknown",
                    path=f"step_kwargs.{key}",
                    value=self.step_kwargs[key],
                )
        if "return_dict" in accepted:
            self.step_kwargs["return_dict"] = False
        self._takes_generator = "generator" in accepted
        self._prepares = hasattr(scheduler, "scale_model_input")
        self._tables: dict[str, tuple[Tensor, int]] = {}
        self._fresh = copy_state(scheduler)
        if hasattr(self._fresh, "set_begin_index"):
            self._fresh.set_begin_index(first)
        self._tables = {k: (v, v._version) for k, v in vars(self._fresh).items() if isinstance(v, Tensor)}
        self.timesteps: Tensor = scheduler.timesteps[first:]
        self.num_steps = len(self.timesteps)
        self._walk = self._rehearse()
        every = levels or levels_of(scheduler)
        self.levels = Levels(every.alpha[-self.num_steps :], every.sigma[-self.num_steps :], every.prediction)
        self._generators: list[torch.Generator] | None = None
        if generator is not None:
            self._generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
        self._given = generator
        self._lanes = 0
        # Noise that nobody gave a generator for is drawn from this one, and then refused.
        self._unasked = torch.Generator()
        self._live = self._empty = _Carry(torch.zeros(0, dtype=torch.long), (), [], [])
        if first:
            self._check_start(scheduler, every)

    def evaluate(self, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        """The network's output, its input scaled as the scheduler does at each row's step."""
        timesteps = self.timesteps.to(step.device)[step]
        return self.network(self.scaled(x, step), timesteps, sample)

    def scaled(self, x: Any, step: Int[Tensor, " n"]) -> Any:
        """States as the network sees them."""
        if not self._walk:
            return x
        scaled = tree_map(torch.empty_like, x)
        for i in step.unique().tolist():
            here = step == i
            for seen, into in zip(leaves(x), leaves(scaled), strict=True):
                into[here] = self._scale(seen[here], i)
        return scaled

    def begin(self, sample: Int[Tensor, " k"]) -> Any:
        """Fresh schedulers and the samples' generators.

        Raises:
            UnisonoError: if there are several generators, but not one for each sample.
        """
        self._lanes = 1 if 0 in sample else self._lanes + 1
        generators = self._generators or []
        if len(generators) > 1 or isinstance(self._given, Sequence):
            if len(generators) <= int(sample.max()):
                raise UnisonoError(
                    f"{len(generators)} generators were given for {int(sample.max()) + 1} or more samples: "
                    "give one per sample",
                    code="shape",
                    path="generator",
                    value=len(generators),
                )
            generators = [generators[s] for s in sample.tolist()]
        return _Carry(sample, (), generators, [g.get_state() for g in generators])

    def snapshot(self) -> Any:
        """Copies of the schedulers, and where the generators stand.

        Raises:
            UnisonoError: if a scheduler keeps what cannot be copied; the attribute is named.
        """
        live = self._live
        schedulers = tuple(self._copy(s) for s in live.schedulers)
        return _Carry(live.sample, schedulers, live.generators, [g.get_state() for g in live.generators])

    def restore(self, carry: Any) -> None:
        """Go back to a copy; the generators too."""
        schedulers = tuple(self._copy(s) for s in carry.schedulers)
        for generator, state in zip(carry.generators, carry.noise, strict=True):
            generator.set_state(state)
        self._live = _Carry(carry.sample, schedulers, carry.generators, carry.noise)

    def advance(self, output: Any, i: int, x: Any) -> Any:
        """One `step` of the scheduler (one per tensor of the state), then `post_step`.

        Raises:
            UnisonoError: if it draws noise that nobody gave a generator for, or that is not this lane's alone.
        """
        live = self._live
        if not live.schedulers:
            live = self._live = _Carry(
                live.sample, tuple(self._copy(self._fresh) for _ in leaves(x)), live.generators, live.noise
            )
        kwargs, watched = self.step_kwargs, None
        if self._takes_generator:
            given = live.generators or [self._unasked]
            kwargs = {**kwargs, "generator": given if len(given) > 1 else given[0]}
            if not live.generators or (isinstance(self._given, torch.Generator) and self._lanes > 1):
                watched = given[0].get_state(), given[0]
        t = self.timesteps[i]
        schedulers = iter(live.schedulers)

        def step(output: Tensor, x: Tensor) -> Tensor:
            scheduler = next(schedulers)
            if self._prepares:
                scheduler.scale_model_input(x, t)
            return scheduler.step(output, t, x, **kwargs)[0]

        after = tree_map(step, output, x)
        if watched is not None and not torch.equal(watched[0], watched[1].get_state()):
            name = type(self._fresh).__name__
            if live.generators:
                raise UnisonoError(
                    f"{name} draws noise, and one generator for several samples draws theirs together: give a list "
                    "of generators, one per sample, or accept with per_sample=False",
                    code="conflict",
                    path="generator",
                    value=len(live.generators),
                )
            raise UnisonoError(
                f"{name} draws noise: give generator=, one torch.Generator per sample", code="missing", path="generator"
            )
        return after if self.post_step is None else self.post_step(after, i, live.sample)

    def hold(self, output: Any, i: int, x_old: Any, x_new: Any, quantity: Quantity = "v", j: int | None = None) -> Any:
        """Re-express an output at another state; variances that the network predicts beside it stay as they are."""
        j = i if j is None else j

        def one(output: Tensor, x_old: Tensor, x_new: Tensor) -> Tensor:
            if output.ndim > 1 and output.shape[1] == 2 * x_old.shape[1]:
                mean, variance = output.chunk(2, 1)
                return torch.cat([one(mean, x_old, x_new), variance], 1)
            if j == i:
                return self.levels.hold(output, i, x_old, self._scale(x_new - x_old, i), quantity, j)
            old = self._scale(x_old, i)
            return self.levels.hold(output, i, old, self._scale(x_new, j) - old, quantity, j)

        return tree_map(one, output, x_old, x_new)

    def history(self) -> tuple[str, ...]:
        """The scheduler's attributes that hold tensors of their own after one of two steps."""
        scheduler, before = self._copy(self._fresh), vars(self._fresh)
        x = torch.ones(1, 1, 2, 2)
        kwargs = {**self.step_kwargs, "generator": torch.Generator()} if self._takes_generator else self.step_kwargs
        found: dict[str, None] = {}
        for t in self.timesteps[:2]:
            if self._prepares:
                scheduler.scale_model_input(x, t)
            x = scheduler.step(x, t, x, **kwargs)[0]
            kept = {k: v for k, v in vars(scheduler).items() if v is not before.get(k) and _holds_tensor(v)}
            found |= dict.fromkeys(kept)
        return tuple(found)

    @property
    def name(self) -> str:
        """The scheduler's class."""
        return type(self._fresh).__name__

    def _check_start(self, scheduler: Any, levels: Levels) -> None:
        """Refuse a scheduler that, begun at step `first`, does not do what it does there in a whole chain.

        With a network that knows the clean state, a chain begun at a state of a whole chain must follow it. PNDM does
        not, since its first steps are of another kind than the rest; LMS does not, since it takes coefficients for
        steps that were not made; nor does the second half of a two-stage step. Where the scheduler does not say what
        its network predicts, or levels were given for the last steps alone, nothing is checked.

        Raises:
            UnisonoError: if it strays by more than 1e-3 of the state.
        """
        if levels.prediction == "output" or len(levels.alpha) != len(scheduler.timesteps):
            return
        g = torch.Generator().manual_seed(0)
        drawn = torch.randn(2, 1, 1, 2, 2, generator=g, dtype=torch.float64).to(self.timesteps.device)
        x0, x = drawn[0], drawn[1] * float(getattr(scheduler, "init_noise_sigma", 1.0))
        states, noise = self._walked(scheduler, levels, x0, x, g)
        g.set_state(noise[self.first])
        begun, _ = self._walked(self._fresh, levels, x0, states[self.first], g, self.first)
        for i, (state, wanted) in enumerate(zip(begun, states[self.first :], strict=True), self.first):
            apart = float((state - wanted).norm() / wanted.norm())
            if not apart <= _STRAYS:
                raise UnisonoError(
                    f"{self.name} cannot begin at step first={self.first}: by step {i} it is {apart:.1e} of the state "
                    f"from where a whole chain is, more than {_STRAYS:g}; run all steps, or use another scheduler",
                    code="unsupported",
                    path="first",
                    value=self.first,
                )

    def _walked(
        self, scheduler: Any, levels: Levels, x0: Tensor, x: Tensor, generator: torch.Generator, first: int = 0
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The states of a chain whose network knows x0, and where the generator stood before each step."""
        twin = copy_state(scheduler)
        kwargs = {**self.step_kwargs, "generator": generator} if self._takes_generator else self.step_kwargs
        states, noise = [x], []
        for i, t in enumerate(scheduler.timesteps[first:], first):
            noise.append(generator.get_state())
            seen = twin.scale_model_input(x, t) if self._prepares else x
            x = twin.step(levels.of_x0(x0, i, seen), t, x, **kwargs)[0]
            states.append(x)
        return states, noise

    def _rehearse(self) -> list[Any]:
        """A copy of the scheduler before each step, from a walk over a tiny state; none if no step scales its input.

        How a two-stage scheduler scales depends on the stage that it is in, which only a walk tells.
        """
        if not self._prepares:
            return []
        scheduler, x, before = self._copy(self._fresh), torch.ones(1, 1, 2, 2), []
        if scheduler.scale_model_input(x, self.timesteps[0]) is x:
            return []
        kwargs = {**self.step_kwargs, "generator": torch.Generator()} if self._takes_generator else self.step_kwargs
        for t in self.timesteps:
            before.append(self._copy(scheduler))
            scheduler.scale_model_input(x, t)
            x = scheduler.step(torch.zeros_like(x), t, x, **kwargs)[0]
        return before

    def _scale(self, x: Tensor, i: int) -> Tensor:
        if not self._walk:
            return x
        return copy.copy(self._walk[i]).scale_model_input(x, self.timesteps[i])

    def _copy(self, scheduler: Any) -> Any:
        for key, (table, version) in self._tables.items():
            if vars(scheduler).get(key) is table and table._version != version:
                raise UnisonoError(
                    f"{type(scheduler).__name__}.{key} is written in place at each step, so that its state cannot be "
                    "copied: use another scheduler",
                    code="unsupported",
                    path=f"scheduler.{key}",
                )
        return copy_state(scheduler)


def copy_state(scheduler: Any) -> Any:
    """A scheduler that steps independently; tables are shared.

    Raises:
        UnisonoError: if an attribute is neither a table nor a container of such; it is named.
    """
    twin = copy.copy(scheduler)
    for key, value in vars(scheduler).items():
        if key != "_internal_dict":  # the configuration, which no step changes
            vars(twin)[key] = _copied(value, f"{type(scheduler).__name__}.{key}")
    return twin


def _copied(value: Any, where: str) -> Any:
    if isinstance(value, (*_PLAIN, Tensor, np.ndarray)):
        return value
    if type(value) in (list, set):
        return type(value)(_copied(v, where) for v in value)
    if type(value) is tuple:
        return tuple(_copied(v, where) for v in value)
    if isinstance(value, dict):
        return type(value)({k: _copied(v, where) for k, v in value.items()})
    if inspect.isroutine(value) or inspect.isclass(value):
        return value
    raise UnisonoError(
        f"{where} is a {type(value).__name__}, which cannot be copied, so that the scheduler cannot be taken back "
        "to an earlier step: use another scheduler",
        code="unsupported",
        path=where,
        value=type(value).__name__,
    )


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor) and value.ndim > 1
