from __future__ import annotations

import subprocess
import sys

import pytest

from cphloc.errors import NotFoundError
from cphloc.publishing.audit import audit


def unsafe(folder):
    return {line.name for line in audit(folder) if not line.safe}


def test_every_component_package_version_and_hash_is_named(published):
    from importlib.metadata import version

    lines = {(line.kind, line.name): line for line in audit(published)}
    assert all(line.safe for line in lines.values())
    assert "cphloc.components.backbone.conv_encoder:ConvEncoder" in lines["backbone", "conv_encoder"].what
    assert version("cphloc") in lines["head", "unet"].what
    assert lines["optimizer", "AdamW"].what.startswith("allowed by name")
    assert "sha256" in lines["file", "model.safetensors"].what
    assert ("dataset", "phantom") in lines


def test_a_recipe_alone_can_be_audited(published):
    kinds = [line.kind for line in audit(published / "recipe.yaml")]
    assert kinds[0] == "recipe"
    assert "file" not in kinds


@pytest.mark.parametrize("name", ["hook.py", "weights.pkl"])
def test_a_stray_file_is_found(published, name):
    (published / name).write_text("import os")
    assert unsafe(published) == {name}


def test_weights_that_are_no_safetensors_are_found(published):
    import pickle

    (published / "model.safetensors").write_bytes(pickle.dumps(list(range(1000))))
    assert unsafe(published) == {"model.safetensors"}


def test_a_changed_recipe_is_found(published):
    path = published / "recipe.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    assert "recipe.yaml" in unsafe(published)


def test_an_audit_imports_neither_torch_nor_components(published):
    code = (
        "import sys; from cphloc.publishing.audit import audit;"
        f"audit({str(published)!r});"
        "print([m for m in sys.modules if m == 'torch' or m.startswith('cphloc.components')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_neither_entry_nor_recipe_is_one_clear_error(published):
    with pytest.raises(NotFoundError, match="no entry or recipe"):
        audit("nothing-of-the-kind")
