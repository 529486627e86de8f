"""Durations: how long is the output, and which input does each position of it belong to.

alignment.py   Alignment: durations, lengths, expand, pool, positions, crops, word times
regulate.py    repeat, box (continuous integrate-and-fire), gaussian, uniform, filler, learned
rounding.py    from predicted to whole frames, keeping the total
predict.py     targets of a duration predictor and their inverse
search.py      monotonic alignment search: numba, torch or Triton
aligner.py     the soft aligner and its prior
losses.py      forward sum, binarisation, calibration
learn.py       durations of a whole corpus, learnt before anything else
soft_dtw.py    a loss between sequences whose times differ: numba or torch
"""

from unisono.duration.aligner import Aligner, beta_binomial_prior
from unisono.duration.alignment import Alignment
from unisono.duration.learn import learn_alignment
from unisono.duration.losses import (
    binarisation_loss,
    estimate_shift,
    forward_sum_loss,
    ramp,
    shift_boundaries,
)
from unisono.duration.predict import durations_from_log, log_durations
from unisono.duration.regulate import (
    IntegrateAndFire,
    LearnedUpsampling,
    box,
    filler_pad,
    gaussian,
    repeat,
    uniform,
)
from unisono.duration.rounding import round_durations, whole_durations
from unisono.duration.search import search
from unisono.duration.soft_dtw import soft_dtw, soft_dtw_divergence, soft_dtw_l1

__all__ = [
    "Aligner",
    "Alignment",
    "IntegrateAndFire",
    "LearnedUpsampling",
    "beta_binomial_prior",
    "binarisation_loss",
    "box",
    "durations_from_log",
    "estimate_shift",
    "filler_pad",
    "forward_sum_loss",
    "gaussian",
    "learn_alignment",
    "log_durations",
    "ramp",
    "repeat",
    "round_durations",
    "search",
    "shift_boundaries",
    "soft_dtw",
    "soft_dtw_divergence",
    "soft_dtw_l1",
    "uniform",
    "whole_durations",
]
