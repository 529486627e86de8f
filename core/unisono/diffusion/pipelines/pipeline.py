"""Pipeline: unmodified diffusers pipelines in few batched rounds.

Nothing of a pipeline is copied or known here. It is called again and again, as it is, with its network answering from
memory: exact answers for the calls that are done, held answers for those of a window; the call after the window ends
the run. What the pipeline would have asked the network is recorded on the way and evaluated as one batch, which gives
the next run's answers. So guidance, schedulers, masks and latents' packing are the pipeline's own, and a run whose
guesses all held still is the serial call. In the terms of `unisono.diffusion.chain.recurrence`, a step is one call of
the network, G everything that the pipeline does between two calls.

What is random must repeat: generators and the scheduler go back to where they stood before each run, and so does
torch's global generator, which a pipeline without a generator draws from. A pipeline that another thread runs in
parallel is waited for; one that another thread calls by itself meanwhile is refused in both, for a pipeline has one
scheduler. Text encoders and other parts are called
once; what they answered in the exact part of a run is remembered.

    run 1      call 0: evaluated alone             calls 1 … : guessed with its answer held, counted to the end
    round 2    calls 1 … W, one batch (and call 0 again, which must be answered as it was alone)
    run 2      call 0 from memory; 1 … W held at where they now are; those that held still are done; W more guessed
    …          until all are done: that run goes on through decoder and post-processing, and its result is returned
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unisono.diffusion.chain.levels import Levels, levels_of
from unisono.diffusion.chain.purity import check_pure, difference, rounding
from unisono.diffusion.chain.recurrence import Quantity
from unisono.diffusion.chain.replay import copy_state
from unisono.diffusion.limits import whole
from unisono.diffusion.pipelines.calls import Answer, Call, evaluate_calls, finite_rows
from unisono.diffusion.pipelines.parts import check_module, networks_of, restored
from unisono.diffusion.report import NonFiniteError, Report, Round, Solution
from unisono.diffusion.solve import WINDOW
from unisono.diffusion.solvers.accept import Accept, FixedSteps, Tolerance
from unisono.diffusion.solvers.evaluator import Evaluator, Local
from unisono.diffusion.solvers.picard import check_quantity
from unisono.diffusion.turns import turn
from unisono.errors import UnisonoError

_CALLBACKS = ("callback", "callback_on_step_end", "callback_on_step_begin")
_MIXING = ("PAG", "CrossFrame", "PerturbedAttention")


class _Stop(BaseException):
    """Ends a run of the pipeline; no `except Exception` of its code may catch it."""


def parallelize(
    pipe: Any,
    window: int | None = None,
    tolerance: float = 1e-2,
    *,
    accept: Accept | None = None,
    hold: Quantity = "v",
    evaluator: Evaluator | None = None,
    on_round: Callable[[Round], None] | None = None,
    networks: Sequence[str] | None = None,
) -> ParallelPipeline:
    """A diffusers pipeline whose network is called for several steps at once, to be called as the pipeline is.

        fast = parallelize(pipe, window=8, tolerance=1e-3)
        image = fast(prompt="a lighthouse", generator=torch.Generator().manual_seed(0)).images[0]
        print(fast.report)

    `window` counts calls of the network (default 8, or all if there are fewer; a pipeline that calls it twice in a step
    needs twice the window). A call is done when its guess moved by at most `tolerance` of its norm, in every row;
    `accept` replaces this rule. `networks` names the components that denoise, by default those called unet… and
    transformer…. The pipeline is changed only while it runs, and put back when it raises.

    Raises:
        UnisonoError: if the pipeline has no such component, or one that depends on earlier calls.
    """
    return ParallelPipeline(pipe, window, tolerance, accept, hold, evaluator, on_round, networks)


class ParallelPipeline:
    """What `parallelize` returns: call it, then read `report`; as a context manager it lets go of the pipeline."""

    def __init__(
        self,
        pipe: Any,
        window: int | None,
        tolerance: float,
        accept: Accept | None,
        hold: Quantity,
        evaluator: Evaluator | None,
        on_round: Callable[[Round], None] | None,
        networks: Sequence[str] | None,
    ):
        if isinstance(accept, FixedSteps):
            if window not in (None, accept.steps):
                raise UnisonoError(
                    f"window={window} contradicts FixedSteps({accept.steps}): leave the window out",
                    code="conflict",
                    path="window",
                    value=window,
                )
            window = accept.steps
        if window is not None:
            window = whole("window", window)
        check_quantity(hold)
        self.pipe: Any = pipe
        self.window, self.hold, self.on_round = window, hold, on_round
        rule: Any = accept or Tolerance(tolerance, per_sample=False)  # a dataclass, where it is per sample
        self.accept: Accept = replace(rule, per_sample=False) if rule.per_sample else rule
        self.evaluator: Any = evaluator or Local()
        self.networks = networks_of(pipe, networks)
        self._report: Report | None = None
        if window != 1 and not self.evaluator.pure:
            raise UnisonoError(
                f"{type(self.evaluator).__name__} answers with values of earlier calls: use it with window=1, or "
                "evaluate with fresh values",
                code="conflict",
                path="evaluator",
                value=type(self.evaluator).__name__,
            )
        with self._turn():
            self._check()

    @property
    def report(self) -> Report:
        """The bill of the last call; steps are calls of the network, samples its rows."""
        if self._report is None:
            raise UnisonoError("there is no report yet: call the pipeline first", code="state", path="report")
        return self._report

    def __enter__(self) -> ParallelPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe, self.networks = None, {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the pipeline with its own arguments; returns what it returns.

        Raises:
            UnisonoError: if a callback is given, the network is stochastic or mixes rows, the window is larger than
                the calls, or the pipeline's network cannot be called with rows of several steps.
            NonFiniteError: at the end, if the network's output was not finite in some rows; `.solution.sample` is
                what the pipeline returned.
        """
        if self.pipe is None:
            raise UnisonoError(
                "this parallel pipeline was closed at the end of its with block: call parallelize again",
                code="state",
                path="pipe",
            )
        for name in _CALLBACKS:
            if kwargs.get(name) is not None:
                raise UnisonoError(
                    f"{name} may change what the sampler does, and would be called many times for one step: leave it "
                    "out, and use parallelize(…, on_round=…) to follow the progress",
                    code="unsupported",
                    path=name,
                )
        with self._turn():
            self._check()
            run = _Run(self, args, kwargs)
            self._report = run.report
            with restored(self.pipe, args, kwargs) as rewind, _patched(run):
                result = run.to_the_end(rewind)
            run.check_undisturbed()
        if run.report.failures:
            raise NonFiniteError(Solution(result, run.report))
        return result

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        """Have the pipeline, its scheduler and all its networks to oneself; other pipelines may share some of them."""
        parts = [part for part in self.pipe.components.values() if isinstance(part, nn.Module)]
        return turn([self.pipe, self.pipe.scheduler, *parts], "this pipeline")

    def _check(self) -> None:
        """Refuse what would not repeat; again at each call, for what was switched on in between."""
        copy_state(self.pipe.scheduler)
        if getattr(self.pipe, "controlnet", None) is not None:
            raise UnisonoError(
                f"{type(self.pipe).__name__} evaluates its controlnet in every step beside the network, one step at a "
                "time: use the pipeline without it, or by itself",
                code="unsupported",
                path="pipe.controlnet",
                value=type(self.pipe).__name__,
            )
        for name, network in self.networks.items():
            check_pure(network)
            if getattr(network, "is_cache_enabled", False):
                raise UnisonoError(
                    f"pipe.{name} has a cache between calls: call pipe.{name}.disable_cache() first",
                    code="state",
                    path=f"pipe.{name}",
                )
            for inner, module in network.named_modules():
                check_module(f"pipe.{name}" + f".{inner}" * bool(inner), module)
            for where, processor in getattr(network, "attn_processors", {}).items():
                kind = type(processor).__name__
                if any(word in kind for word in _MIXING):
                    raise UnisonoError(
                        f"pipe.{name}'s {where} is a {kind}, which mixes the rows of a batch: use "
                        f"pipe.{name}.set_default_attn_processor(), or the pipeline by itself",
                        code="unsupported",
                        path=f"pipe.{name}.{where}",
                        value=kind,
                    )


class _Run:
    """One call of a pipeline: its runs, and the rounds between them."""

    def __init__(self, owner: ParallelPipeline, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.owner, self.args, self.kwargs = owner, args, kwargs
        self.report = Report("Picard", owner.window or WINDOW)
        self.forward = {name: network.forward for name, network in owner.networks.items()}
        self.signature = {
            name: inspect.signature(getattr(network, "_orig_mod", network).forward)
            for name, network in owner.networks.items()
        }
        self.done: list[Answer] = []  # of the calls before `front`, exact to the tolerance
        self.known: list[tuple[Call, Answer]] = []  # of the window: where each call was evaluated, and the answer
        self.total: int | None = None
        self.memory: dict[tuple[str, int], Any] = {}
        self.first: tuple[Call, Answer] | None = None
        self.last: Call | None = None
        self.alive: Tensor | None = None
        self.levels: Levels | None = None
        self.timesteps: dict[float, int] = {}
        self.places: list[int] = []  # of each call within its step
        self.thread = threading.get_ident()
        self.over = False  # networks that a killed run left patched are themselves again
        self.disturbed = False
        self._rewound()

    def _rewound(self) -> None:
        self.at = 0
        self.base = len(self.done)
        self.limit = self.base
        self.swept: list[tuple[Call, Answer]] = []  # the window's calls where they now are, and what was answered
        self.open: list[Call] = []  # the next window
        self.parts: list[Tensor] = []
        self.asked: dict[str, int] = {}

    def check_undisturbed(self) -> None:
        """Raise `UnisonoError` if another thread called the pipeline meanwhile: its scheduler may have been moved."""
        if self.disturbed:
            raise UnisonoError(
                "another thread called this pipeline while it ran in parallel, and both use its scheduler: give each "
                "thread a pipeline of its own",
                code="state",
                path="pipe",
            )

    def to_the_end(self, rewind: Callable[[], None]) -> Any:
        """Run and evaluate until all calls are done; returns what the pipeline returns."""
        start, report, on_round = time.perf_counter(), self.report, self.owner.on_round
        while True:
            rewind()
            self._rewound()
            result, ended = None, False
            with contextlib.suppress(_Stop):
                result = self.owner.pipe(*_cloned(self.args), **_cloned(self.kwargs))
                ended = True
            if self.total is None:
                self._counted_calls()
            report.wall = time.perf_counter() - start
            if len(self.done) > self.base and on_round is not None:
                on_round(report.history[-1])
            if not self.finished:
                with torch.no_grad():
                    self._evaluate()
            elif ended:
                return result

    @property
    def finished(self) -> bool:
        """Whether all calls are done."""
        return self.total is not None and len(self.done) >= self.total

    def _counted_calls(self) -> None:
        """The first run went through to the end: the calls are known."""
        if self.at == 0:
            names = ", ".join(self.owner.networks)
            raise UnisonoError(
                f"the pipeline never called {names}: name the component that denoises with networks=",
                code="missing",
                path="networks",
                value=list(self.owner.networks),
            )
        report, window = self.report, self.owner.window
        self.total = report.num_steps = self.at
        if self.total < 2 and window != 1:
            raise UnisonoError(
                "1 call of the network has nothing to run in parallel: give num_inference_steps of 2 or more, "
                "or window=1",
                code="range",
                path="num_inference_steps",
                value=1,
            )
        if window is not None and window > self.total:
            raise UnisonoError(
                f"window={window} is larger than the {self.total} calls of the network: give at most {self.total}",
                code="range",
                path="window",
                value=window,
            )
        report.window = min(report.window, self.total)
        report.history[0] = replace(report.history[0], done=1 / self.total)

    def called(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What the pipeline gets instead of its network."""
        self.check_undisturbed()
        i = self.at
        self.at += 1
        k = i - self.base
        if k < 0:
            return self.done[i].give()
        past = self.first is not None and k >= len(self.known)
        if past and i >= self.limit and self.total is not None:
            raise _Stop
        call = Call.of(name, self.signature[name], args, kwargs)
        if self.first is None:
            self._begin(call, args, kwargs)
        if self.total is None:
            last = self.last
            same = last is not None and last.timestep == call.timestep and torch.equal(last.x, call.x)
            self.places.append(self.places[-1] + 1 if same else 0)
            self.last = call
        if not past:
            return self._sweep(k, call)
        if i < self.limit:
            self.open.append(call)
        # The newest answer to the same call of a step, or else the newest of all.
        alike = (k for k in reversed(range(len(self.swept))) if self.places[self.base + k] == self.places[i])
        old, answer = self.swept[next(alike, -1)]
        return self._held(old, answer, call).give()

    def _begin(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The first call of all is evaluated as the pipeline makes it."""
        scheduler = self.owner.pipe.scheduler
        if getattr(scheduler, "timesteps", None) is not None:
            self.levels = levels_of(scheduler)
            self.timesteps = {float(t): i for i, t in enumerate(scheduler.timesteps)}
        before = time.perf_counter()
        answer = Answer.of(self.forward[call.network](*args, **kwargs))
        self.report.network_wall += time.perf_counter() - before
        b = len(call.x)
        if any(len(t) != b for t in answer.tensors):
            raise UnisonoError(
                f"{call.network} answered {b} rows with {[tuple(t.shape) for t in answer.tensors]}",
                code="shape",
                path=call.network,
                value=[tuple(t.shape) for t in answer.tensors],
            )
        self.report.begin(b)
        self.report.count(range(b))
        self.alive = torch.ones(b, dtype=torch.bool)
        self.first = call, answer
        self.known = self._usable([call], [answer])

    def _sweep(self, k: int, call: Call) -> Any:
        """A call of the window: its answer, held at where the state is now."""
        old, answer = self.known[k]
        if len(call.x) != len(old.x):
            raise UnisonoError(
                f"the pipeline calls {call.network} with {len(old.x)} rows and then with {len(call.x)} for the same "
                "step: it cannot run in parallel",
                code="unsupported",
                path=call.network,
                value=len(call.x),
            )
        held = answer if k == 0 else self._held(old, answer, call)
        if k:
            assert self.alive is not None
            self.parts.append(call.moved(old)[self.alive.to(call.x.device)].amax())
        self.swept.append((call, held))
        if k + 1 == len(self.known):
            self._settle()
        return held.give()

    def _settle(self) -> None:
        """The window is swept: see what is done, and open the next one."""
        owner, report = self.owner, self.report
        moved = torch.stack(self.parts).tolist() if self.parts else []
        n = owner.evaluator.agree([owner.accept.count(moved)])[0]
        self.done += [answer for _, answer in self.swept[:n]]
        front = len(self.done)
        size = owner.accept.span(report.window, front)
        self.limit = front + size
        self.open = [call for call, _ in self.swept[n : n + size]]
        done = front / self.total if self.total else 0.0
        report.end_round({s: n for s in range(report.num_samples)}, max([0.0, *moved[: n - 1]]), done)

    def _evaluate(self) -> None:
        """One round: the open calls in one batch, and at first call 0 among them, to see that it is answered alike."""
        calls, numbers = self.open, list(range(len(self.done), len(self.done) + len(self.open)))
        check = self.first if self.report.rounds == 1 and self.report.window > 1 else None
        if check is not None:
            calls, numbers = [check[0], *calls], [0, *numbers]
        b = self.report.num_samples
        if any(len(call.x) != b for call in calls):
            raise UnisonoError(
                f"the pipeline calls its network with {b} rows at first and with "
                f"{next(len(c.x) for c in calls if len(c.x) != b)} later: such a schedule of guidance cannot run in "
                "parallel; guide all steps alike",
                code="unsupported",
                path="pipe",
                value=b,
            )
        before = time.perf_counter()
        answers = evaluate_calls(calls, numbers, self.forward, self.owner.evaluator)
        self.report.network_wall += time.perf_counter() - before
        self.report.count([*range(b)] * len(calls))
        if check is not None:
            self._check_alike(*check, answers[0])
            calls, answers = calls[1:], answers[1:]
        self.known = self._usable(calls, answers)

    def _usable(self, calls: list[Call], answers: list[Answer]) -> list[tuple[Call, Answer]]:
        """Calls with answers, up to the first guess whose answer is not finite; a row that fails for good is named."""
        assert self.alive is not None
        good = [finite_rows(answer) for answer in answers]
        for row in (self.alive & ~good[0]).nonzero().flatten().tolist():
            self.report.failures[row] = len(self.done)
        self.alive = self.alive & good[0]
        if not bool(self.alive.any()):
            raise NonFiniteError(Solution(None, self.report))
        n = next((i for i, fine in enumerate(good) if not bool((fine | ~self.alive).all())), len(calls))
        return list(zip(calls[:n], answers[:n], strict=True))

    def _check_alike(self, call: Call, alone: Answer, stacked: Answer) -> None:
        if _alike(alone, stacked):
            return
        args, kwargs = call.fill(call.rows)
        again = Answer.of(self.forward[call.network](*args, **kwargs))
        if not _alike(alone, again):
            raise UnisonoError(
                f"pipe.{call.network} is stochastic, or keeps something from call to call: the same rows got two "
                f"answers; call pipe.{call.network}.eval(), and remove what wraps it",
                code="state",
                path=f"pipe.{call.network}",
            )
        raise UnisonoError(
            f"pipe.{call.network} answers a row otherwise when rows of other steps are in its batch: attention that "
            "mixes rows, or normalisation over the batch; run this pipeline by itself",
            code="unsupported",
            path=f"pipe.{call.network}",
        )

    def _held(self, old: Call, answer: Answer, new: Call) -> Answer:
        """An answer re-expressed where the state is now; unknown layouts keep the output itself."""
        quantity, levels = self.owner.hold, self.levels
        if quantity == "output" or levels is None or old.timestep is None or new.timestep is None:
            return answer
        if quantity == "v" and levels.prediction in ("flow", "output", "v"):
            return answer
        i, j = self.timesteps.get(old.timestep), self.timesteps.get(new.timestep)
        if i is None or j is None:
            return answer
        output, *others = answer.tensors
        channels = output.shape[1]
        variance = None
        if old.x.shape[1] < channels == 2 * old.x.shape[1]:
            output, variance = output.chunk(2, 1)
        elif old.x.shape[1] < channels:
            return answer
        x_old, x_new = (x[:, : output.shape[1]] for x in (old.x, new.x))
        if x_old.shape != output.shape or x_new.shape != output.shape:
            return answer
        held = levels.hold(output, i, x_old, x_new - x_old, quantity, j)
        if variance is not None:
            held = torch.cat([held, variance], 1)
        return replace(answer, tensors=(held.to(answer.tensors[0].dtype), *others))

    def remembered(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What another component answers: asked once where all that came before it is exact."""
        number = self.asked[name] = self.asked.get(name, -1) + 1
        if self.at > self.base:
            return method(*args, **kwargs)
        if (name, number) not in self.memory:
            self.memory[name, number] = method(*args, **kwargs)
        return self.memory[name, number]

    def decoded(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The decoder's entrance: only what is done goes through."""
        if self.at and not self.finished:
            raise _Stop
        return method(*args, **kwargs)


_MISSING = object()


@contextmanager
def _patched(run: _Run) -> Iterator[None]:
    """The pipeline's parts answer through a run; afterwards they are as they were.

    Whatever ends a run, a part that is still patched answers as itself, and one that another thread calls refuses.
    """
    pipe, networks = run.owner.pipe, run.owner.networks
    patches: list[tuple[nn.Module, str, Any]] = []

    def patch(module: nn.Module, name: str, replacement: Callable[..., Any]) -> None:
        own = getattr(module, name)

        @functools.wraps(own)
        def answer(*args: Any, **kwargs: Any) -> Any:
            if run.over:
                return own(*args, **kwargs)
            if threading.get_ident() != run.thread:
                run.disturbed = True
                raise UnisonoError(
                    f"{type(module).__name__} answers for a pipeline that runs in parallel in another thread: wait "
                    "for it, or give each thread a pipeline of its own",
                    code="state",
                    path="pipe",
                )
            return replacement(*args, **kwargs)

        patches.append((module, name, vars(module).get(name, _MISSING)))
        vars(module)[name] = answer

    try:
        for name, part in pipe.components.items():
            if not isinstance(part, nn.Module):
                continue
            if name in networks:
                patch(part, "forward", functools.partial(run.called, name))
                continue
            patch(part, "forward", functools.partial(run.remembered, name, part.forward))
            for method in ("encode", "decode"):
                if callable(getattr(part, method, None)):
                    remember = functools.partial(run.remembered, f"{name}.{method}")
                    entrance = run.decoded if method == "decode" else remember
                    patch(part, method, functools.partial(entrance, getattr(part, method)))
        yield
    finally:
        run.over = True
        for module, name, before in reversed(patches):
            if before is _MISSING:
                vars(module).pop(name, None)
            else:
                vars(module)[name] = before


def _alike(a: Answer, b: Answer) -> bool:
    pairs = zip(a.tensors, b.tensors, strict=True)
    return all(difference(one, other) <= rounding(one.dtype) for one, other in pairs)


def _cloned(arguments: Any) -> Any:
    """Arguments with copies of their tensors, in which a run may write."""
    if isinstance(arguments, dict):
        return {k: v.clone() if isinstance(v, Tensor) else v for k, v in arguments.items()}
    return tuple(v.clone() if isinstance(v, Tensor) else v for v in arguments)
