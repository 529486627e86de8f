"""Evaluation of a motion model: what it shows, how it moves, how it edits, how fast it is.

Three systems show the same held-out captions at the same lengths::

    real         the clip, through the same features                        the ceiling
    tokenizer    clip → tokens → motion                                     the tokenizer's loss
    model        caption → tokens → motion                                  what one gets

Texts and motions are compared in the space of the component ``matcher``, which the export holds. Its numbers
compare systems on one matcher and one set of clips; they do not compare papers.

Shapes: n clips, k samples of each, e dimensions of the matcher's space.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from unisono import evaluation
from unisono.data import derive_seed, words_of
from unisono.errors import DataError
from unisono.evaluation import Report, Row, Section
from unisono.nn.captions import MAX_WORDS

from unisono_motion.corpus.data import Clip, ClipData, ClipOptions, MotionData
from unisono_motion.measure.physics import foot_sliding, seam_jump, velocity_jumps
from unisono_motion.models.composing import Composition
from unisono_motion.models.request import read_request
from unisono_motion.skeleton import Motion

REAL, TOKENIZER, MODEL = "real", "tokenizer", "model"
SYSTEMS = [REAL, TOKENIZER, MODEL]
TOPS = (1, 2, 3)
NUM_EDITS = 40
SPEED_SECONDS, SPEED_STEPS, SPEED_REPEATS = 2.0, 10, 5
AT_ONCE = 16


def evaluate(
    synthesizer: Any,
    data: str | Path | MotionData,
    *,
    limit: int = 100,
    samples: int = 3,
    pool: int = 32,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **fields: Any,
) -> Report:
    """Measure a motion model on held-out clips of a corpus and return one report.

    ``data`` is what ``motion/clips`` reads, or a data module. Of the clips that the model's facts name as held out
    (where none is there, of all, and the report says so), at most ``limit`` with captions are measured, with
    ``samples`` motions of each; ``fields`` are those of the request (``num_steps=20``). R-precision asks among
    ``pool`` captions. Raises ``DataError`` where no clip is left or motions are of another kind.
    """
    if device is not None:
        synthesizer.to(device)
    if samples < 2:
        raise DataError(
            f"samples={samples} must be at least 2: spreads are measured", code="range", path="samples", value=samples
        )
    held = Held.read(synthesizer, data, limit, pool)
    matcher, tokenizer = synthesizer.model.component("matcher"), synthesizer.model.tokenizer
    clips, captions, seconds, texts = held.clips, held.captions, held.seconds, held.texts

    bar = {"console": Console(stderr=True), "disable": not progress}
    real = [tokenizer.motion(torch.from_numpy(np.array(clip.features))) for clip in clips]
    copied = [tokenizer.motion(_through(tokenizer, clip)) for clip in track(clips, "tokenizing", **bar)]
    spent, made = time.perf_counter(), []
    for sample in track(range(samples), "making", **bar):
        asked = [
            {"text": text, "seconds": length, "seed": derive_seed("evaluate", sample, clip.id), **fields}
            for text, length, clip in zip(captions, seconds, clips, strict=True)
        ]
        made.append([m for i in range(0, len(asked), AT_ONCE) for m in synthesizer(asked[i : i + AT_ONCE])])
    spent = time.perf_counter() - spent

    motions = {REAL: [real], TOKENIZER: [copied], MODEL: made}
    places = {
        system: np.stack([matcher.place_motions(motions_) for motions_ in rounds]) for system, rounds in motions.items()
    }
    found = {s: np.mean([held.r_precision(p) for p in rounds], axis=0) for s, rounds in places.items()}
    text_rows = [
        *(
            Row(f"R-precision top {top}", {s: float(found[s][i]) for s in SYSTEMS}, "", 3, "higher")
            for i, top in enumerate(TOPS)
        ),
        Row(
            "distance to the text",
            {s: fmean(evaluation.paired_distance(texts, p) for p in places[s]) for s in SYSTEMS},
            digits=3,
            better="lower",
        ),
    ]
    spread_rows = [
        Row(
            "FID",
            {s: fmean(evaluation.frechet_distance(places[REAL][0], p) for p in places[s]) for s in SYSTEMS[1:]},
            digits=4,
            better="lower",
        ),
        Row(
            "diversity",
            {s: fmean(evaluation.diversity(p) for p in places[s]) for s in SYSTEMS},
            digits=3,
            better=f"{evaluation.diversity(places[REAL][0]):.3f}",
        ),
        Row("multimodality", {MODEL: evaluation.multimodality(places[MODEL].transpose(1, 0, 2))}, digits=3),
    ]
    feet, fps = tokenizer.spec.skeleton.feet, tokenizer.spec.fps
    body_rows = [
        Row("joints off the clip's", {TOKENIZER: _reconstruction(real, copied)}, "mm", 1, "lower"),
        Row(
            "foot sliding",
            {s: _mean([foot_sliding(m.positions, feet, fps) for ms in motions[s] for m in ms]) for s in SYSTEMS},
            "m/s",
            3,
            "lower",
        ),
        Row(
            "change of velocity",
            {s: _mean([velocity_jumps(m.positions, fps).mean() for ms in motions[s] for m in ms]) for s in SYSTEMS},
            "m/s per frame",
            4,
        ),
    ]
    return Report(
        title=f"{synthesizer.info.get('model', 'motion model')}: {len(clips)} clips, {samples} motions of each",
        systems=SYSTEMS,
        sections=[
            Section("Text", text_rows),
            Section("Space", spread_rows),
            Section("Body", body_rows),
            edits(synthesizer, clips, captions, real, copied, fields),
            speed(synthesizer, captions[0], spent, made, fields),
        ],
        facts={
            "clips": len(clips),
            "held out": "yes" if held.seen else "no: the data has none of the clips that were kept out of training",
            "pool": held.pool,
            "captions": len(held.gallery[1]),
            **{name: value for name, value in fields.items()},
            "threads": torch.get_num_threads(),
        },
        items=[
            {
                "id": clip.id,
                "caption": text,
                "seconds": length,
                "distances": [float(np.linalg.norm(texts[i] - p[i])) for p in places[MODEL]],
            }
            for i, (clip, text, length) in enumerate(zip(clips, captions, seconds, strict=True))
        ],
    )


@dataclass(frozen=True, eq=False)
class Held:
    """Clips to measure on, and where their texts stand among all captions of the corpus.

    ``seen``: they are those that the model's facts name as held out. ``texts`` [n, e] are the captions' places;
    ``gallery`` has every distinct caption's place and label, ``labels`` those of the clips; R-precision asks among
    ``pool`` of them.
    """

    clips: list[Clip]
    seen: bool
    captions: list[str]
    seconds: list[float]
    texts: np.ndarray
    labels: list[str]
    gallery: tuple[np.ndarray, list[str]]
    pool: int

    @classmethod
    def read(cls, synthesizer: Any, data: str | Path | MotionData, limit: int, pool: int = 32) -> "Held":
        """Read a corpus for a model that has a matcher; raises ``DataError`` as ``evaluate`` does."""
        model = synthesizer.model
        matcher, tokenizer = model.component("matcher"), model.tokenizer
        if limit < 2:
            raise DataError(
                f"limit={limit} must be at least 2: spreads are measured", code="range", path="limit", value=limit
            )
        module = (
            data
            if isinstance(data, MotionData)
            else ClipData(
                str(data), clips=ClipOptions(fps=tokenizer.spec.fps, mirror=False), crop_frames=None, val_size=0
            )
        )
        module.setup()
        name = "the data" if isinstance(data, MotionData) else str(data)
        if module.spec.to_dict() != tokenizer.spec.to_dict():
            raise DataError(
                f"{name}: its motions have another skeleton or rate than the model's",
                code="conflict",
                path="data",
                value=name,
            )
        everything = [*module.train_set.clips, *(module.val_set.clips if module.val_set else [])]
        clips, seen = held_out(everything, model.facts.held_out, limit)
        if len(clips) < 2:
            raise DataError(
                f"{name}: {len(clips)} clips with a caption are left to measure, at least 2 are needed",
                code="limit",
                path="data",
                value=len(clips),
            )
        phrasings = [clip.captions[derive_seed("evaluate", clip.id) % len(clip.captions)] for clip in clips]
        captions = [" ".join(words_of(text)[:MAX_WORDS]) for text in phrasings]
        gallery = {clip.captions: clip.captions[0] for clip in everything if clip.captions}
        label = {captions_: str(i) for i, captions_ in enumerate(gallery)}
        texts, places = (matcher.place_texts(said).detach().cpu().numpy() for said in (captions, [*gallery.values()]))
        return cls(
            clips, seen, captions, [len(clip.features) / tokenizer.spec.fps for clip in clips], texts,
            [label[clip.captions] for clip in clips], (places, list(label.values())), min(pool, len(gallery)),
        )  # fmt: skip

    def r_precision(self, places: np.ndarray) -> list[float]:
        """Return the R-precision of motions at places [n, e], one of each clip's caption, for each of ``TOPS``."""
        return list(evaluation.r_precision(self.texts, places, self.labels, self.gallery, self.pool, TOPS))


def probe(synthesizer: Any, data: str | Path | MotionData, *, limit: int = 32) -> evaluation.Probe:
    """Return what ``unisono sweep`` asks of a motion model, and how near its motions are to clips and captions.

    Requests are captions of held-out clips at the clips' lengths; measured are FID, to the same clips, and
    R-precision. The Fréchet distance of a few clips is biased upwards, by the same amount in every row.
    """
    held = Held.read(synthesizer, data, limit)
    matcher, tokenizer = synthesizer.model.component("matcher"), synthesizer.model.tokenizer
    real = matcher.place_motions([tokenizer.motion(torch.from_numpy(np.array(clip.features))) for clip in held.clips])
    top = f"R-precision top {TOPS[-1]}"

    def measure(made: list[Motion]) -> dict[str, float]:
        places = matcher.place_motions(made)
        return {"FID": evaluation.frechet_distance(real, places), top: float(held.r_precision(places)[-1])}

    return evaluation.Probe(
        [{"text": text, "seconds": length} for text, length in zip(held.captions, held.seconds, strict=True)],
        measure,
        {"FID": "lower", top: "higher"},
        {"held out": "yes" if held.seen else "no", "pool": held.pool},
    )


def held_out(clips: Sequence[Clip], names: Sequence[str], limit: int) -> tuple[list[Clip], bool]:
    """Return at most ``limit`` captioned clips that were kept out of training, and whether there were any."""
    known = [clip for clip in clips if any(map(words_of, clip.captions)) and len(clip.features) >= 4]
    kept = [clip for clip in known if clip.id in set(names)]
    chosen = kept or known
    chosen = sorted(chosen, key=lambda clip: derive_seed("chosen", clip.id))
    return chosen[:limit], bool(kept)


def edits(
    synthesizer: Any,
    clips: Sequence[Clip],
    captions: Sequence[str],
    real: Sequence[Motion],
    copied: Sequence[Motion],
    fields: dict[str, Any],
) -> Section:
    """Make the middle half of some clips anew, and join some captions; measure seams and what was frozen."""
    model = synthesizer.model
    tokenizer = model.tokenizer
    fps, down = tokenizer.spec.fps, tokenizer.downsampling
    long = [i for i, motion in enumerate(real) if motion.seconds >= 8 * down / fps][:NUM_EDITS]
    seams: dict[str, list[float | None]] = {system: [] for system in SYSTEMS}
    changed = frozen = 0
    with tempfile.TemporaryDirectory() as folder:
        for i in long:
            path = real[i].save(Path(folder) / f"{i}.npz")
            quarter = real[i].seconds / 4
            keep = [(0.0, quarter), (3 * quarter, real[i].seconds)]
            task, motion = _made(model, {"motion": str(path), "text": captions[i], "keep": keep, **fields})
            own = tokenizer.encode(tokenizer.read(str(path))[None].to(model.device))[0].cpu()[:, model.columns]
            changed += int((task.tokens != own)[task.frozen].sum())
            frozen += int(task.frozen.sum())
            for system, shown in ((REAL, real[i]), (TOKENIZER, copied[i]), (MODEL, motion)):
                seams[system].append(seam_jump(shown.positions, fps, task.seams(down)))
    borders = []
    for first, second in zip(captions[: 2 * NUM_EDITS : 2], captions[1 : 2 * NUM_EDITS : 2], strict=False):
        task, motion = _made(model, {"texts": [first, second], "durations": [3.0, 3.0], **fields})
        borders.append(seam_jump(motion.positions, fps, task.seams(down)))
    inside = {
        system: [
            seam_jump(motion.positions, fps, [frame])
            for motion in motions
            for frame in range(2, len(motion.positions) - 1)
        ]
        for system, motions in ((REAL, real), (TOKENIZER, copied))
    }
    high = {s: float(np.percentile([x for x in values if x is not None], 95)) for s, values in inside.items()}
    unit = "m/s"
    return Section(
        "Edits",
        [
            Row("velocity jump inside clips, mean", {s: _mean(inside[s]) for s in inside}, unit, 3),
            Row("velocity jump inside clips, 95th percentile", {s: high[s] for s in inside}, unit, 3),
            Row("velocity jump at edits' seams, mean", {s: _mean(seams[s]) for s in SYSTEMS}, unit, 3, "lower"),
            Row("the same, less that of the real clips", {MODEL: _paired(seams[MODEL], seams[REAL])}, unit),
            Row("velocity jump between captions, mean", {MODEL: _mean(borders)}, unit, 3, "lower"),
            Row("frozen tokens changed", {MODEL: f"{changed} of {frozen}"} if long else {}),
        ],
    )


def speed(
    synthesizer: Any, caption: str, spent: float, made: Sequence[Sequence[Motion]], fields: dict[str, Any]
) -> Section:
    """Time one motion by itself, and all that were made above together."""
    model = synthesizer.model
    times = []
    before = model.evaluations
    for seed in range(SPEED_REPEATS + 1):
        start = time.perf_counter()
        synthesizer(caption, seconds=SPEED_SECONDS, seed=seed, **{"num_steps": SPEED_STEPS, **fields})
        times.append(time.perf_counter() - start)
    each = (model.evaluations - before) / (SPEED_REPEATS + 1)
    total = sum(motion.seconds for motions in made for motion in motions)
    return Section(
        "Speed",
        [
            Row(f"{SPEED_SECONDS:g} s of motion by itself, median", {MODEL: median(times[1:])}, "s", 3, "lower"),
            Row("evaluations for it", {MODEL: each}, digits=1),
            Row("seconds for a second, in batches", {MODEL: spent / total}, "s", 3, "lower"),
        ],
    )


def _made(model: Any, fields: dict[str, Any]) -> tuple[Any, Motion]:
    """Return the filled task of a request, and its motion."""
    task = read_request(model, model.Request.parse(**fields))
    with torch.inference_mode():
        composition = Composition(model, task, model.seed_of(task.request))
        for _ in model.fill_all([composition]):
            pass
        return task, composition.whole()


def _through(tokenizer: Any, clip: Clip) -> torch.Tensor:
    features = torch.from_numpy(np.array(clip.features))[None].to(tokenizer.device)
    lengths = torch.tensor([features.shape[1]])
    with torch.inference_mode():
        return tokenizer.decode(tokenizer.encode(features, lengths), lengths)[0, : len(clip.features)].cpu()


def _reconstruction(real: Sequence[Motion], copied: Sequence[Motion]) -> float:
    """Return the mean distance of joints relative to the root, in millimetres."""
    distances = []
    for one, other in zip(real, copied, strict=True):
        poses = [m.positions - m.positions[:, :1] for m in (one, other)]
        distances.append(np.linalg.norm(poses[0] - poses[1], axis=-1).mean())
    return 1000 * fmean(map(float, distances))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _paired(values: Sequence[float | None], others: Sequence[float | None]) -> str | None:
    """Return the mean difference of pairs and its standard error; None for fewer than two."""
    pairs = zip(values, others, strict=True)
    differences = [value - other for value, other in pairs if value is not None and other is not None]
    if len(differences) < 2:
        return None
    return f"{fmean(differences):+.3f} ± {stdev(differences) / len(differences) ** 0.5:.3f}"
