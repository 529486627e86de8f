"""The masked transformer of motion as a graph: a step's logits are the model's."""

import pytest
import torch
from refused import refused
from unisono.errors import RequestError
from unisono.graphs import write_graphs
from unisono.graphs.check import distance


def test_a_step_is_the_models(make_motion):
    graph = make_motion("motion/mmm-tiny").graph_modules().modules["step"]
    for arguments in graph.examples:
        with torch.inference_mode():
            (wanted,), made = graph.reference(*arguments), graph.module(*arguments)
        assert distance(wanted, made) < 1e-6


def test_two_networks_are_refused(make_motion):
    with refused(RequestError, "unsupported", "model", value="motion/momask", names=["motion/mmm"]):
        make_motion("motion/momask-tiny").graph_modules()


@pytest.mark.slow
def test_a_step_is_written_and_checked_at_two_sizes(make_motion, tmp_path):
    manifest = write_graphs(make_motion("motion/mmm-tiny"), tmp_path / "motion")
    checked = manifest["graphs"]["step"]["checked"]
    assert len(checked) == 2 and all(case["distances"]["logits"] < 1e-4 for case in checked)
