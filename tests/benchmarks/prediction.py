"""A whole volume through the same 3-D U-Net, window by window."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .measure import Comparison, Contender, times_less

WINDOW = (48, 48, 48)


def comparisons(full: bool) -> list[Comparison]:
    """Our sliding window against MONAI's on the same weights; both with a quarter of overlap, MONAI's default."""
    size = (192, 192, 96) if full else (84, 84, 84)
    jobs = [
        Comparison(
            f"{_text(size)} volume, windows of {_text(WINDOW)}, 3-D U-Net",
            Contender("cphloc", lambda: _ours(size)),
            (Contender("MONAI sliding_window_inference", lambda: _monai(size)),),
            times_less(4),
            same=_same_probabilities,
        )
    ]
    for classes in (3, 15):
        jobs.append(
            Comparison(
                f"{_text(size)} volume, {classes} classes, blending alone",
                Contender("cphloc", lambda classes=classes: _blend_ours(size, classes)),
                (Contender("MONAI sliding_window_inference", lambda classes=classes: _blend_monai(size, classes)),),
                same=lambda ours, theirs: torch.allclose(ours, theirs, atol=1e-4),
            )
        )
    return jobs


def _ours(size: tuple[int, ...]) -> Callable[[], Tensor]:
    from cphloc.inference import infer

    model, image = _model(), _image(size)
    return lambda: infer(model, image, WINDOW, overlap=0.25)["mask"].mask_probabilities


def _monai(size: tuple[int, ...]) -> Callable[[], Tensor]:
    from monai.inferers import sliding_window_inference

    model, image = _model(), _image(size)

    def job() -> Tensor:
        with torch.inference_mode():
            logits = sliding_window_inference(image, WINDOW, 1, model, overlap=0.25, mode="gaussian")
        return logits.softmax(dim=1)

    return job


def _blend_ours(size: tuple[int, ...], classes: int) -> Callable[[], Tensor]:
    from cphloc.ops.sliding_window import sliding_window

    image, spread = _image(size), _spread(classes)
    return lambda: sliding_window(spread, image, WINDOW, overlap=0.25)


def _blend_monai(size: tuple[int, ...], classes: int) -> Callable[[], Tensor]:
    from monai.inferers import sliding_window_inference

    image, spread = _image(size), _spread(classes)

    def job() -> Tensor:
        with torch.inference_mode():
            return sliding_window_inference(image, WINDOW, 1, spread, overlap=0.25, mode="gaussian")

    return job


def _spread(classes: int) -> Callable[[Tensor], Tensor]:
    """A network that costs nothing: each class is the image, scaled."""
    scale = torch.linspace(0, 1, classes).reshape(1, -1, 1, 1, 1)
    return lambda window: window * scale


def _model() -> torch.nn.Module:
    from cphloc.wiring import build

    torch.manual_seed(0)
    return build("unet3d-hippocampus", {"data.patch": list(WINDOW)}).eval()


def _image(size: tuple[int, ...]) -> Tensor:
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))


def _same_probabilities(ours: Tensor, theirs: Tensor) -> bool:
    """At most 0.02 apart in the mean: untrained, overlapping windows disagree, and MONAI weights them otherwise.

    Its Gaussian lies half a voxel beside ours.
    """
    return bool((ours - theirs).abs().mean() < 0.02)


def _text(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
