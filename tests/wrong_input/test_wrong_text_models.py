"""Text models that do not fit their data or what they start from: one sentence, and nothing trained."""

from pathlib import Path

import pytest
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_text.corpus.tokenizer import Tokenizer
from wrong_input import matches

FACTS = {"context": 32, "characters_per_token": 1.0, "sample_texts": [], **Tokenizer.characters(["abc"]).to_facts()}


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    """An autoregressive model of the letters a, b and c."""
    model = Recipe.read("text/ar-tiny").build_model(FACTS).eval()
    return save_export(model, tmp_path_factory.mktemp("exports") / "letters")


def test_a_start_from_a_model_of_other_tokens(complaint, export, tmp_path):
    said = complaint("train", "text/mdlm-tiny", f"--run.init_from={export}", f"--run.dir={tmp_path}", "--dry-run")
    matches(said, "another tokenizer (6 tokens) than the data", "prepare the data with the tokenizer of that model")
    assert not list(tmp_path.iterdir())


def test_a_start_from_autoregressive_weights_takes_all_of_them(export):
    model = Recipe.read("text/mdlm-tiny").build_model(FACTS)
    taken = warm_start(model, str(export))
    assert len(taken.taken) == len(model.state_dict()) and not taken.fresh and not taken.unused


RECIPES = {
    "a block that does not divide": (
        ["text/block-tiny", "--model.block_size=5"],
        "data.context=32 must be a multiple of model.block_size=5",
    ),
    "no block": (["text/block-tiny", "--model.block_size=0"], "block_size=0 must be at least 1"),
    "an interval": (["text/block-tiny", "--model.clip=[0.9,0.2]"], "clip=[0.9, 0.2]", "low < high"),
    "all layers the anchor's": (["text/anchored-tiny", "--model.anchor_layers=2"], "must be from 1 to 1"),
    "heads": (["text/ar-tiny", "--model.num_heads=3"], "dim=16 must be a multiple of twice num_heads=3"),
    "edits": (["text/seed-tiny", "--model.edit_rate=2"], "edit_rate=2", "in [0, 1]"),
    "packed rows of blocks": (["text/block-tiny", "--data.pack=true"], "one document per row", "data.pack"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_sizes_that_do_not_fit(complaint, tmp_path, name):
    arguments, *parts = RECIPES[name]
    small = ["--trainer.max_steps=1", "--run.preview_seconds=0", "--no-progress"]
    matches(complaint("train", *arguments, f"--run.dir={tmp_path}", *small), *parts)
