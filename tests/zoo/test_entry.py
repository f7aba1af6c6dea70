from __future__ import annotations

import copy

import pytest

from cphloc.config import yamlio
from cphloc.errors import NotFoundError, RecipeError
from cphloc.zoo.entry import Entry
from cphloc.zoo.index import Row


def test_what_is_written_is_read_back(entry_facts, tmp_path):
    entry = Entry.model_validate(entry_facts("unet3d-ct", "1.2.0"))
    (tmp_path / "entry.yaml").write_text(entry.to_yaml())
    assert Entry.read(tmp_path / "entry.yaml") == entry
    assert entry.headline[0] == "dice"


def test_an_entry_may_list_100_000_test_cases(entry_facts, tmp_path):
    facts = entry_facts("unet3d-ct", "1.2.0")
    facts["evaluation"]["cases"] = [f"patient-{i:06d}-study-{i % 7}-series-0001" for i in range(100_000)]
    entry = Entry.model_validate(facts)
    (tmp_path / "entry.yaml").write_text(entry.to_yaml())
    assert Entry.read(tmp_path / "entry.yaml") == entry
    assert Row.of(entry, (tmp_path / "entry.yaml").read_bytes()).name == "unet3d-ct"


@pytest.mark.parametrize(("count", "size"), [(130_000, 1), (3, 3_000_000)])
def test_an_entry_beyond_its_limits_is_refused(entry_facts, tmp_path, count, size):
    facts = entry_facts("unet3d-ct", "1.2.0")
    facts["evaluation"]["cases"] = ["c" * size] * count
    with pytest.raises(RecipeError, match=r"more than (120,000 values|8,000,000 bytes)"):
        Entry.parse(yamlio.dump(facts).encode(), "entry.yaml")


def changed(facts, path, value):
    facts = copy.deepcopy(facts)
    inner = facts
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return facts


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("task",), ..., "task: missing"),
        (("dims",), 4, "dims: "),
        (("dims",), "3", "dims: "),
        (("name",), "Unet 3D", "name: "),
        (("version",), "1.2", "version: .*1.2.0"),
        (("version",), "01.2.0", "version: "),
        (("colour",), "red", "unknown key 'colour'"),
        (("data", "licence"), "", "data.licence: "),
        (("evaluation", "metrics"), {}, "evaluation.metrics: "),
        (("evaluation", "metrics", "dice", "low"), 0.9, "evaluation.metrics.dice: .*above its high"),
        (("evaluation", "metrics", "dice", "high"), ..., "evaluation.metrics.dice.high: missing"),
        (("evaluation", "metrics", "dice", "value"), None, "evaluation.metrics.dice: .*both null"),
        (("evaluation", "metrics", "dice", "value"), float("nan"), "evaluation.metrics.dice.value: "),
        (("weights", "file"), "model.pt", "weights: .*safetensors"),
        (("weights", "file"), None, "weights: .*at least one URL"),
        (("weights", "sha256"), "abc", "weights.sha256: "),
        (("weights", "urls"), ["ftp://x/y"], r"weights.urls\[0\]: "),
        (("files",), {}, "files must pin recipe.yaml"),
        (("files", "../../etc/passwd"), {"sha256": "0" * 64, "bytes": 1}, "inside the entry's folder"),
        (("files", "C:/x"), {"sha256": "0" * 64, "bytes": 1}, "inside the entry's folder"),
        (("spacing_mm",), [1.0, 1.0], "spacing_mm needs 3 numbers"),
        (("requires_cphloc",), "new", "requires_cphloc: "),
        (("limits",), [], "limits: "),
        (("intended_use",), "", "intended_use: "),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_key(entry_facts, tmp_path, path, value, says):
    file = tmp_path / "entry.yaml"
    file.write_text(yamlio.dump(changed(entry_facts("unet3d-ct", "1.2.0"), path, value)))
    with pytest.raises(RecipeError, match=says) as caught:
        Entry.read(file)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].where.startswith(f"{file}:")


def test_all_mistakes_at_once(entry_facts, tmp_path):
    facts = changed(changed(entry_facts("unet3d-ct", "1.2.0"), ("task",), ...), ("speed", "ms_per_case"), -1.0)
    (tmp_path / "entry.yaml").write_text(yamlio.dump(facts))
    with pytest.raises(RecipeError) as caught:
        Entry.read(tmp_path / "entry.yaml")
    assert len(caught.value.problems) == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"entry\.yaml"):
        Entry.read(tmp_path / "entry.yaml")
