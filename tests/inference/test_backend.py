import importlib.util
import logging
import time

import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.retina import Retina
from cphloc.components.head.unet import UNet
from cphloc.components.neck.fpn import FPN
from cphloc.errors import InputError
from cphloc.inference import backend as backends
from cphloc.inference import runtimes
from cphloc.inference.backend import Backend
from cphloc.inference.runtimes import installed
from cphloc.inference.windows import infer
from cphloc.modeling.model import Model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture
def exported_once(exports, monkeypatch):
    """The same model is exported for the first test alone, as it is for a user."""
    monkeypatch.setenv("CPHLOC_CACHE", str(exports))


def model(dims):
    """Two heads, whose outputs are nested, on one pyramid."""
    torch.manual_seed(0)
    backbone = ConvEncoder(1, dims, [4, 8], convolutions=1)
    neck = FPN(backbone.levels, 4)
    heads = {"mask": UNet(neck.levels, ["a"], convolutions=1), "boxes": Retina(neck.levels, ["a"], convolutions=1)}
    return Model(backbone, neck, heads).eval()


def leaves(outputs):
    return torch.utils._pytree.tree_leaves(outputs)


@pytest.mark.usefixtures("exported_once")
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("dims", [2, 3])
def test_another_runtime_gives_what_torch_gives(name, dims):
    pytest.importorskip(name)
    network, size = model(dims), (16,) * dims
    backend = Backend(network, name)
    with torch.inference_mode():
        backend(torch.randn(1, 1, *size))
        assert backend.facts["backend"] == name
        assert backend.facts["difference"] < 1e-3
        window = torch.randn(1, 1, *(40,) * dims)[(..., *(slice(3, 19),) * dims)]
        found, expected = backend(window), network.outputs(window)
    assert torch.utils._pytree.tree_structure(found) == torch.utils._pytree.tree_structure(expected)
    for f, e in zip(leaves(found), leaves(expected), strict=True):
        assert torch.allclose(f, e, atol=1e-3 * float(e.abs().max().clamp(min=1)))


@pytest.mark.usefixtures("exported_once")
def test_a_whole_prediction_is_the_same():
    pytest.importorskip("openvino")
    network, image = model(2), torch.randn(1, 1, 40, 50)
    backend = Backend(network, "openvino")
    ours = infer(network, image, (16, 16), forward=backend)["mask"].mask_probabilities
    assert backend.facts["backend"] == "openvino"
    assert torch.allclose(ours, infer(network, image, (16, 16))["mask"].mask_probabilities, atol=1e-3)


def refusing(model, window, expected):
    msg = "operator Frobnicate is unknown\nand a long story"
    raise RuntimeError(msg)


def wrong(model, window, expected):
    return lambda window: {"mask": expected["mask"] + 1, "boxes": expected["boxes"]}


def right(model, window, expected):
    return lambda window: expected


def incomplete(model, window, expected):
    return lambda window: {"mask": expected["mask"]}


@pytest.mark.parametrize(
    ("opens", "said"),
    [(refusing, "operator Frobnicate is unknown"), (wrong, "differs by"), (incomplete, "longer than")],
)
def test_what_fails_or_differs_is_not_used_and_that_is_said(opens, said, monkeypatch, caplog):
    monkeypatch.setitem(backends.OPEN, "openvino", opens)
    network, window = model(2), torch.randn(1, 1, 16, 16)
    backend = Backend(network, "openvino")
    for _ in range(2):
        assert all(
            torch.equal(f, e) for f, e in zip(leaves(backend(window)), leaves(network.outputs(window)), strict=True)
        )
    assert backend.facts == {"backend": "torch", "difference": 0.0}
    assert said in caplog.text
    assert "long story" not in caplog.text


def test_the_quickest_is_found_once_and_known_afterwards(monkeypatch, cache, caplog):
    caplog.set_level(logging.INFO)
    opened = []

    def slow(model, window, expected):
        opened.append("slow")
        return lambda window: time.sleep(0.05) or expected

    def quick(model, window, expected):
        opened.append("quick")
        return right(model, window, expected)

    monkeypatch.setattr(backends, "installed", lambda device: ["onnxruntime", "openvino"])
    monkeypatch.setattr(backends, "OPEN", {"onnxruntime": slow, "openvino": quick})
    network, window = model(2), torch.randn(1, 1, 16, 16)
    slow = network.outputs
    network.outputs = lambda x: time.sleep(0.02) or slow(x)
    first = Backend(network, "auto")
    first(window)
    assert opened == [], "torch has not been busy for long enough"
    monkeypatch.setattr(backends, "KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(backends, "FIND_SECONDS", 0.0)
    first(window)
    assert opened == ["slow", "quick"]
    assert first.facts["backend"] == "openvino"
    assert "backend openvino" in caplog.text
    second = Backend(network, "auto")
    second(window)
    assert opened == ["slow", "quick", "quick"]
    assert second.facts["backend"] == "openvino"
    with torch.no_grad():
        next(network.parameters()).add_(1)
    Backend(network, "auto")(window)
    assert opened[3:] == ["slow", "quick"], "other weights are another model"


def test_the_weights_are_hashed_once_for_windows_of_one_size(monkeypatch):
    monkeypatch.setattr(backends, "installed", lambda device: ["openvino"])
    monkeypatch.setattr(backends, "KNOWN_SECONDS", 0.0)
    path, hashed = backends.cache_file, []
    monkeypatch.setattr(backends, "cache_file", lambda *of: hashed.append(of) or path(*of))
    backend = Backend(model(2), "auto")
    for size in (16, 16, 16, 24):
        backend(torch.randn(1, 1, size, size))
    assert len(hashed) == 2


def test_a_plain_installation_computes_by_torch(monkeypatch, cache):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(backends, "KNOWN_SECONDS", 0.0)
    network = model(2)
    backend = Backend(network, "auto")
    backend(torch.randn(1, 1, 16, 16))
    assert backend.facts["backend"] == "torch"
    assert list(cache.iterdir()) == []


def test_the_runtimes_that_are_tried_suit_the_device(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert installed("cpu") == ["openvino", "onnxruntime"]
    assert installed("cuda") == ["half"]
    assert installed("mps") == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else name)
    assert installed("cpu") == ["onnxruntime"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert installed("cpu") == []


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="no backend 'tensorrt'; choose from auto, torch"):
        Backend(model(2), "tensorrt")


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_a_localizer_says_what_computed(name, monkeypatch):
    monkeypatch.setitem(backends.OPEN, "openvino", right)
    from cphloc.inference.localizer import Localizer
    from cphloc.modeling.build import build_model
    from cphloc.recipe.recipe import load

    recipe = load("unet3d-hippocampus", {"model.backbone.widths": [4, 8], "data.patch": [8, 8, 8]})
    result = Localizer(build_model(recipe), recipe, backend=name).predict(np.random.rand(8, 9, 10), (1.0, 1.0, 1.0))
    assert result.summary()["computed"]["backend"] == name
    assert result.summary()["computed"]["air_skipped"] is False


def unet(dims):
    torch.manual_seed(0)
    backbone = ConvEncoder(1, dims, [4, 8], convolutions=1)
    return Model(backbone, None, {"mask": UNet(backbone.levels, ["a"], convolutions=1)}).eval()


def with_wrong_voxels(count):
    """Masks with the first ``count`` voxels of class 1 called background, far from torch's outputs everywhere."""

    def opens(model, window, expected):
        logits = expected["mask"] * 2
        first = (logits[0, 1] > logits[0, 0]).nonzero()[:count]
        for voxel in first.tolist():
            logits[(0, slice(None), *voxel)] = torch.tensor([9.0, -9.0])
        return lambda window: {"mask": logits}

    return opens


def bright(dims):
    """A window of which a network without training calls a part class 1."""
    window = torch.randn(1, 1, *(32,) * dims, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return window, unet(dims).outputs(window)["mask"].argmax(1).sum().item()


@pytest.mark.parametrize("dims", [2, 3])
def test_half_precision_is_used_where_it_keeps_the_masks(dims, monkeypatch, caplog):
    window, voxels = bright(dims)
    allowed = int(
        voxels * (2 - 2 * 0.999) / (2 - 0.999)
    )  # the Dice with n of v voxels missing is 2 (v - n) / (2 v - n)
    monkeypatch.setattr(backends, "in_half_precision", lambda device: ["half"])
    monkeypatch.setattr(backends, "LEAST_VOXELS", 10)
    monkeypatch.setitem(backends.OPEN, "half", with_wrong_voxels(allowed))
    kept = Backend(unet(dims), "half")
    monkeypatch.setitem(backends.OPEN, "half", with_wrong_voxels(allowed + 1))
    refused = Backend(unet(dims), "half")
    refused(window)
    assert refused.facts == {"backend": "torch", "difference": 0.0}
    assert "gives masks with a Dice of 0.99" in caplog.text
    monkeypatch.setitem(backends.OPEN, "half", with_wrong_voxels(allowed))
    kept(window)
    assert kept.facts["backend"] == "half"
    assert kept.facts["dice"] == pytest.approx(2 * (voxels - allowed) / (2 * voxels - allowed), abs=1e-5)


def test_half_precision_waits_for_a_window_with_a_mask(monkeypatch):
    monkeypatch.setattr(backends, "in_half_precision", lambda device: ["half"])
    monkeypatch.setitem(backends.OPEN, "half", with_wrong_voxels(0))
    window, voxels = bright(2)
    monkeypatch.setattr(backends, "LEAST_VOXELS", voxels)
    backend = Backend(unet(2), "half")
    backend(torch.zeros_like(window))
    assert backend.facts["backend"] == "torch"
    backend(window)
    assert backend.facts["backend"] == "half"


def test_half_precision_of_other_heads_is_compared_by_their_outputs(monkeypatch, caplog):
    def opens(model, window, expected):
        return lambda window: expected | {"boxes": torch.utils._pytree.tree_map(lambda x: x + 1, expected["boxes"])}

    monkeypatch.setattr(backends, "in_half_precision", lambda device: ["half"])
    monkeypatch.setattr(backends, "LEAST_VOXELS", 0)
    monkeypatch.setitem(backends.OPEN, "half", opens)
    backend = Backend(model(2), "half")
    backend(torch.randn(1, 1, 16, 16))
    assert backend.facts["backend"] == "torch"
    assert "backend half differs by" in caplog.text


def test_a_processor_without_bfloat16_computes_in_single_precision(monkeypatch, caplog):
    monkeypatch.setattr(runtimes, "cpu_computes_bfloat16", lambda: False)
    backend = Backend(unet(2), "half")
    backend(torch.randn(1, 1, 16, 16))
    assert backend.facts["backend"] == "torch"
    assert "does not compute bfloat16" in caplog.text


@pytest.mark.parametrize("name", ["half", "openvino, half"])
@pytest.mark.parametrize("dims", [2, 3])
def test_half_precision_rounds_to_bfloat16(name, dims):
    if name != "half":
        pytest.importorskip("openvino")
        if not runtimes.cpu_computes_bfloat16():
            pytest.skip("OpenVINO computes bfloat16 where the processor does")
    network, window = unet(dims), torch.randn(1, 1, *(16,) * dims)
    with torch.inference_mode():
        expected = network.outputs(window)
        found = runtimes.OPEN[name](network, window, expected)(window)["mask"]
    error = (found - expected["mask"]).abs().max() / expected["mask"].abs().max()
    assert found.dtype == torch.float32
    assert 1e-4 < error < 3e-2, "8 bits of a number are kept"
