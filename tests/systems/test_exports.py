"""Systems with further parts are described and exported to ONNX, or refused with the reason on a card."""

from __future__ import annotations

import pytest

from cphloc.errors import InputError
from cphloc.inference.export import export_model
from cphloc.modeling.build import build_model
from cphloc.modeling.describe import describe
from cphloc.recipe.recipe import load

EXPORTED = ("swin-unetr", "siamese", "box-supervised", "cam-seeded", "nndetection", "detr", "mednext", "projections")
REFUSED = ("mask-rcnn", "instances")


def small(name):
    dims = load(f"systems/{name}").dims
    return load(f"systems/{name}", {"data.patch": [32, 32] if dims == 2 else [16, 32, 32]})


@pytest.mark.parametrize("name", [*EXPORTED, *REFUSED])
def test_a_system_is_described(name):
    facts = describe(small(name)).to_plain()
    assert facts["multiply_adds"] > 0
    assert facts["parameters"]["total"] == sum(p.numel() for p in build_model(load(f"systems/{name}")).parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_system_gives_the_same_numbers(name, tmp_path):
    recipe = small(name)
    done = export_model(build_model(recipe).eval(), recipe, tmp_path / "system.onnx")  # compares before it writes
    assert done.path.is_file()


@pytest.mark.parametrize("name", REFUSED)
def test_a_system_that_cannot_be_exported_says_why(name, tmp_path):
    recipe = small(name)
    with pytest.raises(InputError, match="the number of proposals after non-maximum suppression depends on the image"):
        export_model(build_model(recipe), recipe, tmp_path / "system.onnx")
