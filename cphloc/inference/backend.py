"""Backends: compute the windows of a model with torch or with a faster runtime.

The fastest runtime depends on model and machine, so ``auto`` measures it: once torch has run for about as long as the
measurement takes, every installed runtime (extra ``cphloc[fast]``) computes one window. A runtime that fails, or
whose outputs differ from torch's by more than `TOLERANCE`, is not used. The choice is cached by model and machine. On
a CPU ``auto`` computes in single precision. Half precision there is bfloat16 and has to be asked for: masks of a
window, whose Dice with those of single precision must be at least `LEAST_DICE`, decide whether it is used.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cphloc.config import jsonio
from cphloc.errors import InputError
from cphloc.files import atomic
from cphloc.inference.agreement import difference, masks, mean_dice
from cphloc.inference.runtimes import OPEN, TOLERANCE, Run, cache_file, in_half_precision, installed

if TYPE_CHECKING:
    from torch import Tensor

    from cphloc.modeling.model import Model

BackendName = Literal["auto", "torch", "compile", "half", "onnxruntime", "openvino"]
"""Name of a backend, see `Backend`."""

LEAST_DICE = 0.999
"""Least Dice, mean over classes, of the masks of a window in half precision with those in single precision."""

LEAST_VOXELS = 1_000
"""Voxels of a class that the masks of a window must have before their Dice is compared."""

FIND_SECONDS = 10.0
"""Seconds that torch computes before ``auto`` measures the other backends; exporting a model takes about as long."""

KNOWN_SECONDS = 1.0
"""Seconds that torch computes before ``auto`` switches to the fastest backend, if the cache knows it."""

GAIN = 1.1
"""``auto`` uses another backend only if it is this many times faster than torch."""

_log = logging.getLogger(__name__)


class Backend:
    """Computes the outputs of a model for one window, like ``Model.outputs``, with the requested runtime.

    Args:
        model: in evaluation mode; it may be moved to another device later.
        asked: ``torch``; ``onnxruntime``; ``openvino``; ``compile`` (torch.compile; its first window takes half a
            minute, so ``auto`` does not use it); ``half`` (half precision: float16 on a GPU, bfloat16 on a CPU that has
            it, by the faster of torch and OpenVINO); or ``auto``.

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
        names = self._candidates(window.device.type)
        if names in ([], ["torch"]):
            self._runs[shape] = self.model.outputs
        elif self.asked == "half":
            if all(int(mask.sum()) >= LEAST_VOXELS for mask in masks(self.model, expected).values()):
                self._runs[shape] = self._quickest(names, window, expected, float("inf"))
        elif self.asked != "auto":
            self._runs[shape] = self._quickest(names, window, expected, float("inf"))
        elif self._spent[shape] >= KNOWN_SECONDS:
            if shape not in self._choices:  # hashes all weights, which takes longer than a small window
                self._choices[shape] = cache_file(self.model, window, "choice.json")
            choice = self._choices[shape]
            known = json.loads(choice.read_text(encoding="utf-8"))["backend"] if choice.is_file() else None
            if known is not None:
                self._runs[shape] = self._quickest([known], window, expected, float("inf"))
            elif self._spent[shape] >= FIND_SECONDS:
                self._runs[shape] = self._quickest(names, window, expected, seconds)
                with atomic(choice) as temporary:
                    temporary.write_text(jsonio.dumps(self.facts) + "\n", encoding="utf-8")
        return expected

    def _candidates(self, device: str) -> list[str]:
        """Names of the runtimes to choose from on a device."""
        if self.asked == "half":
            names = in_half_precision(device)
            if not names:
                _log.warning("backend half: this processor does not compute bfloat16, single precision is used instead")
            return names
        return installed(device) if self.asked == "auto" else [self.asked]

    def _quickest(self, names: Sequence[str], window: Tensor, expected: dict[str, Any], seconds: float) -> Run:
        """Choose the fastest backend that agrees with torch's ``expected`` outputs and needs less than ``seconds``."""
        best: Run = self.model.outputs
        for name in names:
            if name == "torch":
                continue
            try:
                run = OPEN[name](self.model, window, expected)
                facts, refused = self._compared(run(window), expected)
                took = min(_timed(run, window)[1] for _ in range(2))
            except Exception as error:  # each runtime raises errors of its own
                _log.warning(
                    "backend %s cannot compute this model, torch is used instead: %s", name, _first_line(error)
                )
                continue
            if refused:
                _log.warning("backend %s %s torch, which is used instead", name, refused)
                continue
            _log.info("backend %s: %.3f s per window, differs by %.1e from torch", name, took, facts["difference"])
            if took * GAIN < seconds:
                best, seconds = run, took * GAIN
                self.facts = {"backend": name, **facts}
        return best

    def _compared(self, outputs: dict[str, Any], expected: dict[str, Any]) -> tuple[dict[str, float], str]:
        """Compare outputs with torch's: return facts, and in words what differs too much (empty if nothing does).

        In half precision the masks count, and the outputs of heads without masks; else all outputs.
        """
        found = difference(outputs, expected)
        facts = {"difference": float(f"{found:.2g}")}
        if self.asked == "half":
            pairs = zip(masks(self.model, outputs).items(), masks(self.model, expected).values(), strict=True)
            dice = {name: mean_dice(mask, other) for (name, mask), other in pairs}
            if dice:
                facts["dice"] = float(f"{min(dice.values()):.5f}")
                if facts["dice"] < LEAST_DICE:
                    return facts, f"gives masks with a Dice of {facts['dice']:.4f} to those of"
            others = [name for name in expected if name not in dice]
            found = difference({n: outputs[n] for n in others}, {n: expected[n] for n in others})
        return facts, "" if found <= TOLERANCE else f"differs by {found:.1e} from"


def _timed(run: Run, window: Tensor) -> tuple[dict[str, Any], float]:
    """Outputs of ``run`` for a window, and the seconds it took."""
    start = time.perf_counter()
    outputs = run(window)
    if window.device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return outputs, time.perf_counter() - start


def _first_line(error: Exception) -> str:
    """First line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
