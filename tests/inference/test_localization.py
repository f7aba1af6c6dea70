from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.io.read import read_volume
from cphloc.inference.localization import Box, Localization


@pytest.mark.parametrize("dims", [2, 3])
def test_a_picture_shows_every_box_with_its_name_and_score(dims):
    image = read_volume(np.random.default_rng(0).random((16,) * dims), spacing_mm=(1.0,) * dims)
    edges = [(2.0,) * dims + (8.0,) * dims, (4.0,) * dims + (12.0,) * dims]
    boxes = [Box("mass", 0.9, edges[0], ()), Box("cyst", 0.35, edges[1], ())]
    figure = Localization(image, {1: "mass", 2: "cyst"}, boxes=boxes).plot()
    texts = {text.get_text().strip() for axes in figure.axes for text in axes.texts}
    assert {"mass 0.90", "cyst 0.35"} <= texts
    assert not Localization(image, {1: "mass", 2: "cyst"}, boxes=[]).plot().axes[0].texts
