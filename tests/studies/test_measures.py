"""The mathematics of the measures, against the constants of the lecture and exact geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.stats import norm

from cphloc.components.loss.attention_bce import AttentionBCE
from cphloc.components.loss.attention_kl import AttentionKL
from cphloc.components.loss.attention_mass import AttentionMass
from cphloc.components.loss.attention_mse import AttentionMSE
from cphloc.errors import InputError
from cphloc.metrics.detection import DetectionCase
from cphloc.metrics.screening import OperatingPoint
from cphloc.metrics.segmentation import dice
from cphloc.registry import catalogue
from cphloc.studies.measured import Trained
from cphloc.studies.measures.attention import best_dice_on_grid, loss_floor
from cphloc.studies.measures.detection import PrecisionBySize, hits, within
from cphloc.studies.measures.geometry import AnnotatedVolume, BoxVolume, Checkerboard, Lesion
from cphloc.studies.measures.graph_convolution import GraphConvolution, pictures
from cphloc.studies.measures.kernels import EDGE, Kernels, convolved
from cphloc.studies.measures.screening import SimulatedReader, hit_share, independent_prompts
from cphloc.studies.measures.text_cnn import MARGIN, PHRASE, Sentences, TextCnn


@pytest.mark.parametrize("marked", [2, 8])
def test_e2_losses_per_cell_have_the_floors_of_the_formulae(marked):
    """Of m marked cells the even map is best: cross-entropy m log m, squared error (m - 1)^2 / m."""
    even = math.log(marked)
    cross = loss_floor(AttentionBCE(), marked, cells=64)
    assert cross["floor"] == pytest.approx({2: 1.3862944, 8: 16.6355323}[marked], abs=2e-3)
    assert cross["floor_entropy"] == pytest.approx(even, abs=1e-2)
    square = loss_floor(AttentionMSE(), marked, cells=64)
    assert square["floor"] == pytest.approx((marked - 1) ** 2 / marked, abs=2e-3)
    kl = loss_floor(AttentionKL(), marked, cells=64)
    assert kl["floor"] == pytest.approx(0, abs=1e-3)
    assert kl["floor_entropy"] == pytest.approx(even, abs=1e-2)


def test_e2_the_mass_loss_reaches_zero_and_asks_for_no_shape():
    assert loss_floor(AttentionMass(), 8, cells=64)["floor"] < 1e-3
    box, even, peak = (torch.zeros(1, 64) for _ in range(3))
    box[:, :8], even[:, :8], peak[:, 3] = 1, 1 / 8, 1
    logs = (map_.clamp_min(1e-12).log() for map_ in (even, peak))
    assert [AttentionMass()(log, box, [box]).item() for log in logs] == pytest.approx([0, 0], abs=1e-5)


def test_e12_a_box_overstates_a_ball_by_6_over_pi_and_a_mask_does_not():
    found = BoxVolume("ball", lesions=20, grid=40)(Trained(0))
    assert found["ball, box"]["volume_percent_error"] == pytest.approx(100 * (6 / math.pi - 1), abs=8)
    assert found["ball, pi/6 of the box"]["volume_percent_error"] == pytest.approx(0, abs=4)
    assert found["ball, mask"]["volume_percent_error"] == pytest.approx(0, abs=0.5)
    assert found["ball, mask"]["wrong_sign"] == 0


def test_e12_a_turned_ellipsoid_is_overstated_by_more_and_its_volume_is_exact():
    found = BoxVolume("ellipsoid", lesions=30)(Trained(0))
    assert found["ellipsoid, box"]["volume_percent_error"] > 100 * (6 / math.pi - 1)
    assert found["ellipsoid, mask"]["volume_percent_error"] == pytest.approx(0, abs=1)
    assert Lesion(np.ones(3), np.zeros((0, 3))).volume == pytest.approx(4 / 3 * math.pi)
    spiky = Lesion.draw("spiculated", np.random.default_rng(0))
    assert 4 / 3 * math.pi < spiky.volume < 4 / 3 * math.pi * 1.8**3
    assert spiky.grown(2).volume == pytest.approx(8 * spiky.volume)


def test_of_what_experts_outlined_the_largest_object_is_measured(tmp_path):
    """A staircase of 6 voxels in a box of 9, beside a lone voxel: 9 / 6 - 1 = 50 %."""
    mask = np.zeros((12, 8), np.uint8)
    mask[0:3, 0:3] = np.tril(np.ones((3, 3)))
    mask[10, 6] = 1
    for name, picture in (("image", np.arange(96, dtype=np.uint8).reshape(12, 8)), ("mask", mask)):
        sitk.WriteImage(sitk.GetImageFromArray(picture), tmp_path / f"{name}.png")
    (tmp_path / "cases.csv").write_text("case,image,mask,split\na,image.png,mask.png,train\n")
    block = {"type": "image_folder", "root": str(tmp_path), "classes": {1: "stairs"}, "dims": 2}
    found = AnnotatedVolume(block, parts=1)(Trained(0))
    assert found["stairs, box"]["volume_percent_error"] == pytest.approx(50)
    assert found["stairs, pi/6 of the box"]["volume_percent_error"] == pytest.approx(50 * math.pi / 2 - 100)


def test_e13_no_union_of_cells_overlaps_more_than_the_bound():
    rng = np.random.default_rng(0)
    mask = np.zeros((16, 16), bool)
    mask[3:10, 5:11] = True
    bound = best_dice_on_grid(mask, 4)
    tried = [np.kron(rng.random((4, 4)) < 0.4, np.ones((4, 4))).astype(np.uint8) for _ in range(500)]
    assert max(dice(one, mask.astype(np.uint8)) for one in tried) <= bound + 1e-12
    covered = np.kron(mask.reshape(4, 4, 4, 4).swapaxes(1, 2).sum((2, 3)) > 16 * bound / 2, np.ones((4, 4)))
    assert dice(covered.astype(np.uint8), mask.astype(np.uint8)) == pytest.approx(bound)
    assert best_dice_on_grid(mask, 1) == 1.0
    assert math.isnan(best_dice_on_grid(mask & False, 4))


def test_e16_only_the_kernel_that_its_stride_does_not_divide_overlaps_unevenly():
    found = Checkerboard(draws=4)(Trained(0))
    assert {name: row["uneven_overlap"] for name, row in found.items()} == {
        "transposed, kernel 2": 1.0,
        "transposed, kernel 3": 4.0,
        "transposed, kernel 4": 1.0,
        "linear, then kernel 3": 1.0,
    }
    assert found["linear, then kernel 3"]["checkerboard"] < 0.01 < found["transposed, kernel 3"]["checkerboard"]


def test_e18_the_simulated_reader_is_that_of_the_lecture_whatever_the_number_of_regions():
    for regions, overlooked in ((2, 0.0), (4, 0.05), (12, 0.1)):
        found = SimulatedReader(regions=regions, overlooked=overlooked, people=40_000)(Trained(0))
        assert found["reader alone"]["sensitivity"] == pytest.approx(5 / 6, abs=0.01)
        assert found["reader alone"]["specificity"] == pytest.approx(899 / 994, abs=0.005)
        assert found["triage"]["specificity"] > found["reader alone"]["specificity"]
        assert found["triage"]["reads"] == pytest.approx(500, abs=15)


def test_e18_reliance_ranges_from_ignoring_the_model_to_repeating_it():
    ignoring = SimulatedReader(reliance=0.0, overlooked=0.0, people=5_000)(Trained(0))
    for way in ("prompts without location", "prompts with location"):
        assert ignoring[way] == ignoring["reader alone"]
    repeating = SimulatedReader(reliance=1e6, correlation=0.0, located=1.0, people=40_000)(Trained(0))
    model = OperatingPoint(float(norm.cdf(2.0 - norm.ppf(0.95))), 0.95)
    assert repeating["prompts with location"]["sensitivity"] == pytest.approx(model.sensitivity, abs=0.01)
    assert repeating["prompts with location"]["specificity"] == pytest.approx(model.specificity, abs=0.005)
    # a reader who counts prompts as recalls and trusts their absence not at all is the formula's second reader
    assert independent_prompts(OperatingPoint(5 / 6, 899 / 994), model).sensitivity > model.sensitivity


@pytest.mark.parametrize("way", ["prompts without location", "prompts with location"])
def test_e18_prompts_of_a_good_model_help_and_those_of_a_useless_one_that_is_believed_harm(way):
    def gain(**arguments):
        found = SimulatedReader(people=40_000, correlation=0.0, overlooked=0.0, **arguments)(Trained(0))
        return found[way]["equal_specificity"] - found["reader alone"]["equal_specificity"]

    assert gain(model=6.0, believed=6.0) > 0.1
    assert gain(model=0.0, reliance=3.0) < -0.01


def test_e18_the_sensitivity_with_prompts_is_that_of_the_integral():
    """Independent integration over prompted and unprompted readers, without correlation."""
    reader = SimulatedReader(correlation=0.0, people=200_000, reliance=1.0)
    found = reader(Trained(0))["prompts without location"]
    prompt = norm.ppf(0.95)
    hit, false = norm.sf(prompt - 2.0), 0.05
    shifts = np.log([hit / false, (1 - hit) / (1 - false)]) / reader.index
    quiet = norm.cdf(reader.criterion - shifts)
    seen = 0.95 * norm.cdf(reader.criterion - shifts - reader.index) + 0.05
    assert found["sensitivity"] == pytest.approx(1 - np.dot([hit, 1 - hit], quiet**3 * seen), abs=0.003)
    assert found["specificity"] == pytest.approx(np.dot([false, 1 - false], quiet**4), abs=0.003)


def test_e18_a_reader_who_cannot_be_is_refused():
    with pytest.raises(InputError, match="smaller 'overlooked'"):
        SimulatedReader(overlooked=0.4)
    with pytest.raises(InputError, match="at least 2 regions"):
        SimulatedReader(regions=1)


def test_an_object_of_another_size_counts_neither_way():
    case = DetectionCase(
        np.array([[0, 0, 4, 4], [10, 10, 30, 30], [40, 40, 44, 44.0]]),
        np.array([0.9, 0.8, 0.7]),
        np.ones(3, int),
        np.array([[0, 0, 4, 4], [10, 10, 30, 30.0]]),
        np.ones(2, int),
    )
    small = within(case, 0, 6)
    assert small.boxes.tolist() == [[0, 0, 4, 4], [40, 40, 44, 44]]
    assert small.ignored.tolist() == [False, True]
    assert PrecisionBySize([6, 10]).edges == [0, 6, 10, math.inf]


def test_candidates_hit_boxes_and_needles_hit_masks():
    assert hits(np.zeros((0, 2)), np.array([[0, 0, 2, 2]])) == (0.0, 0.0)
    assert hit_share(np.ones((4, 4), bool), np.array([[3.9, 0.0], [4.0, 0.0]])) == 0.5


def test_a_measure_that_needs_a_model_says_so():
    with pytest.raises(InputError, match="needs a trained model"):
        catalogue.resolve("measure", "cost")()(Trained(0))


def test_kernels_of_the_lecture_on_an_impulse_a_constant_and_a_step():
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[..., 2, 2] = 1
    assert convolved(EDGE, impulse)[0, 0].tolist() == [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
    found = Kernels()(Trained(0))
    assert (found["edge"]["on_constant"], found["sharpen"]["on_constant"]) == (0, 1)
    assert found["sharpen"]["overshoot"] == 1
    assert max(found[name]["shift_error"] for name in ("edge", "sharpen")) < 1e-6
    assert 0 < found["max pooling"]["shift_error"] < found["every second voxel"]["shift_error"]


@pytest.mark.parametrize("half", ["first", "second"])
def test_e22_every_other_sentence_holds_the_phrase_in_its_half_and_a_box_says_where(half):
    torch.manual_seed(0)
    corpus = Sentences(20, 8)
    sentences, annotations = corpus.draw(half, 40, places=True)
    phrase = corpus.vectors[:PHRASE].T
    for number, (sentence, annotation) in enumerate(zip(sentences, annotations, strict=True)):
        assert not sentence[:, :MARGIN].any()
        assert not sentence[:, -MARGIN:].any()
        assert len(annotation.boxes) == number % 2
        for low, high in annotation.boxes.astype(int):
            assert torch.equal(sentence[:, low:high], phrase)
            assert (high - MARGIN <= 12) if half == "first" else (low - MARGIN >= 16)
    windows = sentences[::2].unfold(2, PHRASE, 1).permute(0, 2, 1, 3).flatten(0, 1)
    assert min((window - phrase).abs().max() for window in windows) > 0.1


def test_e22_every_model_is_measured_and_padding_is_nothing_to_the_max_over_time():
    found = TextCnn(steps=2, tested=10)(Trained(0))
    assert found["max over time"]["padding_error"] < 1e-5 < found["mean over time"]["padding_error"]
    assert found["fully connected"].keys() == {"auc"}
    assert all(0 <= found[name]["pointing"] <= 1 for name in ("attention", "attention, taught"))


def test_e23_tied_taps_are_a_convolution_and_see_no_order():
    found = GraphConvolution(steps=1, tested=10)(Trained(0))
    assert found["one weight"]["convolution_error"] < 1e-5
    assert found["a weight a direction"]["convolution_error"] < 1e-5
    assert found["one weight"]["shuffle_error"] < 1e-5
    assert min(found[name]["shuffle_error"] for name in ("a weight a direction", "convolution")) > 0.1


def test_e23_pictures_answer_their_question():
    drawn, labels = pictures("direction", 20, size=8, noise=0.0)
    brighter = drawn[:, 0, :, -1].mean(1) > drawn[:, 0, :, 0].mean(1)
    assert brighter.tolist() == [bool(each.label[0]) for each in labels] == [False, True] * 10
    drawn, _ = pictures("edge", 20, size=8, noise=0.0)
    assert drawn.flatten(1).any(1).tolist() == [False, True] * 10
