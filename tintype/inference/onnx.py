"""Networks in ONNX on the CPU."""

import importlib
import os
from typing import Any

import onnxruntime

_RAISED: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
FAILURES: tuple[type[Exception], ...] = (
    _RAISED.Fail,
    _RAISED.InvalidArgument,
    _RAISED.InvalidGraph,
    _RAISED.InvalidProtobuf,
    _RAISED.NoModel,
    _RAISED.NotImplemented,
    _RAISED.RuntimeException,
    _RAISED.EPFail,
)
"""What onnxruntime raises; they have no common class but Exception."""


def open_session(content: bytes) -> Any:
    """A session of the network that `content` holds, quiet, on every core this process may use.

    Weights in side files are not read, because it is not told where it lies. Raises one of `FAILURES`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def first_line(error: Exception) -> str:
    """The beginning of what an error says."""
    return (str(error).strip().splitlines() or [""])[0]
