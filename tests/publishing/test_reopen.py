"""The weights of an entry are measured again and published anew."""

from __future__ import annotations

import json
import warnings

import pytest
import yaml
from safetensors.numpy import load_file

from cphloc.cli import main
from cphloc.errors import DataError, InputError
from cphloc.evaluation.evaluate import evaluate
from cphloc.publishing.publish import publish
from cphloc.publishing.reopen import reopen
from cphloc.publishing.verify import verify
from cphloc.zoo.entries import find_entry, list_entries
from cphloc.zoo.entry import Entry

TRAINING = {"hours": 1.5, "steps": 3000, "device": "two cores"}


@pytest.fixture
def listing(train_run, put, zoo):
    run = train_run()
    facts = run.folder / "facts.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"training": TRAINING}))
    put(run)
    return find_entry("tiny@1.0.0", [str(zoo)])


def test_the_same_weights_are_published_under_another_name(listing, zoo, monkeypatch):
    monkeypatch.setenv("CPHLOC_ZOO", str(zoo))
    with pytest.raises(InputError, match=r"evaluation-test\.json is missing"):
        publish("tiny@1.0.0", "better", "1.0.0", to=zoo)
    run = reopen(listing)
    assert run == reopen(listing)
    measured = evaluate(run)
    entry = publish("tiny@1.0.0", "better", "1.0.0", to=zoo, supersedes=("tiny@1.0.0",), below_baseline="untrained")
    assert entry.supersedes == ["tiny@1.0.0"]
    assert entry.evaluation.metrics["dice"].value == pytest.approx(measured.facts["metrics"]["dice"]["value"])
    old = listing.entry
    assert (entry.origin.run, entry.origin.seed, entry.origin.packages) == (
        old.origin.run,
        old.origin.seed,
        old.origin.packages,
    )
    assert (entry.speed, entry.size, entry.classes) == (old.speed, old.size, old.classes)
    assert entry.training.model_dump() == TRAINING
    first, second = (load_file(zoo / name / "1.0.0" / "model.safetensors") for name in ("tiny", "better"))
    assert all((first[key] == second[key]).all() for key in first)
    assert [check for check in verify("better") if not check.right] == []
    assert [str(e) for e in list_entries(zoos=[str(zoo)])] == ["better@1.0.0"]
    card = (zoo / "better" / "1.0.0" / "card.md").read_text()
    assert "Use it instead of tiny@1.0.0." in card
    if entry.weights.sha256 == old.weights.sha256:
        (zoo / "tiny" / "1.0.0" / "model.safetensors").unlink()
        with warnings.catch_warnings(action="ignore"):
            assert [check for check in verify("tiny@1.0.0") if not check.right] == []


def test_data_of_other_cases_are_refused(listing):
    folder = listing.place
    entry = yaml.safe_load((folder / "entry.yaml").read_text())
    entry["data"]["splits"]["train"] += 1
    (folder / "entry.yaml").write_text(yaml.safe_dump(entry))
    with pytest.raises(DataError, match="restore the data set"):
        reopen(find_entry(folder))


def test_an_ensemble_cannot_be_reopened(listing):
    entry = listing.entry
    evaluation = entry.evaluation.model_copy(update={"split": "out_of_fold"})
    (listing.place / "entry.yaml").write_text(entry.model_copy(update={"evaluation": evaluation}).to_yaml())
    with pytest.raises(InputError, match="publish its run"):
        reopen(find_entry(listing.place))


@pytest.mark.slow
def test_the_parity_with_onnx_runtime_is_stated(train_run, zoo, capsys):
    run = train_run()
    options = ["--name", "tiny", "--version", "1.0.0", "--to", str(zoo), "--below-baseline", "untrained", "--onnx"]
    assert main(["publish", str(run.folder), *options]) == 0
    assert "ONNX Runtime equals torch within" in Entry.read(zoo / "tiny" / "1.0.0" / "entry.yaml").onnx
