"""Arguments out of range are one line at check, at the place where they are written, never an error of mathematics."""

from __future__ import annotations

import pytest

from cphloc.errors import InputError
from cphloc.modeling.build import check
from cphloc.recipe.recipe import load

HEAD, NECK, BACKBONE = "model.heads.boxes", "model.neck", "model.backbone"


def problems(recipe: str, changed: dict) -> list[str]:
    try:
        return [str(problem) for problem in check(load(recipe, changed))]
    except InputError as error:
        return str(error).splitlines()


@pytest.mark.parametrize(
    ("recipe", "changed", "said"),
    [
        ("dense-box", {f"{HEAD}.prior": 0}, "0 is not > 0"),
        ("dense-box", {f"{HEAD}.prior": 1.0}, "1.0 is not < 1"),
        ("fast-rcnn", {f"{HEAD}.proposal_overlap": 1}, "1 is not < 1"),
        ("rcnn", {f"{HEAD}.proposal_overlap": 1.0}, "1.0 is not < 1"),
        ("rcnn", {f"{HEAD}.widths": []}, "give at least 1"),
        ("rcnn", {f"{HEAD}.proposal_sizes": [[0, 1, 1]]}, "0 is not > 0"),
        ("mlp", {f"{BACKBONE}.widths": []}, "give at least 1"),
        ("gcn", {f"{BACKBONE}.widths": []}, "give at least 1"),
        ("cnn", {f"{BACKBONE}.widths": []}, "give at least 1"),
        ("dense-box", {f"{NECK}.finest": 4}, "level 4 does not exist; the pyramid has 4 levels"),
        ("pyramid-sum", {f"{NECK}.level": 4}, "level 4 does not exist; the pyramid has 4 levels"),
        ("unet2d-phantom", {"model.heads.mask.widths": [8] * 4}, "3 levels below the coarsest but 4 widths"),
    ],
)
def test_a_value_out_of_range_is_named(recipe, changed, said):
    found = problems(recipe, changed)
    assert any(said in line for line in found), found
    assert len(found) == 1, found
