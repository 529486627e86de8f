"""Evaluation of vocoders: what each makes of the same recordings, and what it costs.

::

    recording → log mel → each vocoder             named after its export
                        → Griffin-Lim, 32 iterations    the floor: no weights

Clips come one take per sentence, in the order in which training's split holds them out; of those a vocoder has not
heard the first ``data.val_size``, if it was trained on this corpus.

Shapes: n samples.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from unisono.data import derive_seed, map_processes
from unisono.errors import DataError, UnisonoError
from unisono.evaluation import Report, Row, Section
from unisono.export import load
from unisono.extras import optional
from unisono_sound.corpus import Manifest, Utterance, same_sentence
from unisono_sound.signal import GriffinLim, LogMel, read_audio

from unisono_codec.vocoders import scoring
from unisono_codec.vocoders.data import read_recordings
from unisono_codec.vocoders.scoring import Pair
from unisono_codec.vocoders.vocoder import Vocoder

GRIFFIN_LIM = "griffin-lim"


def evaluate(
    synthesizer,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    against: Sequence[str | Path] = (),
    jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Measure a vocoder, and the exports ``against`` which it is set, on the same recordings.

    ``data`` is a manifest or what ``AudioData`` reads as its root, ``"name=PATH,name=PATH"`` too. Quality is measured
    where the vocoder is; the real-time factor on one CPU core, and on a GPU too where there is one, the vocoders taking
    turns clip by clip. ``jobs`` processes score. A clip that cannot be read is listed in ``failures``.

    Raises ``MissingExtra`` without the extra ``evaluate``, ``UnisonoError`` where an export is no vocoder, speaks
    another sample rate or hop, or shares its name with another; ``DataError`` where nothing could be measured.
    """
    optional("pystoi")
    rivals = {_name(synthesizer, checkpoint): synthesizer.model}
    for where in against:
        other = load(str(where), device=str(synthesizer.model.device))
        name = _name(other, where)
        if name in rivals:
            message = f"two exports are called {name!r}: give folders of different names"
            raise UnisonoError(message, code="conflict", path="against", value=name)
        rivals[name] = other.model
    first = synthesizer.model
    for name, model in rivals.items():
        if not isinstance(model, Vocoder):
            message = f"{name} is a {type(model).__name__}, not a vocoder: leave it out of --against"
            raise UnisonoError(message, code="type", path="against", value=type(model).__name__)
        if (model.mel_spec.sample_rate, model.mel_spec.hop_length) != _rate(first):
            message = (
                f"{name} speaks {model.mel_spec.sample_rate} Hz at a hop of {model.mel_spec.hop_length}, the first "
                f"{_rate(first)[0]} Hz at {_rate(first)[1]}: compare vocoders of one rate and hop"
            )
            raise UnisonoError(message, code="conflict", path="against", value=name)
    spec = first.mel_spec
    tools = {**rivals, GRIFFIN_LIM: GriffinLim(spec)}
    manifest = data if isinstance(data, Manifest) else read_recordings(_roots(data))
    chosen = clips(manifest, limit)

    failures = manifest.failures()
    pairs: list[Pair] = []
    factors: dict[str, dict[str, list[float]]] = {}
    bar = {"console": Console(stderr=True), "disable": not progress}
    for number, utterance in enumerate(track(chosen, "speaking", **bar)):
        try:
            wave, _ = read_audio(utterance.audio, spec.sample_rate)
            wave = wave[: len(wave) // spec.hop_length * spec.hop_length]
            mels = {name: LogMel(tool.mel_spec)(wave[None]) for name, tool in tools.items()}
        except (UnisonoError, ValueError) as error:
            failures.append({"id": utterance.id, "system": "recording", "reason": f"{type(error).__name__}: {error}"})
            continue
        for name, tool in tools.items():
            made = _speak(tool, mels[name])
            pairs.append(Pair(utterance.id, name, wave.numpy(), made[0].float().cpu().numpy(), spec))
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            seconds = len(wave) / spec.sample_rate
            for name, spent in timed(tools, mels, device, warm=number == 0).items():
                factors.setdefault(device, {}).setdefault(name, []).append(spent / seconds)
    if not pairs:
        message = f"none of {len(chosen)} clips could be read: {failures[0]['reason'] if failures else 'none'}"
        raise DataError(message, code="empty", path="data", value=len(chosen))
    scores = map_processes(scoring.score, pairs, num_processes=jobs, progress=progress, description="scoring")

    heard = [utterance for utterance in chosen if any(pair.id == utterance.id for pair in pairs)]
    facts = {
        "clips": len(heard),
        "seconds": round(sum(len(p.reference) for p in pairs if p.system == GRIFFIN_LIM) / spec.sample_rate, 1),
        "held out": f"the first {_val_size(first)} of the split, if trained on this corpus",
        "sample rate": spec.sample_rate,
        "PESQ": scoring.PESQ_FACT,
        "device": str(first.device),
    }
    return Report(
        title=f"{', '.join(rivals)} on {len(heard)} clips",
        systems=list(tools),
        sections=[Section("how it sounds", scoring.rows(pairs, scores)), _cost(tools, factors)],
        facts=facts,
        items=[scoring.record(pair, result) for pair, result in zip(pairs, scores, strict=True)],
        failures=failures + scoring.failures(pairs, scores),
    )


def clips(manifest: Manifest, limit: int) -> list[Utterance]:
    """Return one take of each of ``limit`` sentences (recordings, where there is no text), those that training's
    split would hold out first."""
    groups: dict[str, list[Utterance]] = {}
    for utterance in manifest:
        groups.setdefault(same_sentence(utterance.text) or utterance.id, []).append(utterance)
    ranks = {key: derive_seed("split", min(u.text or u.id for u in group)) for key, group in groups.items()}
    order = sorted(groups, key=lambda key: (ranks[key], key))
    return [groups[key][0] for key in order[:limit]]


def timed(tools: dict[str, Any], mels: dict[str, Tensor], device: str, warm: bool) -> dict[str, float]:
    """Return the seconds that each vocoder takes for its mel on a device, a CPU's one core; ``warm`` runs each once
    before."""
    spent = {}
    with one_thread():
        for name, tool in tools.items():
            home = next((p.device for p in tool.parameters()), torch.device("cpu"))
            tool.to(device)
            mel = mels[name].to(device)
            for timing in (False, True) if warm else (True,):
                start = time.perf_counter()
                _speak(tool, mel)
                if device == "cuda":
                    torch.cuda.synchronize()
                if timing:
                    spent[name] = time.perf_counter() - start
            tool.to(home)
    return spent


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _speak(tool: Any, mel: Tensor) -> Tensor:
    home = next((p.device for p in tool.parameters()), mel.device)
    return tool.decode(mel.to(home))


def _cost(tools: dict[str, Any], factors: dict[str, dict[str, list[float]]]) -> Section:
    names = {"cpu": "real-time factor, one CPU core", "cuda": "real-time factor, GPU"}
    rows = [
        Row(names[device], {name: median(found) for name, found in by_name.items()}, digits=4, better="lower")
        for device, by_name in factors.items()
    ]
    weights = {name: sum(p.numel() for p in tool.parameters()) / 1e6 for name, tool in tools.items()}
    return Section("what it costs", [*rows, Row("parameters", weights, unit="million", better="lower")])


def _name(synthesizer, where: str | Path | None) -> str:
    if where is not None:
        return Path(where).resolve().name
    return synthesizer.info.get("model", type(synthesizer.model).__name__)


def _roots(data: Any) -> Any:
    if isinstance(data, str) and "=" in data and not Path(data).exists():
        return dict(part.strip().split("=", 1) for part in data.split(",") if "=" in part)
    return str(data) if isinstance(data, Path) else data


def _rate(model: Vocoder) -> tuple[int, int]:
    return model.mel_spec.sample_rate, model.mel_spec.hop_length


def _val_size(model: Vocoder) -> int:
    return model.recipe.get("data", {}).get("val_size", 0)
