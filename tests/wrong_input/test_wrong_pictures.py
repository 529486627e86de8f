"""Pictures asked for on the command line, wrongly: one sentence with value, limit and fix, and no file."""

from pathlib import Path

import numpy as np
import pytest
from unisono import Image
from unisono.export import save_export
from unisono.recipe import Recipe
from wrong_input import matches

FACTS = {
    "size": 8,
    "classes": ["circle", "square"],
    "words": ["a", "circle", "red"],
    "sample_captions": ["a red circle"],
    "held_out": [],
    "count": 16,
    "background": [255, 255, 255],
}

REQUESTS = {
    "long prompt": (["circle " * 1500, "--num-steps=2"], "1500 words", "at most 64", "shorten"),
    "one long word": (["x" * 10_000], "10000 letters", "at most 24"),
    "no word": (["?!"], "has no word"),
    "scheduler": (["circle", "--scheduler=ddim"], "unknown scheduler 'ddim'", "flow-euler"),
    "solver": (["circle", "--solver=picrad"], "solver='picrad'", "picard"),
    "class": (["--label=sqare"], "unknown class 'sqare'", "did you mean 'square'?"),
    "class of two signs": (["--label=--5"], "unknown class '--5'"),
    "too much strength": (["circle", "--strength=1.5", "--image=x.png"], "strength=1.5", "less than or equal to 1"),
    "part of a window": (["circle", "--solver=picard", "--window=2.5"], "window=", "2.5", "integer"),
    "tolerance in words": (["circle", "--solver=picard", "--tolerance=x"], "tolerance='x'", "number"),
    "a device": (["circle", "--image=/dev/zero"], "image='/dev/zero'", "not a file"),
    "size": (["circle", "--height=10"], "height=10 must be a multiple of 4", "at most 32"),
    "steps": (["circle", "--num-steps=1", "--solver=picard"], "num_steps=1", "2 or more"),
    "no steps": (["circle", "--num-steps=0"], "num_steps=0", "greater than or equal to 1"),
    "window": (["circle", "--num-steps=4", "--solver=picard", "--window=9"], "window=9", "at most 4"),
    "tolerance": (["circle", "--solver=picard", "--tolerance=0"], "tolerance of 0", "above 0"),
    "negative tolerance": (["circle", "--solver=picard", "--tolerance=-0.1"], "tolerance of -0.1", "above 0"),
    "no picture": (["circle", "--image=nowhere.png"], "image='nowhere.png'", "missing"),
    "strength": (["circle", "--strength=0.5"], "strength=0.5", "as image"),
    "flag": (["circle", "--guidance=2"], "unknown flag --guidance", "did you mean 'guidance_scale'?"),
}


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    model = Recipe.read("image/dit-tiny").build_model(FACTS).eval()
    return save_export(model, tmp_path_factory.mktemp("exports") / "pictures")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_picture_that_cannot_be_made(complaint, export, tmp_path, name):
    arguments, *parts = REQUESTS[name]
    output = tmp_path / "x.png"
    matches(complaint("generate", export, *arguments, "-o", output), *parts)
    assert not output.exists()


def test_a_picture_to_start_from_that_is_none(complaint, export, tmp_path):
    text, dot = tmp_path / "x.txt", tmp_path / "dot.png"
    text.write_text("not a picture")
    Image(np.zeros((3, 1, 1), np.uint8)).save(dot)
    asked = ("generate", export, "circle", "-o", tmp_path / "y.png")
    matches(complaint(*asked, f"--image={text}"), "x.txt", "cannot be used")
    matches(complaint(*asked, f"--image={dot}"), "1 × 1 pixels", "at least 2 a side")
    matches(complaint("generate", export, "circle", "-o", tmp_path / "y.gif"), "'.gif'", "use one of .png")


def test_a_picture_of_another_size_is_scaled(said, export, tmp_path):
    start = Image(np.full((3, 40, 20), 128, np.uint8)).save(tmp_path / "start.png")
    said("generate", export, "circle", f"--image={start}", "--num-steps=3", "-o", tmp_path / "y.png")
    assert (tmp_path / "y.png").stat().st_size > 0
