"""Graph: a network as tensors in, tensors out, that other runtimes can run; what a model offers to be written as one.

A model says which of its parts can stand alone by ``graph_modules()``. Each part is a ``torch.nn.Module`` whose
``forward`` takes and returns tensors and asks nothing of their values, so that ``torch.export`` follows it whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["Graph", "GraphModel", "Graphs", "Port"]


@dataclass(frozen=True)
class Port:
    """An input or output.

    Args:
        name: as the runtime knows it.
        axes: of each axis its size, or the name of a size that is free; a name means one size in all inputs.
        about: meaning, unit and range.
        tolerance: of an output: the largest distance to the model's own, as a share of its root mean square; 0 asks for
            equal values.
        int8_tolerance: likewise, of a graph whose weights are quantised; ``tolerance`` where it is None.
    """

    name: str
    axes: tuple[int | str, ...]
    about: str
    tolerance: float = 1e-3
    int8_tolerance: float | None = None


@dataclass(frozen=True)
class Graph:
    """One network to write.

    Args:
        module: what is traced; in evaluation mode.
        inputs, outputs: its arguments and what it returns (a tensor or a tuple), in order.
        examples: arguments of at least two sizes; the first is traced, all are checked.
        reference: the model's own way from the same arguments to the same outputs, which the written graph is checked
            against; not the traced module, so that a rewrite that is wrong is found.
        limits: least and largest size by the name of a free axis.
        quantised: beginnings of the names of submodules whose linear layers become int8 where that is asked for.
        view: what of the outputs is compared instead of themselves, such as the spectrum of a wave whose phase is
            free: the outputs in order, to tensors by name; tolerances hold under the same names.
        packed: beginnings of the names of submodules whose weights, where int8 is asked for, only lie in the file in 8
            bits, and are multiplied as float32.
    """

    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    examples: tuple[tuple[Tensor, ...], ...]
    reference: Callable[..., tuple[Tensor, ...]]
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    quantised: tuple[str, ...] = ()
    view: Callable[..., Mapping[str, Tensor]] | None = None
    packed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graphs:
    """A model's networks by name, and what their users must know, as plain JSON: rates, symbols, tables."""

    modules: Mapping[str, Graph]
    facts: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class GraphModel(Protocol):
    """A model that can be written as graphs."""

    def graph_modules(self) -> Graphs:
        """Return the networks. Raises ``RequestError`` where this one, as it is configured, has none."""
        ...
