from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from cphloc.components.backbone.projections import Projections
from cphloc.errors import InputError


@pytest.mark.parametrize("views", [["axial"], ["coronal"], ["sagittal"], ["sagittal", "axial"]])
def test_each_view_is_a_2d_network_on_its_projection_repeated_along_its_axis(views):
    torch.manual_seed(0)
    backbone = Projections(1, 3, views=views, widths=[3, 4])
    image = torch.randn(2, 1, 4, 6, 8)
    maps = []
    for view, encoder in zip(views, backbone.encoders, strict=True):
        axis = 2 + ["axial", "coronal", "sagittal"].index(view)
        maps.append([(axis, x) for x in encoder(torch.cat([image.max(axis).values, image.mean(axis)], 1))])
    for number, (x, level) in enumerate(zip(backbone(image), backbone.levels, strict=True)):
        size = level.size((4, 6, 8))
        spread = [torch.stack([flat] * size[axis - 2], axis) for axis, flat in (view[number] for view in maps)]
        assert_close(x, backbone.fuse[number](torch.cat(spread, 1)))


@pytest.mark.parametrize(("dims", "views"), [(2, ["axial"]), (3, []), (3, ["axial", "axial"])])
def test_what_cannot_be_projected_is_refused(dims, views):
    with pytest.raises(InputError, match="views that differ"):
        Projections(1, dims, views=views)
