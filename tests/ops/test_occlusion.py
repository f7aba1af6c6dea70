"""Occlusion, deletion and insertion of a score whose answers are known: a weighted sum of the voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cphloc.ops.occlusion import deletion, insertion, occlusion

SHAPES = [(6, 8), (4, 6, 8)]


def weighted(shape):
    """Image, blank image, weights, and their weighted sum as the score."""
    random = torch.Generator().manual_seed(len(shape))
    image, blank, weight = (torch.randn(2, *shape, generator=random) for _ in range(3))
    return image, blank, weight, lambda images: (images * weight).flatten(1).sum(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [1, 5, 100])
def test_occlusion_of_a_weighted_sum_is_what_each_window_adds(shape, batch):
    image, blank, weight, score = weighted(shape)
    found = occlusion(score, image, blank, [2] * len(shape), batch)
    parts = ((image - blank) * weight).sum(0).numpy()
    for place in itertools.product((0, 1), repeat=len(shape)):
        window = tuple(slice(k * n // 2, (k + 1) * n // 2) for k, n in zip(place, shape, strict=True))
        assert float(found[place]) == pytest.approx(parts[window].sum(), abs=1e-3)


def test_windows_cover_an_axis_that_they_do_not_divide():
    image, blank, weight, score = weighted((5, 7))
    found = occlusion(score, image, blank, (2, 3))
    assert float(found.sum()) == pytest.approx(float(((image - blank) * weight).sum()), abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_deletion_and_insertion_are_areas_under_cumulative_sums(shape):
    image, blank, weight, score = weighted(shape)
    attention = torch.rand(shape, generator=torch.Generator().manual_seed(5))
    parts = ((image - blank) * weight).sum(0).numpy().ravel()[np.argsort(-attention.numpy().ravel())]
    limits = [round(len(parts) * k / 10) for k in range(11)]
    put = float((blank * weight).sum()) + np.array([parts[:n].sum() for n in limits])
    removed = float((image * weight).sum()) - np.array([parts[:n].sum() for n in limits])
    shares = np.array(limits) / len(parts)
    assert deletion(score, image, blank, attention) == pytest.approx(np.trapezoid(removed, shares), abs=1e-3)
    assert insertion(score, image, blank, attention, batch=3) == pytest.approx(np.trapezoid(put, shares), abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_order_deletes_faster_than_that_of_the_true_parts(shape):
    image, blank, weight, score = weighted(shape)
    parts = ((image - blank) * weight).sum(0)
    others = [torch.rand(shape, generator=torch.Generator().manual_seed(k)) for k in range(5)]
    assert deletion(score, image, blank, parts) < min(deletion(score, image, blank, one) for one in others)
    assert insertion(score, image, blank, parts) > max(insertion(score, image, blank, one) for one in others)
