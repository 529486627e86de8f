"""The diffusion transformer as a graph: an evaluation's answer is the model's."""

import pytest
import torch
from picture_facts import FACTS
from unisono.graphs import GraphModel, write_graphs
from unisono.graphs.check import distance
from unisono.recipe import Recipe


def build(name: str = "dit-tiny", **facts):
    """Return a model whose layers that begin at zero say something."""
    torch.manual_seed(0)
    model = Recipe.read(f"image/{name}").build_model({**FACTS, **facts}).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("facts", [{}, {"words": [], "sample_captions": []}])
def test_a_step_is_the_models(facts):
    graph = build(**facts).graph_modules().modules["step"]
    assert len(graph.inputs) == (3 if facts else 5)
    for arguments in graph.examples:
        with torch.inference_mode():
            (wanted,), made = graph.reference(*arguments), graph.module(*arguments)
        assert wanted.std() > 0.01 and distance(wanted, made) < 1e-6


def test_a_unet_offers_none():
    assert not isinstance(build("unet-tiny"), GraphModel)


@pytest.mark.slow
def test_a_step_is_written_and_checked_at_two_sizes(tmp_path):
    manifest = write_graphs(build(), tmp_path / "image")
    checked = manifest["graphs"]["step"]["checked"]
    assert len(checked) == 2 and all(case["distances"]["answer"] < 1e-4 for case in checked)
