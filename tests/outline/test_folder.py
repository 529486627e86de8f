"""A user's own pictures: read, fitted, and whatever is wrong with a row listed with its reason."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from refused import refused
from unisono.data import Audit
from unisono.errors import DataError
from unisono_outline.corpus.folder import FolderData, read_examples

SQUARE = [10, 10, 30, 10, 30, 20, 10, 20]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path_factory.mktemp("cache")))


def written(folder, images=None, annotations=None):
    for name in ("a", "b", "c"):
        Image.new("RGB", (40, 20), "red").save(folder / f"{name}.png")
    images = images or [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")]
    rows = annotations or [{"image_id": i, "phrase": f"the red thing {i}", "segmentation": [SQUARE]} for i in range(3)]
    (folder / "outlines.json").write_text(json.dumps({"images": images, "annotations": rows}), encoding="utf-8")
    return folder


def test_pictures_are_fitted_and_outlines_with_them(tmp_path):
    data = FolderData(str(written(tmp_path)), size=20, num_vertices=8, val_size=1, num_processes=1)
    audit = data.prepare(progress=False)
    assert audit.kept == 3 and len(data.train_set) == 2 and len(data.val_set) == 1
    item = data.train_set.item(0, torch.Generator())
    assert item["picture"].shape == (3, 20, 20)
    red = (item["picture"][1] < 0).nonzero()
    assert red[:, 0].min() == 5 and red[:, 0].max() == 14  # 40 × 20 becomes 20 × 10, in the middle
    low, high = item["outline"].amin(0) * 20, item["outline"].amax(0) * 20
    assert low.tolist() == pytest.approx([5, 10]) and high.tolist() == pytest.approx([15, 15])
    square = data.train_set.placed[0].fitted()
    assert np.allclose(square.to_file(square.to_square(np.array([[3.0, 4.0]]))), [[3, 4]])
    assert data.facts is not None and "thing" in data.facts["words"] and len(data.facts["held_out"]) == 1


def test_phrases_take_turns_in_training_alone(tmp_path):
    rows = [{"image_id": i, "phrases": ["one", "two"], "segmentation": [SQUARE]} for i in range(3)]
    data = FolderData(str(written(tmp_path, annotations=rows)), size=16, val_size=1, num_processes=1)
    data.prepare(progress=False)
    said = {data.train_set.item(0, torch.Generator().manual_seed(seed))["phrase"] for seed in range(20)}
    assert said == {"one", "two"} and data.val_set.item(0, torch.Generator())["phrase"] == "one"


WRONG = {
    "no picture": {"image_id": 9},
    "wrong fields": {"phrase": "  ?! "},
    "several parts": {"segmentation": [SQUARE, SQUARE]},
    "run-length mask": {"segmentation": {"counts": "x", "size": [1, 1]}},
    "no area": {"segmentation": [[0, 0, 1, 1, 2, 2]]},
    "long phrase": {"phrase": "red " * 65},
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_cannot_be_used_is_listed(tmp_path, reason):
    good = {"image_id": 0, "phrase": "red", "segmentation": [SQUARE]}
    folder = written(tmp_path, annotations=[{**good, **WRONG[reason]}, good])
    audit = Audit("outlines")
    assert len(list(read_examples(folder / "outlines.json", audit))) == 1
    assert audit.reasons == {reason: 1}


@pytest.mark.parametrize(
    "segmentation",
    [None, [], SQUARE, [SQUARE[:-1]], [SQUARE[:4]], [["x"] * 6], [[float("nan")] * 6], [[True] * 6], "RLE"],
)
def test_polygons_of_another_form_are_listed(tmp_path, segmentation):
    good = {"image_id": 0, "phrase": "red", "segmentation": [SQUARE]}
    folder = written(tmp_path, annotations=[{**good, "segmentation": segmentation}, good])
    audit = Audit("outlines")
    assert len(list(read_examples(folder / "outlines.json", audit))) == 1
    assert audit.reasons == {"wrong fields": 1}


def test_images_that_are_missing_or_broken_are_listed(tmp_path):
    images = [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "none.png"}, {"id": 2, "file_name": "b.png"}]
    folder = written(tmp_path, images=[*images, {"id": 0, "file_name": "c.png"}, {"id": True, "file_name": "c.png"}])
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:40])
    data = FolderData(str(folder), size=16, val_size=0, num_processes=1)
    reasons = data.prepare(progress=False).reasons
    assert data.audit is not None and data.audit.kept == 1
    assert reasons["same name"] == 1 and reasons["wrong fields"] == 1 and sum(reasons.values()) == 4


@pytest.mark.parametrize("text", ["[]", '{"images": []}', '{"images": {}, "annotations": []}'])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / "outlines.json").write_text(text, encoding="utf-8")
    with refused(DataError, "format"):
        FolderData(str(tmp_path)).prepare(progress=False)


def test_nothing_to_read_is_refused(tmp_path):
    with refused(DataError, "missing"):
        FolderData(str(tmp_path)).prepare(progress=False)
    (tmp_path / "outlines.json").write_text('{"images": [], "annotations": []}', encoding="utf-8")
    with refused(DataError, "empty", "data.root"):
        FolderData(str(tmp_path)).prepare(progress=False)
    (tmp_path / "outlines.json").write_text("{", encoding="utf-8")
    with refused(DataError, "format"):
        FolderData(str(tmp_path)).prepare(progress=False)


def test_all_held_out_is_refused(tmp_path):
    with refused(DataError, "empty"):
        FolderData(str(written(tmp_path)), val_size=3, num_processes=1).prepare(progress=False)
