"""Models of nnU-Net become entries that predict what nnU-Net predicted (``make_references.py``), or are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cphloc
from cphloc.cli import main
from cphloc.data.io.read import read_volume
from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.importing.entry import Terms, publish_imported, recipe_of
from cphloc.importing.nnunet import import_nnunet
from cphloc.importing.nnunet_folder import extract
from cphloc.importing.proof import compare
from cphloc.inference.localizer import Localizer
from cphloc.modeling.ensemble import member_weights
from cphloc.publishing.verify import verify
from cphloc.structures.options import Options
from cphloc.zoo.weights import build_with_weights

MODELS = Path(__file__).parent / "nnunet"
TERMS = Terms("CC0-1.0", "Nobody 2026", "random weights of the test suite")


def localizer_of(imported):
    recipe = recipe_of(imported, "small", TERMS)
    localizer = Localizer(build_with_weights(recipe, member_weights(imported.weights), "small"), recipe)
    localizer.options = Options(**imported.options)
    return localizer


@pytest.mark.parametrize("name", ["folds", "residual", "slices", "regions"])
def test_it_predicts_what_nnunet_predicts(name):
    localizer = localizer_of(import_nnunet(MODELS / name / "model.zip"))
    proof = compare(localizer, MODELS / name, "reference")
    assert proof.version == "2.7.0"
    assert proof.outputs <= 1e-4 * max(1, proof.scale)
    assert proof.differing <= 2, proof
    assert len(np.unique(read_volume(MODELS / name / "case.nii.gz").array)) == 3  # every class occurs


@pytest.mark.parametrize("field", ["separate", "axes", "orientation"])
def test_every_step_of_the_preparation_matters(field):
    imported = import_nnunet(MODELS / "folds" / "model.zip")
    wrong = {"separate": False, "axes": [0, 1, 2], "orientation": "RAS"}
    steps = {**imported.recipe["data"]["nnunet"], field: wrong[field]}
    data = {**imported.recipe["data"], "nnunet": steps}
    changed = localizer_of(type(imported)(**{**vars(imported), "recipe": {**imported.recipe, "data": data}}))
    with pytest.raises(DataError, match="voxels of masks differ"):
        compare(changed, MODELS / "folds", "reference")


def test_an_imported_entry_states_its_proof_and_loads(tmp_path):
    arguments = ["--name", "small", "--version", "1.0.0", "--licence", "CC0-1.0", "--citation", "Nobody 2026"]
    arguments += ["--origin", "the test suite", "--to", str(tmp_path), "--reference", str(MODELS / "regions")]
    assert main(["import", "nnunet", str(MODELS / "regions" / "model.zip"), *arguments]) == 0
    folder = tmp_path / "small" / "1.0.0"
    card = (folder / "card.md").read_text().splitlines()
    assert card[2].startswith("**Proven equal to nnunetv2 2.7.0** on 1 inputs: outputs")
    assert any("CC0-1.0" in line for line in card)
    checks = verify(f"{folder}/")
    assert all(check.right for check in checks), [check for check in checks if not check.right]
    model = cphloc.load(folder)
    assert model.classes == {1: "whole", 2: "core"}
    assert model.predict(MODELS / "regions" / "case_0000.nii.gz").masks.shape == (11, 24, 22)


def test_without_proof_the_first_line_of_the_card_says_so(tmp_path):
    publish_imported(import_nnunet(MODELS / "residual" / "model.zip"), "small", "1.0.0", TERMS, tmp_path)
    assert (tmp_path / "small" / "1.0.0" / "card.md").read_text().splitlines()[2].startswith("**Not proven**")
    with pytest.raises(InputError, match="immutable"):
        publish_imported(import_nnunet(MODELS / "residual" / "model.zip"), "small", "1.0.0", TERMS, tmp_path)


def test_other_weights_are_not_proven_and_not_written(tmp_path):
    imported = import_nnunet(MODELS / "residual" / "model.zip")
    with pytest.raises(DataError, match="not equal to the reference"):
        publish_imported(imported, "small", "1.0.0", TERMS, tmp_path, reference=MODELS / "folds")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("missing", ["licence", "citation", "origin"])
def test_licence_citation_and_origin_must_be_stated(missing):
    with pytest.raises(InputError, match=missing):
        Terms(**{"licence": "CC0", "citation": "x", "origin": "y", missing: " "})


def changed(tmp_path, edit):
    """Folder of a model with edited plans and data set."""
    extract(MODELS / "regions" / "model.zip", tmp_path)
    plans, dataset = next(tmp_path.rglob("plans.json")), next(tmp_path.rglob("dataset.json"))
    contents = [json.loads(path.read_text()) for path in (plans, dataset)]
    edit(contents[0], contents[0]["configurations"]["3d_fullres"], contents[1])
    for path, content in zip((plans, dataset), contents, strict=True):
        path.write_text(json.dumps(content))
    return plans.parent


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda plans, of, data: of.update(previous_stage="3d_lowres"), "cascade"),
        (lambda plans, of, data: of.update(normalization_schemes=["MyNormalization"]), "MyNormalization"),
        (lambda plans, of, data: of.update(resampling_fn_data="resample_torch"), "resample_torch"),
        (lambda plans, of, data: of["resampling_fn_data_kwargs"].update(order_z=1), "order_z"),
        (lambda plans, of, data: of["architecture"].update(network_class_name="a.Primus"), "Primus"),
        (lambda plans, of, data: of["architecture"]["arch_kwargs"].update(nonlin="torch.nn.GELU"), "GELU"),
        (lambda plans, of, data: plans.update(image_reader_writer="MyIO"), "MyIO"),
        (lambda plans, of, data: data.update(regions_class_order=[2, 1]), "regions_class_order"),
        (lambda plans, of, data: of.update(preprocessor_name="Mine"), "Mine"),
    ],
    ids=["cascade", "normalization", "resampling", "order_z", "network", "activation", "reader", "regions", "prepared"],
)
def test_what_an_entry_cannot_express_is_refused_by_name(tmp_path, edit, named):
    with pytest.raises(InputError, match=named):
        import_nnunet(changed(tmp_path, edit))


def test_plans_from_before_nnunet_2_4_are_read(tmp_path):
    def former(plans, of, data):
        kwargs = of.pop("architecture")["arch_kwargs"]
        of.update(UNet_class_name="PlainConvUNet", UNet_base_num_features=3, unet_max_num_features=6)
        of.update(n_conv_per_stage_encoder=[2, 2, 2], n_conv_per_stage_decoder=[2, 2])
        of.update(conv_kernel_sizes=kwargs["kernel_sizes"], pool_op_kernel_sizes=kwargs["strides"])

    imported = import_nnunet(changed(tmp_path, former))
    assert imported.recipe["model"]["backbone"]["widths"] == [3, 6, 6]


def test_a_folder_that_holds_none_or_several_models_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match=r"plans\.json"):
        import_nnunet(tmp_path)
    for name in ("a", "b"):
        extract(MODELS / "regions" / "model.zip", tmp_path / name)
    with pytest.raises(InputError, match="2 trained configurations"):
        import_nnunet(tmp_path)
    shutil.rmtree(next((tmp_path / "a").rglob("fold_0")))
    with pytest.raises(NotFoundError, match="no fold"):
        import_nnunet(tmp_path / "a")


def test_a_fold_that_was_not_finished_is_named_on_the_card(tmp_path):
    extract(MODELS / "folds" / "model.zip", tmp_path)
    next(tmp_path.rglob("fold_1")).joinpath("checkpoint_final.pth").unlink()
    imported = import_nnunet(tmp_path)
    assert len(imported.weights) == 1
    assert imported.remarks == ("It lacks the folds 1, which have no checkpoint_final.pth.",)
