"""Text networks as graphs: a step's logits are the model's, in PyTorch and by onnxruntime."""

import pytest
import torch
from unisono.graphs import write_graphs
from unisono.graphs.check import distance
from unisono.recipe import Recipe
from unisono_text.corpus.tokenizer import Tokenizer

FACTS = {
    **Tokenizer.characters(["abcdefgh"]).to_facts(),
    "context": 32,
    "characters_per_token": 1.0,
    "sample_texts": ["ab"],
}


def build(name: str):
    torch.manual_seed(0)
    return Recipe.read(f"text/{name}-tiny").build_model(FACTS).eval()


@pytest.mark.parametrize("name", ["mdlm", "ar", "block", "anchored"])
def test_a_step_is_the_models(name):
    model = build(name)
    offered = model.graph_modules()
    graph = offered.modules["step"]
    assert offered.facts["mask_id"] == model.mask_id and offered.facts["context"] == 32
    for arguments in graph.examples:
        with torch.inference_mode():
            wanted, made = model.predict(*arguments), graph.module(*arguments)
        assert distance(wanted, made) < 1e-6


def test_a_step_is_written_and_says_the_same_by_onnxruntime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = build("ar")
    write_graphs(model, tmp_path / "text")
    session = onnxruntime.InferenceSession(str(tmp_path / "text" / "step.onnx"), providers=["CPUExecutionProvider"])
    for rows, t in ((1, 2), (4, 32)):
        tokens = torch.randint(0, model.mask_id, (rows, t), generator=torch.Generator().manual_seed(t))
        (made,) = session.run(None, {"tokens": tokens.numpy()})
        with torch.no_grad():
            assert distance(model.predict(tokens), torch.from_numpy(made)) < 1e-5
