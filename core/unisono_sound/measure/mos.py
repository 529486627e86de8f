"""DNSMOS: a network's guess of how listeners would rate speech, without a reference.

Reddy et al., "DNSMOS P.835" (2022) and "DNSMOS" (2021), as packed with ``speechmos``: models
inside, no download. Scores run from 1 to 5. They were trained on telephone noise suppression; use
them to compare, not as truth.

Shapes: n samples.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from unisono.extras import optional

from unisono_sound.measure.waveform import mono

RATE = 16000


@dataclass(frozen=True)
class DNSMOS:
    """Predicted mean opinion scores, 1 to 5."""

    overall: float
    """P.835 OVRL."""
    signal: float
    """P.835 SIG: the speech itself."""
    background: float
    """P.835 BAK: what is not speech."""
    p808: float
    """P.808: one question, overall quality."""


def dnsmos(waveform, sample_rate: int) -> DNSMOS:
    """Score speech of any length; under nine seconds it is repeated, as the published script does.

    Samples beyond ±1 are scaled down, since the models refuse them. Raises ``MissingExtra`` without
    ``speechmos``.
    """
    samples = mono(waveform, sample_rate, RATE)
    samples = samples / max(1.0, float(np.abs(samples).max()))
    scores = _scorer()(samples, RATE, False)
    return DNSMOS(*(float(scores[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")))


@cache
def _scorer():
    """speechmos' scorer, on one thread: its own sessions take every core, and scores are made in
    parallel instead.
    """
    package, onnxruntime = optional("speechmos", "speechmos.dnsmos"), optional("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    folder = Path(str(package.__file__)).parent / "dnsmos_models"

    class Scorer(package.DNSMOS):
        def __init__(self):
            self.onnx_sess, self.p808_onnx_sess = (
                onnxruntime.InferenceSession(str(folder / name), options)
                for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
            )

    return Scorer()
