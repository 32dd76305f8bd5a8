"""What our models are written, quantised and run with: ONNX graphs, node by node."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

Array = NDArray[Any]
Shape = Sequence[int | str]

MICROSOFT = "com.microsoft"


class Graph:
    """An ONNX graph under construction; values are called by the name of what made them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Array) -> str:
        """A weight."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, kind: str, *inputs: str, name: str, domain: str = "", **attributes: Any) -> str:
        """A computation."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def model(
        self, name: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], *, opset: int, **attributes: Any
    ) -> onnx.ModelProto:
        """The model: word pieces in (int64), float32 out."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(key, TensorProto.INT64, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, **attributes)


def rows_as_int8(table: Array) -> tuple[Array, Array]:
    """A table's rows as int8, and the scale of each, shape (rows, 1)."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), np.float32(1e-8)) / np.float32(127)
    return np.rint(table / scale).astype(np.int8), scale


def quantise(
    model: onnx.ModelProto, *, reduce_range: bool, kinds: list[str] | None = None, keep: list[str] | None = None
) -> bytes:
    """Matrices as int8 with a scale a column; activations are quantised as they come, a scale a run.

    ``kinds`` are the operators to quantise, by default all that can be; ``keep`` names nodes that stay in float32.
    """
    logging.getLogger().setLevel(logging.ERROR)  # it advises a preparation that these graphs do not need
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=kinds,
            nodes_to_exclude=keep,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
        return target.read_bytes()


def session(model: onnx.ModelProto | bytes) -> onnxruntime.InferenceSession:
    """The model, ready to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
