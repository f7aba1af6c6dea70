"""U-Nets of segmentation-models-pytorch become entries with its outputs, or are refused."""

import json

import numpy as np
import pytest
import torch
from foreign_networks import network
from PIL import Image

from cphloc.cli import main
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.importing.entry import Terms, recipe_of
from cphloc.importing.proof import compare
from cphloc.importing.smp import import_smp
from cphloc.inference.localizer import Localizer
from cphloc.modeling.ensemble import member_weights
from cphloc.zoo.weights import build_with_weights

smp = pytest.importorskip("segmentation_models_pytorch")
from segmentation_models_pytorch.encoders._preprocessing import preprocess_input  # noqa: E402


def localizer_of(imported):
    recipe = recipe_of(imported, "small", Terms("MIT", "x", "y"))
    return Localizer(build_with_weights(recipe, member_weights(imported.weights), "small"), recipe)


@pytest.mark.parametrize(
    ("options", "classes", "scores"),
    [
        ({"classes": 3}, ["a", "b"], "softmax"),
        ({"encoder_name": "tu-efficientnet_lite0", "in_channels": 1}, ["a"], "sigmoid"),
        ({"encoder_depth": 3, "classes": 2}, ["a", "b"], "sigmoid"),
    ],
    ids=["softmax", "timm", "shallow"],
)
def test_outputs_are_those_of_smp(tmp_path, options, classes, scores):
    theirs = network(**options)
    theirs.save_pretrained(tmp_path)
    single = {"mean": [0.5], "std": [0.25]} if options.get("in_channels") == 1 else {}
    localizer = localizer_of(import_smp(tmp_path, classes, **single))
    assert localizer.model.heads["mask"].scores == scores
    x = torch.randn(1, options.get("in_channels", 3), 64, 96)
    with torch.no_grad():
        assert torch.allclose(localizer.model(x), theirs(x), atol=1e-5)


def test_a_picture_is_normalized_as_smp_does(tmp_path):
    theirs = network(classes=3)
    theirs.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "case_0000.png")
    normalized = preprocess_input(pixels, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], input_range=[0, 1])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(normalized).permute(2, 0, 1)[None].float()).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    Image.fromarray(expected.astype(np.uint8)).save(tmp_path / "case.png")
    proof = compare(localizer_of(import_smp(tmp_path, ["a", "b"])), tmp_path, "reference")
    assert proof.voxels == 64 * 96
    assert proof.differing <= 2


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"decoder_attention_type": "scse"}, "decoder_attention_type scse"),
        ({"encoder_name": "mit_b0"}, "the encoder mit_b0"),
        ({"aux_params": {"classes": 2}}, "aux_params"),
        ({"new_argument": 3}, "the argument new_argument"),
        ({"classes": 5}, "5 outputs"),
        ({"in_channels": 4}, "takes 4 channels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_recipe_cannot_express_is_refused_by_name(tmp_path, changed, named):
    config = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 3, "in_channels": 3, **changed}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=named):
        import_smp(tmp_path / "a.pth", ["a", "b"])


def test_every_other_network_of_smp_is_refused_by_name(tmp_path):
    others = {made.__name__ for made in smp.MODEL_ARCHITECTURES_MAPPING.values()} - {"Unet"}
    assert {"UnetPlusPlus", "FPN", "DeepLabV3Plus", "MAnet", "UPerNet", "Segformer", "PSPNet", "PAN"} <= others
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    for name in others:
        (tmp_path / "config.json").write_text(json.dumps({"_model_class": name, "encoder_name": "resnet18"}))
        with pytest.raises(InputError, match=f"a network with _model_class {name} cannot be imported: known is Unet"):
            import_smp(tmp_path / "a.pth", ["a"])


def test_a_hostile_checkpoint_is_refused_and_named(tmp_path, hostile):
    (tmp_path / "config.json").write_text(json.dumps({"_model_class": "Unet", "encoder_name": "resnet18"}))
    with pytest.raises(DataError, match=r"posix\.system"):
        import_smp(hostile(tmp_path / "a.pth"), ["a"])
    assert not (tmp_path / "mark").exists()


def test_a_checkpoint_alone_says_what_lacks(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(NotFoundError, match=r"has no config\.json beside it"):
        import_smp(tmp_path / "a.pth", ["a"])
    with pytest.raises(NotFoundError, match="holds neither"):
        import_smp(tmp_path, ["a"])


def test_options_of_another_framework_are_refused(capsys):
    terms = ["--licence", "MIT", "--citation", "x", "--origin", "y", "--name", "a", "--version", "1.0.0"]
    assert main(["import", "smp", "nowhere", *terms, "--folds", "0"]) == 2
    assert "--folds is for nnunet; leave it out for smp" in capsys.readouterr().err
