from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cphloc.config import yamlio
from cphloc.download import DownloadError, files, transfer
from cphloc.errors import DataError, NotFoundError, RecipeError
from cphloc.modeling.build import build_model
from cphloc.tracking.run import Run
from cphloc.training import checkpoint
from cphloc.zoo.entry import Entry, File
from cphloc.zoo.index import index_zoo
from cphloc.zoo.load import build_with_weights, load
from cphloc.zoo.weights import read_weights


@pytest.fixture(autouse=True)
def searched(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_ZOO", str(tmp_path / "zoo"))


@pytest.mark.parametrize("spec", ["tiny", "tiny@1.0.0", "tiny@^1", "folder"])
def test_a_model_loads_with_the_weights_that_were_published(published, spec):
    model = load(published if spec == "folder" else spec, device="cpu")
    stored = load_file(published / "model.safetensors")
    assert not model.training
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, stored[name].float())
        assert value.dtype == torch.float32
    assert model(torch.zeros(1, 1, 8, 16, 16)).shape == (1, 2, 8, 16, 16)
    assert str(model.entry) == "tiny@1.0.0"


def test_loading_draws_no_random_number(published):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load("tiny", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_skipping_initialization_changes_nothing_that_is_not_replaced(train_run):
    run = train_run()
    weights = checkpoint.load(run.folder / checkpoint.BEST)[0]
    ordinary = build_model(run.recipe)
    ordinary.load_state_dict(weights)
    quick = build_with_weights(run.recipe, weights, "here")
    assert {n for n, _ in quick.named_buffers()} == {n for n, _ in ordinary.named_buffers()}
    for (name, value), (_, expected) in zip(quick.named_buffers(), ordinary.named_buffers(), strict=True):
        assert torch.equal(value, expected), name
    x = torch.randn(1, 1, 8, 16, 16)
    assert torch.equal(quick.eval()(x), ordinary.eval()(x))


@pytest.mark.parametrize("file", ["model.safetensors", "recipe.yaml"])
def test_a_changed_file_is_never_loaded(published, file):
    path = published / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"has sha256 .* was published"):
        load("tiny")


def test_a_missing_weights_file_is_named(published):
    (published / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load("tiny")


def republish(folder, **changes):
    """Pin whatever the folder's files hold now, as a careless publisher would."""
    entry = Entry.read(folder / "entry.yaml")
    weights = entry.weights.model_copy(update=dict(File.of(folder / "model.safetensors")))
    files = {**entry.files, "recipe.yaml": File.of(folder / "recipe.yaml")}
    entry = entry.model_copy(update={"weights": weights, "files": files, **changes})
    (folder / "entry.yaml").write_text(entry.to_yaml())
    (folder.parent.parent / "zoo.json").unlink()


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_model_are_refused(published, change):
    weights = load_file(published / "model.safetensors")
    name = next(iter(weights))
    if change == "missing":
        del weights[name]
    elif change == "extra":
        weights["extra"] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(3)
    save_file(weights, published / "model.safetensors")
    republish(published)
    with pytest.raises(DataError, match="not those of the recipe's model"):
        load("tiny")


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), torch.float16), (-torch.inf, torch.float16), (1e39, torch.float64)]
)
def test_weights_that_are_not_finite_as_float32_are_refused(published, value, dtype):
    weights = load_file(published / "model.safetensors")
    name = next(name for name, held in weights.items() if held.dim() > 1)
    weights[name] = weights[name].to(dtype)
    weights[name].view(-1)[-1] = value
    save_file(weights, published / "model.safetensors")
    republish(published)
    with pytest.raises(DataError, match=rf"tiny@1\.0\.0: the weights '{name}' are not finite"):
        load("tiny")


def test_weights_of_tensors_without_end_are_refused_at_once(published):
    more = {f"x{i}": torch.zeros(0) for i in range(30_000)}
    save_file({**load_file(published / "model.safetensors"), **more}, published / "model.safetensors")
    republish(published)
    started = time.process_time()
    with pytest.raises(DataError, match="its header lists more than 20,000 tensors"):
        load("tiny")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [0] * 50_000, "data_offsets": [0, 0]}}, "more than 16 axes"),
        ({"a": {"dtype": "F32", "shape": 7, "data_offsets": [0, 0]}}, "not a safetensors file"),
        ({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, "not a safetensors file"),
        ([], "not a safetensors file"),
    ],
    ids=["axes", "no shape", "claim", "list"],
)
def test_a_header_that_claims_what_no_weights_have_is_one_line(header, message):
    text = json.dumps(header).encode()
    for content in (len(text).to_bytes(8, "little") + text, len(text).to_bytes(8, "little") + b"[" * len(text)):
        with pytest.raises(DataError, match=message if content.endswith(text) else "not a safetensors file") as caught:
            read_weights(content, "tiny@1.0.0: weights")
        assert "\n" not in str(caught.value)


def test_complex_weights_are_refused(published):
    weights = load_file(published / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name].to(torch.complex64)
    save_file(weights, published / "model.safetensors")
    republish(published)
    with pytest.raises(DataError, match=f"'{name}' are not finite real numbers"):
        load("tiny")


@pytest.mark.parametrize(
    ("patch", "message"),
    [([4000] * 3, r"windows of 64,000,000,000 values, 268,435,456 are the most"), ([1] * 3, "cannot compute a window")],
)
def test_a_patch_that_the_network_or_the_memory_cannot_take_is_one_line(published, patch, message):
    recipe = yamlio.load(published / "recipe.yaml").plain
    recipe["data"]["patch"] = patch
    (published / "recipe.yaml").write_text(yamlio.dump(recipe))
    republish(published)
    with pytest.raises(DataError, match=message) as caught:
        load("tiny").predict(np.ones((9, 9, 9), np.float32), spacing_mm=(1.0, 1.0, 1.0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lie",
    [{"classes": {1: "healthy"}}, {"channels": ["pet"], "inputs": None}, {"spacing_mm": [9.0] * 3}, {"task": "other"}],
    ids=str,
)
def test_an_entry_that_states_another_model_than_it_holds_is_refused(published, lie):
    republish(published, **lie)
    with pytest.raises(DataError, match=rf"entry\.yaml states {next(iter(lie))} .* but its recipe has"):
        load("tiny")


def test_an_entry_that_states_another_size_is_refused(published):
    size = Entry.read(published / "entry.yaml").size
    republish(published, size=size.model_copy(update={"parameters": 7}))
    with pytest.raises(DataError, match=r"states size\.parameters 7 but"):
        load("tiny")


def test_a_pickle_is_never_opened(published):
    import pickle

    (published / "model.safetensors").write_bytes(pickle.dumps({"x": 1}))
    republish(published)
    with pytest.raises(DataError, match="not a safetensors file"):
        load("tiny")


def test_a_recipe_that_names_code_is_refused(published):
    recipe = yamlio.load(published / "recipe.yaml").plain
    recipe["model"]["backbone"]["type"] = "os.system"
    (published / "recipe.yaml").write_text(yamlio.dump(recipe))
    republish(published)
    with pytest.raises(RecipeError, match=r"os\.system"):
        load("tiny")


@pytest.mark.parametrize(
    "change",
    [
        {"from": "unet3d-ct@1"},
        {"from": "/home/someone/runs/secret"},
        {"model": {"backbone": {"weights": "/etc/passwd"}}},
    ],
)
def test_a_stored_recipe_never_starts_from_other_weights(published, change):
    recipe = yamlio.load(published / "recipe.yaml").plain
    if "model" in change:
        recipe["model"]["backbone"] = {"type": "timm", "name": "resnet10t", **change["model"]["backbone"]}
    (published / "recipe.yaml").write_text(yamlio.dump({**recipe, **{k: v for k, v in change.items() if k == "from"}}))
    republish(published)
    with pytest.raises(DataError, match="would start from other weights"):
        load("tiny")


def test_loading_imports_what_the_recipe_names_and_no_more(published):
    heavy = ("monai", "lightning", "mlflow", "albumentations", "timm", "torchmetrics", "matplotlib")
    code = (
        f"import sys, cphloc; model = cphloc.load({str(published)!r});"
        f"model.predict({str(next((published / 'sample').glob('ct.*')))!r});"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def remote(published, server, monkeypatch):
    """The same entry behind a server."""
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(files, "BACKOFF_SECONDS", 0.01)
    published.parent.parent.rename(server.root / "zoo")
    monkeypatch.setenv("CPHLOC_ZOO", f"{server.url}/zoo")
    return server


def test_a_model_loads_from_a_url_and_then_with_the_network_cut(remote, monkeypatch):
    load("tiny")
    asked = len(remote.asked)
    monkeypatch.setenv("CPHLOC_OFFLINE", "1")
    load("tiny")
    assert len(remote.asked) == asked


@pytest.mark.parametrize("fault", ["truncate", "stall", "corrupt", "deny"])
def test_a_hostile_server_gives_an_error_and_never_a_model(remote, fault):
    remote.fault, remote.only = fault, "model.safetensors"
    with pytest.raises(DownloadError, match=r"tiny@1\.0\.0/model\.safetensors cannot be downloaded"):
        load("tiny")
    remote.fault = ""
    assert str(load("tiny").entry) == "tiny@1.0.0"


def test_a_damaged_cache_is_noticed(remote, tmp_path):
    entry = load("tiny").entry
    path = tmp_path / "cache" / "zoo" / "files" / entry.weights.sha256
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataError, match="remove it"):
        load("tiny")


def test_weights_come_from_a_mirror_where_the_zoo_has_none(remote, tmp_path):
    zoo = remote.root / "zoo"
    folder = zoo / "tiny" / "1.0.0"
    entry = Entry.read(folder / "entry.yaml")
    (remote.root / "mirrored").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    weights = entry.weights.model_copy(update={"file": None, "urls": [f"{remote.url}/mirrored"]})
    (folder / "entry.yaml").write_text(entry.model_copy(update={"weights": weights}).to_yaml())
    index_zoo(zoo)
    assert str(load("tiny").entry) == "tiny@1.0.0"
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match="http addresses only, which are not encrypted"):  # this folder is not on http
        load(folder)


def test_concurrent_loads_give_the_same_model(remote):
    models, failures = [], []

    def task():
        try:
            models.append(load("tiny", device="cpu").model.state_dict())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=task) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for model in models[1:]:
        assert all(torch.equal(value, models[0][name]) for name, value in model.items())
    assert sum(path.endswith("model.safetensors") for path, _ in remote.asked) == 1


def test_an_mlflow_model_version_is_loaded_from_its_artifacts(published, monkeypatch):
    monkeypatch.setattr("cphloc.tracking.model_registry.download_entry", lambda uri: published)
    assert str(load("models:/tiny/3").entry) == "tiny@1.0.0"


def test_an_unknown_name_is_one_clear_error(published):
    with pytest.raises(NotFoundError, match=r"did you mean 'tiny'\?"):
        load("tinny")


@pytest.fixture
def finished(train_run, monkeypatch, tmp_path):
    """The folder of a finished run in ``runs`` of the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = train_run().folder
    (folder / "metrics.json").write_text('{"val/dice": 0.8}')
    return folder


def test_a_finished_run_loads_by_folder_id_and_object_with_the_weights_of_its_entry(finished, published):
    by_folder, by_object = load(finished), load(Run.open(finished))
    image = torch.zeros(1, 1, 8, 16, 16)
    assert torch.equal(by_folder(image), by_object(image))
    stored = load_file(published / "model.safetensors")
    for name, value in by_folder.model.state_dict().items():
        assert torch.equal(value, stored[name].float()), "weights are rounded as an entry stores them"
    assert by_folder.fingerprint == by_object.fingerprint == load(published).fingerprint
    assert by_folder.identity["weights_sha256"] == sha256((finished / "best.safetensors").read_bytes()).hexdigest()
    by_object.temperature = 2.0
    del by_object.fingerprint
    assert by_folder.fingerprint != by_object.fingerprint


def test_a_damaged_fingerprint_of_a_run_is_one_clear_line(finished):
    facts = json.loads((finished / "facts.json").read_text()) | {"training_images": {"cases": "many"}}
    (finished / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"facts\.json: training_images\.\w+ is damaged; restore the file") as caught:
        load(finished)
    assert "\n" not in str(caught.value)


def test_an_entry_comes_before_a_run_of_the_same_id(finished, published, tmp_path):
    (tmp_path / "runs" / "r").mkdir(parents=True)
    shutil.copytree(finished, tmp_path / "runs" / "r" / "tiny")
    shutil.copytree(finished, tmp_path / "runs" / "r" / "other")
    assert load("tiny").entry is not None
    assert load("other").entry is None
    with pytest.raises(NotFoundError, match="no zoo has an entry 'nothing'"):
        load("nothing")


def test_an_unfinished_run_is_refused(finished):
    (finished / "metrics.json").unlink()
    with pytest.raises(NotFoundError, match=r"has not finished; .* cphloc train --resume"):
        load(finished)
