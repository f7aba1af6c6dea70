import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from cphloc.data.io.overlay import COLORS, overlay
from cphloc.structures.annotation import IGNORE
from cphloc.structures.geometry import Geometry
from cphloc.structures.volume import Volume

SHAPES = {2: (20, 30), 3: (10, 20, 30)}


@pytest.fixture(params=[2, 3])
def volume(request):
    shape = SHAPES[request.param]
    return Volume(
        np.random.default_rng(0).random((1, *shape), np.float32), Geometry.regular(shape, (2.0,) * len(shape))
    )


def rectangles(axes):
    return [p for p in axes.patches if isinstance(p, Rectangle)]


def legend(figure):
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def test_a_picture_has_one_panel_and_a_volume_three_planes(volume):
    figure = overlay(volume, {1: "a"}, title="case 7")
    assert len(figure.axes) == {2: 1, 3: 3}[volume.geometry.dims]
    assert figure.get_suptitle() == "case 7"
    assert legend(figure) == []


def test_masks_of_two_readers_differ_by_line_and_classes_by_colour(volume):
    mask = np.zeros(volume.geometry.shape, np.uint8)
    mask[..., 5:15, 5:15] = 1
    other = mask.copy()
    other[..., 5:15, 20:25] = 2
    figure = overlay(volume, {1: "a", 2: "b", 3: "c"}, {"expert": mask, "cphloc": other})
    assert legend(figure) == ["a", "b", "expert", "cphloc"]
    handles = figure.legends[0].get_lines()
    assert [to_hex(line.get_color()) for line in handles[:2]] == list(COLORS[:2])
    assert handles[2].get_linestyle() != handles[3].get_linestyle()


def test_a_box_is_drawn_where_it_is_in_every_plane_that_cuts_it(volume):
    dims = volume.geometry.dims
    box = np.array([4.0, 6, 8][-dims:] + [8.0, 12, 20][-dims:])
    figure = overlay(volume, {1: "a", 2: "b"}, boxes={"cphloc": [(box, 2, "0.90")]})
    assert [len(rectangles(axes)) for axes in figure.axes] == [1] * len(figure.axes)
    drawn = rectangles(figure.axes[0])[0]
    assert (drawn.get_x(), drawn.get_y(), drawn.get_width(), drawn.get_height()) == (8, 6, 12, 6)
    assert to_hex(drawn.get_edgecolor()) == COLORS[1]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.90"]


def test_a_box_away_from_the_shown_slices_is_left_out():
    volume = Volume(np.zeros((1, *SHAPES[3]), np.float32), Geometry.regular(SHAPES[3], (1.0, 1.0, 1.0)))
    first, far = np.array([0.0, 0, 0, 2, 2, 2]), np.array([7.0, 15, 25, 9, 18, 28])
    figure = overlay(volume, {1: "a"}, boxes={"expert": [(first, 1, "")], "cphloc": [(far, 1, "0.50")]})
    assert [len(rectangles(axes)) for axes in figure.axes] == [1, 1, 1]


def test_attention_lies_over_the_image(volume):
    attention = np.zeros(volume.geometry.shape, np.float32)
    attention[..., 3, 4] = 1
    figure = overlay(volume, {1: "a"}, attention=attention)
    image, heat = figure.axes[0].images
    assert heat.get_array().shape == image.get_array().shape[:2]
    assert np.unravel_index(heat.get_array().argmax(), heat.get_array().shape) == (3, 4)


def test_the_planes_go_through_the_finding_and_say_which_they_are():
    volume = Volume(np.zeros((1, *SHAPES[3]), np.float32), Geometry.regular(SHAPES[3], (1.0, 1.0, 1.0)))
    mask = np.zeros(SHAPES[3], np.uint8)
    mask[6, 3, 11] = 1
    mask[0, 0, :9] = IGNORE
    figure = overlay(volume, {1: "a"}, {"expert": mask})
    said = ["axial, slice 7 of 10", "coronal, slice 4 of 20", "sagittal, slice 12 of 30"]
    assert [axes.get_xlabel() for axes in figure.axes] == said


def test_the_image_is_shown_between_its_first_and_99th_percentile_on_the_voxel_grid():
    ramp = np.linspace(-300, 700, 600, dtype=np.float32).reshape(1, 20, 30)
    (axes,) = overlay(Volume(ramp, Geometry.regular((20, 30), (2.0, 2.0))), {1: "a"}).axes
    low, high = np.percentile(ramp, (1, 99))
    np.testing.assert_allclose(axes.images[0].get_array(), np.clip((ramp[0] - low) / (high - low), 0, 1), atol=1e-6)
    assert list(axes.images[0].get_extent()) == [0, 30, 20, 0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 30), (20, 0))
