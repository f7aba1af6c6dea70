import shutil

import numpy as np
import pytest

from cphloc.data.case import read_case
from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.recipe.recipe import load
from cphloc.structures.fingerprint import Fingerprint
from cphloc.training.facts import facts_of, fingerprint


def test_a_run_keeps_what_it_left_out_and_a_hash_of_what_it_saw(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(SAMPLE, tmp_path / "hippocampus")

    def splits():
        pipeline = Pipeline(Hippocampus(str(folder)), (16, 16, 16), workers=0, skip_bad=True)
        return {"val": pipeline.cases("val")}

    assert facts_of(load("demo"), splits())["left_out"] == {}
    before = fingerprint(splits())
    moved = shutil.copytree(folder, tmp_path / "moved")
    elsewhere = Pipeline(Hippocampus(str(moved)), (16, 16, 16), workers=0).cases("val")
    assert fingerprint({"val": elsewhere}) == before
    train = splits()["val"]
    known = Fingerprint.model_validate(facts_of(load("demo"), {"train": train})["training_images"])
    volumes = [read_case(case, 3)[0] for case in train.cases]
    highest = [float(np.percentile(volume.array, 99.5)) for volume in volumes]
    assert (known.cases, known.unit) == (len(volumes), "mm")
    assert known.channels["t1"].high.largest == pytest.approx(max(highest))
    canonical = [volume.geometry.reoriented(*volume.geometry.canonical()) for volume in volumes]
    slices = [grid.shape[0] * grid.spacing_mm[0] for grid in canonical]
    assert (known.extent[0].least, known.extent[0].largest) == pytest.approx((min(slices), max(slices)))
    (image,) = splits()["val"].cases[0].images
    content = bytearray(image.read_bytes())
    content[4] ^= 1  # the time stamp of gzip: same size and voxels, another file
    image.write_bytes(content)
    assert fingerprint(splits()) != before
    image.write_bytes(b"")
    (reason,) = facts_of(load("demo"), splits())["left_out"]["val"]
    assert str(image) in reason
