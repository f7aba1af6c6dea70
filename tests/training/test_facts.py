import shutil

from cphloc.data.datasets.hippocampus import SAMPLE, Hippocampus
from cphloc.data.pipeline.pipeline import Pipeline
from cphloc.recipe.recipe import load
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
    (image,) = splits()["val"].cases[0].images
    content = bytearray(image.read_bytes())
    content[4] ^= 1  # the time stamp of gzip: same size and voxels, another file
    image.write_bytes(content)
    assert fingerprint(splits()) != before
    image.write_bytes(b"")
    (reason,) = facts_of(load("demo"), splits())["left_out"]["val"]
    assert str(image) in reason
