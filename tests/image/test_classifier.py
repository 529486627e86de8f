"""The classifier: it learns what can be learnt, judges alone as in a batch, and refuses what is no image."""

import json

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from refused import refused
from unisono import Synthesizer
from unisono.errors import CheckpointError, DataError, RecipeError, RequestError
from unisono.recipe import Recipe
from unisono_image.corpus.shapes import SHAPES, ShapeData, make_shape
from unisono_image.models.classifier import ImageClassifier


@pytest.fixture(scope="module")
def shapes():
    data = ShapeData(num_items=96, size=16, batch_size=32, val_size=32)
    data.prepare(progress=False)
    return data


@pytest.fixture(scope="module")
def learnt(shapes):
    """A classifier of shapes after a few dozen steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ImageClassifier(widths=[16, 16, 32], num_blocks=1, dropout=0.0)
        model.build(shapes.describe())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    model.train()
    for _ in range(12):
        for batch in shapes.train_dataloader():
            loss = model.losses(batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def test_it_learns_shapes_it_has_not_seen(learnt, shapes):
    pictures = shapes.val_set.pictures
    _, chances = learnt.judge([shapes.val_set.of(picture) for picture in pictures])
    right = np.mean(chances.argmax(1) == [picture.label for picture in pictures])
    assert right > 0.8  # of four; chance is 0.25
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)


def test_alone_is_in_a_batch_and_any_size_is_fitted(learnt):
    images = [make_shape(number, 16)[0] for number in range(5)]
    features, chances = learnt.judge(images)
    assert features.shape == (5, 32)
    for index, image in enumerate(images):
        alone = learnt.judge([image])
        np.testing.assert_allclose(alone[0][0], features[index], rtol=1e-4, atol=1e-5)
    larger = [image.repeat(2, 1).repeat(2, 2) for image in images]
    assert (learnt.judge(larger)[1].argmax(1) == chances.argmax(1)).all()


def test_layers_are_those_of_the_features(learnt):
    image = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layers = learnt.layers(image)
        assert [tuple(layer.shape[1:]) for layer in layers] == [(16, 16, 16), (16, 8, 8), (32, 4, 4)]
        last = torch.nn.functional.silu(learnt.norm(layers[-1])).mean((2, 3))
        torch.testing.assert_close(last, learnt.features(image))


def test_a_file_and_its_pixels_are_judged_alike(learnt, tmp_path):
    image = make_shape(6, 16)[0]
    Pillow.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "a.png")
    synthesizer = Synthesizer(learnt)
    of_file, of_pixels = synthesizer(str(tmp_path / "a.png")), synthesizer(pixels=image)
    assert of_file.chances == of_pixels.chances
    assert list(of_file.chances) == list(SHAPES)
    assert of_file.label == max(of_file.chances, key=of_file.chances.get)
    written = json.loads(of_file.save(tmp_path / "judged.json").read_text())
    assert written["chances"] == of_file.chances
    assert len(written["features"]) == 32
    assert of_file.plot() is not None


@pytest.mark.parametrize(
    ("fields", "code", "path", "names"),
    [
        ({}, "missing", "image", "give either image, a path, or pixels"),
        ({"image": "/gone.png", "pixels": [[[0]]]}, "conflict", "image", ()),
        ({"image": "/gone.png"}, "missing", "image", "/gone.png"),
        ({"pixels": [[[0]]]}, "shape", "pixels", "(1, 1, 1)"),
        ({"pixels": [[[0, 300]] * 2] * 3}, "shape", "pixels", "0 to 255"),
        ({"pixels": [[[0]], [[0, 0]], [[0]]]}, "shape", "pixels", "rows are not equally long"),
        ({"pixels": [[[0]]] * 3}, "range", "images", "1 × 1"),
    ],
)
def test_wrong_requests_are_one_sentence(learnt, fields, code, path, names):
    with refused(RequestError, code, path, names=names):
        Synthesizer(learnt)(**fields)


def test_data_without_classes_are_refused(shapes):
    facts = shapes.describe()
    with refused(DataError, "empty", "data.classes", value=[], names="0"):
        ImageClassifier().build({**facts, "classes": []})
    model = Recipe.read("image/classifier-tiny").build_model(facts)
    batch = {"image": torch.zeros(2, 3, 16, 16), "label": torch.tensor([0, -1]), "row": torch.tensor([7, 9])}
    with refused(DataError, "missing", "label", value=9):
        model.losses(batch)
    with refused(CheckpointError, "conflict", "run.init_from", value=["cat"]):
        model.check_source({**facts, "classes": ["cat"]})


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("widths", [16], "value"),
        ("widths", [16, 20], "value"),
        ("num_blocks", 0, "range"),
        ("label_smoothing", 1, "range"),
    ],
)
def test_wrong_arguments_are_refused(name, value, code):
    with refused(RecipeError, code, f"model.{name}", value=value, names=f"model.{name}={value}"):
        ImageClassifier(**{name: value})
