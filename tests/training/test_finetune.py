from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from cphloc import build, load
from cphloc.cli import main
from cphloc.errors import InputError
from cphloc.tracking.run import Run
from cphloc.training import checkpoint
from cphloc.training.finetune import take_over


def network(dims, channels, classes):
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    return nn.Sequential(conv(channels, 4, 3, padding=1), nn.ReLU(), conv(4, 4, 3, padding=1), conv(4, classes, 1))


def test_equal_networks_become_equal():
    old, new = network(2, 1, 3), network(2, 1, 3)
    report = take_over(new, old.state_dict(), "old")
    assert len(report.loaded) == 6
    assert not report.adapted
    assert not report.skipped
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(old(x), new(x))


def test_other_classes_leave_only_their_layer_fresh():
    report = take_over(network(2, 1, 5), network(2, 1, 3).state_dict(), "old")
    assert list(report.skipped) == ["3.weight", "3.bias"]
    assert "2 skipped" in str(report)
    assert "(3, 4, 1, 1) instead of (5, 4, 1, 1)" in str(report)


def test_a_grey_image_in_a_colour_network_gives_what_it_gave_before():
    old, new = network(2, 1, 2), network(2, 3, 2)
    take_over(new, old.state_dict(), "old")
    x = torch.randn(1, 1, 8, 8)
    assert torch.allclose(old(x), new(x.expand(-1, 3, -1, -1)), atol=1e-5)


def test_a_volume_of_equal_slices_gives_in_its_middle_what_the_2d_network_gave():
    old, new = network(2, 1, 2), network(3, 1, 2)
    report = take_over(new, old.state_dict(), "old")
    assert sorted(report.adapted) == ["0.weight", "2.weight", "3.weight"]
    x = torch.randn(1, 1, 8, 8)
    volume = x[:, :, None].expand(-1, -1, 9, -1, -1)
    assert torch.allclose(old(x), new(volume)[:, :, 4], atol=1e-5)


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (4, 1)])
def test_upsampling_in_depth_adds_up_to_what_the_2d_network_gave(kernel, padding):
    old = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, kernel, 2, padding))
    new = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ConvTranspose3d(4, 2, kernel, 2, padding))
    take_over(new, old.state_dict(), "old")
    x = torch.randn(1, 1, 8, 8)
    volume = x[:, :, None].expand(-1, -1, 9, -1, -1)
    assert torch.allclose(old(x), new(volume)[:, :, 9], atol=1e-5)


def test_weights_of_another_architecture_are_refused():
    with pytest.raises(InputError, match="no weight of 'other' fits"):
        take_over(network(2, 1, 2), nn.Linear(3, 3).state_dict(), "other")


def phantom(dims, **changes):
    """A recipe on phantoms of eight voxels an axis or a few more."""
    size = [16] * dims
    return {
        "name": f"phantom{dims}",
        "description": "Finds masses in phantoms",
        "about": {"intended_use": "Tests.", "limits": ["Phantoms alone."], "changelog": "First version."},
        "task": "segmentation",
        "dims": dims,
        "data": {
            "type": "phantom",
            **{"size": size, "patch": size, "cases": {"train": 2, "val": 2, "test": 2}, "workers": 0},
            **{"objects": [1, 1], "diameter_mm": [5.0, 8.0], "distractors": [0, 0], "positive": 1.0},
        },
        "model": {
            "backbone": {"type": "conv_encoder", "widths": [4, 8]},
            "heads": {"mask": {"type": "unet", "classes": {1: "mass"}}},
        },
        "train": {"steps": 2, "validate_every": 1, "precision": "32"},
        **changes,
    }


def command(recipe, *options):
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    return main(["train", "recipe.yaml", *options])


@pytest.fixture
def flat_entry(at_work, monkeypatch):
    """``flat@1.0.0``: a 2-D entry, trained, measured and published by the command line."""
    monkeypatch.setattr("cphloc.tracking.tracker.push", lambda *_, **__: 0)
    assert command(phantom(2)) == 0
    assert main(["evaluate", "latest"]) == 0
    why = ["--because", "a test", "--below-baseline", "a test"]
    assert main(["publish", "latest", "--name", "flat", "--version", "1.0.0", "--to", "zoo", *why]) == 0
    monkeypatch.setenv("CPHLOC_ZOO", str(at_work / "zoo"))
    return at_work / "zoo/flat/1.0.0"


def test_a_2d_entry_starts_a_3d_model_by_the_command(flat_entry, capsys):
    recipe = phantom(3, **{"from": "flat@1.0.0", "freeze": ["backbone.*"]})
    assert command(recipe) == 0
    printed = capsys.readouterr().err
    assert "from flat@1.0.0: " in printed
    assert "adapted backbone" in printed
    assert "0 skipped" in printed
    entry = load(flat_entry, device="cpu").model.state_dict()
    tuned = checkpoint.load(Run.open("latest").folder / checkpoint.BEST)[0]
    kernels = [name for name, value in entry.items() if name.startswith("backbone.") and value.ndim == 4]
    assert kernels
    for name in kernels:
        assert torch.allclose(tuned[name].sum(dim=2), entry[name], atol=1e-5), "inflated, then frozen"


@pytest.fixture(scope="module")
def shipped():
    """The shipped entry; what starts from it has its backbone, however wide."""
    return load("unet3d-hippocampus", device="cpu")


@pytest.fixture(scope="module")
def backbone(shipped):
    return {"type": "conv_encoder", "widths": list(shipped.recipe.model.backbone.args["widths"])}


def test_the_shipped_entry_starts_a_model_of_other_classes_by_the_command(shipped, backbone, at_work, capsys):
    recipe = phantom(3, **{"from": "unet3d-hippocampus", "freeze": ["backbone.*"]})
    recipe["model"]["backbone"] = backbone
    assert command(recipe) == 0
    printed = capsys.readouterr().err
    changed = {line.split()[1].rstrip(":") for line in printed.splitlines() if line.startswith("  adapted")}
    assert {name for name in changed if name.startswith("heads.mask.score.")} == {
        f"heads.mask.score.{level}.{part}" for level in (0, 1) for part in ("weight", "bias")
    }
    assert "mass initialized anew, anterior, posterior left out" in printed
    assert "ct initialized anew, t1 left out" in printed
    entry = shipped.model.state_dict()
    tuned = checkpoint.load(Run.open("latest").folder / checkpoint.BEST)[0]
    same = [name for name in entry if name.startswith("backbone.") and name not in changed]
    assert same
    assert all(torch.equal(tuned[name], entry[name]) for name in same)


def test_the_shipped_entry_starts_a_model_of_more_channels(shipped, backbone):
    recipe = phantom(3)
    recipe["data"] = {"type": "sts_petct", "channels": ["ct", "pet"], "patch": [16, 16, 16]}
    recipe["model"] = {"backbone": backbone, "heads": {"mask": {"type": "unet", "classes": {1: "tumour"}}}}
    entry, wide = shipped.model, backbone["widths"][0]
    model = build(recipe)
    (name, how), *more = take_over(model, entry.state_dict(), "the entry").adapted.items()
    assert not more
    assert name.startswith("backbone.")
    assert how.startswith(f"({wide}, 1, 3, 3, 3) -> ({wide}, 2, 3, 3, 3)")
    x = torch.randn(1, 1, 16, 16, 16)
    both, one = model.backbone(x.expand(-1, 2, -1, -1, -1)), entry.backbone(x)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(both, one, strict=True))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"from": "unet3d-hipocampus"}, "did you mean 'unet3d-hippocampus'"),
        ({"freeze": ["bakbone.*"]}, "freeze: pattern 'bakbone.*' matches no parameter"),
        ({"freeze": ["*"]}, "leave at least one to train"),
        ({"train": {"best": "dise"}}, "train.best: no metric 'dise'; did you mean 'dice'"),
        ({"train": {"best": "ap50"}}, "for this model and its validation cases: asd_mm, dice"),
        ({"train": {"optimizer": {"type": "AdamW", "lr_scale": {"head.*": 0.1}}}}, "matches no parameter"),
        ({"data": {"type": "hippocampus", "root": "nowhere", "patch": [16, 16, 16]}}, "nowhere"),
    ],
)
def test_what_can_fail_fails_before_a_run_is_made(changes, text, at_work, capsys):
    recipe = phantom(3, **changes)
    if "data" in changes:
        recipe["model"]["heads"]["mask"]["classes"] = {1: "anterior", 2: "posterior"}
    assert command(recipe) == 2
    assert text in capsys.readouterr().err
    assert not list(at_work.glob("runs/*/*"))


def test_a_full_disk_is_found_out_before_a_run_is_made(at_work, monkeypatch, capsys):
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: usage)
    assert command(phantom(2)) == 1
    assert "free some space" in capsys.readouterr().err
    assert not list(at_work.glob("runs/*/*"))


def test_a_patch_that_no_stride_divides_trains(at_work):
    recipe = phantom(3)
    recipe["data"]["patch"] = [13, 15, 17]
    assert command(recipe) == 0


def test_layers_learn_at_their_own_rates_by_the_recipe(at_work, monkeypatch):
    """A step of plain gradient descent on the same batch moves a layer by so much as its rate says."""
    monkeypatch.setattr("cphloc.tracking.tracker.push", lambda *_, **__: 0)
    moved = {}
    for factor in (1.0, 0.1):
        optimizer = {"type": "SGD", "lr": 0.01, "lr_scale": {"backbone.*": factor}}
        train = {"steps": 1, "precision": "32", "optimizer": optimizer, "schedule": "constant"}
        assert command(phantom(2, train=train)) == 0
        moved[factor] = checkpoint.load(Run.open("latest").folder / checkpoint.BEST)[0]
    torch.manual_seed(0)
    start = build(phantom(2)).state_dict()
    for name, before in start.items():
        there = [
            (moved[factor][name] - before) * (1 / factor if name.startswith("backbone.") else 1) for factor in moved
        ]
        assert torch.allclose(*there, atol=1e-5), name
