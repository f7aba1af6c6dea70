from __future__ import annotations

import base64
import hashlib
import json
import zlib

import numpy as np
import pytest

from cphloc.errors import DataError, InputError
from cphloc.zoo.served import _load_pyfunc, _written, columns_of, packed, run_lengths


@pytest.fixture
def served(published):
    return published, _load_pyfunc(str(published))


def row(folder):
    file = next((folder / "sample").glob("ct.*"))
    return {"image": base64.b64encode(file.read_bytes()).decode(), "name": file.name}


def test_a_request_is_answered_with_the_mask_that_the_entry_predicts(served):
    folder, model = served
    import pandas as pd

    [said] = model.predict(pd.DataFrame([row(folder)]))
    expected = np.load(folder / "sample" / "expected_mask.npz")["mask"]
    runs = np.array(said["mask"]["runs"])
    drawn = np.repeat(runs[:, 0], runs[:, 1]).reshape(said["mask"]["shape"])
    assert (drawn != expected).sum() <= 0.01 * (expected > 0).sum()
    assert json.loads(json.dumps(said))["measurements"]


def test_parameters_of_a_request_are_those_of_predict(served):
    folder, model = served
    [plain] = model.predict([row(folder)])
    assert plain["input_sha256"] == {"image": hashlib.sha256(base64.b64decode(row(folder)["image"])).hexdigest()}
    [half] = model.predict([row(folder)], {"threshold": 0.5, "overlap": 0.25, "units": "ct=HU"})
    assert (half["thresholds"], half["inputs"]["ct"]["stated"]) == ({"mask": 0.5}, "user")
    [stated] = model.predict([{**row(folder), "units": "ct=HU x 10"}])
    assert stated["inputs"]["ct"]["stated"] == "user"
    with pytest.raises(InputError, match="did you mean 'strict'"):
        model.predict([row(folder)], {"strikt": True})
    with pytest.raises(DataError, match="hardly HU"):
        model.predict([{**row(folder), "units": "ct=HU x 1000"}], {"strict": True})


@pytest.mark.parametrize("change", [{"image": "???"}, {"image": None}, {"name": None}])
def test_a_bad_request_is_one_clear_error(served, change):
    folder, model = served
    with pytest.raises(InputError, match="base64"):
        model.predict([{**row(folder), **change}])


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 4), (2, 3, 4)])
def test_run_lengths_rebuild_the_mask(shape):
    mask = np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)
    rebuilt = [value for value, count in run_lengths(mask) for _ in range(count)]
    assert rebuilt == mask.ravel().tolist()


@pytest.mark.parametrize(
    "name", ["../../evil.nii.gz", "/tmp/evil.nii", "..", "a\0b.png", "x" * 500 + ".png", "\\\\evil\\a.nii"]
)
@pytest.mark.parametrize("column", ["image", "../../evil", "/tmp/evil"])
def test_no_channel_leads_out_of_the_folder_of_a_request(tmp_path, column: str, name: str):
    path = _written({column: base64.b64encode(b"x").decode(), "name": name}, column, tmp_path / "request" / "0")
    assert path.parent == tmp_path / "request" / "0"
    assert path.read_bytes() == b"x"


def test_of_several_images_one_that_cannot_be_predicted_does_not_stop_the_others(served):
    folder, model = served
    good = row(folder)
    said = model.predict([good, {**good, "image": "???"}, {**good, "spacing_mm": "large"}, good])
    assert ["error" in one for one in said] == [False, True, True, False]
    assert said[0]["mask"] == said[3]["mask"]
    assert "base64" in said[1]["error"]
    assert "give a list of numbers" in said[2]["error"]


@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 5)])
def test_packed_attention_is_the_map_to_16_bits(shape):
    attention = np.random.default_rng(1).random(shape).astype(np.float32)
    attention /= attention.sum()
    said = json.loads(json.dumps(packed(attention)))
    steps = np.frombuffer(zlib.decompress(base64.b64decode(said["values"])), "<u2").reshape(said["shape"])
    np.testing.assert_allclose(said["peak"] / 65535 * steps, attention, atol=attention.max() / 65535)
    assert packed(np.zeros(shape, np.float32))["peak"] == 0


def test_the_columns_of_a_model_of_several_channels_are_its_channels():
    assert columns_of(["ct"])["image"] == ("text", True)
    assert columns_of(["ct", "pet"]) == {
        **dict.fromkeys(("image", "ct", "pet"), ("text", False)),
        **{"name": ("text", True), "spacing_mm": ("numbers", False), "units": ("text", False)},
    }
