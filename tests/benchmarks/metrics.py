"""Metrics of masks and boxes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from .measure import Comparison, Contender, below, times_at_most, times_less

SPACING_MM = (1.0, 1.0, 2.0)


def comparisons(full: bool) -> list[Comparison]:
    """Against MONAI, pycocotools and faster-coco-eval."""
    size = (192, 192, 96) if full else (96, 96, 64)
    images, scans = 1_000 if full else 100, 1_000
    text = " x ".join(map(str, size))
    return [
        Comparison(
            f"HD95 and surface Dice, {text}",
            Contender("cphloc", lambda: _surface(size)),
            (Contender("MONAI", lambda: _surface_monai(size)),),
            times_less(5),
            same=_close,
        ),
        Comparison(
            f"Dice, {text}",
            Contender("cphloc", lambda: _dice(size)),
            (Contender("MONAI", lambda: _dice_monai(size)),),
            times_less(1),
            same=_close,
        ),
        Comparison(
            f"COCO mAP of {images:,} pictures",
            Contender("cphloc", lambda: _coco(images)),
            (
                Contender("faster-coco-eval", lambda: _coco_of("faster_coco_eval", images)),
                Contender("pycocotools", lambda: _coco_of("pycocotools", images)),
            ),
            times_at_most(1.2),
            same=_close,
        ),
        Comparison(
            f"FROC of {scans:,} scans",
            Contender("cphloc", lambda: _froc(scans)),
            (Contender("MONAI", lambda: _froc_monai(scans)),),
            below(1.0),
            same=_close,
        ),
    ]


def _close(ours: Any, theirs: Any) -> bool:
    return bool(np.allclose(ours, theirs, atol=1e-4))


def _masks(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid, and the same with a rough surface two voxels away."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    rough = 0.03 * np.sin(9 * grid).prod(axis=0)
    return radius < 0.55, np.roll(radius + rough < 0.58, 2, axis=0)


def _surface(size: tuple[int, ...]) -> Callable[[], tuple[float, float]]:
    from cphloc.metrics.surface import surface_distances

    prediction, reference = _masks(size)

    def job() -> tuple[float, float]:
        found = surface_distances(prediction, reference, SPACING_MM)
        return found.hausdorff(95), found.dice(1.5)

    return job


def _surface_monai(size: tuple[int, ...]) -> Callable[[], tuple[float, float]]:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    prediction, reference = _one_hot(size)

    def job() -> tuple[float, float]:
        hd95 = compute_hausdorff_distance(prediction, reference, percentile=95, spacing=SPACING_MM)
        return float(hd95), float(compute_surface_dice(prediction, reference, [1.5], spacing=SPACING_MM))

    return job


def _dice(size: tuple[int, ...]) -> Callable[[], float]:
    from cphloc.metrics.segmentation import dice

    prediction, reference = _masks(size)
    return lambda: dice(prediction, reference)


def _dice_monai(size: tuple[int, ...]) -> Callable[[], float]:
    from monai.metrics import compute_dice

    prediction, reference = _one_hot(size)
    return lambda: float(compute_dice(prediction, reference, include_background=False))


def _one_hot(size: tuple[int, ...]) -> list[Any]:
    import torch

    return [torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in _masks(size)]


def _coco(images: int) -> Callable[[], tuple[float, float]]:
    from cphloc.metrics.coco import coco_summary

    cases = _cases(images)

    def job() -> tuple[float, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = coco_summary(cases)
        return found["AP"], found["AP50"]

    return job


def _coco_of(package: str, images: int) -> Callable[[], tuple[float, float]]:
    """The official evaluation, from the same boxes to the same numbers; both packages have its interface."""
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    from cphloc.metrics.coco import _annotations, _results

    cases = _cases(images)

    def job() -> tuple[float, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            reference = COCO()
            reference.dataset = {
                "info": {},
                "images": [{"id": number} for number in range(len(cases))],
                "categories": [{"id": label, "name": str(label)} for label in (1, 2, 3)],
                "annotations": _annotations(cases),
            }
            reference.createIndex()
            evaluation = COCOeval(reference, reference.loadRes(_results(cases)), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return float(evaluation.stats[0]), float(evaluation.stats[1])

    return job


def _cases(images: int) -> list[Any]:
    from cphloc.metrics.detection import DetectionCase

    random = np.random.default_rng(0)
    cases = []
    for _ in range(images):
        low = random.uniform(0, 400, (12, 2))
        there = np.concatenate([low, low + random.uniform(10, 120, (12, 2))], axis=1)
        found = np.concatenate([there + random.normal(0, 4, there.shape), there[:6] + 30])
        classes = random.integers(1, 4, 12)
        cases.append(DetectionCase(found, random.random(18), np.append(classes, classes[:6]), there, classes))
    return cases


def _froc(scans: int) -> Callable[[], float]:
    from cphloc.metrics.froc import CAMELYON_FP_PER_SCAN, Froc, Scan

    found = [Scan(scores, hits[:, None] == np.arange(3)) for scores, hits in _candidates(scans)]
    return lambda: Froc(found).score(CAMELYON_FP_PER_SCAN)


def _froc_monai(scans: int) -> Callable[[], float]:
    """From the same hits: MONAI's own search for them looks points up in a mask, which is another job."""
    from monai.metrics import compute_froc_curve_data, compute_froc_score

    found = _candidates(scans)

    def job() -> float:
        false, true = [], []
        for scores, hits in found:
            false.append(scores[hits < 0])
            true.append([scores[hits == target].max(initial=-np.inf) for target in range(3)])
        rate, sensitivity = compute_froc_curve_data(np.concatenate(false), np.concatenate(true), 3 * scans, scans)
        return float(compute_froc_score(rate, sensitivity))

    return job


def _candidates(scans: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of 30 candidates of each scan, and which of its three targets each hits (-1: none)."""
    random = np.random.default_rng(0)
    return [(random.random(30), random.choice([-1, -1, -1, 0, 1, 2], 30)) for _ in range(scans)]
