"""The predictor's network as an ONNX graph, for RAWs of one size.

The graph is written node by node, not traced: what the network does is few kinds of layers, and the adaptive pooling
of the attention path (whose windows ONNX does not have) becomes a gathering of rows and columns and their maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from predictor.model import LARGEST, Predictor
from workbench.board.runtime import PLANES, TOLD
from workbench.errors import RunError

OPSET = 18
LOGITS = "logits"
"""The graph's output; its inputs are named in the runtime."""


def graph_of(network: Predictor, height: int, width: int) -> bytes:
    """The network as an ONNX model.

    Args:
        network: in evaluation mode.
        height, width: of the planes that it sees.

    Returns:
        A serialised model: ``planes`` ``float32 [B, 3 or 6, height, width]`` and, where something is told of a RAW
        beside its image, ``told`` ``float32 [B, M + S]`` give ``logits`` ``float32 [B, N]``
        (:meth:`predictor.model.Predictor.logits`).

    Raises:
        RunError: the network has self-attention, which only the ablations have.
    """
    config = network.config
    if config.attention == "self":
        raise RunError("a network with self-attention is not exported; train one with the paper's attention")
    g = _Graph()
    root = g("Sqrt", g("Max", PLANES, g.constant(0.0)))
    x = g("Sub", g("Mul", root, g.constant(2.0)), g.constant(1.0))
    features, sizes = [], [(height, width)]
    for encoder in network.encoders:
        assert isinstance(encoder, nn.Sequential)
        x = g.halved(g("Relu", g.conv(x, encoder[0])))
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        features.append(x)
    direct = None
    deepest = features[-1]
    if config.told:
        told = _told(g, network)
        code = told
        for layer in network.metadata:
            code = g("Mul", code, g("Sigmoid", code)) if isinstance(layer, nn.SiLU) else g.linear(code, layer)
        channels = config.width * 2 ** (config.encoders - 1)
        modulation = g("Reshape", g.linear(code, network.modulate), g.constant([0, 2 * channels, 1, 1]))
        scale, shift = g.split(modulation, channels)
        deepest = g("Add", g("Mul", deepest, g("Add", scale, g.constant(1.0))), shift)
        direct = g.linear(g("Concat", code, told, axis=1), network.direct)
    local = g.conv(deepest, network.local)
    flat = g("Reshape", local, g.constant([0, config.parameters, -1]))
    if config.attention == "none":
        pooled = g("ReduceMean", flat, g.constant([2]), keepdims=0)
    else:
        weights = _weights(g, network, features, sizes)
        pooled = g("ReduceSum", g("Mul", flat, weights), g.constant([2]), keepdims=0)
    if direct is not None:
        pooled = g("Add", pooled, direct)
    return g.model(pooled, (config.channels, height, width), config.told, config.parameters)


def _told(g: _Graph, network: Predictor) -> str:
    config = network.config
    if not config.statistics:
        return TOLD
    own, statistics = g.split(TOLD, config.metadata, config.statistics)
    even = g("Sub", statistics, g.tensor(network.statistics_mean[None]))
    even = g("Div", even, g.tensor(network.statistics_deviation[None]))
    even = g("Clip", even, g.constant(-LARGEST), g.constant(LARGEST))
    return g("Concat", own, even, axis=1) if config.metadata else even


def _weights(g: _Graph, network: Predictor, features: list[str], sizes: list[tuple[int, int]]) -> str:
    """The attention path's weights, ``[B, N or 1, regions]``."""
    config, to = network.config, sizes[3]
    levels = []
    for i, squeeze in enumerate(network.levels):
        level = g.conv(features[i], squeeze)
        if i < 2:
            level = g.shrunk(g.shrunk(level, 2, sizes[i + 1][0], to[0]), 3, sizes[i + 1][1], to[1])
        elif i > 2:
            level = g.resized(level, to)
        levels.append(level)
    stacked = g("Concat", *levels, axis=1)
    for _ in range(config.encoders - 3):
        stacked = g.halved(stacked)
    first, _, last = network.attention
    scores = g.conv(g("Relu", g.conv(stacked, first)), last)
    maps = config.parameters if config.attention == "multi" else 1
    return g("Softmax", g("Reshape", scores, g.constant([0, maps, -1])), axis=2)


class _Graph:
    """Nodes as they are called for; a call gives the name of the node's output."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def tensor(self, values: torch.Tensor | np.ndarray) -> str:
        array = values.detach().numpy() if isinstance(values, torch.Tensor) else values
        name = f"tensor_{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def constant(self, value: float | list[int]) -> str:
        return self.tensor(np.array(value, dtype=np.int64 if isinstance(value, list) else np.float32))

    def conv(self, x: str, layer: nn.Module) -> str:
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        side = layer.kernel_size[0]
        return self(
            "Conv", x, self.tensor(layer.weight), self.tensor(layer.bias), kernel_shape=[side] * 2, pads=[side // 2] * 4
        )

    def linear(self, x: str, layer: nn.Module) -> str:
        assert isinstance(layer, nn.Linear)
        return self("Gemm", x, self.tensor(layer.weight), self.tensor(layer.bias), transB=1)

    def halved(self, x: str) -> str:
        return self("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    def split(self, x: str, first: int, second: int | None = None) -> tuple[str, str]:
        """``x`` in two parts along its channels."""
        names = [f"part_{len(self._nodes)}_{i}" for i in (0, 1)]
        sizes = self.constant([first, first if second is None else second])
        self._nodes.append(helper.make_node("Split", [x, sizes], names, axis=1))
        return names[0], names[1]

    def shrunk(self, x: str, axis: int, size: int, to: int) -> str:
        """Adaptive max-pooling of an axis: window j is from floor(j·size/to) to ceil((j + 1)·size/to)."""
        windows = [range(j * size // to, -(-(j + 1) * size // to)) for j in range(to)]
        longest = max(len(w) for w in windows)
        # Shorter windows have their last element several times, which changes no maximum.
        places = np.array([[w[min(k, len(w) - 1)] for w in windows] for k in range(longest)], dtype=np.int64)
        return self("Max", *(self("Gather", x, self.tensor(row), axis=axis) for row in places))

    def resized(self, x: str, size: tuple[int, int]) -> str:
        how = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
        return self("Resize", x, "", "", self.constant([*size]), axes=[2, 3], **how)

    def model(self, output: str, size: tuple[int, int, int], told: int, parameters: int) -> bytes:
        self._nodes.append(helper.make_node("Identity", [output], [LOGITS]))
        shapes: dict[str, list[str | int | None]] = {PLANES: ["batch", *size]}
        if told:
            shapes[TOLD] = ["batch", told]
        graph = helper.make_graph(
            self._nodes,
            "predictor",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
            [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", parameters])],
            self._tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        made: bytes = model.SerializeToString()
        return made
