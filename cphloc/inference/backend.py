"""Backends: compute the windows of a model with torch or with a faster runtime.

The fastest runtime depends on model and machine, so ``auto`` measures it: once torch has run for about as long as the
measurement takes, every installed runtime (extra ``cphloc[fast]``) computes one window. A runtime that fails, or
whose outputs differ from torch's by more than `TOLERANCE`, is not used. The choice is cached by model and machine. On
a CPU all runtimes compute in single precision; half precision is used on a GPU only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cphloc.config import jsonio
from cphloc.errors import CphlocError, InputError, needs
from cphloc.files import atomic
from cphloc.paths import cached

if TYPE_CHECKING:
    from torch import Tensor

    from cphloc.modeling.model import Model

BackendName = Literal["auto", "torch", "compile", "half", "onnxruntime", "openvino"]
"""Name of a backend, see `Backend`."""

TOLERANCE = 5e-3
"""Largest allowed deviation from torch, relative to the largest magnitude of an output (at least 1)."""

FIND_SECONDS = 10.0
"""Seconds that torch computes before ``auto`` measures the other backends; exporting a model takes about as long."""

KNOWN_SECONDS = 1.0
"""Seconds that torch computes before ``auto`` switches to the fastest backend, if the cache knows it."""

GAIN = 1.1
"""``auto`` uses another backend only if it is this many times faster than torch."""

Run = Callable[["Tensor"], dict[str, Any]]
"""Function from a window ``(1, C, *S)`` to the outputs of every head by name."""

_log = logging.getLogger(__name__)


class Backend:
    """Computes the outputs of a model for one window, like ``Model.outputs``, with the requested runtime.

    Args:
        model: in evaluation mode; it may be moved to another device later.
        asked: ``torch``; ``onnxruntime``; ``openvino``; ``compile`` (torch.compile; its first window takes half a
            minute, so ``auto`` does not use it); ``half`` (GPU only: half precision, channels last); or ``auto``.

    Raises:
        InputError: no such backend.

    >>> from cphloc.modeling.build import build
    >>> Backend(build("unet3d-hippocampus").eval()).facts
    {'backend': 'torch', 'difference': 0.0}
    """

    def __init__(self, model: Model, asked: BackendName = "torch") -> None:
        if asked not in get_args(BackendName):
            msg = f"no backend '{asked}'; choose from {', '.join(get_args(BackendName))}"
            raise InputError(msg)
        self.model = model
        self.asked = asked
        self.facts: dict[str, Any] = {"backend": "torch", "difference": 0.0}
        self._runs: dict[tuple[int, ...], Run] = {}
        self._spent: dict[tuple[int, ...], float] = defaultdict(float)
        self._choices: dict[tuple[int, ...], Path] = {}

    def __call__(self, window: Tensor) -> dict[str, Any]:
        """Compute the outputs of every head by name for a window ``(1, C, *S)``; the first of each size with torch."""
        run = self._runs.get(tuple(window.shape))
        return self._first(window) if run is None else run(window)

    def _first(self, window: Tensor) -> dict[str, Any]:
        """Compute with torch, and choose the backend for later windows of this size if torch has run long enough."""
        shape = tuple(window.shape)
        expected, seconds = _timed(self.model.outputs, window)
        self._spent[shape] += seconds
        names = [self.asked] if self.asked != "auto" else _installed(window.device.type)
        if names in ([], ["torch"]):
            self._runs[shape] = self.model.outputs
        elif self.asked != "auto":
            self._runs[shape] = self._quickest(names, window, expected, float("inf"))
        elif self._spent[shape] >= KNOWN_SECONDS:
            if shape not in self._choices:  # hashes all weights, which takes longer than a small window
                self._choices[shape] = _cached(self.model, window, "choice.json")
            choice = self._choices[shape]
            known = json.loads(choice.read_text(encoding="utf-8"))["backend"] if choice.is_file() else None
            if known is not None:
                self._runs[shape] = self._quickest([known], window, expected, float("inf"))
            elif self._spent[shape] >= FIND_SECONDS:
                self._runs[shape] = self._quickest(names, window, expected, seconds)
                with atomic(choice) as temporary:
                    temporary.write_text(jsonio.dumps(self.facts) + "\n", encoding="utf-8")
        return expected

    def _quickest(self, names: Sequence[str], window: Tensor, expected: dict[str, Any], seconds: float) -> Run:
        """Choose the fastest backend that agrees with torch's ``expected`` outputs and needs less than ``seconds``."""
        best: Run = self.model.outputs
        for name in names:
            if name == "torch":
                continue
            try:
                run = _OPEN[name](self.model, window, expected)
                difference = _difference(run(window), expected)
                _, took = _timed(run, window)
            except Exception as error:  # each runtime raises errors of its own
                _log.warning(
                    "backend %s cannot compute this model, torch is used instead: %s", name, _first_line(error)
                )
                continue
            if not difference <= TOLERANCE:
                _log.warning("backend %s differs by %.1e from torch, which is used instead", name, difference)
                continue
            _log.info("backend %s: %.3f s per window, differs by %.1e from torch", name, took, difference)
            if took * GAIN < seconds:
                best, seconds = run, took * GAIN
                self.facts = {"backend": name, "difference": float(f"{difference:.2g}")}
        return best


def _installed(device: str) -> list[str]:
    """Names of the backends besides torch that ``auto`` tries on a device."""
    if device != "cpu":
        return ["half"] if device == "cuda" else []
    can_export = importlib.util.find_spec("onnxscript") is not None
    return [name for name in ("openvino", "onnxruntime") if can_export and importlib.util.find_spec(name) is not None]


def _timed(run: Run, window: Tensor) -> tuple[dict[str, Any], float]:
    """Outputs of ``run`` for a window, and the seconds it took."""
    start = time.perf_counter()
    outputs = run(window)
    if window.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return outputs, time.perf_counter() - start


def _cached(model: Model, window: Tensor, file: str) -> Path:
    """Path in the cache of a file for a model with these weights, at this window size, on this machine."""
    import torch

    digest = hashlib.sha256(repr((model, tuple(window.shape), str(window.device))).encode())
    digest.update(repr((platform.processor(), platform.machine(), torch.__version__, torch.get_num_threads())).encode())
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return cached("backends", digest.hexdigest()[:24], file)


def _difference(outputs: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest deviation, relative to the largest magnitude of an output (at least 1)."""
    from torch.utils._pytree import tree_leaves

    pairs = zip(tree_leaves(outputs), tree_leaves(expected), strict=True)
    return max(float((o - e).detach().abs().max() / e.detach().abs().max().clamp(min=1)) for o, e in pairs)


def _exported(model: Model, window: Tensor) -> Path:
    """Export the model as ONNX, once per window size; returns the file in the cache."""
    import torch

    from cphloc.inference.export import export_onnx

    path = _cached(model, window, "model.onnx")
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
    """Open the exported model in OpenVINO, in single precision."""
    path = _exported(model, window)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # openvino then reports nothing
    with needs("the backend openvino"):
        import openvino
    import torch

    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape(list(window.shape))
    # Single precision: by default OpenVINO uses bfloat16 if the processor supports it.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
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
    """Run the model in half precision with channels last, the fastest layout for the matrix units of a GPU."""
    import torch
    from torch.utils._pytree import tree_map

    layout = {4: torch.channels_last, 5: torch.channels_last_3d}[window.dim()]

    def _run(window: Tensor) -> dict[str, Any]:
        """Return the outputs for one window, computed in half precision."""
        with torch.autocast(window.device.type, torch.float16):
            outputs = model.outputs(window.contiguous(memory_format=layout))
        return tree_map(lambda x: x.float(), outputs)

    return _run


_OPEN = {"compile": _compile, "half": _half, "onnxruntime": _onnxruntime, "openvino": _openvino}


def _first_line(error: Exception) -> str:
    """First line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
