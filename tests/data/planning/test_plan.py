import itertools
import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

from cphloc import paths
from cphloc.cli import main
from cphloc.config import yamlio
from cphloc.data.case import read_case
from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.datasets.image_folder import ImageFolder
from cphloc.data.datasets.nnunet import NnUnet
from cphloc.data.datasets.phantom import PhantomCases
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.data.planning.plan import Budget, plan
from cphloc.data.planning.presets import PRESETS
from cphloc.data.planning.survey import survey
from cphloc.errors import InputError, RecipeError
from cphloc.modeling.build import build_model, check
from cphloc.modeling.describe import describe
from cphloc.recipe.recipe import load
from cphloc.training.optim import build_optimizer
from cphloc.training.settings import Settings


def _phantom(size=(96, 96), **arguments):
    return PhantomCases(size, cases={"train": 24, "val": 0, "test": 0}, diameter_mm=(8, 16), **arguments)


def test_plans_the_published_patch_for_the_hippocampus():
    planned = plan(survey(Hippocampus("sample")), "hippocampus", {"root": "sample"})
    recipe = yaml.safe_load(planned.recipe)
    assert recipe["task"] == "segmentation"
    assert recipe["data"]["root"] == "sample"
    assert recipe["data"]["spacing_mm"] == [1, 1, 1]
    assert recipe["data"]["intensity"] == "zscore"
    assert recipe["model"]["heads"]["mask"]["classes"] == {1: "anterior", 2: "posterior"}
    assert planned.topology.pools == (3, 3, 3)
    assert "training cases of hippocampus:" in planned.recipe


@pytest.mark.parametrize(
    ("annotated", "task", "heads", "whole"),
    [
        ({"mask": 1.0}, "localization", ["mask", "finding"], False),
        ({"boxes": 0.9, "mask": 0.3}, "localization", ["mask", "boxes", "finding"], False),
        ({"boxes": 0.2}, "detection", ["boxes", "finding"], True),
        ({"region": 0.5}, "classification", ["finding"], True),
        ({"mask": 0.0}, "classification", ["finding"], True),
    ],
)
def test_every_rung_that_is_annotated_gets_a_head(annotated, task, heads, whole):
    planned = plan(survey(_phantom(annotated=annotated, objects=(3, 3), positive=1)), "phantom", {})
    recipe = yaml.safe_load(planned.recipe)
    assert recipe["task"] == task
    assert list(recipe["model"]["heads"]) == heads
    assert (recipe["data"].get("fit") == "whole") == whole


@pytest.mark.parametrize("size", [(48, 48), (16, 48, 48)])
@pytest.mark.parametrize(
    ("objects", "annotated", "merged"), [(1, "mask", True), (6, "mask", False), (1, "boxes", False)]
)
def test_a_mask_of_images_with_one_class_each_leaves_the_class_to_the_label_head(size, objects, annotated, merged):
    arguments = {"size": size, "sides": True, "objects": (objects, objects), "diameter_mm": (4, 6), "positive": 0.8}
    found = survey(PhantomCases(**arguments, annotated={annotated: 1.0}, cases={"train": 12, "val": 0, "test": 0}))
    recipe = load(yamlio.read(plan(found, "phantom", {"size": list(size), "sides": True}).recipe, "planned.yaml"))
    model = build_model(recipe)
    assert check(recipe) == []
    assert set(model.mergings) == ({"mask"} if merged else set())
    assert model.heads["finding"].classes == found.dataset.classes
    if merged:
        assert model.mergings["mask"].members == {1: found.dataset.classes}


@pytest.mark.parametrize(("size", "preset"), [((64, 64), "unet"), ((64, 64), "pretrained"), ((16, 48, 48), "unet")])
def test_the_foreground_begins_as_probable_as_in_the_data(size, preset):
    data = PhantomCases(size, cases={"train": 12, "val": 0, "test": 0}, diameter_mm=(8, 16))
    found, arguments = survey(data), {"size": list(size)}
    recipe = yaml.safe_load(plan(found, "phantom", arguments, Budget(preset=preset)).recipe)
    assert recipe["data"]["patch"] == list(size)  # so that a patch has the foreground of an image
    share = np.mean([(read_case(case, len(size))[1].mask > 0).mean() for case in data.cases("train")])
    assert recipe["model"]["heads"]["mask"]["prior"] == pytest.approx(share, rel=0.05)
    recipe["model"]["backbone"].pop("weights", None)  # a package that is not installed here
    bias = build_model(load(recipe)).heads["mask"].score[0].bias
    assert bias.softmax(0)[1:].sum().item() == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("preset", ["resenc", "resenc-m"])
def test_every_preset_keeps_to_its_memory_and_builds(preset):
    found = survey(_phantom((512, 512)))
    budget = Budget(preset=preset, voxels=None)
    planned = plan(found, "phantom", {"size": [512, 512]}, budget)
    recipe = load(yamlio.read(planned.recipe, "planned.yaml"))
    assert check(recipe) == []
    assert recipe.model.backbone.type == PRESETS[preset].backbone
    memory = describe(recipe).activation_mb * planned.batch / 1000
    limit = PRESETS[preset].memory_gb or 4
    assert memory < limit


def test_a_pretrained_network_keeps_its_own_stages():
    found = survey(_phantom((200, 300)))
    planned = plan(found, "phantom", {"size": [200, 300]}, Budget(preset="pretrained"))
    recipe = yaml.safe_load(planned.recipe)
    del recipe["model"]["backbone"]["weights"]  # a package that is not installed here
    recipe = load(recipe)
    assert check(recipe) == []
    assert all(size % 32 == 0 for size in planned.topology.patch)
    levels = build_model(recipe).backbone.levels
    strides = np.cumprod(planned.topology.strides, axis=0)
    assert [level.stride for level in levels] == [tuple(stride) for stride in strides.tolist()]
    assert describe(recipe).activation_mb * planned.batch < 4000
    optimizer = build_optimizer(build_model(recipe), **Settings.from_recipe(recipe).optimizer)
    assert {group["base_lr"] for group in optimizer.param_groups} == {
        0.0005,
        0.002,
    }  # encoder, and what begins at random


def test_a_pretrained_network_is_refused_in_3d():
    with pytest.raises(InputError, match="preset 'pretrained' is for 2-D images, and those of 'hippocampus' are 3-D"):
        plan(survey(Hippocampus("sample")), "hippocampus", {"root": "sample"}, Budget(preset="pretrained"))


def test_anchors_are_as_large_as_the_boxes():
    found = survey(_phantom((192, 192), objects=(6, 6), positive=1, annotated={"boxes": 1.0}, distractors=(0, 0)))
    recipe = yaml.safe_load(plan(found, "phantom", {}, Budget(voxels=2000)).recipe)
    anchors = np.array(recipe["model"]["heads"]["boxes"]["anchors"])
    strides = recipe["model"]["backbone"]["strides"]
    assert anchors.shape == (len(strides) - 2, 3, 2)
    assert 6 <= anchors.min() <= anchors.max() <= 17
    assert (np.diff(np.log(anchors).sum(axis=2).ravel()) >= -0.05).all()


def _mirrored(recipe):
    """Axes along which a recipe mirrors, counted from the last as -1."""
    flips = [block for block in recipe["data"]["augment"] if block["type"] == "Flip"]
    return sorted(a if a < 0 else a - recipe["dims"] for flip in flips for a in flip["axes"])


def test_sides_are_not_mirrored_and_ct_is_seen():
    recipe = yaml.safe_load(plan(survey(_phantom(sides=True)), "phantom", {"sides": True}).recipe)
    assert _mirrored(recipe) == []
    assert recipe["data"]["intensity"] == "ct"
    assert recipe["data"]["sides"] is True


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("liver", "tumour"), [-1]),
        (("kidney_left", "liver"), []),
        (("Lung_R", "Lung_L"), []),
        (("class_1", "class_2"), []),
    ],
)
def test_class_names_with_sides_are_not_mirrored_in_any_data_set(tmp_path, dims, names, axes):
    root = nnunet_folder(tmp_path / "scans", dims)
    facts = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, **{n: k for k, n in enumerate(names, 1)}},
    }
    (root / "dataset.json").write_text(json.dumps(facts))
    recipe = yaml.safe_load(plan(survey(NnUnet(str(root), dims=dims)), "nnunet", {}).recipe)
    assert _mirrored(recipe) == axes


def test_command_writes_a_recipe_once(tmp_path, capsys):
    out = tmp_path / "mine.yaml"
    assert main(["plan", "hippocampus", "--no-measure", "--set", "root=sample", "--out", str(out)]) == 0
    assert yaml.safe_load(out.read_text())["data"]["root"] == "sample"
    assert main(["plan", "hippocampus", "--no-measure", "--set", "root=sample", "--out", str(out)]) == 2
    assert f"{out}: exists" in capsys.readouterr().err
    assert main(["plan", str(tmp_path)]) == 2
    assert "contains no image" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "systems"])
def test_a_recipe_written_among_the_shipped_ones_leads_editors_to_the_schema(tmp_path, monkeypatch, below):
    shipped = paths.shipped
    monkeypatch.setattr(paths, "shipped", lambda folder: tmp_path if folder == "recipes" else shipped(folder))
    (tmp_path / below).mkdir(exist_ok=True)
    out = tmp_path / below / "mine.yaml"
    assert main(["plan", "hippocampus", "--no-measure", "--set", "root=sample", "--out", str(out)]) == 0
    pointer = out.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (out.parent / pointer).resolve() == (tmp_path / "recipe.schema.json").resolve()


def nnunet_folder(root, dims):
    """Four cases of two channels in the layout of nnU-Net."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    shape = {2: (40, 36), 3: (20, 40, 36)}[dims]
    mask = np.zeros(shape, np.uint8)
    mask[..., 10:20, 10:20], mask[..., 24:30, 24:30] = 1, 2
    files = {f"labelsTr/case_{i}.nii.gz": mask for i in range(4)}
    files |= {f"imagesTr/case_{i}_{c:04d}.nii.gz": mask.astype(np.float32) for i in range(4) for c in range(2)}
    for name, array in files.items():
        sitk.WriteImage(sitk.GetImageFromArray(array), str(root / name))
    facts = {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
    (root / "dataset.json").write_text(json.dumps(facts))
    return root


@pytest.mark.parametrize("dims", [2, 3])
def test_a_planned_recipe_of_your_own_data_passes_every_check(tmp_path, dims):
    out = tmp_path / "mine.yaml"
    folder = nnunet_folder(tmp_path / "scans", dims)
    assert main(["plan", str(folder), "--no-measure", "--dims", str(dims), "--out", str(out)]) == 0
    recipe = load(out)
    assert (recipe.channels, recipe.dims) == (("ct", "pet"), dims)
    assert check(recipe) == []
    out.write_text("".join(line for line in out.open() if not line.startswith("  channels:")))
    with pytest.raises(RecipeError, match=r"data.channels: the channels of the images .* add channels: \[...\]"):
        load(out)


def coco_folder(root):
    """Pictures with two classes of boxes."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, number in (("train", 4), ("val", 1), ("test", 1)):
        images = [{"id": i, "file_name": f"{split}{i}.png", "width": 64, "height": 48} for i in range(number)]
        boxes = [[4 + 9 * k, 5, 6 + k % 3, 8 + k % 4] for k in range(6)]
        found = [
            {"id": 10 * i + k, "image_id": i, "category_id": 1 + k % 2, "bbox": box}
            for i in range(number)
            for k, box in enumerate(boxes)
        ]
        for image in images:
            colours = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(root / "images" / image["file_name"]))
        categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "white"}]
        content = {"images": images, "annotations": found, "categories": categories}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return [str(root)]


def voc_folder(root):
    """Four pictures of one class of boxes."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    splits = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>20</xmax><ymax>24</ymax></bndbox>"
    for split, names in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
        for name in names:
            colours = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(root / f"JPEGImages/{name}.png"))
            xml = f"<annotation><object><name>cell</name>{box}</object></annotation>"
            (root / f"Annotations/{name}.xml").write_text(xml)
    return [str(root)]


def table_folder(root):
    """Pictures with a mask each."""
    root.mkdir()
    rows = ["image,mask,split"]
    for i, split in enumerate(("train", "train", "val", "test")):
        mask = np.zeros((40, 50), np.uint8)
        mask[10:20, 12:30] = 1
        for name, array in ((f"image{i}.png", mask * 90), (f"mask{i}.png", mask)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(root / name))
        rows.append(f"image{i}.png,mask{i}.png,{split}")
    (root / "cases.csv").write_text("\n".join(rows))
    return [str(root), "--dims", "2", "--set", "classes=[cyst]"]


def lung_folder(root):
    """Ten series with a nodule each, in the layout of LUNA16."""
    rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    for i in range(10):
        (root / f"subset{i}").mkdir(parents=True)
        lung = sitk.GetImageFromArray(np.full((16, 32, 32), -800, np.int16))
        lung.SetSpacing((0.8, 0.8, 2.0))
        sitk.WriteImage(lung, str(root / f"subset{i}/{i}.mhd"))
        rows.append(f"{i},12.0,12.0,16.0,7.0")
    (root / "annotations.csv").write_text("\n".join(rows))
    return [str(root)]


def hippocampus(root):
    """The shipped cases."""
    return ["hippocampus", "--set", "root=sample"]


@pytest.mark.parametrize("make", [hippocampus, voc_folder, coco_folder, table_folder, lung_folder])
def test_a_plan_shows_its_fingerprint_passes_check_and_trains_two_steps(tmp_path, capsys, make):
    out = tmp_path / "mine.yaml"
    arguments = make(tmp_path / "data")
    assert main(["plan", *arguments, "--no-measure", "--voxels", "4000", "--width", "4", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for word in ("cases", "size", "spacing", "intensity", "annotated", "objects", "object"):
        assert re.search(rf"^{word} +\S", shown, re.MULTILINE)
        assert re.search(rf"^# {word} +\S", out.read_text(), re.MULTILINE)
    recipe = load(out, {"data.workers": 0})
    assert check(recipe) == []
    model, batches = build_model(recipe), Pipeline.from_recipe(recipe).batches(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for batch in itertools.islice(batches, 2):
        loss = sum(model.loss(model.outputs(batch.image), batch.targets).values())
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_fingerprint_is_ready_for_programs(capsys):
    assert main(["plan", "hippocampus", "--no-measure", "--set", "root=sample", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["fingerprint"]
    cases = Hippocampus("sample").cases("train")
    shapes = np.array([read_case(case)[0].geometry.shape for case in cases])
    assert found["size"] == {
        "least": shapes.min(axis=0).tolist(),
        "median": np.median(shapes, axis=0).tolist(),
        "largest": shapes.max(axis=0).tolist(),
    }
    assert found["spacing"]["median"] == [1, 1, 1]
    assert (found["annotated"], found["problems"]) == ({"mask": len(cases)}, [])
    assert set(found["objects"]) == {"anterior", "posterior"}
    assert found["intensity"]["t1"]["0.5%"] < found["intensity"]["t1"]["50%"] < found["intensity"]["t1"]["99.5%"]


def test_a_folder_called_like_a_data_set_is_that_data_set(tmp_path):
    out = tmp_path / "mine.yaml"
    assert main(["plan", str(SAMPLE), "--no-measure", "--out", str(out)]) == 0
    assert load(out).data.type == "hippocampus"


@pytest.mark.parametrize("sized", [4, 2, 0, 6])
def test_pictures_without_a_size_among_others_are_said(tmp_path, sized):
    """NumPy arrays state no voxel size; of six images, ``sized`` are MetaImage with 0.5 mm."""
    rows = ["image,label,split"]
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 99, (40, 48)).astype(np.int16)
        if k < sized:
            image = sitk.GetImageFromArray(pixels)
            image.SetSpacing((0.5, 0.5))
            sitk.WriteImage(image, str(tmp_path / f"i{k}.mha"))
        else:
            np.save(tmp_path / f"i{k}.npy", pixels)
        rows.append(f"i{k}.{'mha' if k < sized else 'npy'},object,train")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    surveyed = survey(ImageFolder(str(tmp_path), dims=2))
    planned = plan(surveyed, "image_folder", {"root": str(tmp_path)})
    assert planned.spacing_mm == (None if sized < 3 else (0.5, 0.5))
    assert len(surveyed.cases) == (4 if sized == 4 else 6)
    mixed = [f"{6 - sized} of 6 cases state no voxel size (i{sized}"] if 0 < sized < 6 else []
    assert [remark[: len(mixed[0])] for remark in surveyed.remarks] == mixed
    assert ("of 6 cases state no voxel size" in planned.recipe) == bool(mixed)
