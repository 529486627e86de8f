"""Weights of 16 bits: whole models in them write, and what the likeliest tokens say stays."""

import pytest
import torch
from unisono import Synthesizer
from unisono.recipe import Recipe
from unisono_text.corpus.tokenizer import Tokenizer

FACTS = {"context": 32, "characters_per_token": 1.0, "sample_texts": [], **Tokenizer.characters(["abc"]).to_facts()}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["ar", "mdlm", "block", "anchored", "seed"])
def test_a_model_writes_in_16_bits(name, kind):
    model = Recipe.read(f"text/{name}-tiny").build_model(FACTS).eval().to(kind)
    made = Synthesizer(model)(text="ab", length=8)
    assert made.text.startswith("ab") and set(made.text) <= set("abc")
    again = Synthesizer(model)(text="ab", length=8, temperature=0.7, top_p=0.9)
    assert again.text.startswith("ab")
    assert torch.isfinite(model.score(["abcab"])).all()
