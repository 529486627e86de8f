"""Evaluation: baselines and ceilings are what they must be, and the report counts what models did."""

import json

import numpy as np
import pytest
from PIL import Image
from refused import refused
from unisono.errors import DataError
from unisono_outline.measure.baselines import BOX, MEAN, RESAMPLED, baselines
from unisono_outline.measure.evaluate import cases_of, evaluate, probe


@pytest.fixture
def report(pvd):
    return evaluate(pvd, "scenes", limit=6, num_steps=2)


def test_the_true_outline_is_the_ceiling_and_costs_are_counted(report, pvd):
    assert report.systems == ["model, 2 steps", RESAMPLED, BOX, MEAN]
    assert report.value("IoU, all", RESAMPLED) > 0.7  # 8 vertices of 16 pixels
    assert report.value("IoU, all", RESAMPLED) > report.value("IoU, all", MEAN)
    assert report.value("evaluations of the decoder", "model, 2 steps") == 2
    parts = {item["part"] for item in report.items}
    assert parts == {"seen kinds", "unseen kinds"} and len(report.items) == 6 * 4


def test_scenes_of_unseen_kinds_ask_for_them(pvd):
    model = pvd.model
    cases = cases_of("scenes", model, 8)
    again = cases_of("scenes", model, 8)
    assert [case.phrase for case in cases] == [case.phrase for case in again]
    assert [case.part for case in cases[:2]] == ["seen kinds", "unseen kinds"]


def test_boxes_and_means_are_exact(pvd):
    square = np.array([[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]])
    made = baselines(square, pvd.model.facts)
    assert made[BOX].tolist() == square.tolist()
    assert made[MEAN].tolist() == [list(point) for point in pvd.model.facts.mean_outline]


def test_a_users_pictures_are_measured(pvd, tmp_path, monkeypatch):
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    rows = [{"image_id": 1, "phrase": "the red star", "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15]]}]
    values = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": rows}
    (tmp_path / "outlines.json").write_text(json.dumps(values), encoding="utf-8")
    report = evaluate(pvd, tmp_path, limit=3)
    assert report.value("IoU, pictures", BOX) == pytest.approx(1) and len(report.items) == 4
    with refused(DataError, "missing"):
        evaluate(pvd, tmp_path / "none")


def test_a_sweep_measures_overlaps(pvd):
    asked = probe(pvd, "scenes", limit=3)
    made = [pvd({**request, "num_steps": 1}) for request in asked.requests]
    assert set(asked.measure(made)) == {"IoU", "Pr@0.5"}


def test_scenes_of_words_that_were_not_learnt_are_refused(pvd, tmp_path):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 5:15] = 255
    Image.fromarray(pixels).save(tmp_path / "emoji_u1f352.png")
    with refused(DataError, "conflict", "data"):
        evaluate(pvd, f"scenes:{tmp_path}", limit=2)
