"""Evaluation of a picture generator: how real its pictures are, whether they show what was asked, whether they are
copies, and how fast they come.

Two systems are compared with the same reference pictures::

    training     pictures of the training part                     the ceiling: what real pictures get
    model        pictures of the model, as many, asked for by the classes or captions of the corpus

Reference pictures are those that were held out of training: the corpus's own test part, or those that the model's
facts name; for a model of captions, all others of the corpus, for a few dozen held-out pictures span no distribution.
The network whose features are compared is named in the report; its numbers compare systems, not papers.

Shapes: n pictures, d features.
"""

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.progress import track
from unisono import Image, evaluation, plugin
from unisono.arguments import build
from unisono.data import derive_seed
from unisono.errors import DataError
from unisono.evaluation import Probe, Report, Row, Section
from unisono.files import composed
from unisono.recipe import data_of

from unisono_image.corpus.data import ImageData, Picture, PictureSet
from unisono_image.measure.features import ClassifierFeatures, Extractor, features_of

REAL, MODEL = "training", "model"
SYSTEMS = [REAL, MODEL]
NEIGHBOURS = 3
POOL = 32
AT_ONCE = 32
SPEED_REPEATS = 5
MOST_KNOWN = 20_000
COPY_RMS = 4.0
"""Of 255: a picture this near to one of the training part, in root mean square over its values, is a copy of it."""


def evaluate(
    synthesizer: Any,
    data: str | Path | ImageData,
    *,
    limit: int = 500,
    extractor: Extractor = "classifier",
    device: str | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **fields: Any,
) -> Report:
    """Measure a picture generator on a corpus and return one report.

    ``data`` is the corpus that the model's recipe reads, at another place maybe, or a data module. ``limit`` pictures
    are made, by all classes alike or by captions of the corpus; ``fields`` are those of the request
    (``num_steps=20``). Raises ``DataError`` where fewer than five pictures are left on a side.
    """
    if device is not None:
        synthesizer.to(device)
    features = features_of(synthesizer.model, extractor)
    corpus = Corpus.read(synthesizer, data, limit)
    bar = {"console": Console(stderr=True), "disable": not progress}
    asked = [{**request, "seed": derive_seed("evaluate", i), **fields} for i, request in enumerate(corpus.requests)]
    spent = time.perf_counter()
    made: list[Image] = []
    for first in track(range(0, len(asked), AT_ONCE), "making", **bar):
        made += synthesizer(asked[first : first + AT_ONCE])
    spent = time.perf_counter() - spent
    pictures = {REAL: corpus.pixels(corpus.sample), MODEL: [pixels_of(image) for image in made]}
    reference = corpus.pixels(corpus.reference)
    vectors = {system: features(images) for system, images in pictures.items()}
    truth = features(reference)
    size = min(len(v) for v in (truth, *vectors.values()))  # precision and recall depend on it
    found = {s: evaluation.precision_recall(truth[:size], v[:size], NEIGHBOURS) for s, v in vectors.items()}
    sections = [
        Section(
            "Distribution",
            [
                Row("FID (features named below)",
                    {s: evaluation.frechet_distance(truth, v) for s, v in vectors.items()}, digits=2, better="lower"),
                Row("precision", {s: pair[0] for s, pair in found.items()}, digits=3, better="higher"),
                Row("recall", {s: pair[1] for s, pair in found.items()}, digits=3, better="higher"),
            ],
        ),
        _what_is_shown(synthesizer, corpus, features, pictures, vectors[MODEL], fields),
        _copies(corpus, pictures),
        _speed(synthesizer, corpus.requests[0], spent / len(made), fields),
    ]  # fmt: skip
    return Report(
        title=f"{synthesizer.info.get('model', 'picture generator')}: {len(made)} pictures",
        systems=SYSTEMS,
        sections=sections,
        facts={
            "features": features.name,
            "reference": f"{len(reference)} pictures, {corpus.kind}",
            "training pictures": len(corpus.train),
            **{name: value for name, value in fields.items()},
        },
        items=[{"request": request} for request in corpus.requests],
    )


def probe(
    synthesizer: Any, data: str | Path | ImageData, *, limit: int = 32, extractor: Extractor = "classifier"
) -> Probe:
    """Return what ``unisono sweep`` asks of a picture generator: FID, and whether pictures show what was asked.

    For classes that is the classifier's accuracy; for captions, how often a picture is nearest to its caption's own
    among 32. The Fréchet distance of a few pictures is biased upwards, by the same amount in every row.
    """
    features = features_of(synthesizer.model, extractor)
    corpus = Corpus.read(synthesizer, data, limit)
    truth = features(corpus.pixels(corpus.reference))
    better: dict[str, Any] = {"FID": "lower"}
    own = features(corpus.pixels(corpus.asked)) if corpus.asked else None
    judged = corpus.judged_by(features)
    shown = "classified as asked" if own is None else f"nearest to its own of {corpus.pool}"
    if own is not None or judged is not None:
        better[shown] = "higher"

    def measure(made: list[Image]) -> dict[str, float]:
        images = [pixels_of(image) for image in made]
        vectors = features(images)
        values = {"FID": evaluation.frechet_distance(truth, vectors)}
        if own is not None:
            values[shown] = matched(vectors, own, corpus.pool)
        elif judged is not None:
            values[shown] = accuracy(judged, images, [corpus.classes[label] for label in corpus.labels])
        return values

    return Probe(corpus.requests, measure, better, {"features": features.name, "reference": corpus.kind})


@dataclass(frozen=True, eq=False)
class Corpus:
    """What a generator is measured on.

    ``requests`` are fields of requests; ``asked`` the training pictures whose captions they are (none for classes),
    ``labels`` the classes they ask for, ``unseen`` held-out pictures with captions. ``sample`` are as many training
    pictures; ``reference`` the pictures that both are compared with, ``kind`` which those are; ``train`` all training
    pictures.
    """

    pictures: PictureSet
    classes: list[str]
    requests: list[dict[str, Any]]
    asked: list[Picture]
    labels: list[int]
    unseen: list[Picture]
    sample: list[Picture]
    reference: list[Picture]
    train: list[Picture]
    kind: str

    @property
    def pool(self) -> int:
        """Among how many pictures a caption's own is looked for."""
        return min(POOL, len(self.asked))

    @classmethod
    def read(cls, synthesizer: Any, data: str | Path | ImageData, limit: int) -> "Corpus":
        """Read a corpus for a model; raises ``DataError`` as ``evaluate`` does."""
        model = synthesizer.model
        module = data if isinstance(data, ImageData) else corpus_of(model, str(data))
        module.setup()
        if module.size != model.facts.size:
            raise DataError(
                f"the data has {module.size} pixels a side, the model makes {model.facts.size}",
                code="conflict",
                path="size",
                value=module.size,
            )
        # Exports that are older than the natural order of numbers have another order of the same classes.
        if sorted(module.classes) != sorted(model.facts.classes) and not model.facts.words:
            raise DataError(
                f"the data has the classes {module.classes}, the model knows {list(model.facts.classes)}",
                code="conflict",
                path="classes",
                value=list(module.classes),
            )
        train, held = sides(module, model.facts.held_out)
        labels: list[int] = []
        asked: list[Picture] = []
        unseen: list[Picture] = []
        if model.facts.words:
            train = [picture for picture in train if picture.captions]
            count = min(limit, len(train) // 3)
            asked, sample, reference = train[:count], train[count : 2 * count], [*train[2 * count :], *held]
            unseen = [picture for picture in held if picture.captions][:limit]
            requests = [{"prompt": picture.captions[0]} for picture in asked]
            kind = "all of the corpus but those asked for and the training column's"
        else:
            labels = [number % max(len(module.classes), 1) for number in range(limit)]
            requests = [{"label": module.classes[label]} if module.classes else {} for label in labels]
            sample = train[: min(limit, len(train) if held else len(train) // 2)]
            reference = held or train[len(sample) :]
            kind = "held out of training" if held else "the rest of the corpus: none is known to be held out"
        if min(len(requests), len(sample), len(reference)) <= NEIGHBOURS + 1:
            raise DataError(
                f"{len(requests)} requests, {len(sample)} training and {len(reference)} reference pictures: at least "
                f"{NEIGHBOURS + 2} of each are needed; raise the limit or give more data",
                code="limit",
                path="limit",
                value=limit,
            )
        return cls(module.train_set, module.classes, requests, asked, labels, unseen, sample, reference, train, kind)

    def pixels(self, pictures: Sequence[Picture]) -> list[UInt8[np.ndarray, "3 s s"]]:
        """Return pictures' own pixels."""
        return [self.pictures.of(picture) for picture in pictures]

    def judged_by(self, features: Any) -> ClassifierFeatures | None:
        """Return the classifier where it tells apart what the model is asked for."""
        if not isinstance(features, ClassifierFeatures) or not self.labels or not self.classes:
            return None
        return features if set(self.classes) <= set(features.classes) else None


def sides(module: ImageData, held_out: Sequence[str]) -> tuple[list[Picture], list[Picture]]:
    """Return the pictures that a model was trained on, and those that were held out: the corpus's own test part, or
    those of these ids. Their order depends on ids alone, so that every model is measured on the same."""
    train, tested = list(module.train_set.pictures), list(module.tested)
    ids = {composed(id) for id in held_out}
    rest = list(module.val_set.pictures) if module.val_set and not tested else []
    held = tested or [p for p in [*train, *rest] if p.id in ids]
    known = {picture.id for picture in held}
    train = [picture for picture in [*train, *rest] if picture.id not in known]
    train, held = (sorted(side, key=lambda p: derive_seed("chosen", p.id)) for side in (train, held))
    return train, held


def corpus_of(model: Any, root: str) -> ImageData:
    """Make the data module that a model was trained on, at another place, with nothing held out or changed."""
    section = data_of(model.recipe)
    kind = plugin.resolve(section.pop("name", "image/folder"), "data")
    known = inspect.signature(kind).parameters
    if "root" not in known:
        raise DataError(
            "this model was trained on data that was made on the spot: give a data module, not a path",
            code="unsupported",
            path="data",
            value=str(root),
        )
    changed = {"root": root, "val_size": 0, "batch_size": 1, "num_workers": 0}
    if "pictures" in known:
        changed["pictures"] = {**section.get("pictures", {}), "flip": False, "shift": 0}
    given = {name: value for name, value in {**section, **changed}.items() if name in known}
    return build(kind, given, "data", "the model's recipe")


def pixels_of(image: Image) -> UInt8[np.ndarray, "3 h w"]:
    """Return a picture as it would be saved, so that files and arrays are measured alike."""
    return np.ascontiguousarray(image.bytes.transpose(2, 0, 1))


def accuracy(judge: ClassifierFeatures, images: Sequence[UInt8[np.ndarray, "3 h w"]], names: Sequence[str]) -> float:
    """Return how often an image is taken for the class that is named."""
    best = judge.chances(images).argmax(1)
    return fmean(judge.classes[found] == name for found, name in zip(best, names, strict=True))


def matched(made: Float[np.ndarray, "n d"], own: Float[np.ndarray, "n d"], pool: int) -> float:
    """Return how often a vector is nearer to its own than to ``pool`` − 1 others; ties are not found."""
    return evaluation.r_precision(own, made, pool=pool, tops=(1,))[0]


def _what_is_shown(
    synthesizer: Any,
    corpus: Corpus,
    features: Any,
    pictures: dict[str, list[np.ndarray]],
    vectors: np.ndarray,
    fields: dict[str, Any],
) -> Section:
    """Say how often a picture shows what was asked: a class by the classifier, a caption by its own picture."""
    rows = []
    judged = corpus.judged_by(features)
    if judged is not None:
        rates: dict[str, float | str | None] = {
            MODEL: accuracy(judged, pictures[MODEL], [corpus.classes[label] for label in corpus.labels])
        }
        known = [(image, p.label) for image, p in zip(pictures[REAL], corpus.sample, strict=True) if p.label >= 0]
        if known:
            rates[REAL] = accuracy(judged, [image for image, _ in known], [corpus.classes[n] for _, n in known])
        rows.append(Row("classified as asked", rates, "", 3, "higher"))
        held = [p for p in corpus.reference if p.label >= 0][: len(corpus.labels)]
        if held:
            right = accuracy(judged, corpus.pixels(held), [corpus.classes[p.label] for p in held])
            rows.append(Row("reference pictures classified rightly", {REAL: right}, "", 3))
        for number, name in enumerate(corpus.classes):
            mine = [image for image, label in zip(pictures[MODEL], corpus.labels, strict=True) if label == number]
            if mine:
                rows.append(Row(f"  {name}", {MODEL: accuracy(judged, mine, [name] * len(mine))}, "", 3, "higher"))
    if corpus.asked:
        own = features(corpus.pixels(corpus.asked))
        rate = matched(vectors, own, corpus.pool)
        rows.append(Row(f"nearest to its caption's own among {corpus.pool}", {MODEL: rate}, "", 3, "higher"))
        rows.append(Row("the same by chance", {MODEL: 1 / corpus.pool}, "", 3))
    if len(corpus.unseen) > 1:
        asked = [
            {"prompt": picture.captions[0], "seed": derive_seed("unseen", i), **fields}
            for i, picture in enumerate(corpus.unseen)
        ]
        made = [m for i in range(0, len(asked), AT_ONCE) for m in synthesizer(asked[i : i + AT_ONCE])]
        pool = min(POOL, len(asked))
        own = features(corpus.pixels(corpus.unseen))
        rate = matched(features([pixels_of(image) for image in made]), own, pool)
        rows.append(Row(f"the same for captions never seen, among {pool}", {MODEL: rate}, "", 3, "higher"))
    return Section("What is shown", rows)


def _copies(corpus: Corpus, pictures: dict[str, list[np.ndarray]]) -> Section:
    """Say how near pictures are to the nearest of the training part, or its mirror image, value for value.

    A training picture is compared with those that are not of its column.
    """
    sampled = {picture.id for picture in corpus.sample}
    others = [picture for picture in corpus.train if picture.id not in sampled][:MOST_KNOWN]
    found = {
        REAL: nearest_pixels(pictures[REAL], corpus.pixels(others)),
        MODEL: nearest_pixels(pictures[MODEL], corpus.pixels(corpus.train[:MOST_KNOWN])),
    }
    unit = "of 255"
    return Section(
        "Nearest training picture, pixel by pixel",
        [
            Row("distance, median", {s: median(values.tolist()) for s, values in found.items()}, unit, 1),
            Row("distance, smallest", {s: float(values.min()) for s, values in found.items()}, unit, 1),
            Row(f"copies (below {COPY_RMS:g})", {s: float((v < COPY_RMS).mean()) for s, v in found.items()}, "", 3),
        ],
    )


def nearest_pixels(
    images: Sequence[UInt8[np.ndarray, "3 s s"]], known: Sequence[UInt8[np.ndarray, "3 s s"]], block: int = 4000
) -> Float[np.ndarray, " n"]:
    """Return each image's distance to the nearest known one or its mirror image: root mean square, of 255."""
    flat = np.stack(images).astype(np.float64)
    queries = np.concatenate([flat, flat[..., ::-1]]).reshape(2 * len(flat), -1)
    best = np.full(len(queries), np.inf)
    for first in range(0, len(known), block):
        part = np.stack(known[first : first + block]).reshape(len(known[first : first + block]), -1)
        best = np.minimum(best, evaluation.nearest(queries, part)[1])
    return best.reshape(2, -1).min(0) / np.sqrt(queries.shape[1])


def _speed(synthesizer: Any, request: dict[str, Any], each: float, fields: dict[str, Any]) -> Section:
    """Time one picture by itself, and all that were made above in batches."""
    model = synthesizer.model
    times = []
    before = model.evaluations, model.rounds or 0
    for seed in range(SPEED_REPEATS + 1):
        start = time.perf_counter()
        synthesizer([{**request, **fields, "seed": seed}])
        times.append(time.perf_counter() - start)
    after = model.evaluations, model.rounds or 0
    evaluations, rounds = ((now - then) / (SPEED_REPEATS + 1) for now, then in zip(after, before, strict=True))
    rows = [
        Row("a picture by itself, median", {MODEL: median(times[1:])}, "s", 3, "lower"),
        Row("evaluations for it", {MODEL: evaluations}, "", 1),
        Row("rounds for it", {MODEL: rounds}, "", 1),
        Row("a picture, in batches", {MODEL: each}, "s", 3, "lower"),
    ]
    if model.rounds is None:  # all of its evaluations wait for one another
        del rows[2]
    return Section("Speed", rows)
