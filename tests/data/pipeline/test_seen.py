"""What a run was trained on is known by the contents of the files, not by names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cphloc.data.annotation_source import AnnotationSource
from cphloc.data.case import Case
from cphloc.data.fingerprint import content_hash, image_hashes
from cphloc.data.pipeline.seen import FILE, SeenCase, SeenData
from cphloc.errors import DataError


def case(folder, id, seed, patient=None):
    folder.mkdir(exist_ok=True)
    path = folder / f"{id}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    return Case(id, patient or id, (path,), AnnotationSource(label=(1.0,)))


def seen_of(**splits):
    facts = {
        split: {c.id: SeenCase(c.patient, content_hash(c), image_hashes(c)) for c in cases}
        for split, cases in splits.items()
    }
    return SeenData(facts, {split: [] for split in splits})


@pytest.fixture
def seen(tmp_path):
    train, val = [case(tmp_path, "a", 1), case(tmp_path, "b", 2, "p")], [case(tmp_path, "c", 3)]
    return seen_of(train=train, val=val)


def test_it_is_read_as_it_was_written(seen, tmp_path):
    seen.write(tmp_path)
    again = SeenData.read(tmp_path)
    assert again.changes({"train": {"a": "x"}}) == seen.changes({"train": {"a": "x"}})
    assert SeenData.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("id", "seed", "patient", "leaks"),
    [("new", 9, None, 0), ("a", 9, None, 1), ("renamed", 1, None, 1), ("other", 9, "p", 1), ("selected", 3, None, 1)],
)
def test_a_test_case_that_was_used_is_found_by_name_patient_or_image(seen, tmp_path, id, seed, patient, leaks):
    found = seen.leaks([case(tmp_path / "now", id, seed, patient)], "test")
    assert len(found) == leaks


def test_names_in_another_data_set_mean_nothing(seen, tmp_path):
    assert seen.leaks([case(tmp_path / "now", "a", 9)], "test", own=False) == []
    assert len(seen.leaks([case(tmp_path / "now", "z", 1)], "test", own=False)) == 1


def test_validation_cases_may_be_evaluated_as_such(seen, tmp_path):
    assert seen.leaks([case(tmp_path / "now", "c", 3)], "val") == []


def test_cases_that_an_earlier_model_has_seen_are_found_by_their_images_also_when_published(seen, tmp_path):
    own = seen_of(train=[case(tmp_path / "own", "x", 7)], val=[])
    tuned = own.inheriting([seen, seen_of(train=[], val=[])])
    again = seen_of(train=[]).inheriting([tuned])
    tuned.without_names().write(tmp_path)
    now = [case(tmp_path / "now", id, seed) for id, seed in (("r", 1), ("s", 3), ("x", 7), ("a", 9))]
    for found in (tuned, again, SeenData.parse(tmp_path / FILE)):
        trained, validated = found.leaks(now, "test", own=False)
        assert "2 of 4 test cases (or their patients) were in train" in trained
        assert trained.endswith("a model that its weights come from, was trained: r, x")
        assert validated.endswith(": s")
        assert found.leaks([now[3]], "test", own=False) == []
        assert len(found.leaks(now, "val", own=False)) == 1, "validation cases may have been validation cases"


def test_changed_lost_and_new_cases_are_listed(seen):
    train = {id: of.content for id, of in seen.cases["train"].items()}
    val = {id: of.content for id, of in seen.cases["val"].items()}
    assert seen.changes({"train": train, "val": val}) == []
    assert seen.changes({"train": {**train, "a": "other"}, "val": val}) == ["1 train cases have changed: a"]
    assert seen.changes({"train": {"a": train["a"], "d": "x"}, "val": val}) == [
        "1 train cases are no longer in it: b",
        "1 train cases are new in it: d",
    ]


def test_without_names_nothing_but_contents_is_kept_and_changes_are_still_found(tmp_path):
    cases = {"ann": SeenCase("Ann A", "b" * 64, ["c" * 64]), "bob": SeenCase("Bob B", "a" * 64, ["d" * 64])}
    seen = SeenData({"train": cases, "test": {"cy": SeenCase("Cy C", "e" * 64, [])}}, {"train": ["dan"], "test": []})
    seen.without_names().write(tmp_path)
    text = (tmp_path / FILE).read_text()
    assert not any(name in text for name in ("ann", "Ann", "bob", "Bob", "cy", "Cy", "dan"))
    published = SeenData.parse(tmp_path / FILE)
    assert published == published.without_names(), "the order of the cases reveals no name"
    same = {"train": {"x": "a" * 64, "y": "b" * 64, "unusable": "z"}, "test": {"t": "e" * 64}}
    assert published.changed_contents(same) == []
    assert published.changed_contents({"test": same["test"]}) == [], "training data need not be at hand"
    changed = {"train": {"x": "a" * 64, "y": "f" * 64, "u": "z"}, "test": {"t": "e" * 64, "new": "g"}}
    assert published.changed_contents(changed) == [
        "1 of 2 train cases have changed or are gone",
        "1 test cases are new",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"cases": {}, "unused": {}, "inherited": {"train": [1]}}',
        '{"cases": {"train": {"1": {"patient": "", "content": [], "images": []}}}}',
    ],
)
def test_a_damaged_file_of_an_entry_is_one_clear_error(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match=r"data\.json: is damaged"):
        SeenData.parse(tmp_path / FILE)
