"""The thirty classical mistakes of localization, each with the tests that would catch it.

Most live beside the code they guard; the table says where. Those that concern no single file stand below.
"""

from __future__ import annotations

import ast
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.dense_box import DenseBox
from cphloc.components.head.unet import UNet
from cphloc.components.neck.fpn import FPN
from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.errors import InputError
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.ops.anchor_head import AnchorOutput
from cphloc.ops.layers import conv_transpose_type
from cphloc.ops.targets import Targets
from cphloc.recipe.recipe import load
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation
from cphloc.structures.boxes import boxes_of, mask_of
from cphloc.structures.geometry import Geometry
from cphloc.structures.levels import Level

HERE = Path(__file__).parent
LOSS, HEAD = "components/loss", "components/head"

CAUGHT_BY = {
    "the logarithm of an attention mass of zero where a case has no region": [
        f"{LOSS}/test_attention_empty_regions::empty_regions_give_zero_and_exactly_zero_gradient_beside_marked_ones",
        f"{HEAD}/test_attention_pool::gradients_without_annotation_are_those_of_classification_alone",
    ],
    "overlapping boxes counted twice in the region that attention must reach": [
        "ops/test_attention::two_identical_boxes_are_one_box"
    ],
    "a small lesion lost when its region is scaled down by nearest neighbour": [
        "ops/test_attention::three_voxel_lesion_at_stride_16_keeps_mass"
    ],
    "a softmax over the wrong axis, or in half precision": [
        "ops/test_attention::softmax_runs_over_all_cells_of_each_case",
        "ops/test_attention::softmax_of_819200_cells_in_half_precision_is_finite_and_sums_to_one",
    ],
    "the softmax of probabilities in Sybil's loss of sides, copied without notice": [
        f"{LOSS}/test_attention_side_sybil::softmax_of_probabilities_as_published",
        f"{LOSS}/test_attention_side::mass_loss_reaches_zero_where_sybils_floor_is_0_3132617",
    ],
    "a mirrored image that keeps the label of its side": [
        f"{LOSS}/test_attention_side::flipping_image_and_region_leaves_the_loss_but_flipping_one_does_not",
        "data/augment/test_augmentation::flip_swaps_sides_exactly_when_it_mirrors_them",
        "test_pitfalls::mirrored_views_are_refused_where_classes_name_sides",
    ],
    "box losses of cases without boxes, masked by multiplying NaN": [
        f"{HEAD}/test_box_heads::a_case_without_boxes_gives_no_gradient_even_if_its_targets_are_nan"
    ],
    "dense losses divided by the number of cells, or by zero objects": [
        "test_pitfalls::an_empty_border_leaves_the_loss_of_dense_prediction",
        f"{HEAD}/test_box_heads::a_batch_without_objects_is_finite_and_carries_the_graph",
    ],
    "a new detector that does not start at a low probability": [
        "ops/test_dense_prediction::a_new_predictor_says_one_percent_everywhere",
        f"{HEAD}/test_retina::a_new_head_scores_one_percent",
    ],
    "half a voxel, or the order of axes, between arrays and the world": [
        "test_pitfalls::one_voxel_survives_the_way_through_boxes_and_the_world"
    ],
    "a centre on the far border, and two objects in one cell": [
        "ops/test_assign::a_centre_on_the_far_border_belongs_to_the_last_cell",
        "ops/test_assign::of_two_boxes_in_one_cell_the_smaller_stays_and_the_loss_is_counted",
    ],
    "boxes of size zero encoded, or exponentials that overflow": [
        "ops/test_boxes::a_box_of_size_zero_cannot_be_encoded",
        "ops/test_boxes::a_wild_prediction_decodes_to_a_finite_box",
    ],
    "overlap with inclusive edges, in half precision, or of empty boxes": [
        "ops/test_boxes::overlap_matrix_gives_torchvisions_asserted_constants",
        "ops/test_boxes::volume_does_not_overflow_in_half_precision",
        "ops/test_boxes::boxes_without_volume_have_no_overlap_and_a_finite_gradient",
    ],
    "the sign of generalized IoU, and a loss above zero for equal boxes": [
        f"{LOSS}/test_box_iou::same_box_costs_nothing_and_boxes_apart_attract_unless_plain_iou"
    ],
    "suppression across classes, at exactly the threshold, or before windows are put together": [
        "ops/test_nms::boxes_at_exactly_the_threshold_both_stay",
        "ops/test_nms::classes_do_not_suppress_each_other",
        "inference/test_windows::boxes_of_overlapping_windows_are_one_object_in_image_coordinates",
    ],
    "free-response curves that count scans, duplicates or the radius wrongly": [
        "metrics/test_froc::false_positives_are_divided_by_all_scans",
        "metrics/test_froc::candidate_exactly_at_the_radius_misses",
        "metrics/test_froc::two_hits_on_one_target_are_one_true_and_no_false_positive",
        "metrics/test_froc::monai_constant_with_its_six_operating_points",
    ],
    "the average precisions of COCO and VOC taken for each other": [
        "metrics/test_detection::worked_example_of_24_detections_and_15_references"
    ],
    "a mean Dice that hides what it does with empty cases": [
        "metrics/test_segmentation::both_empty_follows_the_policy",
        "metrics/test_bootstrap::undefined_cases_are_left_out_and_counted",
    ],
    "surface distances that ignore spacing or the order of axes": [
        "metrics/test_surface::deepmind_cubes_one_row_apart",
        "metrics/test_surface::spacing_belongs_to_its_axis",
    ],
    "odd sizes in pyramids and poolings": [
        "components/neck/test_fpn::odd_sizes_keep_every_level_on_its_own_grid",
        "test_pitfalls::a_pyramid_of_50_slices_has_25_13_and_7_and_one_slice_stays_one",
    ],
    "batch statistics of one or two cases": [
        "ops/test_inflate_network::inflated_norms_keep_evaluation_mode_and_statistics",
        "test_pitfalls::no_component_normalizes_over_the_batch_unless_asked",
    ],
    "DICOM slices in the order of their names, and spacing from their thickness": [
        "data/io/test_read_dicom::a_shuffled_series_with_slopes_keeps_values_and_places",
        "data/io/test_read_dicom::the_distance_of_slices_comes_from_positions_not_from_thickness",
    ],
    "LPS taken for RAS, and signs of a direction dropped": [
        "data/io/test_read::a_metaimage_with_a_flipped_transform_matrix",
        "data/datasets/test_layouts::luna_nodules_find_their_voxels_whatever_the_axes",
    ],
    "windows with seams or zero weights, or larger than the image": [
        "ops/test_sliding_window::a_constant_network_gives_a_constant_output",
        "ops/test_sliding_window::identity_is_stitched_back_to_the_input",
        "inference/test_windows::an_image_smaller_than_the_patch_comes_back_in_its_own_size",
    ],
    "a patient in two splits, and constants taken from test cases": [
        "data/datasets/test_datasets::hashed_splits_have_the_fractions_asked_and_never_change",
        "data/pipeline/test_pipeline::a_test_case_in_training_is_an_error",
        "data/pipeline/test_pipeline::constants_of_intensity_come_from_the_training_foreground",
    ],
    "receptive fields of ResNets as often quoted, not as built": [
        "ops/test_receptive_field::resnets_of_torchvision_have_the_computed_fields",
        "ops/test_receptive_field::vgg16_has_the_published_fields_and_padding",
        "ops/test_receptive_field::resnets_whose_stride_is_in_the_first_convolution_of_a_block_see_more",
    ],
    "transposed convolutions with a flipped kernel": [
        "test_pitfalls::a_transposed_convolution_is_the_adjoint_of_the_convolution",
        "test_pitfalls::transposed_convolutions_of_the_textbook",
    ],
    "Grad-CAM in 3-D that averages over two axes": [
        "ops/test_cam::grad_cam_behind_average_pooling_is_the_positive_cam_over_the_cells"
    ],
    "labels of deep supervision interpolated linearly": [
        f"{HEAD}/test_unet::deep_supervision_weights_are_those_of_nnunet",
        "test_pitfalls::coarse_targets_hold_only_classes_that_are_there",
    ],
    "progression measured from the baseline instead of the smallest sum, without the clause of 5 mm": [
        "metrics/test_response::recist_category_from_baseline_and_nadir"
    ],
}
"""Each mistake -> ``path::test``, under tests/, without ``.py`` and ``test_``."""

both = pytest.mark.parametrize("dims", [2, 3])


@pytest.mark.parametrize("mistake", CAUGHT_BY)
def test_every_mistake_has_a_test_that_exists(mistake):
    for place in CAUGHT_BY[mistake]:
        path, name = place.split("::")
        module = ast.parse((HERE / f"{path}.py").read_text())
        functions = [each.name for each in module.body if isinstance(each, ast.FunctionDef)]
        assert f"test_{name}" in functions, f"{path}.py has no test_{name}"


@pytest.mark.parametrize(
    "data",
    [
        {"type": "phantom", "sides": True, "patch": [16, 16]},
        {"type": "image_folder", "laterality": True, "patch": [16, 16], "classes": ["mass"]},
    ],
    ids=lambda data: data["type"],
)
def test_mirrored_views_are_refused_where_classes_name_sides(data):
    data = data | {"augment": [{"type": "Flip"}]}
    recipe = load("systems/unet2d-phantom", {"data": data, "model.backbone.widths": [4, 4]})
    with pytest.raises(InputError, match="sides of the body"):
        Localizer(build_model(recipe), recipe).predict(np.zeros((16, 16)), tta=True)


@pytest.mark.parametrize(("classes", "sided"), [({1: "kidney_left", 2: "kidney_right"}, True), ({1: "liver"}, False)])
def test_class_names_with_sides_forbid_left_right_mirroring(classes, sided):
    class Sided(Dataset):
        dims, channels, root = 3, ("ct",), Path()

        def __init__(self) -> None:
            self.classes = classes

        def _cases(self, split):
            return []

    def pipeline(axes):
        return Pipeline(Sided(), (8, 8, 8), None, "none", augment=[{"type": "Flip", "axes": axes}])

    heads = {"mask": {"type": "unet", "classes": classes}}
    recipe = load(
        {
            "task": "segmentation",
            "dims": 3,
            "data": {"type": "nnunet", "channels": ["ct"], "patch": [8, 8, 8]},
            "model": {"backbone": {"type": "conv_encoder", "widths": [4, 4]}, "heads": heads},
        }
    )
    assert recipe.laterality == sided
    assert pipeline([0, 1]).augmentation.spatial
    if sided:
        with pytest.raises(InputError, match="would turn left findings into right ones"):
            pipeline([2])
    else:
        assert pipeline([2]).augmentation.spatial


@both
def test_an_empty_border_leaves_the_loss_of_dense_prediction(dims):
    head = DenseBox((Level(4, (4,) * dims),), ["a"], channels=8)
    box = np.array([[4.0] * dims + [12.0] * dims], np.float32)

    def loss(cells: int) -> dict[str, torch.Tensor]:
        scores = torch.full((1, 1, *[cells] * dims), -20.0)
        scores[(0, 0, *[slice(0, 4)] * dims)] = 0.0
        outputs = AnchorOutput((scores,), (torch.zeros(1, 2 * dims, *[cells] * dims),))
        annotation = Annotation(boxes=box, box_classes=np.array([1]))
        return head.loss(outputs, Targets.collate([annotation], (4 * cells,) * dims, classes=1))

    small, large = loss(4), loss(12)
    for part, value in small.items():
        assert value > 0
        torch.testing.assert_close(large[part], value)


@both
def test_one_voxel_survives_the_way_through_boxes_and_the_world(dims):
    shape, spacing, at = (5, 7, 11)[3 - dims :], (3.0, 0.5, 2.0)[3 - dims :], (1, 5, 2)[3 - dims :]
    mask = np.zeros(shape, np.uint8)
    mask[at] = 1
    here = Geometry.regular(shape, spacing)
    boxes, classes = boxes_of(mask)
    world = here.boxes_to_world(boxes)[0]
    centre = [index * step for index, step in zip(at, spacing, strict=True)][::-1]
    assert (world[:dims] + world[dims:]) / 2 == pytest.approx(centre)
    assert world[dims:] - world[:dims] == pytest.approx(spacing[::-1])
    order, flip = tuple(range(dims))[::-1], (0,)
    there = here.reoriented(order, flip)
    moved = mask_of(here.boxes_to(there, boxes), classes, there.shape)
    assert np.array_equal(moved, np.flip(np.transpose(mask, order), flip))
    assert np.array_equal(mask_of(there.boxes_to(here, here.boxes_to(there, boxes)), classes, shape), mask)


@both
def test_a_pyramid_of_50_slices_has_25_13_and_7_and_one_slice_stays_one(dims):
    encoder = ConvEncoder(1, dims, widths=[4] * 4).eval()
    neck = FPN(encoder.levels, channels=4).eval()
    image = torch.zeros(1, 1, 50, *[16] * (dims - 1))
    assert [x.shape[2] for x in neck(encoder(image))] == [50, 25, 13, 7]
    single = tuple(torch.zeros(1, 4, *[1] * dims) for _ in encoder.levels)
    assert [tuple(x.shape[2:]) for x in neck(single)] == [(1,) * dims] * 4


def test_no_component_normalizes_over_the_batch_unless_asked():
    """Three-dimensional batches hold one or two cases, too few for statistics."""
    norms = {
        f"{kind}/{name}": argument.default
        for kind in ("backbone", "neck", "head")
        for name, card in catalogue.cards(kind).items()
        for argument in catalogue.arguments(card)
        if argument.name == "norm"
    }
    assert len(norms) >= 3
    assert "batch" not in norms.values()


@both
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (2, 1)])
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(dims, stride, padding):
    """<conv(x), y> = <x, conv^T(y)> for one asymmetric kernel, so it is neither flipped nor turned inside out."""
    torch.manual_seed(0)
    up = conv_transpose_type(dims)(3, 2, 3, stride, padding, bias=False).double()
    convolve = (nn.functional.conv2d, nn.functional.conv3d)[dims - 2]
    x = torch.randn(1, 2, *[7] * dims, dtype=torch.float64)
    down = convolve(x, up.weight, stride=stride, padding=padding)
    y = torch.randn_like(down)
    torch.testing.assert_close((down * y).sum(), (x * up(y)).sum())


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [
        (1, 0, [[0, 0, 1], [0, 4, 6], [4, 12, 9]]),
        (2, 0, [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]),
        (1, 1, [[4]]),
    ],
)
def test_transposed_convolutions_of_the_textbook(stride, padding, expected):
    """Zhang et al., Dive into Deep Learning, section 14.10."""
    up = conv_transpose_type(2)(1, 1, 2, stride, padding, bias=False)
    x = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    up.weight.data = x
    assert up(x)[0, 0].tolist() == expected


@both
@pytest.mark.parametrize(("kernel", "covered"), [(2, [1]), (3, [1, 2])])
def test_a_kernel_larger_than_its_stride_covers_some_voxels_more_often(dims, kernel, covered):
    """The checkerboard: along each axis 1 or 2 kernels of three meet at stride two, but exactly one kernel of two."""
    up = conv_transpose_type(dims)(1, 1, kernel, 2, bias=False)
    nn.init.ones_(up.weight)
    inner = up(torch.ones(1, 1, *[6] * dims))[(..., *[slice(1, -1)] * dims)]
    assert inner.unique().tolist() == sorted({math.prod(c) for c in itertools.product(covered, repeat=dims)})


@both
def test_coarse_targets_hold_only_classes_that_are_there(dims):
    """Linear interpolation between background and class 2 would invent class 1."""
    head = UNet(tuple(Level(4, (2**i,) * dims) for i in range(3)), ["a", "b"])
    mask = np.zeros((8,) * dims, np.uint8)
    mask[(slice(2, 6),) * dims] = 2
    masks = torch.from_numpy(mask).long()
    coarse = masks[(slice(1, None, 2),) * dims]
    certain = [40 * nn.functional.one_hot(m, 3).movedim(-1, 0)[None].float() for m in (masks, coarse)]
    targets = Targets.collate([Annotation(mask=mask)], mask.shape, classes=2)
    assert head.loss(tuple(certain), targets)["mask"] == pytest.approx(0, abs=1e-3)
