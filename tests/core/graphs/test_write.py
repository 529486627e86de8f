"""Graphs: what is written says what the model says, at any size, or is not written."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from refused import refused
from torch import nn
from unisono.errors import CheckpointError, RequestError
from unisono.graphs import Graph, GraphModel, Graphs, NeighbourLinear, Port, for_graph, write_graphs
from unisono.graphs.check import distance

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


class Toy(nn.Module):
    """A convolution over time and a head; it says also where its answer is positive."""

    def __init__(self):
        super().__init__()
        self.recipe = {"model": {"name": "toy/model"}}
        self.body, self.head = nn.Conv1d(32, 40, 3, padding=1), nn.Linear(40, 48)
        self.altered = 0.0

    def forward(self, x):
        made = self.head(self.body(x.mT).mT.relu())
        return made, (made.sum(-1) > 0).long()

    def graph_modules(self) -> Graphs:
        def reference(x):
            made, sign = self(x)
            return made + self.altered, sign

        generator = torch.Generator().manual_seed(0)
        examples = tuple((torch.randn(rows, t, 32, generator=generator),) for rows, t in ((2, 7), (3, 12)))
        graph = Graph(
            for_graph(self),
            (Port("x", ("rows", "time", 32), "vectors"),),
            (
                Port("made", ("rows", "time", 48), "vectors", 1e-5, 0.2),
                Port("sign", ("rows", "time"), "0 or 1", 0.0, 1.0),
            ),
            examples,
            reference,
            {"rows": (1, 8), "time": (2, 64)},
            ("body",),
        )
        return Graphs({"step": graph}, {"rate": 50})


@pytest.fixture(scope="module")
def toy():
    torch.manual_seed(0)
    return Toy().half().float().eval()  # weights as a checkpoint in 16 bits has them


@pytest.fixture(scope="module")
def written(toy, tmp_path_factory):
    """The manifest and the folder, in float32."""
    folder = tmp_path_factory.mktemp("graphs") / "toy"
    return write_graphs(toy, folder), folder


def run(folder, x):
    session = onnxruntime.InferenceSession(str(folder / "step.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.numpy()})


def test_a_graph_says_what_the_model_says_at_sizes_that_were_no_example(toy, written):
    manifest, folder = written
    for rows, t in ((1, 2), (4, 33), (8, 64)):
        x = torch.randn(rows, t, 32, generator=torch.Generator().manual_seed(t))
        with torch.no_grad():
            wanted = toy(x)
        made = run(folder, x)
        assert np.abs(made[0] - wanted[0].numpy()).max() < 1e-5
        np.testing.assert_array_equal(made[1], wanted[1].numpy())
    graph = manifest["graphs"]["step"]
    assert json.loads((folder / "graphs.json").read_text()) == manifest
    assert manifest["facts"] == {"rate": 50} and manifest["model"] == "toy/model"
    assert [entry["sizes"] for entry in graph["checked"]] == [{"rows": 2, "time": 7}, {"rows": 3, "time": 12}]
    assert graph["inputs"] == [{"name": "x", "dtype": "float32", "axes": ["rows", "time", 32], "about": "vectors"}]
    assert graph["bytes"] == (folder / "step.onnx").stat().st_size


def test_weights_of_16_bits_lie_so_in_the_file(toy, written):
    _, folder = written
    model = onnx.load(str(folder / "step.onnx"))
    kinds = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) >= 1024}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert (folder / "step.onnx").stat().st_size < 3 * sum(p.numel() for p in toy.parameters())
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_weights_that_16_bits_would_change_stay_as_they_are():
    from unisono.graphs.onnx_files import _store_halves

    exact = np.linspace(-1, 1, 2048).astype(np.float16).astype(np.float32)
    finer = exact.copy()
    finer[100] += np.float32(1e-5)
    huge = exact.copy()
    huge[100] = 1e6
    weights = {"exact": exact, "finer": finer, "huge": huge}
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], tensors))
    _store_halves(onnx, model)
    assert [tensor.name for tensor in model.graph.initializer] == ["exact.half", "finer", "huge"]
    for tensor, value in zip(model.graph.initializer, weights.values(), strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).astype(np.float32), value)


def test_int8_takes_the_layers_that_were_named_and_no_others(toy, tmp_path):
    manifest = write_graphs(toy, tmp_path / "toy", int8=True)
    assert manifest["int8"] and manifest["graphs"]["step"]["int8_layers"] == 1  # the convolution, as a linear layer
    model = onnx.load(str(tmp_path / "toy" / "step.onnx"))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") == 1 and kinds.count("MatMul") + kinds.count("Gemm") == 1
    x = torch.randn(1, 20, 32)
    with torch.no_grad():
        made, _ = run(tmp_path / "toy", x)
        off = distance(toy(x)[0], torch.from_numpy(made))
    assert 1e-4 < off < 0.03  # on processors that add up in 16 bits, too


def test_packed_weights_are_near_those_of_the_model_and_multiplied_as_floats(toy, tmp_path):
    graphs = toy.graph_modules()
    packing = SimpleNamespace(
        recipe=toy.recipe,
        graph_modules=lambda: replace(graphs, modules={"step": replace(graphs.modules["step"], packed=("head",))}),
    )
    plain, packed = (write_graphs(model, tmp_path / name, int8=True) for name, model in (("a", toy), ("b", packing)))
    sizes = [manifest["graphs"]["step"]["bytes"] for manifest in (plain, packed)]
    weights = toy.head.weight.numel()  # a byte less for each, but for a scale per output
    assert weights - 4 * len(toy.head.bias) - 200 < sizes[0] - sizes[1] < weights
    model = onnx.load(str(tmp_path / "b" / "step.onnx"))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulInteger") == 1 and kinds.count("MatMul") + kinds.count("Gemm") == 1
    x = torch.randn(2, 9, 32)
    off = [distance(torch.from_numpy(run(tmp_path / "a", x)[0]), torch.from_numpy(run(tmp_path / "b", x)[0]))]
    assert 0 < off[0] < 0.01


def test_what_differs_from_the_model_is_not_written(toy, tmp_path):
    toy.altered = 0.5
    try:
        with refused(CheckpointError, "failed", "made", names=["step", "1e-05"]):
            write_graphs(toy, tmp_path / "toy", "torch")
    finally:
        toy.altered = 0.0
    assert not any(tmp_path.iterdir())


def test_the_torch_format_is_read_back_and_says_the_same(toy, tmp_path):
    manifest = write_graphs(toy, tmp_path / "toy", "torch")
    program = torch.export.load(tmp_path / "toy" / manifest["graphs"]["step"]["file"])
    for rows, length in ((5, 9), (1, 2), (8, 64)):  # the limits are those that the graph names
        x = torch.randn(rows, length, 32)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x)[0], toy(x)[0], rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        program.module()(torch.randn(1, 65, 32))


def test_what_cannot_be_written_is_refused_before_anything_is_traced(toy, tmp_path):
    with refused(RequestError, "unsupported", "int8", value="torch", names=["onnx"]):
        write_graphs(toy, tmp_path / "a", "torch", int8=True)
    with refused(RequestError, "unknown", "format", value="tflite", names=["onnx", "torch"]):
        write_graphs(toy, tmp_path / "a", "tflite")  # pyright: ignore[reportArgumentType]
    plain = nn.Linear(2, 2)
    plain.recipe = {"model": {"name": "toy/plain"}}  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    assert isinstance(toy, GraphModel) and not isinstance(plain, GraphModel)
    with refused(RequestError, "unsupported", "model", value="toy/plain", names=["graph_modules"]):
        write_graphs(plain, tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with refused(CheckpointError, "exists", str(tmp_path / "full")):
        write_graphs(toy, tmp_path / "full")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_distances_are_infinite_where_nothing_can_be_compared():
    one = torch.ones(3)
    assert distance(one, one.clone()) == 0
    assert distance(2 * one, one) == pytest.approx(0.5)
    for other in (torch.ones(4), one.long(), one * float("nan"), one * float("inf")):
        assert distance(one, other) == float("inf")


def test_a_view_is_compared_instead_but_shapes_must_agree(toy):
    from unisono.graphs.check import check

    graph = toy.graph_modules().modules["step"]
    graph = replace(graph, view=lambda made, sign: {"made": made.abs()})

    @torch.no_grad()
    def turned(arguments):
        made, sign = toy(*arguments)
        return -made, sign

    assert check("step", graph, turned)[0]["distances"] == {"made": 0.0}
    with refused(CheckpointError, "failed", "sign"):
        check("step", graph, lambda arguments: (turned(arguments)[0], torch.zeros(1)))


@pytest.mark.parametrize("width", [1, 3, 7])
def test_neighbours_side_by_side_are_the_convolution(width):
    torch.manual_seed(width)
    conv = nn.Conv1d(6, 5, width, padding=width // 2)
    x = torch.randn(2, 6, 11)
    torch.testing.assert_close(NeighbourLinear(conv)(x), conv(x), rtol=0, atol=1e-5)


def test_the_form_for_a_graph_shares_weights_and_leaves_other_convolutions():
    net = nn.Sequential(
        nn.Conv1d(4, 4, 3, padding=1),
        nn.Conv1d(4, 4, 3, padding=1, groups=4),
        nn.Conv1d(4, 4, 4, stride=2),
        nn.Conv1d(4, 4, 3),
        nn.Conv1d(4, 4, 3, padding=1, padding_mode="reflect"),
    )
    twin = for_graph(net)
    assert isinstance(twin[0], NeighbourLinear)  # pyright: ignore[reportIndexIssue]
    assert twin[1].weight is net[1].weight and twin[2].weight is net[2].weight  # pyright: ignore
    assert all(isinstance(conv, nn.Conv1d) for conv in twin[1:])  # pyright: ignore
    assert isinstance(net[0], nn.Conv1d) and net.training and not twin.training
    x = torch.randn(1, 4, 16)
    torch.testing.assert_close(twin(x), net(x), rtol=0, atol=1e-5)
