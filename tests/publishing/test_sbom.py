"""The bill of materials of an entry, checked by the validator of cyclonedx-python-lib."""

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cphloc import paths
from cphloc.cli.main import main
from cphloc.publishing.sbom import bill_of_materials
from cphloc.zoo.entries import list_entries
from cphloc.zoo.entry import File
from cphloc.zoo.stored import stored_recipe

SHIPPED = list_entries(zoos=[str(paths.shipped("zoo"))])


def faults(text):
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


@pytest.mark.parametrize("listing", SHIPPED, ids=str)
def test_it_is_valid_and_names_every_file_with_its_hash(listing):
    bill = bill_of_materials(listing.entry, stored_recipe(listing), listing.content)
    assert faults(json.dumps(bill)) is None
    files = [part for part in bill["components"] if part["bom-ref"].startswith("file/")]
    stated = {part["name"]: part["hashes"][0]["content"] for part in files}
    there = {str(path.relative_to(listing.place)) for path in listing.place.rglob("*") if path.is_file()}
    assert stated == {name: File.of(listing.place / name).sha256 for name in there}
    kinds = {part["type"] for part in bill["components"]}
    assert kinds == {"machine-learning-model", "data", "file", "library"}
    torch = next(part for part in bill["components"] if part["name"] == "torch")
    assert torch["purl"] == f"pkg:pypi/torch@{listing.entry.origin.packages['torch']}"


def test_a_fault_would_be_found(published):
    bill = json.loads((published / "sbom.cdx.json").read_text())
    assert faults(json.dumps(bill)) is None
    assert faults(json.dumps(bill | {"components": [{"type": "model"}]})) is not None


@pytest.mark.parametrize("published", [2, 3], indirect=True)
def test_publishing_writes_it_with_the_model_card(published):
    bill = json.loads((published / "sbom.cdx.json").read_text())
    weights = next(part for part in bill["components"] if part["type"] == "machine-learning-model")
    assert weights["hashes"] == [{"alg": "SHA-256", "content": File.of(published / "model.safetensors").sha256}]
    [dice, of_class] = weights["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (dice["type"], float(dice["value"]), of_class["slice"]) == ("dice", pytest.approx(0.8), "test, mass")
    assert weights["modelCard"]["considerations"]["useCases"] == ["Tests of the zoo; nothing else."]
    assert ("backbone", "conv_encoder") in {(part.get("group"), part["name"]) for part in bill["components"]}


def test_audit_writes_it_for_an_entry_and_not_for_a_recipe(published, tmp_path, capsys):
    out = tmp_path / "sbom.json"
    assert main(["audit", str(published), "--sbom", str(out)]) == 0
    assert "entry.yaml" in {part["name"] for part in json.loads(out.read_text())["components"]}
    assert main(["audit", str(published / "recipe.yaml"), "--sbom", str(out)]) == 2
    assert "--sbom" in capsys.readouterr().err
