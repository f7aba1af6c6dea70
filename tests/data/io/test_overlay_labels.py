"""Labels of boxes cover no box, no object and no other label, by matplotlib's own extents."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cphloc.data.io.overlay import overlay
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume


def drawn(boxes, shape, masks=None):
    volume = Volume(np.zeros((1, *shape), np.float32), Geometry.regular(shape, (1.0,) * len(shape)))
    figure = overlay(volume, {1: "cell"}, masks, {"cphloc": boxes})
    figure.canvas.draw()
    return figure


def extents(axes):
    labels = [text.get_window_extent().padded(1) for text in axes.texts]
    return labels, [patch.get_window_extent() for patch in axes.patches]


def box(*edges):
    return np.array(edges, float), 1, "cell 0.93"


@pytest.mark.parametrize("dims", [2, 3])
def test_labels_cover_no_box_and_no_other_label(dims):
    random = np.random.default_rng(0)
    shape = (120, 160) if dims == 2 else (40, 120, 160)
    corners = random.uniform(0, 0.8, (12, dims)) * shape
    boxes = [
        box(*(corner if dims == 2 else [0, *corner[1:]]), *(corner + np.array(shape) * 0.15)) for corner in corners
    ]
    figure = drawn(boxes, shape)
    assert sum(len(axes.texts) for axes in figure.axes) >= 8
    for axes in figure.axes:
        labels, rectangles = extents(axes)
        panel = axes.get_window_extent()
        for label in labels:
            assert not any(label.overlaps(rectangle) for rectangle in rectangles)
            assert panel.x0 <= label.x0
            assert panel.y1 >= label.y1
        assert not any(first.overlaps(second) for first, second in itertools.combinations(labels, 2))


def test_a_label_avoids_the_mask_above_its_box():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:40] = 1  # all of the rows above the box
    figure = drawn([box(40, 30, 60, 60)], (100, 100), {"cphloc": mask})
    (axes,) = figure.axes
    ((label,), _) = extents(axes)
    (left, bottom), (_, top) = axes.transData.inverted().transform([(label.x0, label.y0), (label.x1, label.y1)])
    assert left == pytest.approx(30, abs=1), "it begins where its box does"
    assert bottom > top >= 60, "rows are counted downwards: it stands below its box"


def test_labels_without_space_are_counted_below_the_picture():
    boxes = [box(0, 0, 100, 100), box(10, 10, 20, 20)]
    figure = drawn(boxes, (100, 100))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == []
    assert axes.get_xlabel() == "2 of 2 labels left out for lack of space"


def test_all_panels_have_one_intensity_window():
    shape = (9, 9, 9)
    image = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    image[4] += 1000  # the axial slice is far brighter than the others
    figure = overlay(Volume(image[None], Geometry.regular(shape, (1.0,) * 3)), {})
    pictures = [axes.images[0] for axes in figure.axes]
    assert {picture.get_clim() for picture in pictures} == {(0, 1)}
    axial, coronal, _ = (picture.get_array() for picture in pictures)
    assert axial.min() > 0.9
    assert coronal[4].min() > 0.9, "the row that crosses the bright slice"
    assert np.delete(coronal, 4, axis=0).max() < 0.1
