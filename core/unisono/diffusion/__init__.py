"""Parallel diffusion samplers: the serial chain of a sampler in a few batched rounds, with its sample as the result.

solve.py       the call; report.py its solution and bill; limits.py what arguments may be; turns.py one run at a time
chain/         recurrence.py the chain of steps, replay.py any diffusers scheduler as one, fast.py DDIM and others as
               one line, levels.py what an output means, purity.py what a network must not do, tree.py states of
               several tensors
solvers/       job.py what a solver works on, picard.py Serial, Jacobi, Identity, Picard, anderson.py, newton.py,
               parareal.py, deer.py recurrent networks in parallel over their length, window.py the sliding window,
               accept.py when a step is done, evaluator.py where rows are evaluated
schedulers.py  diffusers' schedulers by name; named.py solvers by name, as requests ask for them
guide.py       classifier-free guidance: unconditional + scale·(conditional − unconditional)
denoiser.py    a model as E[x0 | x] at any noise level: the prior of an inverse problem
training/      objectives.py what networks are trained for, gradient.py gradients through the fixed point
pipelines/     pipeline.py unmodified diffusers pipelines, calls.py what they ask their network
devices/       samplers over several devices

This is a library for users too. The image plugin uses `solve`, the fixed-point, Anderson and parareal solvers, replay,
guidance and objectives. Nothing in this repository but tests, benchmarks and docs uses `deer`, `newton`, `fast`,
`gradient`, `pipelines` and `devices`: they are here to be called from programs of your own. Exact networks to test
samplers with are in `unisono.testing.oracles`.

The equations are in docs/diffusion.md.
"""

from unisono.diffusion.chain.fast import FastRecurrence, fastest
from unisono.diffusion.chain.levels import Levels, levels_of
from unisono.diffusion.chain.purity import check_pure
from unisono.diffusion.chain.recurrence import Recurrence
from unisono.diffusion.chain.replay import SchedulerRecurrence
from unisono.diffusion.denoiser import (
    Denoiser,
    HasDenoiser,
    NetworkDenoiser,
    NoiseLevels,
    linear_table,
    of_pipeline,
    table_levels,
)
from unisono.diffusion.guide import ClassifierFree
from unisono.diffusion.pipelines.pipeline import ParallelPipeline, parallelize
from unisono.diffusion.report import NonFiniteError, Report, Round, Solution
from unisono.diffusion.solve import solve
from unisono.diffusion.solvers.accept import Accept, Exact, FixedSteps, Tolerance
from unisono.diffusion.solvers.anderson import Anderson
from unisono.diffusion.solvers.deer import DeerError, DeerReport, ParallelGRU, deer
from unisono.diffusion.solvers.evaluator import Evaluator, Local
from unisono.diffusion.solvers.job import Job, Solver
from unisono.diffusion.solvers.newton import DiagNewton, Newton
from unisono.diffusion.solvers.parareal import Parareal
from unisono.diffusion.solvers.picard import Identity, Jacobi, Picard, Serial
from unisono.diffusion.solvers.window import Lane, WindowSolver
from unisono.diffusion.training.gradient import differentiable
from unisono.diffusion.training.objectives import EDM, Discrete, Flow, Noised, Objective, denoising_loss, forgotten
from unisono.nn.scan import prefix_scan

__all__ = [
    "EDM",
    "Accept",
    "Anderson",
    "ClassifierFree",
    "DeerError",
    "DeerReport",
    "Denoiser",
    "DiagNewton",
    "Discrete",
    "Evaluator",
    "Exact",
    "FastRecurrence",
    "FixedSteps",
    "Flow",
    "HasDenoiser",
    "Identity",
    "Jacobi",
    "Job",
    "Lane",
    "Levels",
    "Local",
    "NetworkDenoiser",
    "Newton",
    "NoiseLevels",
    "Noised",
    "NonFiniteError",
    "Objective",
    "ParallelGRU",
    "ParallelPipeline",
    "Parareal",
    "Picard",
    "Recurrence",
    "Report",
    "Round",
    "SchedulerRecurrence",
    "Serial",
    "Solution",
    "Solver",
    "Tolerance",
    "WindowSolver",
    "check_pure",
    "deer",
    "denoising_loss",
    "differentiable",
    "fastest",
    "forgotten",
    "levels_of",
    "linear_table",
    "of_pipeline",
    "parallelize",
    "prefix_scan",
    "solve",
    "table_levels",
]
