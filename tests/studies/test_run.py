"""The whole of a study: trainings, table, record; killed and resumed; on a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cphloc.cli import main
from cphloc.errors import CphlocError
from cphloc.recipe.recipe import load as load_recipe
from cphloc.studies import jobs
from cphloc.studies.check import check
from cphloc.studies.run import study
from cphloc.studies.study import load as load_study
from cphloc.training import train as training
from tests.studies.small import BASE

RESULTS = 4

ARMS = (
    BASE
    + """\
  model:
    backbone: {{type: conv_encoder, widths: [4, 8, 8]}}
    heads: {{mask: {{type: unet, classes: {{1: mass}}}}}}
  train: {{steps: 2}}
arms:
  as it is: {{}}
  rising: {{data.annotated: {{mask: 1.0, boxes: 0.3}}}}
  small: {{data.patch: {small}}}
seeds: 1
metrics: [dice]
"""
)


def files(folder):
    return sorted((folder / "results").glob("*.json"))


def test_a_killed_study_goes_on_and_trains_nothing_twice(tiny, monkeypatch):
    calls, run = [], jobs.run

    def dies_in_the_third(job):
        calls.append(job.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(job)

    monkeypatch.setattr(jobs, "run", dies_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        study(tiny)
    assert len(files(tiny.parent / "studies" / "tiny")) == 2
    monkeypatch.setattr(jobs, "run", run)
    trained, train = [], training.train
    monkeypatch.setattr(training, "train", lambda *args, **kwargs: trained.append(1) or train(*args, **kwargs))
    results, folder = study(tiny)
    assert results.complete
    assert len(trained) == RESULTS - 2
    before = {path: path.stat().st_mtime_ns for path in files(folder)}
    again, _ = study(tiny)
    assert again.facts() == results.facts()
    assert len(trained) == RESULTS - 2
    assert {path: path.stat().st_mtime_ns for path in files(folder)} == before
    recorded_in_mlflow(folder)


def test_results_whose_end_is_not_logged_are_of_no_finished_training(tiny, monkeypatch):
    """A kill between metrics.json and the end leaves metrics; the study resumes that run instead of using it."""
    one = {"seeds": 1, "arms": {"small": {}}, "compare": [], "verdict": []}
    results, folder = study(tiny, one)
    (run,) = (folder / "runs").glob("*/*/*/tracking.jsonl")
    run.write_text("".join(line for line in run.open() if '"end"' not in line))
    for path in files(folder):
        path.unlink()
    resumed, train = [], training.train
    monkeypatch.setattr(training, "train", lambda *args, **kw: resumed.append(kw.get("resume")) or train(*args, **kw))
    again, _ = study(tiny, one)
    assert [opened.folder for opened in resumed] == [run.parent]
    assert '"FINISHED"' in run.read_text()
    assert again.facts()["rows"] == results.facts()["rows"]


def recorded_in_mlflow(folder):
    from mlflow.tracking import MlflowClient

    state = json.loads((folder / "tracking.json").read_text())
    client = MlflowClient(state["uri"])
    experiment = client.get_experiment_by_name("cphloc/study/tiny").experiment_id
    nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{state['run_id']}'")
    assert len(nested) == RESULTS
    assert {run.info.run_name for run in nested} >= {"convolutional, seed 0", "fully connected, seed 1"}
    assert "convolutional/auc" in client.get_run(state["run_id"]).data.metrics
    assert {f.path for f in client.list_artifacts(state["run_id"])} == {"results.json", "results.csv", "figure.svg"}


def test_the_same_seed_gives_the_same_numbers_and_a_changed_recipe_is_run_anew(tiny):
    first, folder = study(tiny, {"seeds": 1})
    assert study(tiny, {"seeds": 1}, out="elsewhere")[0].rows == first.rows
    assert study(tiny, {"seeds": 1, "train.optimizer.lr": 0.5})[0].rows != first.rows
    assert len(files(folder)) == 2


def test_a_value_is_chosen_on_validation_cases(tiny):
    text = tiny.read_text().replace(
        "convolutional: {}", "convolutional: {tune: {key: train.optimizer.lr, values: [0.001, 0.1], by: brier}}"
    )
    tiny.write_text(text)
    checked = jobs.jobs_of(study_of(tiny), tiny.parent / "s")
    found = jobs.run(checked[0])
    runs = [json.loads(p.read_text())["val/brier"] for p in (tiny.parent / "s/runs").rglob("metrics.json")]
    chosen = json.loads((tiny.parent / "s" / found["run"] / "metrics.json").read_text())
    assert len(runs) == 2
    assert chosen["val/brier"] == min(runs)


def test_an_arm_starts_from_the_weights_of_an_earlier_one(tiny):
    after = "  again: {after: convolutional, train.optimizer.lr: 1.0e-12}\nseeds: 1"
    tiny.write_text(tiny.read_text().replace("seeds: 2", after))
    checked = jobs.jobs_of(study_of(tiny), tiny.parent / "s")
    assert [[job.name for job in group] for group in jobs.grouped_by_recipe(checked)] == [
        ["convolutional, seed 0", "again, seed 0"],
        ["fully connected, seed 0"],
    ]
    again, first = (
        load_file(tiny.parent / "s" / jobs.run(job)["run"] / "best.safetensors") for job in (checked[2], checked[0])
    )
    weights = [name for name in first if name.endswith(("weight", "bias"))]  # batch norm goes on counting
    assert len(weights) > 5
    for name in weights:
        np.testing.assert_allclose(again[name], first[name], rtol=1e-3, atol=1e-6)


def test_an_arm_learns_from_the_network_of_an_earlier_one_with_the_same_seed(tiny):
    taught = "  taught: {teacher: convolutional}\n"
    tiny.write_text(tiny.read_text().replace("seeds: 2", f"{taught}seeds: 2"))
    folder = tiny.parent / "s"
    checked = jobs.jobs_of(study_of(tiny), folder)
    results = {job.name: jobs.run(job) for job in checked}
    for seed in (0, 1):
        student = folder / results[f"taught, seed {seed}"]["run"]
        teacher = load_recipe(student / "recipe.yaml").train.teacher
        assert Path(str(teacher)) == folder / results[f"convolutional, seed {seed}"]["run"]


def study_of(path):
    from cphloc.studies.study import load

    return load(path)


def test_the_command_prints_table_differences_and_verdict(tiny, capsys):
    assert main(["study", str(tiny), "--set", "seeds=1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in facts["rows"]] == ["convolutional", "fully connected"]
    assert facts["verdict"] == "undecided"
    assert main(["study", str(tiny), "--set", "seeds=1"]) == 0
    printed = capsys.readouterr()
    assert "convolutional - fully connected" in printed.out
    assert "2/2 done earlier" in printed.err
    assert main(["study", str(tiny), "--set", "sedes=1"]) == 2
    assert "sedes" in capsys.readouterr().err


@pytest.fixture
def one_thread():
    """Sums are those of a Ray worker, which has one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_on_a_local_ray_the_numbers_are_the_same(tiny, monkeypatch, one_thread):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    here, _ = study(tiny, {"seeds": 1}, out="here")
    try:
        there, folder = study(tiny, {"seeds": 1}, out="there", engine="ray")
    except CphlocError as error:
        pytest.skip(f"no Ray on this machine: {error}") if "did not start" in str(error) else pytest.fail(str(error))
    assert there.rows == here.rows
    before = {path: path.stat().st_mtime_ns for path in files(folder)}
    assert study(tiny, {"seeds": 1}, out="there", engine="ray")[0].rows == here.rows
    assert {path: path.stat().st_mtime_ns for path in files(folder)} == before


@pytest.mark.parametrize(("dims", "size"), [(2, [16, 16]), (3, [16, 16, 16])])
def test_an_arm_that_cannot_be_trained_is_named_before_any_is_trained(dims, size, work, monkeypatch, capsys):
    """Each recipe reads well; the fractions of one arm rise with the rung, and the patch of another is too small."""
    path = work / "arms.yaml"
    path.write_text(ARMS.format(dims=dims, size=size, small=[2] * dims), encoding="utf-8")
    monkeypatch.setattr(jobs, "run", lambda job: pytest.fail(f"{job.name} was trained"))
    for command in (["study", str(path), "--check"], ["study", str(path)]):
        assert main(command) == 2
        told = capsys.readouterr()
        lines = (told.out + told.err).splitlines()
        assert [line for line in lines if "annotated must be" in line and "rising:" in line]
        assert [line for line in lines if "for a patch of" in line and "small:" in line]
        assert not [line for line in lines if "as it is" in line]
    assert not (work / "studies").exists()


def test_what_all_arms_share_is_one_problem_without_their_names(work):
    path = work / "arms.yaml"
    path.write_text(ARMS.format(dims=2, size=[16, 16], small=[16, 16]), encoding="utf-8")
    loaded = load_study(path, {"data.annotated": {"mask": 0.5, "boxes": 0.2}, "arms": {"one": {}, "other": {}}})
    (problem,) = check(loaded)
    assert problem.what.startswith("phantom: annotated must be")
