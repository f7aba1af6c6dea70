from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cphloc.ops.box_supervision import pairwise_loss, projection_loss, voxels_of

SIZE = {2: (7, 9), 3: (4, 6, 7)}


def tight(dims):
    inside = torch.zeros(SIZE[dims], dtype=torch.bool)
    inside[(slice(1, 3), slice(2, 5), slice(1, 6))[:dims]] = True
    return inside


@pytest.mark.parametrize("dims", [2, 3])
def test_projections_are_those_of_numpy(dims):
    probability = torch.rand(SIZE[dims], generator=torch.Generator().manual_seed(0))
    box, total = tight(dims).numpy().astype(float), 0.0
    for axis in range(dims):
        others = tuple(a for a in range(dims) if a != axis)
        a, b = probability.numpy().max(others), box.max(others)
        total += 1 - 2 * (a * b).sum() / ((a**2).sum() + (b**2).sum())
    assert projection_loss(probability, tight(dims)).item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_pairs_are_those_of_a_loop_over_all_voxels(dims, dilation):
    """Each pair once, of neighbours in the lattice of steps, one of them in a box, that look alike."""
    rng, size, inside = np.random.default_rng(0), SIZE[dims], tight(dims).numpy()
    logits, image = rng.normal(size=size), rng.normal(size=(2, *size))
    p, terms = 1 / (1 + np.exp(-logits)), []
    for one, other in itertools.combinations(np.ndindex(*size), 2):
        steps = np.abs(np.subtract(one, other))
        alike = np.exp(-np.linalg.norm(image[(slice(None), *one)] - image[(slice(None), *other)]) / 2) >= 0.5
        if set(steps.tolist()) <= {0, dilation} and (inside[one] or inside[other]) and alike:
            terms.append(-np.log(p[one] * p[other] + (1 - p[one]) * (1 - p[other])))
    given = torch.from_numpy(logits), torch.from_numpy(image), torch.from_numpy(inside)
    assert len(terms) > 0
    assert pairwise_loss(*given, scale=2.0, least=0.5, dilation=dilation).item() == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("dims", [2, 3])
def test_of_several_masks_in_a_box_the_object_has_the_least_loss(dims):
    """Not the whole box, whose corners look like what is outside; not a part, which does not touch all sides."""
    size = {2: (16, 20), 3: (10, 12, 12)}[dims]
    grid = torch.meshgrid(*[(torch.arange(n) + 0.5 - n / 2) / (0.36 * n) for n in size], indexing="ij")
    distance = sum(g.square() for g in grid)
    truth = distance < 1
    edges = torch.stack([truth.nonzero().amin(0), truth.nonzero().amax(0) + 1]).flatten().float()
    inside, image = voxels_of(edges, size), truth.float()[None]

    def loss(mask):
        logits = torch.where(mask, 6.0, -6.0)
        pairs = pairwise_loss(logits, image, inside, scale=0.5, dilation=1)
        return (projection_loss(logits.sigmoid(), inside) + pairs).item()

    others = {"box": inside, "nothing": ~truth & truth, "core": distance < 0.5, "half": truth & (grid[-1] < 0)}
    assert all(loss(mask) > loss(truth) + 0.05 for mask in others.values()), {n: loss(m) for n, m in others.items()}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_between_the_centres_of_voxels_has_one_voxel_per_axis(dims):
    box = torch.tensor([0.6] * dims + [0.9] * dims)
    assert voxels_of(box, (4,) * dims).sum() == 1
    whole = torch.tensor([-3.0] * dims + [9.0] * dims)
    assert voxels_of(whole, (4,) * dims).all()


def test_images_smaller_than_the_step_have_no_pairs():
    one = torch.zeros(2, 2, requires_grad=True)
    loss = pairwise_loss(one, torch.zeros(1, 2, 2), torch.ones(2, 2, dtype=torch.bool), scale=1.0, dilation=2)
    assert loss == 0
    assert_close(torch.autograd.grad(loss, one)[0], torch.zeros(2, 2))
