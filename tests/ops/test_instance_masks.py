from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection import roi_heads

from cphloc.ops.instance_masks import class_probabilities, mask_targets, mean_masks, pasted, regridded
from cphloc.ops.targets import Detections


def box(low, high, dims):
    return torch.tensor([[float(low)] * dims + [float(high)] * dims])


@pytest.mark.parametrize("dims", [2, 3])
def test_on_the_grid_of_the_voxels_targets_are_the_mask_inside_the_box(dims):
    """A grid of one cell per voxel needs no interpolation; a neighbour outside the box is not the object."""
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (8,) * dims)
    mask[..., 4] = 255
    region, own = box(1, 7, dims), box(2, 6, dims)
    truth, known = mask_targets(mask, region, own, torch.tensor([2]), (6,) * dims)
    inner = (slice(1, 7),) * dims
    inside = torch.zeros((8,) * dims, dtype=torch.bool)
    inside[(slice(2, 6),) * dims] = True
    assert_close(truth[0], ((mask == 2) & inside)[inner].float())
    assert torch.equal(known[0], (mask != 255)[inner])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_pasted_on_the_grid_of_its_voxels_is_unchanged(dims):
    mask = torch.rand((4,) * dims)
    at, values = pasted(mask, box(2, 6, dims)[0], (8,) * dims)
    assert at == (slice(2, 6),) * dims
    assert_close(values, mask)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_beyond_the_image_is_pasted_where_it_is_inside(dims):
    mask = torch.rand((4,) * dims)
    at, values = pasted(mask, box(-2, 2, dims)[0], (8,) * dims)
    assert at == (slice(0, 2),) * dims
    assert_close(values, mask[(slice(2, 4),) * dims])
    assert pasted(mask, box(9, 12, dims)[0], (8,) * dims)[1].numel() == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_a_clipped_box_keeps_its_part_of_the_mask(dims):
    """A ramp over cells at voxels 1, 3, 5, 7 of a box from 0 to 8, read at the cells of a box from 2 to 6."""
    ramp = torch.tensor([1.0, 3.0, 5.0, 7.0]).expand((1, *(4,) * dims))
    clipped = regridded(ramp, box(0, 8, dims), box(2, 6, dims))
    assert_close(clipped, torch.tensor([2.5, 3.5, 4.5, 5.5]).expand((1, *(4,) * dims)))
    assert_close(regridded(ramp, box(0, 8, dims), box(0, 8, dims)), ramp.contiguous())


@pytest.mark.parametrize("dims", [2, 3])
def test_a_voxel_takes_its_most_probable_object_of_each_class(dims):
    masks = torch.stack([torch.full((2,) * dims, p) for p in (0.9, 0.6, 0.5)])
    boxes = torch.cat([box(0, 4, dims), box(2, 6, dims), box(0, 4, dims)])
    found = class_probabilities(masks, boxes, torch.tensor([1, 1, 2]), (8,) * dims, 2)
    corner, both, rest = found[(..., *[0] * dims)], found[(..., *[5] * dims)], found[(..., *[7] * dims)]
    assert_close(corner, torch.tensor([0.1 * 0.5, 0.9, 0.5]) / 1.45)
    assert_close(both, torch.tensor([0.4, 0.6, 0.0]))
    assert_close(rest, torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_target_of_an_object_is_its_instance_where_another_of_its_class_touches_it(dims):
    instances = torch.zeros((8,) * dims, dtype=torch.long)
    instances[..., 1:5, 1:5], instances[..., 3:7, 4:8] = 5, 9
    boxes = torch.cat([box(1, 6, dims), box(3, 8, dims)])
    given = (instances > 0).long(), boxes, boxes, torch.tensor([1, 1]), (5,) * dims
    truth, _ = mask_targets(*given, instances, torch.tensor([5, 9]))
    for k, (number, low) in enumerate(((5, 1), (9, 3))):
        assert_close(truth[k], (instances == number)[(slice(low, low + 5),) * dims].float())
    by_class, _ = mask_targets(*given, instances, torch.tensor([0, 9]))
    assert by_class[0].sum() > truth[0].sum()
    assert_close(by_class[1], truth[1])


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_of_views_are_averaged_on_the_box_that_they_are_merged_to(dims):
    """Two views of one object, each on its own box: the same object; another class does not count."""
    image = torch.zeros((12,) * dims)
    image[(slice(3, 9),) * dims] = 1
    boxes = torch.cat([box(2, 10, dims), box(1, 9, dims), box(2, 10, dims)])
    masks = torch.stack([image[(slice(2, 10),) * dims], image[(slice(1, 9),) * dims], torch.zeros((8,) * dims)])
    merged = Detections(box(2, 10, dims), torch.ones(1), torch.tensor([1]))
    scores, classes = torch.tensor([0.6, 0.3, 0.9]), torch.tensor([1, 1, 2])
    mean = mean_masks(masks, boxes, scores, classes, merged, 0.3)
    assert mean.shape == (1, *(8,) * dims)
    inner = (0, *(slice(2, 6),) * dims)
    assert_close(mean[inner], torch.ones((4,) * dims))
    assert mean[0].flatten()[0] < 0.01


def smooth(size):
    """A blurred ellipsoid, as a network gives it."""
    axes = torch.meshgrid(*[(torch.arange(n) + 0.5) / n - 0.5 for n in size], indexing="ij")
    return (8 - 24 * sum(x.square() for x in axes).sqrt()).sigmoid()


def pasted_by_torchvision(mask, low, high, extent):
    """Each slice of a mask whose depth has one cell per voxel, or the only one, in its part of the image."""
    corners = torch.tensor([[low[-1], low[-2], high[-1], high[-2]]], dtype=torch.float32)
    planes = mask.view(-1, *mask.shape[-2:])
    return torch.cat([roi_heads.paste_masks_in_image(x[None, None], corners, extent[-2:])[0] for x in planes])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("low", "step"), [((6, 8), (2, 3)), ((4, 5), (1, 4)), ((22, 30), (3, 2))])
def test_a_pasted_mask_is_that_of_torchvision_which_fades_it_towards_the_faces(dims, low, step):
    """Torchvision adds a cell of zeros around the mask, so that the outer half of the border cells falls to one half.

    Its corners are the first and the last voxel: half a voxel less at the upper faces makes its rounding give the same
    grid. Beyond the faces it continues to zero, always below one half, where the outline here has already ended.
    """
    torch.manual_seed(0)
    cells, extent = 7, (*[5] * (dims - 2), 36, 44)
    low = torch.tensor([*[1] * (dims - 2), *low])
    step = torch.tensor([*[1] * (dims - 2), *step])
    size = (*[4] * (dims - 2), cells, cells)
    mask, high = torch.rand(size), low + torch.tensor(size) * step
    at, values = pasted(mask, torch.cat([low, high]).float(), extent)
    theirs = pasted_by_torchvision(mask, low, high - 0.5, extent)
    fade, rows, columns = 1.0, *at[-2:]
    for axis, part in ((-2, rows), (-1, columns)):
        middle = torch.arange(part.start, part.stop) + 0.5
        depth = torch.minimum(middle - low[axis], high[axis] - middle) / step[axis]
        fade = fade * (0.5 + depth).clamp(max=1).view(-1, *[1] * (-1 - axis))
    assert (fade == 1).sum() >= 0.4 * fade.numel()
    assert_close(theirs[:, rows, columns], (values * fade).view(-1, *fade.shape))
    theirs[:, rows, columns] = 0
    assert 0 < theirs.max() < 0.5


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_pasted_anywhere_is_within_a_voxel_of_that_of_torchvision(dims):
    """Torchvision moves either face of a box outwards to whole voxels, by less than one voxel."""
    draw, cells, extent = torch.Generator().manual_seed(0), 14, (*[7] * (dims - 2), 90, 100)
    size = (*[5] * (dims - 2), cells, cells)
    mask, most = smooth(size), []
    steepest = torch.tensor([mask.diff(dim=axis).abs().max() for axis in (-2, -1)])
    for _ in range(15):
        low, span = torch.rand(2, generator=draw) * 30 + 5, torch.rand(2, generator=draw) * 35 + 15
        low = torch.cat([torch.ones(dims - 2), low])
        high = low + torch.cat([torch.full((dims - 2,), 5.0), span])
        at, values = pasted(mask, torch.cat([low, high]), extent)
        theirs = pasted_by_torchvision(mask, low, high, extent)[:, *at[-2:]].view(values.shape)
        rim = [int(0.5 * side / cells) + 3 for side in span.tolist()]
        inner = (..., *(slice(n, -n) for n in rim))
        most.append((values - theirs)[inner].abs().max() / (steepest * cells / span).sum())
    assert 0.1 < max(most) < 1
