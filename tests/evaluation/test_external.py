"""Folders of test cases from elsewhere: a model measures images and masks that no table lists."""

from __future__ import annotations

import numpy as np
import pytest

from cphloc.data.fingerprint import image_hashes
from cphloc.data.pipeline.seen import SeenCase, SeenData
from cphloc.errors import NotFoundError
from cphloc.evaluation.evaluate import evaluate
from cphloc.evaluation.external import open_external
from cphloc.recipe.fields import Data
from cphloc.structures.split import SPLITS

both = pytest.mark.parametrize("dims", [2, 3])


@pytest.fixture
def of_another_data_set(hand_made, tmp_path):
    """A model of a shipped data set, and a folder of images and masks that has not its layout."""

    def make(dims):
        truth = np.zeros((8,) * dims, np.uint8)
        truth[(slice(0, 4),) * dims] = 1
        shifted = np.roll(truth, 1, axis=0)
        cases = [("exact", truth, truth), ("shifted", shifted, truth)]
        rows = [{"case": n, "split": "test", "image": i.astype(np.float32), "mask": m} for n, i, m in cases]
        localizer = hand_made(rows, ("mask_probabilities",))
        stated = {"type": {2: "busi", 3: "hippocampus"}[dims], "patch": localizer.recipe.data.patch}
        data = Data.model_validate({**stated, "intensity": "none", "channels": ["image"]})
        localizer.recipe = localizer.recipe.model_copy(update={"data": data})
        (tmp_path / "data" / "cases.csv").unlink()
        return localizer, tmp_path / "data"

    return make


@both
def test_images_and_masks_of_the_same_names_are_test_cases(of_another_data_set, dims):
    localizer, folder = of_another_data_set(dims)
    done = evaluate(localizer, root=str(folder))
    scores = {row["case"]: row["dice"] for row in done.rows}
    assert set(scores) == {"exact-image", "shifted-image"}
    assert scores["exact-image"] == 1
    assert scores["shifted-image"] == pytest.approx(0.75)  # three of four rows overlap


def test_the_folders_of_splits_are_kept(of_another_data_set):
    localizer, folder = of_another_data_set(2)
    for split, case in (("train", "exact"), ("test", "shifted")):
        (folder / split).mkdir()
        for kind in ("image", "mask"):
            (folder / f"{case}-{kind}.npy").rename(folder / split / f"{case}-{kind}.npy")
    assert [row["case"] for row in evaluate(localizer, root=str(folder)).rows] == ["shifted-image"]


def test_a_folder_without_masks_is_refused_with_what_to_do(of_another_data_set):
    localizer, folder = of_another_data_set(2)
    for mask in folder.glob("*mask*"):
        mask.unlink()
    with pytest.raises(NotFoundError, match=r"contains 2 images and no annotation; .* cphloc data template"):
        evaluate(localizer, root=str(folder))
    with pytest.raises(NotFoundError, match="cphloc data template"):
        evaluate(localizer, root=str(folder / "nowhere"))


def test_images_of_other_channels_are_refused(of_another_data_set):
    localizer, folder = of_another_data_set(2)
    for case in ("exact", "shifted"):
        (folder / case).mkdir()
        (folder / f"{case}-mask.npy").rename(folder / case / "mask.npy")
        image = (folder / f"{case}-image.npy").rename(folder / case / "t1.npy")
        (folder / case / "t2.npy").write_bytes(image.read_bytes())
    with pytest.raises(NotFoundError, match="no image for channels image; found image_t1, image_t2"):
        evaluate(localizer, root=str(folder))


@both
def test_a_table_without_splits_is_all_test_unless_the_model_was_trained_on_it(hand_made, tmp_path, dims):
    truth = np.zeros((8,) * dims, np.uint8)
    truth[(slice(0, 4),) * dims] = 1
    images = [truth + np.float32(n) for n in range(12)]
    rows = [{"case": f"c{n}", "split": "test", "image": image, "mask": truth} for n, image in enumerate(images)]
    localizer = hand_made(rows, ("mask_probabilities",))
    table = tmp_path / "data" / "cases.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    at = lines[0].index("split")
    table.write_text("\n".join(",".join(line[:at] + line[at + 1 :]) for line in lines) + "\n")
    root = str(table.parent)
    every = open_external(localizer, root, SeenData({"train": {}}, {"train": []}))
    assert len(every.cases("test")) == 12
    one = every.cases("test")[0]
    seen = SeenData({"train": {"x": SeenCase("x", "", image_hashes(one))}}, {"train": []})
    own = open_external(localizer, root, seen)
    assert sum(len(own.cases(split)) for split in SPLITS) == 12
    assert len(own.cases("test")) < 12
