"""ONNX files: a traced network written, its weights in 16 bits where that loses nothing, or in 8 where asked for."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unisono.errors import RequestError
from unisono.extras import optional
from unisono.graphs.graph import Graph

MOST_BYTES = 2**31 - 2**20
"""An ONNX file is one protobuf message, which ends at 2 GiB."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the exporter says of each node which submodule it is of."""


def write_onnx(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    """Write a traced network; large weights that 16 bits hold without loss lie in the file so, and are cast at load."""
    size = sum(value.nbytes for value in program.state_dict.values())
    if size > MOST_BYTES:
        message = f"the weights have {size / 2**30:.1f} GiB, an ONNX file at most 2: take --format torch"
        raise RequestError(message, code="limit", path="format", value=size)
    onnx = optional("onnx", extra="onnx")
    optional("onnxscript", extra="onnx")
    names = [port.name for port in graph.inputs], [port.name for port in graph.outputs]
    with _quiet():
        written = torch.onnx.export(program, input_names=names[0], output_names=names[1], verbose=False)
    assert written is not None
    model = written.model_proto
    _store_halves(onnx, model)
    onnx.save_model(model, str(path))


def quantise(path: Path, modules: tuple[str, ...], packed: tuple[str, ...] = ()) -> int:
    """Rewrite a file with the linear layers of some submodules in int8, per channel, and activations in 8 bits as they
    come (dynamic quantisation). Returns how many layers that are. Weights of ``packed`` submodules only lie in the file
    in 8 bits.

    Weights take 7 of the 8 bits: processors without VNNI add products up in 16, where full weights saturate, and are
    then off by 14 % instead of 1.
    """
    onnx = optional("onnx", extra="onnx")
    quantization = optional("onnxruntime", "onnxruntime.quantization", extra="onnx")
    model = onnx.load_model(str(path))
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {node.output[0] for node in model.graph.node if node.op_type == "Cast" and node.input[0] in weights}
    chosen = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights and _belongs(node, modules)
    ]
    bulky = [
        node.input[1]
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights and _belongs(node, packed)
    ]
    if chosen:
        _widen(onnx, model, chosen)
        with _quiet():
            quantization.quantize_dynamic(
                model,
                str(path),
                op_types_to_quantize=["MatMul", "Gemm"],
                nodes_to_quantize=chosen,
                per_channel=True,
                reduce_range=True,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
        model = onnx.load_model(str(path))
    if bulky:
        _pack(onnx, model, bulky)
        onnx.save_model(model, str(path))
    return len(chosen)


def strip(path: Path) -> None:
    """Take out what the exporter noted for those who debug it: names of source lines, a tenth of a small file."""
    onnx = optional("onnx", extra="onnx")
    model = onnx.load_model(str(path))
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save_model(model, str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter and the quantiser, which warn of packages that nothing here uses."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _belongs(node: Any, modules: tuple[str, ...]) -> bool:
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    return any(f"'{module}" in scopes for module in modules)


def _store_halves(onnx: Any, model: Any) -> None:
    """Keep float32 weights as float16 with a cast behind, where that is exact."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < 1024:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if np.array_equal(half.astype(np.float32), value):
            wide, narrow = tensor.name, f"{tensor.name}.half"
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, narrow))
            casts.append(onnx.helper.make_node("Cast", [narrow], [wide], f"{wide}.cast", to=onnx.TensorProto.FLOAT))
    _put_first(model, casts)


def _widen(onnx: Any, model: Any, nodes: list[str]) -> None:
    """Give chosen nodes their weights in float32 again, which the quantiser reads."""
    needed = {node.input[1] for node in model.graph.node if node.name in nodes}
    halves = {tensor.name: tensor for tensor in model.graph.initializer}
    rest = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in needed and node.input[0] in halves:
            tensor = halves[node.input[0]]
            value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, node.output[0]))
        else:
            rest.append(node)
    del model.graph.node[:]
    model.graph.node.extend(rest)


def _pack(onnx: Any, model: Any, names: list[str]) -> None:
    """Keep weights [in, out] in 8 bits, per output, with the product that makes them float32 as the file is loaded."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in tensors}
    made = []
    for name in dict.fromkeys(names):
        cast = casts.get(name)
        tensor = tensors[cast.input[0] if cast is not None else name]
        value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        scale = np.maximum(np.abs(value).max(axis=0, keepdims=True), 1e-12) / 127
        whole, factor = f"{name}.bytes", f"{name}.scale"
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.rint(value / scale).astype(np.int8), whole))
        model.graph.initializer.append(onnx.numpy_helper.from_array(scale, factor))
        if cast is not None:
            model.graph.node.remove(cast)
        made += [
            onnx.helper.make_node("Cast", [whole], [f"{name}.whole"], f"{name}.cast", to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}.whole", factor], [name], f"{name}.mul"),
        ]
    _put_first(model, made)


def _put_first(model: Any, nodes: list[Any]) -> None:
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
