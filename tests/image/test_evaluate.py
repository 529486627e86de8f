"""Evaluation and sweeps of picture generators: measures against sets whose answer is known, and both verbs."""

import json
import statistics

import numpy as np
import pytest
from PIL import Image as Pillow
from refused import refused
from unisono import Image, Synthesizer
from unisono.cli import main
from unisono.errors import DataError, MissingExtra, RequestError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono_image.corpus.data import FolderData
from unisono_image.corpus.shapes import SHAPES, ShapeData, make_shape
from unisono_image.measure import evaluate as measures
from unisono_image.measure.features import ClassifierFeatures, InceptionFeatures, features_of
from unisono_image.measure.sheet import class_sheet, prompt_sheet, sheet
from unisono_image.request import class_number

SIZE = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shapes as a folder of classes, with a test part."""
    root = tmp_path_factory.mktemp("shapes")
    for number in range(48):
        image, label, _ = make_shape(number, SIZE)
        path = root / ("train" if number < 28 else "test") / SHAPES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image.transpose(1, 2, 0)).save(path)
    return root


def generator_for(data):
    """A tiny generator with random weights and a classifier with random weights, for some data."""
    model = Recipe.read("image/dit-tiny").build_model(data.describe())
    model.attach("classifier", Recipe.read("image/classifier-tiny").build_model({**data.describe(),
        "classes": list(SHAPES)}))  # fmt: skip
    return model.eval()


@pytest.fixture(scope="module")
def by_class(folder):
    data = FolderData(str(folder), size=SIZE, batch_size=4)
    data.prepare(progress=False)
    model = generator_for(data)
    section = {"name": "image/folder", "root": "elsewhere", "size": SIZE, "val_size": 4, "flip": True}
    model.recipe = {**model.recipe, "data": section}
    return model


@pytest.fixture(scope="module")
def captioned():
    data = ShapeData(num_items=36, size=SIZE, batch_size=4, val_size=8)
    data.prepare(progress=False)
    return data, generator_for(data)


class Perfect:
    """What a generator would be that gives training pictures back."""

    info: dict = {}  # noqa: RUF012

    def __init__(self, model, pictures, items):
        self.model, self.made = model, [Image(items.of(picture)) for picture in pictures]

    def __call__(self, asked):
        self.model.evaluations += 3
        self.model.rounds += 2
        return [self.made[i % len(self.made)] for i in range(len(asked))]


def test_a_generator_that_copies_is_real_and_caught(by_class, folder):
    corpus = measures.Corpus.read(Synthesizer(by_class), folder, 16)
    assert corpus.kind == "held out of training"
    assert {p.id for p in corpus.reference} == {p.id for p in measures.corpus_of(by_class, str(folder)).tested} or (
        len(corpus.reference) == 20
    )
    assert [r["label"] for r in corpus.requests[:5]] == [*sorted(SHAPES), sorted(SHAPES)[0]]
    chosen = corpus.train[:16]
    report = measures.evaluate(Perfect(by_class, chosen, corpus.pictures), folder, limit=16, progress=False)
    assert report.value("copies (below 4)", "model") == 1
    assert report.value("distance, smallest", "model") == 0
    assert report.value("copies (below 4)", "training") < 1
    # The same pictures in both columns are measured alike.
    assert {p.id for p in corpus.sample} == {p.id for p in chosen}
    for measure in ("FID (features named below)", "precision", "recall"):
        assert report.value(measure, "model") == pytest.approx(report.value(measure, "training"), rel=1e-9)
    assert report.value("evaluations for it", "model") == 3
    assert report.value("rounds for it", "model") == 2
    assert "small classifier of 4 classes" in report.facts["features"]
    assert 0 <= report.value("classified as asked", "model") <= 1
    json.dumps(report.to_dict())


def test_captions_are_found_again(captioned):
    data, model = captioned
    corpus = measures.Corpus.read(Synthesizer(model), data, 10)
    assert len(corpus.asked) == len(corpus.sample) == 10
    assert len(corpus.unseen) == 8
    parts = [corpus.asked, corpus.sample, corpus.reference]
    assert sum(map(len, parts)) == len({p.id for part in parts for p in part}) == 44
    report = measures.evaluate(Synthesizer(model), data, limit=10, progress=False, num_steps=2)
    assert 0 <= report.value("nearest to its caption's own among 10", "model") <= 1
    assert report.value("the same by chance", "model") == 0.1
    assert report.value("the same for captions never seen, among 8", "model") is not None
    assert report.value("rounds for it", "model") == 2
    assert report.facts["num_steps"] == 2


class Greys(ClassifierFeatures):
    """A classifier whose one feature is a picture's grey, and which takes all above 100 for light."""

    name = "greys"

    def __init__(self):
        self.classes = ["dark", "light"]

    def __call__(self, images):
        return np.array([[float(image.mean())] for image in images])

    def chances(self, images):
        return np.array([[0.0, 1.0] if image.mean() > 100 else [1.0, 0.0] for image in images])


class Painter:
    """A generator whose pictures are of given greys, one after the other."""

    info: dict = {}  # noqa: RUF012

    def __init__(self, model, greys):
        self.model, self.greys, self.asked = model, greys, []

    def __call__(self, asked):
        self.asked += asked
        first = len(self.asked) - len(asked)
        greys = [self.greys[(first + i) % len(self.greys)] for i in range(len(asked))]
        return [Image(np.full((3, SIZE, SIZE), grey, np.uint8)) for grey in greys]


def greys_folder(root, parts):
    """Pictures of one grey each, by part and class."""
    for name, greys in parts.items():
        for grey in greys:
            path = root / name / f"{grey}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.new("RGB", (SIZE, SIZE), (grey,) * 3).save(path)
    return root


def greys_model(root, val_size):
    data = FolderData(str(root), size=SIZE, batch_size=4, val_size=val_size)
    data.prepare(progress=False)
    model = generator_for(data)
    model.recipe = {**model.recipe, "data": {"name": "image/folder", "root": "elsewhere", "size": SIZE}}
    return model


def test_a_report_by_hand(tmp_path, monkeypatch):
    """Every number of a report, from greys: 8 training, 6 test and 6 made pictures of one grey each."""
    monkeypatch.setattr(measures, "features_of", lambda model, extractor: Greys())
    training = {"train/dark": [10, 30, 50, 104], "train/light": [110, 150, 190, 230]}
    greys_folder(tmp_path, training | {"test/dark": [20, 60, 101], "test/light": [95, 160, 240]})
    model = greys_model(tmp_path, 6)
    made = [12, 160, 12, 90, 105, 200]  # asked for: dark, light, dark, light, dark, light
    painter = Painter(model, made)
    report = measures.evaluate(painter, tmp_path, limit=6, progress=False, num_steps=3)
    assert [request["label"] for request in painter.asked[:6]] == ["dark", "light"] * 3
    corpus = measures.Corpus.read(painter, tmp_path, 6)
    column = [int(p.id.rpartition("/")[2][:-4]) for p in corpus.sample]
    assert len(column) == 6 and set(column) < {grey for greys in training.values() for grey in greys}
    reference = [20, 60, 101, 95, 160, 240]

    def fid(one, other):
        means, spreads = zip(*((statistics.fmean(s), statistics.stdev(s)) for s in (one, other)), strict=True)
        return (means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2

    def third_nearest(values, i):
        return sorted(abs(values[i] - other) for j, other in enumerate(values) if j != i)[2]

    def within(values, set_):
        balls = [(value, third_nearest(set_, i)) for i, value in enumerate(set_)]
        return sum(any(abs(v - middle) <= radius for middle, radius in balls) for v in values) / len(values)

    for system, greys in (("model", made), ("training", column)):
        assert report.value("FID (features named below)", system) == pytest.approx(fid(reference, greys))
        assert report.value("precision", system) == within(greys, reference)
        assert report.value("recall", system) == within(reference, greys)
    # Light is above 100: of what was made, 12 and 12 are dark, 160 and 200 light, as asked; 90 and 105 are not.
    assert report.value("classified as asked", "model") == pytest.approx(4 / 6)
    assert report.value("  dark", "model") == report.value("  light", "model") == pytest.approx(2 / 3)
    assert report.value("classified as asked", "training") == (6 - (104 in column)) / 6
    assert report.value("reference pictures classified rightly", "training") == pytest.approx(4 / 6)  # 101, 95
    known = sorted(grey for greys in training.values() for grey in greys)
    others = [grey for grey in known if grey not in column]
    far = {"model": [min(abs(m - k) for k in known) for m in made],
           "training": [min(abs(c - k) for k in others) for c in column]}  # fmt: skip
    for system, distances in far.items():
        assert report.value("distance, median", system) == pytest.approx(statistics.median(distances))
        assert report.value("distance, smallest", system) == pytest.approx(min(distances))
        assert report.value("copies (below 4)", system) == sum(d < 4 for d in distances) / 6
    assert report.facts["reference"] == "6 pictures, held out of training"
    assert (report.facts["training pictures"], report.facts["features"], report.facts["num_steps"]) == (8, "greys", 3)


def test_held_out_pictures_are_reference_and_nothing_else(tmp_path, monkeypatch):
    """A corpus without a test part: what the model's facts hold out is in no column of training pictures."""
    monkeypatch.setattr(measures, "features_of", lambda model, extractor: Greys())
    greys_folder(tmp_path, {"dark": range(0, 100, 9), "light": range(110, 250, 12)})
    model = greys_model(tmp_path, 7)
    held = set(model.facts["held_out"])
    assert len(held) == 7
    corpus = measures.Corpus.read(Synthesizer(model), tmp_path, 30)
    assert {p.id for p in corpus.reference} == held
    assert {p.id for p in corpus.train}.isdisjoint(held) and {p.id for p in corpus.sample}.isdisjoint(held)
    assert len(corpus.train) == len(corpus.sample) == 12 + 12 - 7
    assert corpus.kind == "held out of training"


def test_where_nothing_is_held_out_the_reference_is_the_rest(tmp_path):
    greys_folder(tmp_path, {"dark": range(0, 100, 9), "light": range(110, 250, 12)})
    corpus = measures.Corpus.read(Synthesizer(greys_model(tmp_path, 0)), tmp_path, 6)
    sample, reference = ({picture.id for picture in side} for side in (corpus.sample, corpus.reference))
    assert len(sample) == 6 and not sample & reference
    assert sample | reference == {picture.id for picture in corpus.train}


def test_pictures_of_no_class_are_not_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "features_of", lambda model, extractor: Greys())
    greys_folder(tmp_path, {"train": range(200, 210), "train/dark": [3], "test": [1, 2, 3, 4, 5, 6]})
    model = greys_model(tmp_path, 6)
    report = measures.evaluate(Painter(model, [7, 8, 9, 10, 11]), tmp_path, limit=10, progress=False)
    row = next(r for section in report.sections for r in section.rows if r.measure == "classified as asked")
    assert row.values.get("training") in (None, 1.0)  # not a light picture counted as the last class
    assert not any(r.measure.startswith("reference") for section in report.sections for r in section.rows)


def test_classes_in_another_order_are_the_same_classes(tmp_path):
    """Exports from before numbers were in their order know 0, 1, 10, 11, 2 …"""
    greys_folder(tmp_path, {str(n): [10 * n, 10 * n + 1] for n in range(12)})
    model = greys_model(tmp_path, 6)
    old = sorted(model.facts["classes"])
    assert old != list(model.facts["classes"])
    facts = {**model.facts, "classes": old}
    older = Recipe.read("image/dit-tiny").build_model(facts)
    older.recipe = model.recipe
    corpus = measures.Corpus.read(Synthesizer(older), tmp_path, 12)
    assert [r["label"] for r in corpus.requests] == [str(n) for n in range(12)]
    made = Synthesizer(older)([{"label": label, "num_steps": 1} for label in (2, "2")])
    assert (made[0].pixels == made[1].pixels).all()
    assert class_number(2, old) == old.index("2") and class_number("10", old) == 2


def test_matches_among_known_vectors():
    own = np.eye(6)
    assert measures.matched(own, own, 4) == 1
    assert measures.matched(np.roll(own, -1, axis=0), own, 4) == 0  # each is its neighbour's
    assert measures.matched(np.roll(own, 1, axis=0), own, 4) == 0  # each is as far from all of its pool
    assert measures.matched(own, np.ones((6, 6)), 4) == 0


def test_a_mirrored_copy_is_a_copy():
    image = make_shape(3, SIZE)[0]
    image[:, :, 0] = 7
    known = [make_shape(number, SIZE)[0] for number in range(10, 20)]
    far, near = measures.nearest_pixels([image], known)[0], measures.nearest_pixels([image], [*known, image[..., ::-1]])
    assert far > 5
    assert near[0] == 0
    assert measures.nearest_pixels([image], [np.clip(image.astype(int) + 2, 0, 255).astype(np.uint8)])[0] <= 2


def test_what_cannot_be_measured(by_class, captioned, folder, tmp_path):
    data, model = captioned
    with refused(DataError, "limit", "limit", value=3, names="5"):
        measures.Corpus.read(Synthesizer(by_class), folder, 3)
    with refused(DataError, "unsupported", "data"):
        measures.Corpus.read(Synthesizer(model), folder, 8)
    with refused(DataError, "conflict", "size", value=16, names="8"):
        measures.Corpus.read(Synthesizer(model), ShapeData(size=16), 8)
    bare = Recipe.read("image/dit-tiny").build_model(data.describe())
    with refused(RequestError, "missing", "components.classifier"):
        features_of(bare)
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with refused(MissingExtra, "dependency", "torch-fidelity"):
            InceptionFeatures()


def test_both_verbs(by_class, folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    export = save_export(by_class, tmp_path / "export")
    assert main(["evaluate", str(export), str(folder), "--limit=8"]) == 0
    out = capfd.readouterr().out
    assert "FID (features named below)" in out
    assert "small classifier of 4 classes" in out
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert len(found["items"]) == 8
    argv = ["sweep", str(export), str(folder), "--limit=5", "--repeats=2", "--num_steps=2,6", "--solver=serial,picard"]
    assert main(argv) == 0
    out = capfd.readouterr().out
    assert "rounds" in out
    points = {tuple(p["setting"].values()): p for p in json.loads((tmp_path / "sweep.json").read_text())["points"]}
    assert set(points) == {(2, "serial"), (2, "picard"), (6, "serial"), (6, "picard")}
    assert points[6, "serial"]["rounds"] == 6
    assert points[6, "picard"]["rounds"] <= 6
    assert points[6, "picard"]["evaluations"] >= points[6, "serial"]["evaluations"]
    assert all({"FID", "classified as asked"} == set(p["measures"]) for p in points.values())
    assert (tmp_path / "sweep.png").stat().st_size > 0


def test_sheets(by_class, captioned):
    made = class_sheet(Synthesizer(by_class), per_class=2, times=1, num_steps=1)
    assert (made.height, made.width) == (4 * SIZE + 3 * 4, 2 * SIZE + 4)
    prompts = ["a red circle", "a blue cross"]
    made = prompt_sheet(Synthesizer(captioned[1]), prompts, columns=2, times=4, num_steps=1)
    assert (made.height, made.width) == (4 * SIZE + 24, 2 * 4 * SIZE + 4)
    assert made.bytes[4 * SIZE :, : 4 * SIZE].min() == 0  # the writing
    with refused(RequestError, "shape", "labels", value=1, names="2"):
        sheet([Image(np.zeros((3, 4, 4), np.uint8))] * 2, 2, ["one"])
    with refused(RequestError, "unsupported", "classes"):
        model = Recipe.read("image/dit-tiny").build_model({**captioned[0].describe(), "classes": []})
        class_sheet(Synthesizer(model))
