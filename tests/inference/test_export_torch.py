"""Exports for torch load without cphloc and compute the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from cphloc.inference.export_torch import FACTS, export_torch
from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import Recipe, load

_LOADED_ELSEWHERE = """
import sys, torch
path, out = sys.argv[1:]
x = torch.load(out + ".in")
with torch.no_grad():
    y = torch.export.load(path).module()(x)[0]
assert "cphloc" not in sys.modules
torch.save(y, out)
"""


def recipe_of(dims: int, **data: object) -> Recipe:
    head = {"type": "unet", "classes": {1: "mass"}}
    backbone = {"type": "conv_encoder", "widths": [4, 6]}
    own = {"type": "phantom", "size": [16] * dims, "patch": [8, 12, 16][-dims:], "spacing_mm": [2.0] * dims}
    model = {"backbone": backbone, "heads": {"mask": head}}
    return load({"name": "tiny", "task": "segmentation", "dims": dims, "data": own | data, "model": model})


@pytest.mark.parametrize("dims", [2, 3])
def test_a_program_of_torch_computes_the_same_without_cphloc(tmp_path, dims):
    recipe = recipe_of(dims)
    model = build_model(recipe).eval()
    done = export_torch(model, recipe, tmp_path / "model.pt2")
    x = torch.randn(2, 1, *recipe.data.patch)
    torch.save(x, tmp_path / "out.in")
    command = [sys.executable, "-I", "-c", _LOADED_ELSEWHERE, str(done.path), str(tmp_path / "out")]
    subprocess.run(command, check=True)
    with torch.no_grad():
        expected = model(x)
    assert torch.allclose(torch.load(tmp_path / "out"), expected, atol=1e-5)
    assert done.outputs == {"mask": ("N", 2, *recipe.data.patch)}
    facts = {FACTS: ""}
    torch.export.load(done.path, extra_files=facts)
    stated = json.loads(facts[FACTS])
    assert stated["difference"] == done.difference
    assert stated["outputs"] == ["mask"]
