"""Evaluation and sweeps of picture generators: measures against sets whose answer is known, and both verbs."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow
from unisono import Image, Synthesizer
from unisono.cli import main
from unisono.errors import DataError, RequestError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono_image.corpus.data import FolderData
from unisono_image.corpus.shapes import SHAPES, ShapeData, make_shape
from unisono_image.measure import evaluate as measures
from unisono_image.measure.features import InceptionFeatures, features_of
from unisono_image.measure.sheet import class_sheet, prompt_sheet, sheet

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
    model.attach("classifier", Recipe.read("image/classifier-tiny").build_model(data.describe() | {
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
    with pytest.raises(DataError, match=r"3 requests, .* at least 5 of each"):
        measures.Corpus.read(Synthesizer(by_class), folder, 3)
    with pytest.raises(DataError, match="give a data module, not a path"):
        measures.Corpus.read(Synthesizer(model), folder, 8)
    with pytest.raises(DataError, match="the data has 16 pixels a side, the model makes 8"):
        measures.Corpus.read(Synthesizer(model), ShapeData(size=16), 8)
    bare = Recipe.read("image/dit-tiny").build_model(data.describe())
    with pytest.raises(RequestError, match="has no classifier, whose features"):
        features_of(bare)
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"pip install \"unisono\[inception\]\""):
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
    with pytest.raises(RequestError, match="1 labels do not go with 2 images"):
        sheet([Image(np.zeros((3, 4, 4), np.uint8))] * 2, 2, ["one"])
    with pytest.raises(RequestError, match="knows no classes"):
        model = Recipe.read("image/dit-tiny").build_model({**captioned[0].describe(), "classes": []})
        class_sheet(Synthesizer(model))
