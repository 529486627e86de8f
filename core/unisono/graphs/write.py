"""Writing: a model's graphs in a folder, each checked against the model before the folder gets its name.

::

    my-voice-onnx/
        graphs.json        the manifest: what goes in and out of each graph, rates, symbols, how it was checked
        speak.onnx         one file for each graph; .pt2 for torch

"""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any, Literal

import torch

import unisono
from unisono.data import to_plain
from unisono.errors import CheckpointError, RequestError
from unisono.files import folder_written_aside
from unisono.graphs.check import check, onnx_runner, torch_runner
from unisono.graphs.graph import Graph, GraphModel, Port
from unisono.graphs.onnx_files import quantise, strip, write_onnx

FORMAT = 1
MANIFEST = "graphs.json"
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def write_graphs(
    model: Any, dest: str | Path, kind: Literal["onnx", "torch"] = "onnx", *, int8: bool = False
) -> dict[str, Any]:
    """Write a model's graphs into a new or empty folder and return the manifest.

    Raises ``RequestError`` for a model that has none, and for int8 where the kind has it not; ``CheckpointError`` where
    a graph differs from the model by more than it may, or the folder cannot be written: then nothing is.
    """
    dest = Path(dest)
    name = model.recipe.get("model", {}).get("name", type(model).__name__)
    if kind not in SUFFIXES:
        message = f"format={kind!r} must be one of {', '.join(SUFFIXES)}"
        raise RequestError(message, code="unknown", path="format", value=kind)
    if not isinstance(model, GraphModel):
        message = f"{name} offers no graphs (graph_modules): it is used by unisono.load alone"
        raise RequestError(message, code="unsupported", path="model", value=name)
    if int8 and kind != "onnx":
        message = "--int8 is onnxruntime's quantisation: take --format onnx"
        raise RequestError(message, code="unsupported", path="int8", value=kind)
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        message = f"{dest} exists and is not an empty folder: choose another name"
        raise CheckpointError(message, code="exists", path=dest)
    if isinstance(model, torch.nn.Module):
        model.eval()
    offered = model.graph_modules()
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "kind": kind,
        "model": name,
        "unisono": unisono.__version__,
        "int8": int8,
        "facts": to_plain(dict(offered.facts), "facts"),
        "graphs": {},
    }
    with folder_written_aside(dest, CheckpointError) as folder:
        for title, graph in offered.modules.items():
            manifest["graphs"][title] = _write(title, graph, folder / f"{title}{SUFFIXES[kind]}", kind, int8)
        text = json.dumps(manifest, ensure_ascii=False, indent=1)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """Trace a graph's module, its free axes open."""
    free: dict[str, Any] = {}
    for port in graph.inputs:
        for axis in port.axes:
            if isinstance(axis, str) and axis not in free:
                least, most = graph.limits.get(axis, (2, 2**20))
                free[axis] = torch.export.Dim(axis, min=least, max=most)
    shapes: tuple[Any, ...] = tuple(
        {place: free[axis] for place, axis in enumerate(port.axes) if isinstance(axis, str)} for port in graph.inputs
    )
    parameters = list(inspect.signature(graph.module.forward).parameters.values())
    if parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:  # they are one argument to torch.export
        shapes = (*shapes[: len(parameters) - 1], shapes[len(parameters) - 1 :])
    with torch.no_grad():
        return torch.export.export(graph.module.eval(), graph.examples[0], dynamic_shapes=shapes, strict=False)


def _write(title: str, graph: Graph, path: Path, kind: str, int8: bool) -> dict[str, Any]:
    program = trace(graph)
    layers = 0
    if kind == "onnx":
        write_onnx(program, graph, path)
        if int8:
            layers = quantise(path, graph.quantised, graph.packed)
        strip(path)
        run = onnx_runner(path, graph)
    else:
        torch.export.save(program, path)
        run = torch_runner(path)
    checked = check(title, graph, run, int8 and layers > 0)
    content = path.read_bytes()
    return {
        "file": path.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "int8_layers": layers,
        "inputs": [_described(port, value) for port, value in zip(graph.inputs, graph.examples[0], strict=True)],
        "outputs": [{"name": port.name, "axes": list(port.axes), "about": port.about} for port in graph.outputs],
        "limits": {axis: list(sizes) for axis, sizes in graph.limits.items()},
        "checked": checked,
    }


def _described(port: Port, example: torch.Tensor) -> dict[str, Any]:
    dtype = str(example.dtype).removeprefix("torch.")
    return {"name": port.name, "dtype": dtype, "axes": list(port.axes), "about": port.about}
