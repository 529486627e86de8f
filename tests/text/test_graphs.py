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


def test_the_verb_writes_graphs_of_an_export_and_refuses_what_says_nothing_of_them(tmp_path, capsys):
    from unisono.cli import main
    from unisono.export import save_export

    source = str(save_export(build("ar"), tmp_path / "ar"))
    dest = str(tmp_path / "graphs")
    assert main(["export", source, dest, "--format", "torch"]) == 0
    said = capsys.readouterr().out
    assert "step: step.pt2" in said and f"graphs: {dest}/graphs.json" in said
    assert (tmp_path / "graphs" / "graphs.json").is_file()
    other = str(tmp_path / "other")
    for flags, name in (
        (["--int8"], "--format onnx"),
        (["--format", "torch", "--int8"], "--format onnx"),
        (["--format", "onnx", "--title", "x"], "--title"),
        (["--format", "onnx", "--best"], "--best"),
        (["--format", "onnx", "--dtype", "float16"], "--dtype"),
    ):
        assert main(["export", source, other, *flags]) == 2
        assert name in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


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
