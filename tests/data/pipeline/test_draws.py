"""Shares of heads and classes among training patches, counted over many draws."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from cphloc.data.case import AnnotationSource
from cphloc.data.pipeline.draws import Draws, groups_of
from cphloc.data.pipeline.pipeline import rungs_of
from cphloc.recipe.recipe import load
from cphloc.structures.rung import Rung

MASK, LABEL = Rung.MASK, Rung.LABEL


def source(mask=False, label=(1.0,)):
    return AnnotationSource(mask="mask.png" if mask else None, label=label)


class Cases(list):
    """Prepared cases, each with the classes of its objects; the first ``masked`` have a mask."""

    def __init__(self, classes, masked):
        super().__init__(
            SimpleNamespace(foreground=np.array([[c, 0, 0] for c in held], int).reshape(-1, 3)) for held in classes
        )
        self.cases = [SimpleNamespace(annotation=source(mask=i < masked)) for i in range(len(classes))]


def drawn(draws, n=600):
    return [draws[i] for i in range(n)]


def test_a_mask_head_learns_from_every_patch_though_few_cases_have_a_mask():
    cases = Cases([[1]] * 6 + [[]] * 30, masked=6)
    assert {d.case for d in drawn(Draws(cases, {"mask": MASK}))} == set(range(6))


def test_every_head_gets_its_share():
    cases = Cases([[1]] * 6 + [[]] * 30, masked=6)
    draws = Draws(cases, {"mask": MASK, "boxes": Rung.BOXES, "finding": LABEL}, foreground=0)
    masked = [d.case < 6 for d in drawn(draws)]
    assert np.mean(masked) == pytest.approx(0.5 + 0.5 / 6, abs=0.01)  # half the turns, and a sixth of the others
    assert {d.case for d in drawn(draws)} == set(range(36))
    assert draws.describe() == (
        "patches: 50 % from 6 cases with a mask (for mask, boxes); 50 % from 36 cases with a label (for finding); "
        "0 % centred on an object, each class in turn"
    )


def test_every_case_once_in_an_epoch_where_all_heads_learn_from_all():
    draws = Draws(Cases([[1]] * 10, masked=10), {"mask": MASK, "finding": LABEL}, foreground=0)
    epochs = [tuple(draws[i].case for i in range(10 * e, 10 * e + 10)) for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 3


def test_a_rare_class_gets_its_turn():
    """Class 2 is in one case of twenty and is still at the centre of half of the centred patches."""
    draws = Draws(Cases([[1]] * 19 + [[1, 2]], masked=20), {"mask": MASK}, foreground=0.5)
    labels = Counter(d.label for d in drawn(draws))
    assert labels == {None: 300, 1: 150, 2: 150}
    assert all(d.case == 19 for d in drawn(draws) if d.label == 2)


def test_patches_depend_on_seed_and_number_alone():
    cases, rungs = Cases([[1], [2], [1, 2], []] * 5, masked=12), {"mask": MASK, "finding": LABEL}
    first = drawn(Draws(cases, rungs, seed=1))
    again = Draws(cases, rungs, seed=1)
    assert [again[i] for i in reversed(range(600))] == first[::-1]
    assert drawn(Draws(cases, rungs, seed=2)) != first


def test_cases_whose_label_excludes_every_class_have_an_empty_mask():
    few = [source(mask=True)] * 4 + [source(label=(0.0,))] * 2 + [source()] * 9
    (group,) = groups_of(few, {"mask": MASK})
    assert group.cases == tuple(range(6))
    many = [source(mask=True)] * 2 + [source(label=(0.0,))] * 9
    stated, absent = groups_of(many, {"mask": MASK})
    assert (stated.cases, absent.cases) == ((0, 1), tuple(range(2, 11)))
    assert absent.words == "no finding by their label"


def test_a_recipe_whose_data_lack_a_rung_draws_from_all_cases():
    (group,) = groups_of([source()] * 3, {"mask": MASK})
    assert group.cases == (0, 1, 2)


def test_a_teacher_teaches_cases_without_any_annotation_as_well():
    rungs = rungs_of(load("systems/mean-teacher"))
    masked, *others = groups_of([source(mask=True), AnnotationSource(), AnnotationSource()], rungs)
    assert (masked.cases, masked.heads) == ((0,), ("mask",))
    assert [(group.cases, group.heads) for group in others] == [((0, 1, 2), ("the teacher",))]


@pytest.mark.parametrize(
    ("name", "weaker", "words"),
    [("box-supervised", "mask by boxes", "boxes"), ("cam-seeded", "mask by seeds", "a label")],
)
def test_cases_that_teach_masks_by_less_have_their_own_share_and_the_log_states_it(name, weaker, words):
    """A case with a mask and two with less: half of the patches from the one, half from all three."""
    rungs = rungs_of(load(f"systems/{name}"))
    assert rungs["mask"] == MASK
    boxes = AnnotationSource(boxes=((0.0, 0.0, 1.0, 1.0),), box_classes=(1,), label=(1.0,))
    cases = Cases([[1], [1], [1]], masked=1)
    for case in cases.cases[1:]:
        case.annotation = boxes
    draws = Draws(cases, {key: rungs[key] for key in ("mask", weaker)})
    assert f"50 % from 3 cases with {words} (for {weaker})" in draws.describe()
    assert Counter(d.case for d in drawn(draws))[0] >= 300
    assert {d.case for d in drawn(draws)} == {0, 1, 2}
