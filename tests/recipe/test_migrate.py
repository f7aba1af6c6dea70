from __future__ import annotations

import pytest

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
    before = recipe.load(path)
    found = [(str(r.where).rsplit(":", 2)[1:], r.path, r.old, r.new) for r in migrate(path)]
    assert found == [
        (["8", "11"], "model.neck.type", "feature_pyramid", "fpn"),
        (["9", "5"], "model.neck.width", "width", "channels"),
        (["11", "18"], "model.heads.mask.type", "u_net", "unet"),
    ]
    assert path.read_bytes() == NEW.replace("\n", newline).encode()
    assert recipe.load(path).to_yaml() == before.to_yaml()
    assert migrate(path) == []


HEADS = """\
  heads:
    boxes:  # what we look for
      type: fcos
      classes: [RBC, WBC, Platelets]
      score_threshold: 0.1  # many are faint
      channels: 16

      suppression: soft_nms_linear
      # crowded
      detections: 20   # per image
    more: {type: retina, classes: [WBC], channels: 16, nms_threshold: 0.3, low: 0.2, per_level: 50}
    last: {type: fcos, classes: [WBC], detections: 7}
"""

NEW_HEADS = """\
  heads:
    boxes:  # what we look for
      type: fcos
      classes: [RBC, WBC, Platelets]
      suppression: {type: soft_nms, kernel: linear, score: 0.1, limit: 20}  # many are faint
      channels: 16

      # crowded
    more: {type: retina, classes: [WBC], channels: 16, suppression: {iou: 0.3, pre_nms_topk: 50}, bg_iou: 0.2}
    last: {type: fcos, classes: [WBC], suppression: {limit: 7}}
"""


def test_thresholds_move_into_the_suppression_block(tmp_path):
    start = """\
task: detection
dims: 2
data: {type: bccd, patch: [64, 64]}
model:
  backbone: {type: conv_encoder, widths: [4, 4]}
"""
    path, child = tmp_path / "recipe.yaml", tmp_path / "child.yaml"
    path.write_text(start + HEADS)
    child.write_text("extends: recipe.yaml\nmodel: {heads: {last: {nms_threshold: 0.25}}}\n")
    before, below = recipe.load(path), recipe.load(child)
    assert len(migrate(path)) == 7
    assert len(migrate(child)) == 1
    assert path.read_text() == start + NEW_HEADS
    assert "{last: {suppression: {iou: 0.25}}}" in child.read_text()
    assert recipe.load(path).to_yaml() == before.to_yaml()
    assert recipe.load(child).to_yaml() == below.to_yaml()
    shared = {"score": 0.05, "pre_nms_topk": 1000}
    assert below.model.heads["last"].args["suppression"] == {"type": "nms", "iou": 0.25, **shared, "limit": 7}
    assert before.model.heads["boxes"].args["suppression"] == {
        **{"type": "soft_nms", "kernel": "linear", "sigma": 0.5, "iou": 0.6},
        **{"score": 0.1, "pre_nms_topk": 1000, "limit": 20},
    }


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ({"model.heads.boxes.nms_threshold": 0.2}, {"iou": 0.2}),
        (
            {"model.heads.boxes": {"detections": 5}, "model.heads.boxes.score_threshold": 0.3},
            {"limit": 5, "score": 0.3},
        ),
        ({"model.heads.boxes.score_threshold": 0.3, "model.heads.boxes.suppression": "nms"}, {"score": 0.3}),
        ({"model.heads.boxes.suppression": {"iou": 0.1}}, {"iou": 0.1}),
    ],
)
def test_overrides_by_earlier_names_change_what_they_name(override, changed):
    default = {"type": "nms", "iou": 0.6, "score": 0.05, "pre_nms_topk": 1000, "limit": 100}
    assert recipe.load("fcos", override).model.heads["boxes"].args["suppression"] == default | changed


def test_phantom_recipes_with_earlier_argument_names_load_as_with_todays(tmp_path):
    text = """\
task: detection
dims: 2
data: {{type: phantom, size: [32, 32], {}: 2.0, patch: [32, 32], {}: {{test: left}}, {}: 5}}
model:
  backbone: {{type: conv_encoder, widths: [4, 4]}}
  heads: {{boxes: {{type: fcos, classes: [mass]}}}}
"""
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(text.format("loose", "half", "first"))
    new.write_text(text.format("box_scale", "placement", "max_train_cases"))
    assert recipe.load(old).data == recipe.load(new).data
    assert recipe.load(new, {"data.first": 3, "data.loose": 4.0}).data.args["max_train_cases"] == 3
    migrate(old)
    assert old.read_text() == new.read_text()
