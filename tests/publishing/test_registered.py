"""A published entry in MLflow: summary run, LoggedModel and model version, and what people delete and rename there."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cphloc.config import yamlio
from cphloc.errors import DataError, NotFoundError
from cphloc.publishing.register import register_entry, register_zoo, register_zoos, show_newest
from cphloc.tracking.model_registry import download_entry
from cphloc.tracking.tracker import tracking_uri
from cphloc.tracking.zoo_experiment import ZOO_EXPERIMENT
from cphloc.zoo.entry import Entry
from cphloc.zoo.lock import lock
from cphloc.zoo.resolve import resolve_entry
from cphloc.zoo.served import PARAMETERS

NAME, SAMPLE, PICTURE = "unet3d-ct", b"a small scan", b"a picture"
EXPECTED = {"case": "a", "inputs": {"ct": "ct.nii.gz"}, "spacing_mm": [3.0, 2.0, 2.0], "has_mask": False}


@pytest.fixture
def client(mlflow_database, tmp_path):
    from mlflow.tracking import MlflowClient

    shutil.copyfile(mlflow_database, tmp_path / "mlflow.db")
    return MlflowClient(tracking_uri())


@pytest.fixture
def put(put_entry, entry_facts, tmp_path):
    """Writes a version with a sample, a card, a picture and paired differences, whose Dice is this."""
    from entry_fixtures import metric, pinned

    def put(version: str, dice: float = 0.8, split: str = "test"):
        files = {
            "recipe.yaml": b"task: segmentation\n",
            "card.md": b"# unet3d-ct\n\n## Intended use\n\nResearch.\n\n![worst](pictures/worst.png)\n",
            "pictures/worst.png": PICTURE,
            "sample/ct.nii.gz": SAMPLE,
            "sample/expected.json": json.dumps(EXPECTED).encode(),
            "data.json": json.dumps({"cases": {"test": {"case-0": {"content": "c0"}}}}).encode(),
        }
        facts = entry_facts(NAME, version)
        folder = put_entry(
            tmp_path / "zoo",
            NAME,
            version,
            files={name: pinned(content) for name, content in files.items()},
            evaluation=facts["evaluation"] | {"split": split, "metrics": {"dice": metric(dice)}, "per_class": {}},
            baseline={**facts["baseline"], "paired": {"dice": metric(0.2) | {"p_value": 0.01}}},
        )
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return put


def registered(folder) -> str:
    entry = Entry.model_validate(yamlio.read((folder / "entry.yaml").read_bytes(), "entry.yaml").plain)
    return register_entry(entry, folder)


def runs(client):
    experiments = client.search_experiments(filter_string="tags.`cphloc.zoo` = 'true'")
    return {run.info.run_name: run for run in client.search_runs([e.experiment_id for e in experiments])}


def logged_models(client):
    return client.search_logged_models([run.info.experiment_id for run in runs(client).values()][:1])


def champion(client) -> str:
    return str(client.get_model_version_by_alias(NAME, "champion").version)


def test_an_entry_gets_run_logged_model_and_version_and_comes_back_whole(put, client):
    from mlflow.models import get_model_info

    folders = [put("1.0.0"), put("1.1.0")]
    run_ids = [registered(folder) for folder in folders]
    assert registered(folders[0]) == run_ids[0], "a registered entry stays as it is"
    found = runs(client)
    assert {name: run.info.run_id for name, run in found.items()} == {
        f"{NAME}@1.0.0": run_ids[0],
        f"{NAME}@1.1.0": run_ids[1],
    }
    assert [found[f"{NAME}@1.{n}.0"].data.tags["cphloc.newest"] for n in (0, 1)] == ["false", "true"]
    run = found[f"{NAME}@1.0.0"]
    interval = {"": 0.8, "_ci_low": 0.75, "_ci_high": 0.85}
    compared = {"headline_baseline": 0.6, "headline_paired": 0.2, "test/dice_baseline": 0.6, "test/dice_paired": 0.2}
    compared |= {f"{key}{end}": v for key in ("headline", "test/dice") for end, v in interval.items()}
    assert {key: run.data.metrics[key] for key in compared} == pytest.approx(compared)
    assert {"speed/ms_per_case", "size/params_m", "size/peak_ram_mb"} <= set(run.data.metrics)
    assert run.data.params["headline_metric"] == "test/dice"
    tags = {"task": "segmentation", "dims": "3-D", "modality": "CT", "organ": "soft tissue", "licence": "CC BY 3.0"}
    assert tags.items() <= run.data.tags.items()
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"} <= set(run.data.tags)
    assert (
        f"![worst](get-artifact?run_uuid={run_ids[0]}&path=pictures/worst.png)" in run.data.tags["mlflow.note.content"]
    )
    inputs = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert {context: data.name for context, data in inputs.items()} == {
        "training": "sts_petct",
        "test": "sts_petct (test)",
    }
    assert inputs["training"].digest == "f" * 36
    assert {a.path for a in client.list_artifacts(run_ids[0])} >= {"card.md", "recipe.yaml", "pictures"}

    version = client.get_model_version(NAME, "1")
    assert tags.items() <= version.tags.items()
    assert version.description.startswith("# unet3d-ct")
    [model] = [m for m in logged_models(client) if m.source_run_id == run_ids[0]]
    assert version.source == model.artifact_location
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    assert (str(model.status), model.source_run_id, model.model_type) == ("READY", run_ids[0], "segmentation")
    assert {m.key: m.dataset_name for m in model.metrics}["test/dice"] == "sts_petct (test)"
    info = get_model_info(f"models:/{NAME}/1")
    assert [p.name for p in info.signature.params] == list(PARAMETERS)
    assert [(c.name, c.required) for c in info.signature.inputs] == [
        *(("image", True), ("name", True), ("spacing_mm", False), ("units", False))
    ]
    example = json.loads((Path(urlsplit(version.source).path) / "input_example.json").read_text())
    [row] = [dict(zip(example["columns"], values, strict=True)) for values in example["data"]]
    assert (base64.b64decode(row["image"]), row["name"], row["spacing_mm"]) == (SAMPLE, "ct.nii.gz", [3.0, 2.0, 2.0])

    for spec, folder in (
        (f"models:/{NAME}/1", folders[0]),
        (f"models:/{NAME}@latest", folders[1]),
        (f"models:/{NAME}/latest", folders[1]),
    ):
        fetched = download_entry(spec)
        files = {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        assert {f.relative_to(fetched): f.read_bytes() for f in fetched.rglob("*") if f.is_file()} == files
    with pytest.raises(NotFoundError, match="not in the model registry"):
        download_entry(f"models:/{NAME}/9")


def test_the_newest_versions_are_shown_before_all_are_registered_in_order(put, client, monkeypatch):
    monkeypatch.setattr("cphloc.publishing.register.first_disagreement", lambda one: None)
    zoo = put("1.0.0").parent.parent
    put("1.1.0")
    assert show_newest([str(zoo)]) == []
    assert {name: run.data.tags["cphloc.newest"] for name, run in runs(client).items()} == {f"{NAME}@1.1.0": "true"}
    [shown] = runs(client).values()
    assert shown.data.metrics["headline"] == pytest.approx(0.8)
    assert not client.search_registered_models(), "a process that is killed here leaves no version half registered"
    assert register_zoos([str(zoo)]) == []
    found = runs(client)
    assert found[f"{NAME}@1.1.0"].info.run_id == shown.info.run_id
    assert {name: run.data.tags["cphloc.newest"] for name, run in found.items()} == {
        f"{NAME}@1.0.0": "false",
        f"{NAME}@1.1.0": "true",
    }
    assert [download_entry(f"models:/{NAME}/{number}").name for number in (1, 2, "latest")] == [
        "1.0.0",
        "1.1.0",
        "1.1.0",
    ]
    [model] = [m for m in logged_models(client) if m.source_run_id == shown.info.run_id]
    assert "headline" in {m.key for m in model.metrics}


def test_a_superseded_version_is_not_the_newest(put, put_entry, client, tmp_path):
    registered(put("1.0.0"))
    registered(put_entry(tmp_path / "zoo", "sarcoma", "1.0.0", supersedes=[f"{NAME}@1.0.0"]))
    newest = {name: run.data.tags["cphloc.newest"] for name, run in runs(client).items()}
    assert newest == {f"{NAME}@1.0.0": "false", "sarcoma@1.0.0": "true"}


def test_the_champion_has_the_best_headline_metric_on_its_split(put, client):
    for version, dice, split, expected in (
        ("1.0.0", 0.80, "test", "1"),
        ("1.1.0", 0.70, "test", "1"),
        ("1.2.0", 0.85, "test", "3"),
        ("1.3.0", 0.99, "val", "3"),  # cannot be compared
        ("1.4.0", 0.85, "test", "5"),  # as good, and newer
    ):
        registered(put(version, dice, split))
        assert champion(client) == expected
    client.set_registered_model_alias(NAME, "champion", "2")
    register_zoos([str(put("1.5.0", 0.1).parent.parent)])
    assert champion(client) == "2", "what people chose stays, while no better version comes"
    client.delete_registered_model_alias(NAME, "champion")
    registered(put("1.6.0", 0.2))
    assert champion(client) == "5"


@pytest.mark.parametrize("what", ["run", "experiment", "model", "version", "alias", "logged model", "tag", "all"])
def test_what_people_delete_comes_back_with_the_next_registration(put, client, what):
    zoo = put("1.0.0").parent.parent
    run_id = registered(zoo / NAME / "1.0.0")
    experiment = client.get_experiment_by_name(ZOO_EXPERIMENT).experiment_id
    deletions = {
        "run": lambda: client.delete_run(run_id),
        "version": lambda: client.delete_model_version(NAME, "1"),
        "alias": lambda: client.delete_registered_model_alias(NAME, "champion"),
        "logged model": lambda: client.delete_logged_model(logged_models(client)[0].model_id),
        "tag": lambda: client.delete_tag(run_id, "cphloc.entry"),
        "model": lambda: client.delete_registered_model(NAME),
        "experiment": lambda: client.delete_experiment(experiment),
    }
    for name in ("run", "model", "experiment") if what == "all" else (what,):
        deletions[name]()
    assert register_zoo(zoo) == [f"{NAME}@1.0.0"]
    assert [run.info.run_id for run in runs(client).values()] == [run_id]
    assert download_entry(f"models:/{NAME}/latest").name == "1.0.0"
    assert champion(client) == str(client.search_model_versions(f"name = '{NAME}'")[0].version)
    assert len(logged_models(client)) == 1


def test_what_people_rename_is_found_again(put, client):
    zoo = put("1.0.0").parent.parent
    run_id = registered(zoo / NAME / "1.0.0")
    client.rename_experiment(client.get_experiment_by_name(ZOO_EXPERIMENT).experiment_id, "our models")
    client.update_run(run_id, name="the good one")
    client.rename_registered_model(NAME, "tumours")
    put("1.1.0")
    register_zoo(zoo)
    assert set(runs(client)) == {"the good one", f"{NAME}@1.1.0"}
    assert client.get_experiment_by_name(ZOO_EXPERIMENT) is None
    assert {(m.name, len(m.latest_versions)) for m in client.search_registered_models()} == {("tumours", 1), (NAME, 1)}
    assert download_entry("models:/tumours/1").name == "1.0.0"


def test_the_lock_file_holds_for_models_of_the_registry(put, client, tmp_path, monkeypatch):
    zoo = put("1.0.0").parent.parent
    register_zoo(zoo)
    assert lock([f"models:/{NAME}/1"])[NAME]["version"] == "1.0.0"
    for spec in (f"models:/{NAME}/1", f"models:/{NAME}@champion", f"models:/{NAME}/latest"):
        assert str(resolve_entry(spec)) == f"{NAME}@1.0.0"
    put("1.1.0", 0.9)
    register_zoo(zoo)
    for spec in (f"models:/{NAME}/2", f"models:/{NAME}@champion", f"models:/{NAME}/latest"):
        with pytest.raises(DataError, match=r"unet3d-ct@1\.1\.0 has other content than cphloc\.lock pins"):
            resolve_entry(spec)
    assert str(resolve_entry(f"models:/{NAME}/1")) == f"{NAME}@1.0.0"
    stored = Path(urlsplit(client.get_model_version(NAME, "1").source).path)
    file = next(stored.rglob("entry.yaml"))
    file.write_text(file.read_text().replace("tumour", "tumor"))
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "new cache"))  # which has not seen the version yet
    with pytest.raises(DataError, match=r"unet3d-ct@1\.0\.0 has other content than cphloc\.lock pins"):
        resolve_entry(f"models:/{NAME}/1")


def test_a_model_without_versions_is_one_line(put, client):
    registered(put("1.0.0"))
    client.delete_model_version(NAME, "1")
    with pytest.raises(NotFoundError, match="all its versions were deleted"):
        download_entry(f"models:/{NAME}/latest")


def test_a_version_that_contradicts_itself_is_left_out_and_the_others_are_registered(put, client, monkeypatch):
    monkeypatch.setattr("cphloc.publishing.register.first_disagreement", lambda one: None)
    (put("1.0.0") / "card.md").write_text("changed")
    [problem] = register_zoos([str(put("1.1.0").parent.parent), "https://example.org/zoo"])
    assert problem.startswith(f"{NAME}@1.0.0 is left out of MLflow")
    assert "card.md" in problem
    assert set(runs(client)) == {f"{NAME}@1.1.0"}
