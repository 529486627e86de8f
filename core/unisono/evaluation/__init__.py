"""Evaluation: reports and sweeps, and measures of sets of features (Fréchet distance, retrieval, neighbours).

Measures return plain floats. What measures one modality lies with that modality.
"""

from unisono.evaluation.frechet import frechet_distance, gaussian_distance
from unisono.evaluation.neighbours import nearest, precision_recall
from unisono.evaluation.process import in_fresh_process, peak_memory
from unisono.evaluation.report import Report, Row, Section
from unisono.evaluation.retrieval import diversity, multimodality, paired_distance, r_precision
from unisono.evaluation.sweep import Point, Probe, Sweep, sweep

__all__ = [
    "Point",
    "Probe",
    "Report",
    "Row",
    "Section",
    "Sweep",
    "diversity",
    "frechet_distance",
    "gaussian_distance",
    "in_fresh_process",
    "multimodality",
    "nearest",
    "paired_distance",
    "peak_memory",
    "precision_recall",
    "r_precision",
    "sweep",
]
