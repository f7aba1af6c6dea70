"""Runtimes that compute the network of a model: torch in other forms, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.distributed.machine import cpu_computes_bfloat16
from cphloc.errors import CphlocError, needs
from cphloc.paths import cached

if TYPE_CHECKING:
    from torch import Tensor

    from cphloc.modeling.model import Model

TOLERANCE = 5e-3
"""Largest allowed deviation from torch, relative to the largest magnitude of an output (at least 1)."""

Run = Callable[["Tensor"], dict[str, Any]]
"""Function from a window ``(1, C, *S)`` to the outputs of every head by name."""


def cache_file(model: Model, window: Tensor, file: str) -> Path:
    """Path in the cache of a file for a model with these weights, at this window size, on this machine."""
    import torch

    digest = hashlib.sha256(repr((model, tuple(window.shape), str(window.device))).encode())
    digest.update(repr((platform.processor(), platform.machine(), torch.__version__, torch.get_num_threads())).encode())
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return cached("backends", digest.hexdigest()[:24], file)


def _exported(model: Model, window: Tensor) -> Path:
    """Export the model as ONNX, once per window size; returns the file in the cache."""
    import torch

    from cphloc.inference.export import export_onnx

    path = cache_file(model, window, "model.onnx")
    if not path.is_file():
        with torch.inference_mode(False), torch.no_grad():
            export_onnx(model, torch.zeros(window.shape), path, tolerance=TOLERANCE)
    return path


def _onnxruntime(model: Model, window: Tensor, expected: dict[str, Any]) -> Run:
    """Open the exported model in ONNX Runtime."""
    path = _exported(model, window)
    with needs("the backend onnxruntime"):
        import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return _with_tensors(lambda x: session.run(None, {image.name: x}), expected)


def _openvino(model: Model, window: Tensor, expected: dict[str, Any]) -> Run:
    """Open the exported model in OpenVINO, in single precision; by itself OpenVINO would use bfloat16 where it can."""
    return _openvino_in("f32", model, window, expected)


def _openvino_in(precision: str, model: Model, window: Tensor, expected: dict[str, Any]) -> Run:
    """Open the exported model in OpenVINO.

    Args:
        precision: of the computation, in OpenVINO's terms: ``f32`` or ``bf16``.
        model: the model.
        window: ``(1, C, *S)``, whose size all later windows have.
        expected: outputs of torch for this window, which have the structure of those returned.
    """
    path = _exported(model, window)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # openvino then reports nothing
    with needs("the backend openvino"):
        import openvino
    import torch

    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape(list(window.shape))
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(network, "CPU", {**hints, "INFERENCE_NUM_THREADS": torch.get_num_threads()})
    request = compiled.create_infer_request()

    def _compute(x: Any) -> list[Any]:
        """Run the compiled network; its outputs in order."""
        results = request.infer([x])
        return [results[output] for output in compiled.outputs]

    return _with_tensors(_compute, expected)


def _with_tensors(compute: Callable[[Any], Sequence[Any]], expected: dict[str, Any]) -> Run:
    """Wrap a function from an array to a list of arrays so that it returns tensors, nested like ``expected``."""
    import numpy as np
    import torch
    from torch.utils._pytree import tree_flatten, tree_unflatten

    leaves, structure = tree_flatten(expected)
    if not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        msg = "the outputs of a head contain values that are not tensors; use the backend torch"
        raise CphlocError(msg)

    def _run(window: Tensor) -> dict[str, Any]:
        """Return the outputs for one window, nested as the model nests them."""
        arrays = compute(np.ascontiguousarray(window.numpy()))
        return tree_unflatten([torch.from_numpy(array) for array in arrays], structure)

    return _run


def _compile(model: Model, window: Tensor, expected: dict[str, Any]) -> Run:
    """Compile the model with torch.compile."""
    import torch

    return torch.compile(model.outputs, dynamic=False)


def _half(model: Model, window: Tensor, expected: dict[str, Any]) -> Run:
    """Run the model in half precision: bfloat16 on a CPU; elsewhere float16, its channels last as a GPU prefers it."""
    import torch
    from torch.utils._pytree import tree_map

    cpu = window.device.type == "cpu"
    dtype = torch.bfloat16 if cpu else torch.float16
    layout = torch.preserve_format if cpu else {4: torch.channels_last, 5: torch.channels_last_3d}[window.dim()]

    def _run(window: Tensor) -> dict[str, Any]:
        """Return the outputs for one window, computed in half precision."""
        with torch.autocast(window.device.type, dtype):
            outputs = model.outputs(window.contiguous(memory_format=layout))
        return tree_map(lambda x: x.float(), outputs)

    return _run


OPEN = {
    "compile": _compile,
    "half": _half,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino, half": partial(_openvino_in, "bf16"),
}
"""Runtime -> function that opens a model in it."""


def installed(device: str) -> list[str]:
    """Return the runtimes besides torch that the backend ``auto`` tries on a device."""
    if device != "cpu":
        return ["half"] if device == "cuda" else []
    can_export = importlib.util.find_spec("onnxscript") is not None
    return [name for name in ("openvino", "onnxruntime") if can_export and importlib.util.find_spec(name) is not None]


def in_half_precision(device: str) -> list[str]:
    """Return the runtimes that compute in half precision on a device, the better first; none where it does not."""
    if device != "cpu":
        return ["half"]
    if not cpu_computes_bfloat16():
        return []
    return [*(["openvino, half"] if "openvino" in installed(device) else []), "half"]
