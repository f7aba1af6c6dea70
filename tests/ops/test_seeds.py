from __future__ import annotations

import numpy as np
import pytest
import torch

from cphloc.errors import RecipeError
from cphloc.modeling.build import build_model
from cphloc.ops.seeds import Seeds
from cphloc.ops.targets import Targets
from cphloc.recipe.recipe import load
from cphloc.structures.annotation import Annotation

SIZE = {2: (8, 8), 3: (4, 8, 8)}


def annotations(dims):
    """Label of one class; of two; of one with the other unknown; none; with its boxes; with its mask; with a region."""
    size = SIZE[dims]
    only = np.array([1, 0], np.float32)
    region = np.zeros(size, np.float32)
    region[..., :4] = 1
    boxes = np.array([[0.0] * dims + [2.0] * dims])
    return [
        Annotation(label=only),
        Annotation(label=np.array([1, 1], np.float32)),
        Annotation(label=np.array([1, np.nan], np.float32)),
        Annotation(label=np.zeros(2, np.float32)),
        Annotation(label=only, boxes=boxes, box_classes=np.array([1])),
        Annotation(label=only, mask=np.ones(size, np.uint8)),
        Annotation(label=only, region=region),
    ]


@pytest.mark.parametrize("dims", [2, 3])
def test_only_cases_that_have_the_label_of_one_class_and_nothing_stronger_get_seeds(dims):
    targets = Targets.collate(annotations(dims), SIZE[dims], classes=2)
    assert Seeds.cases(targets).tolist() == [True, False, False, False, False, False, True]


@pytest.mark.parametrize("dims", [2, 3])
def test_seeds_are_inside_outside_and_unknown_by_the_share_of_the_largest_attention(dims):
    """Attention on cells of two voxels per axis; a coarse region bounds the inside."""
    targets = Targets.collate(annotations(dims), SIZE[dims], classes=2)
    attention = torch.full((7, *(n // 2 for n in SIZE[dims])), 1e-3)
    attention[..., 1], attention[..., 3] = 0.02, 0.05
    found = Seeds("a", 0.9, 0.1, 0.0, 1.0).targets(targets, attention, SIZE[dims])
    row = found.masks[0].flatten(0, -2)[0].tolist()
    assert row[-1] == 1
    assert 255 in row
    assert row[0] == 0
    assert found.mask_known.all(1).tolist() == Seeds.cases(targets).tolist()
    bounded = found.masks[6].flatten(0, -2)[0].tolist()
    assert 1 not in bounded
    assert bounded[4:] == [0] * 4


def recipe(dims, **seeds):
    return {
        "task": "localization",
        "dims": dims,
        "data": {"type": "phantom", "patch": list(SIZE[dims]), "size": list(SIZE[dims])},
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {
                "mask": {"type": "unet", "classes": {1: "mass"}},
                "labels": {"type": "gap", "classes": {1: "mass"}},
            },
            "seeds": {"mask": {"head": "labels", "after": 0.5, **seeds}},
        },
    }


@pytest.mark.parametrize("dims", [2, 3])
def test_a_case_with_a_label_alone_teaches_the_mask_head_by_seeds_and_the_classifier_by_its_label(dims):
    torch.manual_seed(0)
    model = build_model(load(recipe(dims)))
    label = Targets.collate([Annotation(label=np.ones(1, np.float32))], SIZE[dims], classes=1)
    image = torch.randn(1, 1, *SIZE[dims])
    losses = model.loss(model.outputs(image), label)
    assert losses["mask/mask"] == 0
    assert losses["mask/seeds"] > 0
    parts = {name: list(model.get_submodule(name).parameters()) for name in ("backbone", "heads.labels")}
    loss = losses["mask/seeds"]
    gradients = {n: torch.autograd.grad(loss, p, retain_graph=True, allow_unused=True) for n, p in parts.items()}
    taught = {name: any(g is not None and g.any() for g in of) for name, of in gradients.items()}
    assert taught == {"backbone": True, "heads.labels": False}
    assert {name: int(n) for name, n in model.seed_cases(label).items()} == {"mask": 1}
    model.seeds["mask"].progress = 0.4
    assert model.loss(model.outputs(image), label)["mask/seeds"] == 0
    masked = Targets.collate([Annotation(mask=np.ones(SIZE[dims], np.uint8))], SIZE[dims], classes=1)
    model.seeds["mask"].progress = 1.0
    losses = model.loss(model.outputs(image), masked)
    assert losses["mask/seeds"] == 0
    assert torch.allclose(losses["loss"], losses["mask/mask"] + losses["labels/label"])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"head": "mask"}, "'mask' is no head with attention; heads with attention: labels"),
        ({"head": "label"}, "'label' is no head with attention; did you mean 'labels'?"),
        ({"below": 0.6}, "below is 0.6, above 0.5; make below less than above"),
    ],
)
def test_seeds_come_from_a_head_with_attention(seeds, message):
    with pytest.raises(RecipeError, match=message.replace("?", ".")):
        load(recipe(2, **seeds))
