"""Evaluation of a voice that says mels: ``unisono_sound.measure.evaluate``'s, with two copies of each recording::

vocoded      recording → log mel → the checkpoint's vocoder              the vocoder's loss
griffin-lim  recording → log mel → Griffin-Lim, 32 iterations            a vocoder's floor
"""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from unisono.evaluation import Report
from unisono_sound.corpus import Manifest
from unisono_sound.measure import Judge, Recogniser
from unisono_sound.measure.evaluate import Copy, evaluate_voice
from unisono_sound.signal import GriffinLim, LogMel

VOCODED, GRIFFIN_LIM = "vocoded", "griffin-lim"


def evaluate(
    synthesizer,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    texts: Sequence[str] | None = None,
    jobs: int = 1,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    recogniser: str | Recogniser = "pocketsphinx",
    judges: Sequence[str | Judge] = (),
    progress: bool = True,
) -> Report:
    """Measure a voice on held-out sentences of a corpus and return one report; see ``evaluate_voice``."""
    if device is not None:
        synthesizer.to(device)
    vocoder = synthesizer.model.vocoder
    spec = vocoder.mel_spec
    log_mel = LogMel(spec)

    def vocoded(wave: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return vocoder.decode(log_mel(wave[None]).to(synthesizer.model.device))[0]

    def griffin_lim(wave: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return GriffinLim(spec).decode(log_mel(wave[None]))[0]

    copies: dict[str, Copy] = {GRIFFIN_LIM: griffin_lim}
    if not isinstance(vocoder, GriffinLim):
        copies = {VOCODED: vocoded, **copies}
    return evaluate_voice(
        synthesizer, data, copies, spec, facts={"vocoder": type(vocoder).__name__}, limit=limit, texts=texts,
        jobs=jobs, checkpoint=checkpoint, recogniser=recogniser, judges=judges, progress=progress,
    )  # fmt: skip
