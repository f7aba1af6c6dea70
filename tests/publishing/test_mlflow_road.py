"""The whole road through a real MLflow store; slow, because importing MLflow is."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cphloc.publishing.register import register_entry, register_zoo
from cphloc.zoo.entries import find_entry
from cphloc.zoo.load import load


def test_a_registered_entry_loads_from_the_model_registry(published):
    assert register_zoo(published.parent.parent) == ["tiny@1.0.0"]
    for spec in ("models:/tiny/1", "models:/tiny/latest"):
        model = load(spec)
        assert str(model.entry) == "tiny@1.0.0"


KINDS = ["unet2d-breast-ultrasound", "yolox2d-bloodcells", "attention2d-breast-ultrasound"]
"""Entries that find masks, boxes and attention."""


@pytest.fixture
def sample_of(mlflow_database, tmp_path):
    """Registers an entry alone, and gives the folder of its sample, what is expected, and a row of a request."""

    def registered(name: str) -> tuple[Path, dict[str, Any], dict[str, str]]:
        shutil.copyfile(mlflow_database, tmp_path / "mlflow.db")
        listing = find_entry(name)
        register_entry(listing.entry, Path(listing.place))
        sample = Path(listing.place) / "sample"
        expected = json.loads((sample / "expected.json").read_text())
        file = sample / next(iter(expected["inputs"].values()))
        return sample, expected, {"image": base64.b64encode(file.read_bytes()).decode(), "name": file.name}

    return registered


def assert_answers(one: dict[str, Any], expected: dict[str, Any], sample: Path) -> None:
    """Check the answer about a sample against the stored prediction."""
    if expected["has_mask"]:
        runs = np.array(one["mask"]["runs"])
        drawn = np.repeat(runs[:, 0], runs[:, 1]).reshape(one["mask"]["shape"])
        mask = np.load(sample / "expected_mask.npz")["mask"]
        assert (drawn != mask).sum() <= 0.01 * (mask > 0).sum()
    sure = [[box for box in of.get("boxes", ()) if box["score"] >= 0.6] for of in (one, expected)]
    for box, stated in zip(*sure, strict=True):  # those of low scores depend on the last bits
        assert (box["name"], box["voxels"]) == (stated["name"], pytest.approx(stated["voxels"], abs=1.0))
    if "attention" in expected:
        packed = one["attention"]
        steps = np.frombuffer(zlib.decompress(base64.b64decode(packed["values"])), "<u2").reshape(packed["shape"])
        assert packed["peak"] / 65535 * steps.sum() == pytest.approx(1, abs=0.01)
        assert packed["peak"] >= 0.99 * max(expected["attention"])


@pytest.mark.parametrize("name", KINDS)
def test_pyfunc_answers_a_batch_with_masks_boxes_or_attention(name, sample_of):
    import mlflow
    import pandas as pd
    from mlflow.pyfunc import scoring_server

    sample, expected, good = sample_of(name)
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    said = model.predict(pd.DataFrame([good, {**good, "image": "???"}, good]))
    assert [sorted({"error"} & set(one)) for one in said] == [[], ["error"], []]
    request = json.dumps({"dataframe_records": [good, good]})  # as the server gets it
    answer = scoring_server.invocations(request, "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    for one in (said[0], said[2], *json.loads(answer.response)["predictions"]):
        assert_answers(one, expected, sample)


@contextmanager
def served(model: str, folder) -> Iterator[str]:
    """The address of `mlflow models serve`, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # MLflow calls uvicorn
    with (folder / "serve.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"PATH": beside_python}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 900
        while server.poll() is None and time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        else:
            pytest.fail((folder / "serve.log").read_text())
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_mlflow_models_serve_answers_a_batch_with_masks_boxes_or_attention(name, sample_of, tmp_path):
    sample, expected, row = sample_of(name)
    body = json.dumps({"dataframe_records": [row, row]}).encode()
    with served(f"models:/{name}@champion", tmp_path) as url:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/invocations", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=300) as answer:
            said = json.load(answer)["predictions"]
    assert len(said) == 2
    for one in said:
        assert "error" not in one
        assert_answers(one, expected, sample)
