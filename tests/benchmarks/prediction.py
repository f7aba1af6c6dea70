"""Whole volumes through 3-D U-Nets, window by window."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cphloc.distributed.machine import cpu_computes_bfloat16

from .measure import Comparison, Contender, apart, times_at_most, times_less

WINDOW = (32, 32, 32)
"""Windows of a CT of (32, 176, 176) voxels: as many, and as much air in them, as 96^3 in (96, 512, 512)."""

SCAN = Path("cphloc/data/sample/hippocampus/images/hippocampus_149.nii.gz").resolve()
MONAI = "MONAI sliding_window_inference"
BODY = (0.38, 0.25)
"""Half axes of the patient across the table, as shares of the field of view: 380 x 250 mm of 500."""


def comparisons(full: bool) -> list[Comparison]:
    """Ours against MONAI's sliding window with its defaults: a quarter of overlap, and constant weights."""
    size, window = ((200, 512, 512), (96,) * 3) if full else ((32, 176, 176), WINDOW)
    best = "openvino" if find_spec("openvino") else "torch"
    ways = [(backend, air) for air in (True, False) for backend in dict.fromkeys((best, "torch"))]
    ct, *others = [Contender(_way(*way), partial(_ct, size, window, *way)) for way in ways]
    half = ["half"] if cpu_computes_bfloat16() else []
    backends = dict.fromkeys((*half, best, "torch"))
    entry, *slower = [Contender(f"cphloc, {name}", partial(_entry, name)) for name in backends]
    jobs = [
        Comparison(
            "scan of 35 x 51 x 35 by the entry unet3d-hippocampus",
            entry,
            (Contender(MONAI, apart(_entry_monai)),),
            times_less(4),
            _same_mask,
            slower,
        ),
        *(
            Comparison(
                f"the same scan beside the runtime alone, {words}",
                Contender("cphloc", partial(_entry, backend)),
                (Contender("OpenVINO, one call", partial(_runtime, precision)),),
                times_at_most(1 / 0.9),
                _same_mask,
            )
            for backend, precision, words in (("half", "bf16", "bfloat16"), ("openvino", "f32", "single precision"))
            if best == "openvino" and backend in backends
        ),
        Comparison(
            f"CT of {_text(size)}, windows of {_text(window)}, U-Net of 5.6 M parameters",
            ct,
            (Contender(MONAI, apart(partial(_ct_monai, size, window))),),
            times_less(4),
            variants=others,
        ),
    ]
    for classes in (3, 15):
        jobs.append(
            Comparison(
                f"84 x 84 x 84 volume, {classes} classes, blending alone",
                Contender("cphloc", partial(_blend_ours, classes)),
                (Contender(MONAI, apart(partial(_blend_monai, classes))),),
                times_less(2),
                same=lambda ours, theirs: torch.allclose(ours, theirs, atol=1e-4),
            )
        )
    return jobs


def _way(backend: str, air: bool) -> str:
    return f"cphloc, {backend}, air {'left out' if air else 'computed'}"


def _entry(backend: str) -> Callable[[], np.ndarray]:
    """The shipped entry; what it computes is compared in the model's frame, before anything is restored."""
    from cphloc.inference.windows import infer
    from cphloc.zoo.load import load

    localizer = load("unet3d-hippocampus", backend=backend)
    image = _scan(localizer)

    def job() -> np.ndarray:
        found: list[Tensor] = []
        emit = lambda _, row, logits: found.append(logits.argmax(0))  # noqa: E731
        infer(localizer.model, image, localizer.recipe.data.patch, 0.25, forward=localizer.backend, on_mask_rows=emit)
        return torch.cat(found).numpy()

    return job


def _entry_monai() -> Callable[[], np.ndarray]:
    from monai.inferers import sliding_window_inference

    from cphloc.ops.layers import fit
    from cphloc.zoo.load import load

    localizer = load("unet3d-hippocampus")
    image, patch = _scan(localizer), localizer.recipe.data.patch
    size = image.shape[2:]
    padded = fit(image, [max(pair) for pair in zip(size, patch, strict=True)], "edge")  # else MONAI pads both sides

    def job() -> np.ndarray:
        with torch.inference_mode():
            logits = sliding_window_inference(padded, patch, 1, localizer.model)
        return fit(logits, size)[0].argmax(0).numpy()

    return job


def _runtime(precision: str) -> Callable[[], np.ndarray]:
    """The runtime alone, on the padded scan: what no prediction can be quicker than."""
    from cphloc.inference.runtimes import OPEN
    from cphloc.ops.layers import fit
    from cphloc.zoo.load import load

    localizer = load("unet3d-hippocampus")
    image = _scan(localizer)
    window = fit(image, localizer.recipe.data.patch, "edge")
    with torch.inference_mode():
        expected = localizer.model.outputs(window)
    compute = OPEN["openvino, half" if precision == "bf16" else "openvino"](localizer.model, window, expected)
    return lambda: fit(compute(window)["mask"], image.shape[2:])[0].argmax(0).numpy()


def _scan(localizer: Any) -> Tensor:
    from cphloc.data.io.read import read_volume

    return torch.as_tensor(localizer.preprocess(read_volume(SCAN)).array)[None]


def _same_mask(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Dice of the foreground of at least 0.999."""
    return 2 * np.count_nonzero((ours == theirs) & (ours > 0)) >= 0.999 * ((ours > 0).sum() + (theirs > 0).sum())


def _ct(size: tuple[int, ...], window: tuple[int, ...], backend: str, air: bool) -> Callable[[], None]:
    from cphloc.inference.backend import Backend
    from cphloc.inference.windows import AirThreshold, infer

    model, image = _unet(), _phantom(size)
    forward = Backend(model, backend)
    skipped = AirThreshold(0, -0.9) if air else None
    emit = lambda _, row, logits: logits.argmax(0)  # noqa: E731
    return lambda: infer(model, image, window, 0.25, forward=forward, air=skipped, on_mask_rows=emit) and None


def _ct_monai(size: tuple[int, ...], window: tuple[int, ...]) -> Callable[[], None]:
    from monai.inferers import sliding_window_inference

    model, image = _unet(), _phantom(size)

    def job() -> None:
        with torch.inference_mode():
            sliding_window_inference(image, window, 1, model).argmax(1)

    return job


def _unet() -> torch.nn.Module:
    from cphloc.components.backbone.conv_encoder import ConvEncoder
    from cphloc.components.head.unet import UNet
    from cphloc.modeling.model import Model

    torch.manual_seed(0)
    backbone = ConvEncoder(1, 3, (32, 64, 128, 256), strides=(2, 2, 2, 2))
    return Model(backbone, None, {"mask": UNet(backbone.levels, ["organ"])}).eval()


def _phantom(size: tuple[int, ...]) -> Tensor:
    """Air of -1 around an elliptic patient of noise."""
    y, x = (torch.linspace(-1, 1, n) for n in size[1:])
    body = (y[:, None] / (2 * BODY[1])).square() + (x / (2 * BODY[0])).square() < 1
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0))
    return torch.where(body, noise.clamp(min=-0.8), torch.tensor(-1.0))[None, None]


def _blend_ours(classes: int) -> Callable[[], Tensor]:
    from cphloc.distributed.machine import reuse_freed_memory

    from .blend import sliding_window

    reuse_freed_memory()  # as every prediction does
    image, spread = _image(), _spread(classes)
    return lambda: sliding_window(spread, image, WINDOW, overlap=0.25)


def _blend_monai(classes: int) -> Callable[[], Tensor]:
    from monai.inferers import sliding_window_inference

    image, spread = _image(), _spread(classes)

    def job() -> Tensor:
        with torch.inference_mode():
            return sliding_window_inference(image, WINDOW, 1, spread, overlap=0.25, mode="gaussian")

    return job


def _spread(classes: int) -> Callable[[Tensor], Tensor]:
    """A network that costs little: each class is the image, scaled."""
    scale = torch.linspace(0, 1, classes).reshape(1, -1, 1, 1, 1)
    return lambda window: window * scale


def _image() -> Tensor:
    return torch.randn(1, 1, 84, 84, 84, generator=torch.Generator().manual_seed(0))


def _text(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
