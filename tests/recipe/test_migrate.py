from __future__ import annotations

import pytest

from cphloc.errors import RecipeError
from cphloc.recipe import recipe
from cphloc.recipe.migrate import migrate

OLD = """\
# The old names.
task: segmentation
dims: 3
data: {type: sarcoma, patch: [48, 80, 80]}
model:
  backbone: {type: conv_encoder}   # stays
  neck:
    type: "feature_pyramid"  # feature_pyramid was its name
    width:   96    # of each level
  heads:
    mask: {type: u_net, classes: [tumour]}
"""

NEW = """\
# The old names.
task: segmentation
dims: 3
data: {type: sarcoma, patch: [48, 80, 80]}
model:
  backbone: {type: conv_encoder}   # stays
  neck:
    type: "fpn"  # feature_pyramid was its name
    channels:   96    # of each level
  heads:
    mask: {type: unet, classes: [tumour]}
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_renamed_words_change(tmp_path, fixture_registry, newline):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(OLD.replace("\n", newline).encode())
    with pytest.raises(RecipeError, match="cphloc migrate"):
        recipe.load(path)
    found = [(str(r.where).rsplit(":", 2)[1:], r.path, r.old, r.new) for r in migrate(path)]
    assert found == [
        (["8", "11"], "model.neck.type", "feature_pyramid", "fpn"),
        (["9", "5"], "model.neck.width", "width", "channels"),
        (["11", "18"], "model.heads.mask.type", "u_net", "unet"),
    ]
    assert path.read_bytes() == NEW.replace("\n", newline).encode()
    recipe.load(path)
    assert migrate(path) == []
