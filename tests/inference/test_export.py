"""Exported files are read back by ONNX Runtime, which knows nothing of torch."""

from __future__ import annotations

import json

import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cphloc.cli import main
from cphloc.errors import CphlocError, InputError
from cphloc.inference.export import export_model, export_onnx
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.recipe.recipe import Recipe, load

SIZES = {2: [16, 12], 3: [8, 12, 16]}


def recipe_of(dims: int, **model: object) -> Recipe:
    mask = {"type": "unet", "classes": {1: "mass"}}
    boxes = {"type": "retina", "classes": {1: "mass"}, "channels": 8, "convolutions": 1}
    return load(
        {
            "name": "tiny",
            "task": "detection",
            "dims": dims,
            "data": {"type": "phantom", "size": SIZES[dims], "patch": SIZES[dims], "spacing_mm": [2.0] * dims},
            "model": {
                "backbone": {"type": "conv_encoder", "widths": [4, 6]},
                "heads": {"mask": mask, "boxes": boxes},
                **model,
            },
        }
    )


@pytest.fixture
def run_folder(tmp_path):
    recipe = recipe_of(3)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    save_file(build_model(recipe).state_dict(), tmp_path / "best.safetensors")
    return tmp_path


@pytest.mark.parametrize("dims", [2, 3])
def test_onnx_runtime_gives_the_raw_outputs_of_every_head_for_any_batch(dims, tmp_path):
    recipe = recipe_of(dims)
    localizer = Localizer(build_model(recipe), recipe)
    done = export_model(localizer.model, localizer.recipe, tmp_path / "model.onnx")
    size = tuple(SIZES[dims])
    assert done.inputs == {"image": ("N", 1, *size)}
    assert list(done.outputs) == [
        "mask",
        *(f"boxes.{part}.{level}" for part in ("scores", "deltas") for level in (0, 1)),
    ]
    assert done.outputs["mask"] == ("N", 2, *size)
    image = torch.randn(5, 1, *size)
    found = dict(
        zip(done.outputs, onnxruntime.InferenceSession(done.path).run(None, {"image": image.numpy()}), strict=True)
    )
    with torch.no_grad():
        expected = localizer.model.outputs(image)
    for name, tensor in (("mask", expected["mask"]), ("boxes.deltas.1", expected["boxes"].deltas[1])):
        torch.testing.assert_close(torch.from_numpy(found[name]), tensor, atol=1e-4, rtol=1e-4)


def test_the_command_writes_what_a_program_needs_to_know(run_folder, capsys):
    path = run_folder / "out" / "model.onnx"
    assert main(["export", str(run_folder), "--format", "onnx", "--out", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == str(path)
    assert facts["difference"] <= facts["tolerance"] == 1e-4
    model = onnx.load(path)
    onnx.checker.check_model(model)
    said = {each.key: each.value for each in model.metadata_props}
    assert said["recipe_sha256"] == load(run_folder / "recipe.yaml").sha256
    assert json.loads(said["classes"]) == {"1": "mass"}
    assert json.loads(said["spacing_mm"]) == [2.0, 2.0, 2.0]
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]


def test_nothing_is_left_where_the_numbers_differ(tmp_path):
    path = tmp_path / "conv.onnx"
    path.write_text("an older file")
    with pytest.raises(
        CphlocError, match=r"ONNX Runtime differs from torch by .* tolerance -1e\+00; nothing was written"
    ):
        export_onnx(nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 8, 8), path, tolerance=-1)
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]


def test_what_onnx_cannot_express_is_one_clear_error(tmp_path):
    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CphlocError, match="cannot be exported to ONNX"):
        export_onnx(Undecided(), torch.zeros(1, 1), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_head_whose_tensor_part_depends_on_what_it_sees_says_so(tmp_path):
    recipe = recipe_of(2, heads={"boxes": {"type": "faster_rcnn", "classes": {1: "mass"}, "channels": 8, "width": 8}})
    with pytest.raises(InputError, match=r"head 'boxes' \(faster_rcnn\) cannot be exported: the number of proposals"):
        export_model(build_model(recipe), recipe, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "--out", "model.onnx"], "no run or entry 'nobody'"),
        (["nobody", "--out", "model.pb"], "an ONNX file's name ends in .onnx; write --out model.pb.onnx"),
    ],
)
def test_wrong_input_ends_with_2(arguments, message, capsys):
    assert main(["export", *arguments]) == 2
    assert message in capsys.readouterr().err
