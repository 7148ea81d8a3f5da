"""The graphs of policies in ONNX, node by node; weights are folded as in :mod:`.fused`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .fused import EPSILON, Emitter, Fused, Layer, emitter_of, layer_of, projection_of, weights_of
from .networks import FlexiblePolicy

__all__ = ["Graph", "flexible_policy", "set_policy"]

END = 2**31  # of an axis, for Slice


class Graph:
    """Nodes and weights of an ONNX graph, as they come."""

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def __call__(self, op: str, *inputs: str, name: str | None = None, **settings: Any) -> str:
        """The name of what a node gives."""
        name = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [name], **settings))
        return name

    def split(self, value: str, parts: int) -> list[str]:
        """Equal parts of the last axis."""
        names = [f"{value}_{i}" for i in range(parts)]
        node = self.onnx.helper.make_node("Split", [value], names, axis=-1, num_outputs=parts)
        self.nodes.append(node)
        return names

    def held(self, values: Any) -> str:
        """The name of a constant; floats are float32, whole numbers int64."""
        name = f"w{len(self.weights)}"
        values = values.numpy() if isinstance(values, Tensor) else np.asarray(values)
        kind = np.float32 if values.dtype.kind == "f" else np.int64
        values = np.ascontiguousarray(values, kind)
        self.weights.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def sized(self, sizes: str, last: int) -> str:
        """A shape: computed sizes and a last one that is known."""
        return self("Concat", sizes, self.held([last]), axis=0)

    def joined(self, values: list[str]) -> str:
        """Side by side."""
        return values[0] if len(values) == 1 else self("Concat", *values, axis=-1)

    def linear(self, value: str, bias: Tensor | str, weights: Tensor) -> str:
        """[N, inputs] -> [N, outputs]; the bias may be computed."""
        bias = bias if isinstance(bias, str) else self.held(bias)
        return self("Gemm", value, self.held(weights), bias)

    def softplus(self, value: str) -> str:
        """By Exp and Log, which run several times as fast as the node Softplus; never infinite."""
        grown = self("Exp", self("Min", value, self.held(80.0)))
        return self("Max", value, self("Log", self("Add", grown, self.held(1.0))))


def set_policy(graph: Graph, engine: Fused) -> None:
    """All nodes of a SetPolicy, from "points" [users, n, D + S] and "budget" to "query"."""
    shape = graph("Shape", "points", start=0, end=2)
    width = len(engine.branches[0].last[0])
    known, rows = graph.sized(shape, 3 * width), graph.sized(shape, width)
    flat = graph("Reshape", "points", graph.held([-1, len(engine.branches[0].first[1])]))
    totals = []
    for branch in engine.branches:
        token = graph.softplus(graph.linear(flat, *branch.first))
        token = graph.linear(token, *branch.last)
        for layer in branch.layers:
            token = _block(graph, layer, token, known, engine.heads)
        token = graph("Reshape", token, rows)
        totals.append(graph("ReduceSum", token, graph.held([1]), keepdims=0))
    seen = graph.joined(totals)
    hidden = graph.linear(seen, _bias(graph, engine.emitter), engine.emitter.read)
    found = graph.linear(graph.softplus(hidden), *engine.emitter.out)
    graph("Sigmoid", found, name="query")


def flexible_policy(graph: Graph, network: FlexiblePolicy, budget: int) -> None:
    """All nodes of a FlexiblePolicy; D, the number of inputs, is open as well.

    Tokens are rows, in the order (users, n, D) or, where attention runs along the points,
    (users, D, n).
    """
    heads, width, first = network.heads, network.width, network.first.sequence_first
    size = graph("Shape", "points", start=0, end=2)
    axis, columns = graph.held([2]), graph.held([-network.branches])
    x = graph("Slice", "points", graph.held([0]), columns, axis)
    sizes = graph("Concat", size, graph("Shape", x, start=2, end=3), axis=0)  # users, n, D
    users, n, dim = (graph("Gather", sizes, graph.held([i])) for i in range(3))
    free = graph.held([-1])  # users n, or users D
    turns = (
        (graph("Concat", users, dim, n, axis=0), graph("Concat", free, n, axis=0)),
        (graph("Concat", users, n, dim, axis=0), graph("Concat", free, dim, axis=0)),
    )  # of the order along the points and along the inputs: the rows' sizes, those of attention
    here, there = turns if first else turns[::-1]

    def turned(token: str, sizes: str) -> str:
        """The rows in the other order."""
        token = graph("Reshape", token, graph.sized(sizes, width))
        token = graph("Transpose", token, perm=[0, 2, 1, 3])
        return graph("Reshape", token, graph.held([-1, width]))

    totals = []
    for s in range(network.branches):
        own = weights_of(network, s)
        weight, bias = own["encoder.weight"].T.float(), own["encoder.bias"].float()
        column = s - network.branches  # from the end
        ends = graph.held([column]), graph.held([column + 1 or END])
        y = graph("Unsqueeze", graph("Slice", "points", *ends, axis), free)
        y = graph("Add", graph("Mul", y, graph.held(weight[1])), graph.held(bias))
        x_row = graph("Mul", graph("Unsqueeze", x, free), graph.held(weight[0]))
        token = graph("Reshape", graph("Add", x_row, y), graph.held([-1, width]))
        if first:
            token = turned(token, turns[1][0])
        for i, stripe in enumerate(("first", "second")):
            project = projection_of(own, f"{stripe}.attention", heads)
            known = graph.linear(token, *project)
            seen = _attended(graph, known, graph.sized(here[1], 3 * width), heads, width)
            norm = own[f"{stripe}.norm.weight"], own[f"{stripe}.norm.bias"]
            token = _norm(graph, graph("Add", seen, token), *norm)
            token = turned(token, here[0])
            layer = layer_of(own, f"{stripe}.block", heads, final=i == 1)
            token = _block(graph, layer, token, graph.sized(there[1], 3 * width), heads)
            if i == 0 or not first:
                token = turned(token, there[0])
        # after the last stripe the rows are (users, n, D): those of `turns[1]`
        token = graph("Reshape", token, graph.sized(turns[1][0], width))
        token = graph("ReduceSum", token, graph.held([1]), keepdims=0)
        totals.append(graph("Reshape", token, graph.held([-1, width])))  # users D
    last = emitter_of(network, budget, "second.block")
    hidden = graph("MatMul", graph.joined(totals), graph.held(last.read))
    inputs = graph("Concat", users, dim, graph.held([len(last.count)]), axis=0)
    others = graph("Unsqueeze", _bias(graph, last), graph.held([1]))  # [users or 1, 1, F]
    hidden = graph("Relu", graph("Add", graph("Reshape", hidden, inputs), others))
    found = graph("Add", graph("MatMul", hidden, graph.held(last.out[1])), graph.held(last.out[0]))
    graph("Sigmoid", graph("Squeeze", found, axis), name="query")


def _bias(graph: Graph, last: Emitter) -> str:
    """What the emitter's hidden layer gets from the budget and the number of points."""
    n = graph("Cast", graph("Shape", "points", start=1, end=2), to=graph.onnx.TensorProto.FLOAT)
    table = graph.held(last.table)
    if len(last.table) > 1:
        table = graph("Gather", table, graph("Sub", "budget", graph.held([1])))
    return graph("Add", table, graph("Mul", n, graph.held(last.count)))


def _block(graph: Graph, layer: Layer, token: str, shape: str, heads: int) -> str:
    """[rows, E] -> the same shape; `shape` is that of [..., n, 3 E] where attention runs."""
    weight, bias = layer.norm
    known = graph.linear(token, *layer.project)
    seen = _attended(graph, known, shape, heads, len(weight))
    token = _norm(graph, graph("Add", seen, token), weight, bias)
    wide = graph("Relu", graph.linear(token, *layer.wide))
    token = graph.linear(wide, token, layer.narrow)
    return _norm(graph, token, *(layer.end or (torch.ones_like(weight), torch.zeros_like(bias))))


def _attended(graph: Graph, known: str, shape: str, heads: int, width: int) -> str:
    """Queries, keys and values [rows, 3 E] -> [rows, E]."""
    parts = graph.split(graph("Reshape", known, shape), 3)
    seen = graph("Attention", *parts, q_num_heads=heads, kv_num_heads=heads, scale=1.0)
    return graph("Reshape", seen, graph.held([-1, width]))


def _norm(graph: Graph, value: str, weight: Tensor, bias: Tensor) -> str:
    held = graph.held(weight), graph.held(bias)
    return graph("LayerNormalization", value, *held, axis=-1, epsilon=EPSILON)
