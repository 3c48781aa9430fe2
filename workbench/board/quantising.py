"""The network in 8 bits: smaller, and faster where the processor multiplies bytes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Inputs = dict[str, np.ndarray]
KINDS = ("Conv", "Relu", "MaxPool")
"""Nodes that compute in 8 bits: the image's. What is told of a RAW, and the pooling by attention, stay as they are."""


def _quantization() -> Any:
    """ONNX Runtime's module, whose import must not leave a folder of its own on the module path."""
    before = list(sys.path)
    try:
        from onnxruntime import quantization
    finally:
        sys.path[:] = before
    return quantization


def quantise(network: Path, inputs: Iterable[Inputs]) -> None:
    """Rewrite an ONNX file with features of 8 bits and weights of 7, each channel of the weights with its own scale.

    Args:
        network: the file.
        inputs: of the network, for typical RAWs, one at a time; the ranges of the features are theirs.
    """
    model = onnx.load(network)
    _pad_channels(model.graph)
    _bias_apart(model.graph)
    onnx.save(model, network)
    quantization = _quantization()
    examples = iter(inputs)

    class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Examples of the network's inputs, one after the other."""

        def get_next(self) -> Inputs | None:
            return next(examples, None)

    made = network.with_suffix(".int8.onnx")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends steps that the graph has behind it
    try:
        quantization.quantize_static(
            str(network),
            str(made),
            Calibration(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # Weights of 7 bits: a processor without byte products adds two of them in 16 bits, where 8 bits overflow
            # without a word.
            reduce_range=True,
            op_types_to_quantize=list(KINDS),
            nodes_to_exclude=_levels(model.graph),
            # What comes of a ReLU has no sign, and processors that multiply bytes multiply these two kinds.
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        logger.setLevel(level)
    made.replace(network)


def _levels(graph: onnx.GraphProto) -> list[str]:
    """The convolutions that make one channel of an encoder's: they cost nothing, and what follows them is exact."""
    single = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] == 1}
    return [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in single]


def _pad_channels(graph: onnx.GraphProto) -> None:
    """Give the image channels of zeros up to a multiple of four, which changes no result.

    Bytes are multiplied four at a time: with the image's own three channels the first convolution takes twice as long.
    """
    place, conv = next((i, node) for i, node in enumerate(graph.node) if node.op_type == "Conv")
    tensor = _initializer(graph, conv.input[1])
    weights = numpy_helper.to_array(tensor)
    more = -weights.shape[1] % 4
    tensor.CopyFrom(numpy_helper.from_array(np.pad(weights, [(0, 0), (0, more), (0, 0), (0, 0)]), tensor.name))
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, more, 0, 0]), "more_channels")
    graph.initializer.append(pads)
    graph.node.insert(place, helper.make_node("Pad", [conv.input[0], pads.name], ["padded"], "pad"))
    conv.input[0] = "padded"


def _bias_apart(graph: onnx.GraphProto) -> None:
    """Add the bias of the local predictions behind their convolution, which rounds what it gives to 8 bits.

    A parameter that training held has weights of 0, and its value in the bias: so it stays as it is.
    """
    flattened = {node.input[0] for node in graph.node if node.op_type == "Reshape"}
    place, conv = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Conv" and n.output[0] in flattened)
    tensor, local = _initializer(graph, conv.input.pop()), conv.output[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, None, None], tensor.name))
    conv.output[0] = "unbiased"
    graph.node.insert(place + 1, helper.make_node("Add", [conv.output[0], tensor.name], [local], "bias"))


def _initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(tensor for tensor in graph.initializer if tensor.name == name)
    return found
