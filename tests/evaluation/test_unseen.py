"""An entry knows the cases that it was trained and evaluated on, by their contents."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cphloc import paths
from cphloc.config import yamlio
from cphloc.data.annotation_source import AnnotationSource
from cphloc.data.case import Case
from cphloc.data.fingerprint import content_hash, image_hashes
from cphloc.data.pipeline.seen import SeenCase, SeenData
from cphloc.errors import DataError
from cphloc.evaluation.unseen import check_unseen, published_data
from cphloc.zoo.entries import find_entry
from cphloc.zoo.entry import File

NAMES = {"train": ("a", "b"), "val": ("c", "d"), "test": ("e", "f")}


def dataset(folder):
    """Two cases a split, each an image file of its own with a label."""

    def cases(split):
        return [
            Case(n, f"Patient {n}", (folder / f"{n}.png",), AnnotationSource(label=LABELS[n])) for n in NAMES[split]
        ]

    return SimpleNamespace(cases=cases)


LABELS = dict.fromkeys("abcdef", (1.0,))


@pytest.fixture
def entry(published, tmp_path):
    """An entry that was trained on the data set in ``tmp_path / "data"``."""
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(LABELS):
        pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{name}.png")
    cases = dataset(tmp_path / "data")
    seen = {
        split: {case.id: SeenCase(case.patient, content_hash(case), image_hashes(case)) for case in cases.cases(split)}
        for split in ("train", "val", "test")
    }
    SeenData(seen, {}).without_names().write(published)
    plain = yamlio.load(published / "entry.yaml").plain
    plain["files"]["data.json"] = File.of(published / "data.json").model_dump()
    (published / "entry.yaml").write_text(yamlio.dump(plain))
    return find_entry(published)


def test_the_same_data_pass_in_silence(entry, tmp_path, caplog):
    check_unseen(entry, dataset(tmp_path / "data"), "test", True)
    assert caplog.text == ""
    assert "Patient" not in (entry.place / "data.json").read_text()


def test_what_a_model_shares_with_those_before_it_is_published_once():
    seen = SeenData({"train": {"a": SeenCase("p", "content", ["1", "2"])}}, {}, {"train": ["2", "3"], "val": ["4"]})
    published = seen.without_names()
    assert published.inherited == {"train": ["3"], "val": ["4"]}
    assert published.images("train") == seen.images("train") == {"1", "2", "3"}


def test_a_changed_annotation_of_a_test_case_is_reported(entry, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(LABELS, "f", (0.0,))
    check_unseen(entry, dataset(tmp_path / "data"), "test", True)
    assert "has changed since the publication: 1 of 2 test cases have changed or are gone" in caplog.text


def test_a_training_image_under_another_name_is_refused(entry, tmp_path):
    shutil.copy(tmp_path / "data" / "a.png", tmp_path / "data" / "e.png")
    with pytest.raises(DataError, match=r"1 of 2 test cases .* were in train when"):
        check_unseen(entry, dataset(tmp_path / "data"), "test", False)


def test_hashes_that_are_not_those_published_are_refused(entry):
    plain = json.loads((entry.place / "data.json").read_text())
    plain["cases"]["train"] = {}
    (entry.place / "data.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=r"data\.json: .* (was|were) published"):
        published_data(entry)


def test_an_earlier_entry_has_none():
    assert published_data(find_entry("unet3d-ct@0.1.0", [str(paths.shipped("zoo"))])) is None
