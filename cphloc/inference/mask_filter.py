"""Remove what options do not keep of a mask: classes that are unlikely in an image, then connected components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from cphloc.inference.components import filter_components
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import members_of_part, of_part
from cphloc.structures.options import Options


def filter_mask(
    mask: np.ndarray,
    geometry: Geometry,
    classes: Mapping[int, str],
    options: Options,
    probabilities: Mapping[str, float] | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Remove classes and components that ``options`` do not keep; removed voxels become background.

    Args:
        mask: ``(*S)`` class of each voxel, 0 for background.
        geometry: its grid, which gives the size of a voxel.
        classes: classes of the model, number 1..K -> name.
        options: ``min_probability``, ``largest`` and ``min_size`` are applied, in this order.
        probabilities: probability of each label of the image, by name.

    Returns:
        the mask, the same object if nothing was removed; and remarks: classes that were removed, and options that could
        not be applied.

    >>> mask, grid = np.array([[1, 0, 2]], np.uint8), Geometry.regular((1, 3))
    >>> options, classes = Options(min_probability={"a": 0.5}), {1: "a", 2: "b"}
    >>> kept, remarks = filter_mask(mask, grid, classes, options, {"a": 0.2, "b": 0.1})
    >>> kept.tolist(), remarks
    ([[0, 0, 2]], ['a was outlined, but its label probability of 0.2 is below 0.5: removed'])
    """
    likely, of_mask, remarks = label_probabilities(classes, probabilities or {}), of_part(classes, "mask"), []
    unlikely = list(_unlikely(of_mask, options.min_probability, likely, remarks))
    if unlikely and (removed := np.isin(mask, unlikely)).any():
        remarks += [_removal(of_mask[n], likely[n], options) for n in np.unique(mask[removed]).tolist()]
        mask = np.where(removed, np.zeros((), mask.dtype), mask)
    mask, further = filter_components(mask, geometry, of_mask, options)
    return mask, remarks + further


def _unlikely(
    of_mask: Mapping[int, str], least: Mapping[str, float], likely: Mapping[int, float], remarks: list[str]
) -> Iterator[int]:
    """Classes of a mask whose label probability is too small; adds a remark where there is none."""
    for number, name in of_mask.items():
        if name not in least:
            continue
        if number not in likely:
            remarks.append(f"{name} has no label probability: its least one of {least[name]:.3g} was not used")
        elif likely[number] < least[name]:
            yield number


def _removal(name: str, probability: float, options: Options) -> str:
    least = options.min_probability[name]
    return f"{name} was outlined, but its label probability of {probability:.3g} is below {least:.3g}: removed"


def label_probabilities(classes: Mapping[int, str], probabilities: Mapping[str, float]) -> dict[int, float]:
    """Return the label probability of each class of a mask: the highest of the labels that share a class with it.

    Args:
        classes: classes of the model, number 1..K -> name.
        probabilities: probability of each label, by name.

    Returns:
        number of the class in the mask -> probability; without the classes that no label names.

    >>> label_probabilities({1: "benign", 2: "malignant"}, {"benign": 0.75, "malignant": 0.25})
    {1: 0.75, 2: 0.25}
    """
    labels, of_labels = of_part(classes, "labels"), members_of_part(classes, "labels")
    found: dict[int, float] = {}
    for number, members in members_of_part(classes, "mask").items():
        names = (labels[n] for n, of in of_labels.items() if of & members)
        shared = [probabilities[name] for name in names if name in probabilities]
        found |= {number: max(shared)} if shared else {}
    return found
