"""Parallel diffusion samplers: the serial chain of a sampler in a few batched rounds, with its sample as the result.

recurrence.py  the chain: evaluate, advance, hold, snapshot and restore
replay.py      any diffusers scheduler as a chain; levels.py what its network's output means
picard.py      Serial, Jacobi, Identity, Picard; anderson.py, newton.py, parareal.py the other solvers
window.py      what solvers over a sliding window share
accept.py      when a step is done
evaluate.py    where rows are evaluated; purity.py what a network must not do
solve.py       the call; report.py its bill
pipeline.py    unmodified diffusers pipelines; calls.py what they ask their network; fast.py DDIM and others in one line
gradient.py    gradients through the fixed point
deer.py        recurrent networks in parallel over their length; devices/ samplers over several devices
guide.py       classifier-free guidance; tree.py states of several tensors
objectives.py  what networks are trained for
oracles.py     exact networks of Gaussians and mixtures

The equations are in docs/diffusion.md.
"""

from unisono.diffusion.chain.fast import FastRecurrence, fastest
from unisono.diffusion.chain.levels import Levels, levels_of
from unisono.diffusion.chain.purity import check_pure
from unisono.diffusion.chain.recurrence import Recurrence
from unisono.diffusion.chain.replay import SchedulerRecurrence
from unisono.diffusion.guide import ClassifierFree
from unisono.diffusion.pipelines.pipeline import ParallelPipeline, parallelize
from unisono.diffusion.report import NonFiniteError, Report, Round
from unisono.diffusion.solve import Job, Solution, Solver, solve
from unisono.diffusion.solvers.accept import Accept, Exact, FixedSteps, Tolerance
from unisono.diffusion.solvers.anderson import Anderson
from unisono.diffusion.solvers.deer import DeerError, DeerReport, ParallelGRU, deer, prefix_scan
from unisono.diffusion.solvers.evaluator import Evaluator, Local
from unisono.diffusion.solvers.newton import DiagNewton, Newton
from unisono.diffusion.solvers.parareal import Parareal
from unisono.diffusion.solvers.picard import Identity, Jacobi, Picard, Serial
from unisono.diffusion.solvers.window import Lane, WindowSolver
from unisono.diffusion.training.gradient import differentiable
from unisono.diffusion.training.objectives import EDM, Discrete, Flow, Noised, Objective, denoising_loss, forgotten

__all__ = [
    "EDM",
    "Accept",
    "Anderson",
    "ClassifierFree",
    "DeerError",
    "DeerReport",
    "DiagNewton",
    "Discrete",
    "Evaluator",
    "Exact",
    "FastRecurrence",
    "FixedSteps",
    "Flow",
    "Identity",
    "Jacobi",
    "Job",
    "Lane",
    "Levels",
    "Local",
    "Newton",
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
    "parallelize",
    "prefix_scan",
    "solve",
]
