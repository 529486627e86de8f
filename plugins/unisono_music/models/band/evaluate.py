"""Evaluation of a band: what held-out pieces cost, how far its controls are followed, and how deep a piece is.

Three systems write pieces as long as the held-out ones::

    real     the pieces themselves                                  what is asked, and the ceiling
    asked    under the chords, densities, pitches and durations that were measured of them
    free     told nothing, so that it follows them by chance

Costs are in nats a step, of all tracks together and under the grammar: they compare models of one encoding.

Shapes: k tracks, s bars, f controls of a bar and track.
"""

import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import DataError
from unisono.evaluation import Report, Row, Section

from unisono_music.corpus.chorales import ChoraleData
from unisono_music.corpus.data import ScoreData
from unisono_music.corpus.midi import MidiData
from unisono_music.models.band.band import Band
from unisono_music.models.band.compose import Plan
from unisono_music.models.band.controls import controls_of
from unisono_music.scores import Score, features_of, grid_of

REAL, ASKED, FREE = "real", "asked", "free"
SYSTEMS = [REAL, ASKED, FREE]
AT_ONCE = 8


def evaluate(
    synthesizer: Any,
    data: str | Path | ScoreData,
    *,
    limit: int = 100,
    checkpoint: str | Path | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Report:
    """Measure a band on held-out pieces, of at most ``max_bars``, and return one report.

    ``data`` is a JSON of pieces, a folder of MIDI files, or a data module. Raises ``DataError`` where no piece is left
    or the tracks are others.
    """
    model: Band = synthesizer.model
    held = _held(model, data)
    usable = [index for index in range(len(held.val_set)) if held.val_set.size(index) <= model.max_bars][:limit]
    if not usable:
        raise DataError(
            f"no held-out piece has at most {model.max_bars} bars: give others", code="empty", path="data", value=limit
        )
    chosen = [held.val_set.item(index, torch.Generator()) | {"row": index} for index in usable]
    batches = [held.collate(chosen[first : first + AT_ONCE]) for first in range(0, len(chosen), AT_ONCE)]
    costs = _costs(model, batches)
    draw = model.Request(temperature=temperature, top_p=top_p)
    plans = {ASKED: [], FREE: []}
    for batch in batches:
        pieces, controls = model.pieces(batch), model.measured(batch).cpu()
        for number, row in enumerate(batch["row"].tolist()):
            bars = tuple(pieces.sounding[number].sum(-1)[pieces.kept[number]].tolist())
            own = controls[:, number, : len(bars)]
            seed = derive_seed("evaluate", row)
            plans[ASKED].append(Plan(own, bars, seed))
            plans[FREE].append(Plan(torch.zeros_like(own), bars, seed))
    wanted = [plan.controls for plan in plans[ASKED]]
    followed, depth, spent, outside = {REAL: _followed(wanted, wanted, model)}, {}, {}, {}
    for system, own in plans.items():
        begun, made = time.perf_counter(), []
        for first in range(0, len(own), AT_ONCE):
            with torch.inference_mode():
                made += model.write(own[first : first + AT_ONCE], draw)
        spent[system] = (time.perf_counter() - begun) / len(own)
        scores = [model.score(written, sum(plan.bars)) for written, plan in zip(made, own, strict=True)]
        followed[system] = _followed(wanted, [_measured(score, model) for score in scores], model)
        words = sum(len(track) - 1 for written in made for track in written.words)
        depth[system] = sum(written.depth for written in made) / words
        outside[system] = sum(_outside(score, model) for score in scores)
    rows = [
        Row("chord of the beat", {s: followed[s]["chord"] for s in SYSTEMS}, "%", 1, "higher"),
        Row("notes of a bar, off by", {s: followed[s]["density"] for s in SYSTEMS}, "", 2, "lower"),
        Row("eighth of the range", {s: followed[s]["pitch"] for s in SYSTEMS}, "%", 1, "higher"),
        Row("class of durations", {s: followed[s]["duration"] for s in SYSTEMS}, "%", 1, "higher"),
    ]
    cost_rows = [Row(f"nats a step, {name}", {REAL: value}, "", 3, "lower") for name, value in costs.items()]
    depth_rows = [
        Row("evaluations for each word", dict(depth), "", 3, f"{1 / len(model.lowest):.2f}"),
        Row("time for a piece", dict(spent), "s", 2, "lower"),
        Row("pitches out of range", {s: float(value) for s, value in outside.items()}, "", 0, "lower"),
    ]
    return Report(
        title=f"{synthesizer.info.get('model', 'music/band')}: {len(chosen)} held-out pieces",
        systems=SYSTEMS,
        sections=[
            Section("cost", cost_rows),
            Section("what was asked and is found", rows),
            Section("depth", depth_rows),
        ],
        facts={
            "pieces": len(chosen),
            "steps": int(sum(item["steps"] for item in chosen)),
            "temperature": temperature,
            "top_p": top_p,
            "at once": AT_ONCE,
            "device": str(model.device),
        },
    )


def _held(model: Band, data: str | Path | ScoreData) -> ScoreData:
    """The data of held-out pieces, prepared, of the model's tracks."""
    facts = model.facts
    if isinstance(data, ScoreData):
        held = data
    elif Path(data).suffix.lower() == ".json":
        held = ChoraleData(str(data), voices=tuple(voice.name for voice in facts.voices))
    else:
        held = MidiData(str(data))
    if held.audit is None:
        held.prepare(progress=False)
    if held.val_set is None:
        raise DataError("the data holds out no piece: set val_size or val_part", code="empty", path="data")
    names, own = ([voice["name"] for voice in own["voices"]] for own in (held.describe(), facts))
    if names != own:
        raise DataError(
            f"pieces of {', '.join(names)}, and the model writes {', '.join(own)}: give such pieces",
            code="conflict",
            path="data",
            value=names,
        )
    return held


@torch.inference_mode()
def _costs(model: Band, batches: list[dict[str, Any]]) -> dict[str, float]:
    """Nats a step of the held-out pieces, told what was measured, that and their codes, and nothing."""
    total: dict[str, float] = {}
    steps = 0
    for batch in batches:
        pieces, controls = model.pieces(batch), model.measured(batch)
        told = {"told nothing": torch.zeros_like(controls)}
        if model.features:
            told["controls given"] = controls
        if model.coder is not None:
            told["codes given too"] = model.coded(pieces, controls)
        for name, given in told.items():
            total[name] = total.get(name, 0.0) + float(model.cost(pieces, given).double().sum())
        steps += int(pieces.steps.sum())
    return {name: value / steps for name, value in total.items()}


def _measured(score: Score, model: Band) -> Int[Tensor, "k s f"]:
    own = features_of(score)
    chord, density, pitch, duration = (array[None] for array in (own.chord, own.density, own.pitch, own.duration))
    return controls_of(chord, density, pitch, duration, model.facts, model.codes.num_groups)[:, 0]


def _followed(wanted: list[Int[Tensor, "k s f"]], made: list[Int[Tensor, "k s f"]], model: Band) -> dict[str, float]:
    """How far what was asked is found: shares in percent, and of density the mean distance in notes."""
    beats = model.facts.beats_per_bar
    asked = torch.cat([w.flatten(0, 1) for w in wanted])
    found = torch.cat([m.flatten(0, 1) for m in made])
    given = asked > 0
    right = (asked == found) & given
    kinds = {"chord": slice(0, beats), "pitch": slice(beats + 1, beats + 2), "duration": slice(beats + 2, beats + 3)}
    shares = {
        name: 100 * float(right[:, part].sum() / given[:, part].sum().clamp(min=1)) for name, part in kinds.items()
    }
    return shares | {"density": float((asked[:, beats] - found[:, beats]).abs().float().mean())}


def _outside(score: Score, model: Band) -> int:
    """How many steps sound outside of their track's range."""
    return sum(
        int(((row >= 0) & ((row < voice.lowest) | (row > voice.highest))).sum())
        for voice, row in zip(model.facts.voices, grid_of(score).pitch, strict=True)
    )
