"""A published entry in MLflow: one summary run, one version in the registry, and the way back."""

from __future__ import annotations

import pytest

from cphloc.config import yamlio
from cphloc.errors import NotFoundError
from cphloc.publishing.register import register_entry
from cphloc.tracking.model_registry import ZOO_EXPERIMENT, download_entry
from cphloc.tracking.tracker import tracking_uri
from cphloc.zoo.entry import Entry
from cphloc.zoo.served import PARAMETERS


def test_an_entry_gets_one_summary_run_and_comes_back_whole(put_entry, tmp_path):
    from mlflow.models import get_model_info
    from mlflow.tracking import MlflowClient

    folders = [put_entry(tmp_path / "zoo", "unet3d-ct", version) for version in ("1.0.0", "1.1.0")]
    entries = [Entry.model_validate(yamlio.read((f / "entry.yaml").read_bytes(), "entry.yaml").plain) for f in folders]
    run_ids = [register_entry(entry, folder) for entry, folder in zip(entries, folders, strict=True)]
    assert register_entry(entries[0], folders[0]) == run_ids[0], "a registered entry stays as it is"

    client = MlflowClient(tracking_uri())
    experiment = client.get_experiment_by_name(ZOO_EXPERIMENT)
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == set(run_ids)
    measured = [set(runs[run_id].data.metrics) for run_id in run_ids]
    assert measured[0] == measured[1]
    assert {"test/dice", "test/dice_ci_low", "test/dice_ci_high", "test/hd95_mm"} <= measured[0]
    assert {"speed/ms_per_case", "size/params_m", "size/peak_ram_mb"} <= measured[0]
    assert runs[run_ids[0]].data.params["recipe_sha256"] == entries[0].files["recipe.yaml"].sha256

    for spec, folder in (
        ("models:/unet3d-ct/1", folders[0]),
        ("models:/unet3d-ct@latest", folders[1]),
        ("models:/unet3d-ct/latest", folders[1]),
    ):
        fetched = download_entry(spec)
        assert {f.name: f.read_bytes() for f in fetched.iterdir()} == {f.name: f.read_bytes() for f in folder.iterdir()}
    assert [p.name for p in get_model_info("models:/unet3d-ct/1").signature.params] == list(PARAMETERS)
    with pytest.raises(NotFoundError, match="not in the model registry"):
        download_entry("models:/unet3d-ct/9")
