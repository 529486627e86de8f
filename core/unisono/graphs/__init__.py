"""Graphs: models as files for small runtimes: ONNX, and torch.export's own.

A model that offers ``graph_modules()`` is written by ``write_graphs``, or ``unisono export … --format onnx``.
"""

from unisono.graphs.graph import Graph, GraphModel, Graphs, Port
from unisono.graphs.rewrites import NeighbourLinear, for_graph
from unisono.graphs.write import MANIFEST, trace, write_graphs

__all__ = ["MANIFEST", "Graph", "GraphModel", "Graphs", "NeighbourLinear", "Port", "for_graph", "trace", "write_graphs"]
