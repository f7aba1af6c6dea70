"""Pipelines of models that find what is brighter than 0.5, without training."""

from __future__ import annotations

from typing import Any

import torch
from brightness_model import Bright, Pixels, localizer

from cphloc.inference.pipeline import Pipeline
from cphloc.modeling.model import Model
from cphloc.modeling.staged import StagedModel
from cphloc.ops.targets import Detections, Prediction
from cphloc.recipe.recipe import load


class Finds(Bright):
    """What is brighter than a threshold: of the parts that `Bright` predicts, only some.

    Args:
        parts: fields of `Prediction` that are kept.
        above: brightness.
        score: of the box.
    """

    def __init__(self, *parts: str, above: float = 0.5, score: float = 0.8) -> None:
        super().__init__()
        self.parts, self.above, self.score = parts, above, score

    def decode(self, outputs: torch.Tensor) -> Prediction:
        inside = (outputs.mean(dim=1) > self.above).float()
        where = inside[0].nonzero().float()
        found = len(where) > 0
        boxes = torch.cat([where.amin(0), where.amax(0) + 1])[None] if found else torch.zeros(0, 2 * inside[0].dim())
        ones = torch.ones(len(boxes))
        everything = Prediction(
            mask_probabilities=torch.stack([1 - inside, inside], 1),
            detections=[Detections(boxes, self.score * ones, ones.long())],
            attention=inside / inside.sum().clamp(min=1),
            label_probabilities=inside.flatten(1).amax(1, keepdim=True),
        )
        return Prediction(**{part: getattr(everything, part) for part in self.parts})


MASK, BOXES, LABELS = "mask_probabilities", "detections", "label_probabilities"


HEADS = {MASK: "unet", BOXES: "retina", LABELS: "gap"}


def stored(dims: int, name: str, part: str) -> dict[str, Any]:
    """What the recipe of a pipeline keeps of the entry of a stage that predicts a part."""
    recipe = localizer(dims).recipe.to_plain()
    head = {"head": {"type": HEADS[part], "classes": {1: "bright"}}}
    recipe = load({**recipe, "model": {**recipe["model"], "heads": head}}).to_plain()
    inputs = {"a": {"modality": None, "unit": "arbitrary", "factor": 1.0}}
    return {"entry": f"{name}@1.0.0", "sha256": "0" * 64, "recipe": recipe, "inputs": inputs}


def pipeline(dims: int, stages: dict[str, tuple[Finds, dict[str, Any]]]) -> Pipeline:
    """A pipeline of stages by name: a head, and further keys of the stage such as ``crop``."""
    data = {"type": "image_folder", "root": ".", "classes": ["bright"], "channels": ["a"]}
    of_stages = {
        n: {"entry": f"{n}@1.0.0", "stored": stored(dims, n, head.parts[0]), **more}
        for n, (head, more) in stages.items()
    }
    recipe = load({"name": "staged", "task": "pipeline", "dims": dims, "data": data, "stages": of_stages})
    networks = {name: Model(Pixels(dims), None, {"all": head}) for name, (head, _) in stages.items()}
    return Pipeline(StagedModel(networks), recipe)
