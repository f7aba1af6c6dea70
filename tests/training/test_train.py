"""The whole training of a recipe on the cases that ship with cphloc."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from cphloc.errors import InputError, NotFoundError
from cphloc.training import checkpoint
from cphloc.training.run import Run
from cphloc.training.train import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory, mlflow_store, tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("CPHLOC_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
        yield train(tiny)


def test_the_run_holds_everything_that_publishing_and_resuming_need(finished):
    there = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    assert there == {
        *("recipe.yaml", "facts.json", "best.safetensors", "last.safetensors", "metrics.json", "cases.csv"),
        *("tracking.json", "tracking.jsonl"),
        *(f"pictures/{name}.png" for name in ("curves", "worst", "median", "best")),
    }
    weights, facts = checkpoint.load(finished.folder / checkpoint.BEST)
    assert facts["step"] == finished.metrics["train/best_step"]
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())


def test_the_mean_of_the_cases_is_the_metric(finished):
    with (finished.folder / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["dice"]) for row in rows if row["dice"] not in ("", "nan")]
    assert finished.metrics["val/dice"] == pytest.approx(sum(values) / len(values))


def test_mlflow_has_settings_curves_facts_and_files(finished):
    from mlflow.tracking import MlflowClient

    state = json.loads((finished.folder / "tracking.json").read_text())
    client = MlflowClient(state["uri"])
    run = client.get_run(state["run_id"])
    assert client.get_experiment(run.info.experiment_id).name == "cphloc/tiny"
    assert run.info.status == "FINISHED"
    assert run.data.params["train.optimizer.type"] == "AdamW"
    assert run.data.params["recipe_sha256"] == finished.recipe.sha256
    assert len(run.data.params["data_fingerprint"]) == 64
    assert run.data.params["packages.torch"].startswith(torch.__version__.split("+")[0])
    assert [m.step for m in client.get_metric_history(state["run_id"], "val/dice")] == [2, 4]
    assert "size/params_m" in run.data.metrics
    artifacts = {file.path for file in client.list_artifacts(state["run_id"])}
    assert {"recipe.yaml", "facts.json", "metrics.json", "cases.csv", "pictures"} <= artifacts


def test_a_run_opens_by_id_and_by_folder(finished):
    assert Run.open(finished.id).metrics == finished.metrics == Run.open(finished.folder).metrics
    with pytest.raises(NotFoundError, match="did you mean"):
        Run.open(finished.id[:-1])


def test_a_finished_run_resumes_to_itself_and_refuses_another_recipe(finished):
    assert train(resume=finished.id).metrics == finished.metrics
    with pytest.raises(InputError, match="goes on with its own recipe"):
        train(resume=finished.id, overrides={"train.steps": 9})
    with pytest.raises(InputError, match="give a recipe to train"):
        train()
