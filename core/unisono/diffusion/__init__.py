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

from unisono.diffusion.accept import Accept, Exact, FixedSteps, Tolerance
from unisono.diffusion.anderson import Anderson
from unisono.diffusion.deer import DeerError, DeerReport, ParallelGRU, deer, prefix_scan
from unisono.diffusion.evaluate import Evaluator, Local
from unisono.diffusion.fast import FastRecurrence, fastest
from unisono.diffusion.gradient import differentiable
from unisono.diffusion.guide import ClassifierFree
from unisono.diffusion.levels import Levels, levels_of
from unisono.diffusion.newton import DiagNewton, Newton
from unisono.diffusion.objectives import EDM, Discrete, Flow, Noised, Objective, denoising_loss, forgotten
from unisono.diffusion.oracles import Gaussian, ImageMixture, Mixture, RowByRow
from unisono.diffusion.parareal import Parareal
from unisono.diffusion.picard import Identity, Jacobi, Picard, Serial
from unisono.diffusion.pipeline import ParallelPipeline, parallelize
from unisono.diffusion.purity import check_pure
from unisono.diffusion.recurrence import Recurrence
from unisono.diffusion.replay import SchedulerRecurrence
from unisono.diffusion.report import NonFiniteError, Report, Round
from unisono.diffusion.solve import Job, Solution, Solver, solve
from unisono.diffusion.window import Lane, WindowSolver

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
    "Gaussian",
    "Identity",
    "ImageMixture",
    "Jacobi",
    "Job",
    "Lane",
    "Levels",
    "Local",
    "Mixture",
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
    "RowByRow",
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
