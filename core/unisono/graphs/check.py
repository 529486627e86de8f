"""Check: a written graph is run beside the model that it was made of, at every example, before anyone else has it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from unisono.errors import CheckpointError
from unisono.extras import optional
from unisono.graphs.graph import Graph

Run = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


def onnx_runner(path: Path, graph: Graph) -> Run:
    """Return what runs an ONNX file by onnxruntime, in one thread."""
    runtime = optional("onnxruntime", extra="onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in graph.inputs]

    def run(arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        given = {name: value.numpy() for name, value in zip(names, arguments, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, given))

    return run


def torch_runner(path: Path) -> Run:
    """Return what runs a file of ``torch.export``."""
    module = torch.export.load(path).module()

    def run(arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        made = module(*arguments)
        return tuple(made) if isinstance(made, tuple | list) else (made,)

    return run


@torch.inference_mode()
def check(name: str, graph: Graph, run: Run, int8: bool = False) -> list[dict[str, dict[str, float]]]:
    """Return the sizes and the distances of each example. Raises ``CheckpointError`` for one beyond its tolerance."""
    found = []
    for arguments in graph.examples:
        wanted, made = graph.reference(*arguments), run(arguments)
        distances = {}
        for port, expected, got in _compared(graph, wanted, made):
            limit = port.tolerance if not int8 or port.int8_tolerance is None else port.int8_tolerance
            distances[port.name] = distance(expected, got)
            if not distances[port.name] <= limit:
                message = (
                    f"graph {name!r} says {port.name} {distances[port.name]:.2g} away from the model's own "
                    f"(limit {limit:g}): nothing is written; {'leave out --int8, or ' if int8 else ''}report it"
                )
                raise CheckpointError(message, code="failed", path=port.name, value=distances[port.name])
        sizes = {
            axis: arguments[i].shape[place]
            for i, port in enumerate(graph.inputs)
            for place, axis in enumerate(port.axes)
            if isinstance(axis, str)
        }
        found.append({"sizes": sizes, "distances": distances})
    return found


def distance(expected: Tensor, got: Tensor) -> float:
    """Return the root mean square of the difference as a share of that of what is expected: infinite for another shape
    or kind of number, and where one is not finite."""
    if expected.shape != got.shape or expected.dtype.is_floating_point != got.dtype.is_floating_point:
        return float("inf")
    expected, got = expected.double(), got.double()
    off = (got - expected).square().mean().sqrt().item()
    if off == 0 or expected.numel() == 0:
        return 0.0
    share = off / max(expected.square().mean().sqrt().item(), 1e-12)
    return share if share == share else float("inf")


def _compared(graph: Graph, wanted: Sequence[Tensor], made: Sequence[Tensor]):
    """Pairs of what is compared, each with the port whose tolerance holds; shapes of all outputs come first."""
    ports = {port.name: port for port in graph.outputs}
    if graph.view is None:
        return [(port, a, b) for port, a, b in zip(graph.outputs, wanted, made, strict=True)]
    for port, a, b in zip(graph.outputs, wanted, made, strict=True):
        if a.shape != b.shape:
            message = f"{port.name} has the shape {tuple(b.shape)}, the model's own {tuple(a.shape)}: report it"
            raise CheckpointError(message, code="failed", path=port.name, value=tuple(b.shape))
    seen = graph.view(*wanted), graph.view(*made)
    return [(ports[name], seen[0][name], seen[1][name]) for name in seen[0]]
