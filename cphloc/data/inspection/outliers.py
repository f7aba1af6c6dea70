"""Compare the cases of a data set with each other: those that are far from all others are suspicious."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from cphloc.data.inspection.examine import Examined, Image, Objects
from cphloc.data.inspection.findings import Finding
from cphloc.structures.fingerprint import AXES

FEWEST = 6
"""Fewest cases that are compared with each other."""
DEVIATIONS = 6.0
"""Robust standard deviations (1.4826 median absolute deviations) from the median beyond which a case is far."""
RARE = 0.05
"""Largest share of the cases that are outliers; more are a group of their own, such as those of a second scanner."""
USUAL = 0.95
"""Share of the cases from which on a property counts as that of the data set."""

Found = Iterator[tuple[Examined, Finding]]


def outliers(cases: Sequence[Examined], classes: Mapping[int, str], channels: Sequence[str]) -> Found:
    """Yield cases that differ from most others in grid, intensities or annotation, each with the reason.

    Args:
        cases: all cases; those that could not be read are left out.
        classes: number 1..K -> name.
        channels: names of the channels.
    """
    images = [(case, case.image) for case in cases if case.image is not None]
    annotated = [(case, case.objects) for case in cases if case.objects is not None]
    yield from _geometry(images)
    yield from _intensities(images, channels)
    yield from _inverted(images)
    for number, name in classes.items():
        yield from _class(annotated, number, name)
    yield from _empty(annotated)
    yield from _touching(annotated, classes)


def far(values: Sequence[float], least: float) -> np.ndarray:
    """Bool per value: whether it is far from all others.

    Args:
        values: one per case.
        least: smallest distance from the median that counts as far.

    >>> far([1, 1.1, 0.9, 1, 1.2, 1, 7], least=1).tolist()
    [False, False, False, False, False, False, True]
    """
    found = np.asarray(values, float)
    if len(found) < FEWEST:
        return np.zeros(len(found), bool)
    distance = np.abs(found - np.median(found))
    low, high = np.percentile(found, (25, 75))
    beyond = distance > max(least, DEVIATIONS * 1.4826 * float(np.median(distance)))
    beyond &= (found < low - 3 * (high - low)) | (found > high + 3 * (high - low))
    return beyond if beyond.sum() <= _most(len(found)) else np.zeros(len(found), bool)


def _most(cases: int) -> float:
    """Largest number of outliers among ``cases``."""
    return max(2, RARE * cases)


def _geometry(images: Sequence[tuple[Examined, Image]]) -> Found:
    yield from _rare(images, lambda image: image.unit, "spacing", lambda unit: f"a voxel size in {unit}")
    yield from _rare(images, lambda image: image.orientation, "orientation", lambda o: f"axes that are stored as {o}")
    if not images or len({len(image.shape) for _, image in images}) > 1:
        return
    for axis, name in enumerate(AXES[-len(images[0][1].shape) :]):
        spacings = [image.spacing_mm[axis] for _, image in images]
        yield from _far(images, spacings, 2.5, "spacing", f"the spacing of {name}", "")
        sizes = [image.shape[axis] * image.spacing_mm[axis] for _, image in images]
        yield from _far(images, sizes, 2, "extent", f"the extent over the {name}", "")


def _rare(
    images: Sequence[tuple[Examined, Image]],
    of: Callable[[Image], str],
    kind: str,
    text: Callable[[str], str],
) -> Found:
    """Cases with another property than almost all others."""
    numbers = Counter(of(image) for _, image in images)
    usual, count = max(numbers.items(), key=lambda item: item[1], default=("", 0))
    if len(images) < FEWEST or len(images) - count > _most(len(images)):
        return
    for case, image in images:
        if of(image) != usual:
            yield case, Finding(kind, f"has {text(of(image))}, the others {text(usual)}")


def _far(
    items: Sequence[tuple[Examined, object]],
    values: Sequence[float],
    ratio: float,
    kind: str,
    what: str,
    unit: str,
) -> Found:
    """Cases whose positive value is by a factor of at least ``ratio`` from the median, and far from all others."""
    positive = np.maximum(np.asarray(values, float), 1e-12)
    for k in np.flatnonzero(far(np.log(positive).tolist(), float(np.log(ratio)))).tolist():
        usual, value = float(np.median(positive)), float(positive[k])
        by = f"{value / usual:.3g} times" if value > usual else f"1/{usual / value:.3g} of"
        yield items[k][0], Finding(kind, f"{what} is {value:.4g}{unit}, {by} the median of {usual:.4g}{unit}")


def _intensities(images: Sequence[tuple[Examined, Image]], channels: Sequence[str]) -> Found:
    for place, name in enumerate(channels):
        shown = [(case, image) for case, image in images if place < len(image.percentiles)]
        values = np.array([image.percentiles[place] for _, image in shown]).reshape(-1, 3)
        spread = np.maximum(values[:, 2] - values[:, 0], 1e-9)
        yield from _far(shown, spread.tolist(), 5, "intensity", f"the range of {name} (0.5th to 99.5th percentile)", "")
        offsets = far((values[:, 0] / max(float(np.median(spread)), 1e-9)).tolist(), least=1.0)
        for k in np.flatnonzero(offsets).tolist():
            text = f"the values of {name} begin at {values[k, 0]:.4g}, those of others at {np.median(values[:, 0]):.4g}"
            yield shown[k][0], Finding("intensity", text)


def _inverted(images: Sequence[tuple[Examined, Image]]) -> Found:
    """Cases that look like the negative of the others.

    Where the images are alike, by the correlation with their mean; else by where the median lies in the range.
    """
    if len(images) < FEWEST:
        return
    coarse = np.stack([image.signature.coarse for _, image in images])
    mean = np.median(coarse, axis=0)
    alike = coarse @ (mean / max(float(np.linalg.norm(mean)), 1e-9))
    usual = float(np.median(alike))
    middles = np.array([_middle(image) for _, image in images])
    middle = float(np.median(middles))
    opposite = far(middles.tolist(), 0.2) & (np.abs(1 - middles - middle) < 0.2) & (abs(0.5 - middle) > 0.1)
    negative = far(alike.tolist(), 0.3) & (alike < -usual / 2) & (usual > 0.3)
    for k in np.flatnonzero(negative | opposite).tolist():
        text = "dark and bright look exchanged: "
        text += (
            f"its correlation with the mean of all images is {alike[k]:.2f}, usually {usual:.2f}"
            if negative[k]
            else f"its median lies at {middles[k]:.0%} of its range, usually at {middle:.0%}"
        )
        yield images[k][0], Finding("inverted", text)


def _middle(image: Image) -> float:
    """Where the median lies between the 0.5th and the 99.5th percentile of the first channel, in [0, 1]."""
    low, middle, high = image.percentiles[0]
    return (middle - low) / max(high - low, 1e-9)


def _class(annotated: Sequence[tuple[Examined, Objects]], number: int, name: str) -> Found:
    """Cases in which a class is missing, much larger or smaller than usual, or in more pieces."""
    known = [(case, objects) for case, objects in annotated if number in objects.voxels]
    having = [(case, objects) for case, objects in known if objects.voxels[number]]
    if len(known) >= FEWEST and len(known) > len(having) >= USUAL * len(known) - 1:
        share = len(having) / len(known)
        for case, objects in known:
            if not objects.voxels[number] and any(objects.voxels.values()):
                yield case, Finding("class missing", f"has no {name}, which {share:.0%} of the cases have")
    sizes = [size_of(case, number) for case, _ in having]
    unit = next((f" {size_unit(case)}" for case, _ in having), "")
    yield from _far(having, sizes, 3, "class size", f"the size of {name}", unit)
    pieces = Counter(objects.pieces[number] for _, objects in having)
    usual, count = max(pieces.items(), key=lambda item: item[1], default=(0, 0))
    if len(having) >= FEWEST and len(having) - count <= _most(len(having)):
        for case, objects in having:
            if objects.pieces[number] != usual:
                text = f"connected parts of {name}: {objects.pieces[number]}, in the other cases {usual}"
                yield case, Finding("pieces", text)


def size_of(case: Examined, number: int) -> float:
    """Volume in mL (3-D) or area in mm2 (2-D) of a class in a case; voxels where the file states no size."""
    if case.image is None or case.objects is None:
        return 0.0
    size = float(np.prod(case.image.spacing_mm)) if case.image.unit == "mm" else 1.0
    return case.objects.voxels[number] * size / (1000 if size_unit(case) == "mL" else 1)


def size_unit(case: Examined) -> str:
    """Unit of `size_of`."""
    if case.image is None or case.image.unit == "px":
        return "voxels"
    return "mL" if len(case.image.shape) == 3 else "mm2"


def _empty(annotated: Sequence[tuple[Examined, Objects]]) -> Found:
    """Cases with an empty mask, unless the label states that nothing is there, or many masks are empty."""
    masked = [(case, objects) for case, objects in annotated if objects.voxels]
    empty = [(case, objects) for case, objects in masked if not any(objects.voxels.values())]
    unstated = [case for case, objects in empty if not objects.label or any(objects.label.values())]
    if unstated and len(unstated) <= max(2, 2 * RARE * len(masked)):
        for case in unstated:
            yield case, Finding("empty", f"the mask is empty, as in {len(empty)} of {len(masked)} cases")


def _touching(annotated: Sequence[tuple[Examined, Objects]], classes: Mapping[int, str]) -> Found:
    """Cases in which classes, or objects of one class, touch that do not in almost all others."""
    together: dict[tuple[int, int], list[tuple[Examined, bool]]] = defaultdict(list)
    for case, objects in annotated:
        for pair in _pairs(objects):
            together[pair].append((case, pair in objects.contacts))
    for (a, b), cases in together.items():
        count = sum(touch for _, touch in cases)
        if len(cases) < FEWEST or not 0 < count <= _most(len(cases)):
            continue
        what = f"objects of {classes[a]} touch each other" if a == b else f"{classes[a]} and {classes[b]} touch"
        for case, touch in cases:
            if touch:
                yield case, Finding("touching", f"{what}, as in {count} of {len(cases)} cases that have both")


def _pairs(objects: Objects) -> Iterable[tuple[int, int]]:
    """Pairs of classes, or of a class with itself, that a case has, and which could touch."""
    present = sorted(k for k, n in objects.voxels.items() if n)
    yield from ((a, b) for i, a in enumerate(present) for b in present[i + 1 :])
    yield from ((k, k) for k in present if objects.boxes.get(k, 0) > 1)
