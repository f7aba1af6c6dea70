"""Every shipped kind of data set, in each of its channels, is prepared alike for training and for prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from cphloc.data.augment.warp import Warp
from cphloc.data.dataset import hashed_split, held_out
from cphloc.data.datasets.openkbp import ORGANS
from cphloc.data.pipeline.patches import cut
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.evaluation.validate import Validator
from cphloc.inference.localizer import Localizer
from cphloc.modeling.build import build_model
from cphloc.recipe.dataset import make_dataset
from cphloc.recipe.fields import Data
from cphloc.recipe.recipe import load
from cphloc.registry import catalogue
from cphloc.structures.padding import prediction_fill, training_fill

RNG = np.random.default_rng(0)
NAMES = [f"case_{number:03d}" for number in range(60)]
SPLIT = {NAMES[0]: "train", NAMES[1]: "val"}
HELD_OUT = [next(n for n in NAMES if held_out(n, 0.2) is wanted) for wanted in (False, True)]
HASHED = [next(n for n in NAMES if hashed_split(n, 0.15, 0.15) == wanted) for wanted in ("train", "val")]


def volume(path: Path, mask: bool = False) -> None:
    """A volume whose voxels are stored from right to left, with another spacing along every axis."""
    shape = (6, 20, 24)
    array = RNG.integers(-50, 150, shape).astype(np.int16)
    if mask:
        array = np.zeros(shape, np.uint8)
        array[2:4, 5:12, 6:14] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.0, 2.5))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def picture(path: Path, colours: int = 1, mask: bool = False) -> None:
    pixels = RNG.integers(0, 255, (20, 28, colours)).astype(np.uint8).squeeze()
    if mask:
        pixels = np.zeros((20, 28), np.uint8)
        pixels[4:12, 6:15] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def table(root: Path, head: str, rows) -> None:
    (root / "cases.csv").write_text("\n".join([head, *rows]) + "\n")


def of_voc(root: Path) -> None:
    for name, split in SPLIT.items():
        picture(root / "JPEGImages" / f"{name}.jpg", 3)
        (root / "Annotations").mkdir(exist_ok=True)
        box = "<bndbox><xmin>7</xmin><ymin>5</ymin><xmax>15</xmax><ymax>12</ymax></bndbox>"
        content = f"<annotation><object><name>RBC</name>{box}</object></annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(content)
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(name)


def of_coco(root: Path) -> None:
    (root / "annotations").mkdir()
    for name, split in SPLIT.items():
        picture(root / "images" / f"{name}.png", 3)
        box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [6, 4, 9, 8], "area": 72, "iscrowd": 0}
        content = {"images": [{"id": 7, "file_name": f"{name}.png", "width": 28, "height": 20}], "annotations": [box]}
        content |= {"categories": [{"id": 3, "name": "cell"}]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def of_yolo(root: Path) -> None:
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    for name, split in SPLIT.items():
        picture(root / "images" / split / f"{name}.png", 3)
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.3 0.4\n")


def of_nnunet(root: Path, ending: str, write) -> None:
    facts = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ending}
    (root / "dataset.json").write_text(json.dumps(facts))
    for name in HASHED:
        write(root / "labelsTr" / f"{name}{ending}", mask=True)
        for channel in ("0000", "0001"):
            write(root / "imagesTr" / f"{name}_{channel}{ending}")


def of_image_folder(root: Path, ending: str, write) -> None:
    for name in SPLIT:
        for kind in ("a", "b", "mask"):
            write(root / f"{name}_{kind}{ending}", mask=kind == "mask")
    rows = [f"{n}_a{ending},{n}_b{ending},{n}_mask{ending},{split}" for n, split in SPLIT.items()]
    table(root, "image_first,image_second,mask,split", rows)


def of_brain(root: Path) -> None:
    for name in SPLIT:
        picture(root / "images" / f"{name}.jpg")
        picture(root / "masks" / f"{name}.png", mask=True)
    table(root, "case,label,split,patient", [f"{name},glioma,{split},{name}" for name, split in SPLIT.items()])


def of_busi(root: Path) -> None:
    for name in SPLIT:
        picture(root / "images" / f"{name}.png")
        picture(root / "masks" / f"{name}.png", mask=True)
    rows = [f"{name},benign,1,{number},{split}" for number, (name, split) in enumerate(SPLIT.items())]
    table(root, "case,class,has_mask,duplicate_cluster,split", rows)


def of_openkbp(root: Path) -> None:
    for name in SPLIT:
        volume(root / "images" / f"{name}.nii.gz")
        volume(root / "labels" / f"{name}.nii.gz", mask=True)
    organs = " ".join(ORGANS.values())
    table(root, "case,split,contoured,doubtful", [f"{name},{split},{organs},larynx" for name, split in SPLIT.items()])


def of_hippocampus(root: Path) -> None:
    for name in SPLIT:
        volume(root / "images" / f"{name}.nii.gz")
        volume(root / "labels" / f"{name}.nii.gz", mask=True)
    table(root, "case,split", [f"{name},{split}" for name, split in SPLIT.items()])


def of_sarcoma(root: Path) -> None:
    for name in HELD_OUT:
        for kind in ("ct", "suv100", "gtv"):
            volume(root / f"{name}_{kind}.nii.gz", mask=kind == "gtv")
    table(root, "case,split", [f"{name},train" for name in HELD_OUT])


def of_luna(root: Path) -> None:
    for name in HELD_OUT:
        volume(root / "subset0" / f"{name}.mhd")
    rows = [f"{name},-15,-10,5,6" for name in HELD_OUT]
    (root / "annotations.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *rows]))


HEADS = {
    "mask": ("segmentation", "unet"),
    "boxes": ("detection", "centernet"),
    "attention": ("attention", "attention_pool"),
}
"""Task and type of head by what is predicted."""

BOTH = {"classes": ["lesion"], "channels": ["first", "second"]}
SETS = {
    "bccd": (of_voc, 2, "boxes", {}),
    "voc": (of_voc, 2, "boxes", {}),
    "coco": (of_coco, 2, "boxes", {}),
    "yolo": (of_yolo, 2, "boxes", {}),
    "brain_t1c": (of_brain, 2, "mask", {}),
    "busi all": (of_busi, 2, "mask", {"masks": "all"}),
    "busi marked": (of_busi, 2, "attention", {"masks": "marked"}),
    "openkbp": (of_openkbp, 3, "mask", {}),
    "hippocampus": (of_hippocampus, 3, "mask", {}),
    "sts_petct both": (of_sarcoma, 3, "mask", {}),
    "sts_petct ct": (of_sarcoma, 3, "attention", {"channels": ["ct"]}),
    "sts_petct pet": (of_sarcoma, 3, "boxes", {"channels": ["pet"]}),
    "luna16": (of_luna, 3, "boxes", {}),
    "nnunet 2-D": (lambda root: of_nnunet(root, ".png", picture), 2, "mask", {"channels": ["t1", "t2"]}),
    "nnunet 3-D": (lambda root: of_nnunet(root, ".nii.gz", volume), 3, "mask", {"channels": ["t1", "t2"]}),
    "image_folder 2-D": (lambda root: of_image_folder(root, ".png", picture), 2, "mask", BOTH),
    "image_folder 3-D": (lambda root: of_image_folder(root, ".nii.gz", volume), 3, "mask", BOTH),
}


def test_every_kind_of_data_set_is_compared():
    compared = {name.partition(" ")[0] for name in SETS} | {"phantom", "phantom_pair"}  # in test_same_preprocessing
    assert compared == set(catalogue.cards("dataset"))


@pytest.mark.parametrize("pad", ["zero", "edge"])
@pytest.mark.parametrize("name", SETS)
def test_training_validation_and_prediction_see_one_tensor(name, pad, tmp_path, seen_by):
    write, dims, head, arguments = SETS[name]
    write(tmp_path)
    data = {"type": name.partition(" ")[0], "root": str(tmp_path), "patch": [24, 32] if dims == 2 else [8, 32, 32]}
    data |= {"pad": pad, "workers": 0, "spacing_mm": [2.0, 1.2, 1.2] if dims == 3 else None} | arguments
    task, kind = HEADS[head]
    classes = make_dataset(Data.model_validate(data), dims).classes
    model = {"backbone": {"type": "conv_encoder", "widths": [4, 8]}}
    model |= {"heads": {head: {"type": kind, "classes": dict(classes)}}}
    recipe = load({"task": task, "dims": dims, "data": data, "model": model})
    pipeline = Pipeline.from_recipe(recipe)
    network = build_model(recipe).eval()
    (listed,), (case,) = pipeline.listed("val"), pipeline.cases("val")
    fill = training_fill(pipeline.pad)
    trained, _ = cut(case, (0,) * dims, pipeline.patch, Warp.identity(dims), fill)
    validator = Validator(pipeline.cases("val"), {}, pipeline.patch, prediction_fill(pipeline.pad))
    localizer = Localizer(network, recipe)
    localizer.preprocess = pipeline.preprocess
    files = listed.images
    source = str(files[0]) if len(files) == 1 else dict(zip(recipe.channels, map(str, files), strict=True))
    assert (np.subtract(pipeline.patch, case.image.shape[1:]) > 0).any()
    assert trained.shape[0] == len(recipe.channels)
    assert trained.std() > 0
    np.testing.assert_allclose(seen_by(network, lambda: validator.predict(network, case)), trained, atol=1e-6)
    predicted = seen_by(network, lambda: localizer.predict(source))
    np.testing.assert_allclose(predicted, trained, atol=1e-5)
