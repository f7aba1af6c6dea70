"""Export networks as programs of torch (``.pt2``), which load without cphloc, checked against the model."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from cphloc.config import jsonio
from cphloc.errors import CphlocError
from cphloc.files import atomic
from cphloc.inference.export import TOLERANCE, Exported, Flat, described, drawn, shapes, traced
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe

FACTS = "cphloc.json"
"""Extra file of the program: preprocessing, classes and origin as JSON, as the metadata of an ONNX file."""


def export_torch(
    model: Model, recipe: Recipe, path: str | Path, source: str | None = None, tolerance: float = TOLERANCE
) -> Exported:
    """Write a recipe's model as a program of torch, for windows of the recipe's patch size.

    ``torch.export.load(path).module()(x)`` returns a tuple with the outputs of the heads, in the order of
    `Exported.outputs`; decoding them is not included.

    Args:
        model: with trained weights.
        recipe: the recipe of the model.
        path: file to write; an existing file is only replaced after the check has passed.
        source: name to store as the origin of the model; by default that of the recipe.
        tolerance: largest deviation to accept, relative to the largest magnitude of an output (at least 1).

    Raises:
        InputError: the recipe has no patch size, or a head's computation depends on the content of the image.
        CphlocError: the network cannot be exported, or the check fails; then no file is written.
    """
    example, facts = described(model, recipe, source)
    flat = Flat(model.cpu(), single=True).eval()
    inputs = drawn({"image": example}, batch=2)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        outputs = flat.named(*inputs.values())
        try:
            program = traced(flat, tuple(inputs.values()))
        except Exception as error:  # each part of the exporter raises errors of its own
            msg = f"the network cannot be exported: {str(error).strip().splitlines()[0]}"
            raise CphlocError(msg) from error
        with atomic(path) as temporary:
            torch.export.save(program, str(temporary))
            loaded = torch.export.load(str(temporary)).module()
            difference = max(_difference(flat, loaded, drawn({"image": example}, batch)["image"]) for batch in (1, 3))
            if not difference <= tolerance:
                msg = f"{path}: the exported program differs by {difference:.1e}, tolerance {tolerance:.0e}"
                raise CphlocError(f"{msg}; nothing was written")
            stated = jsonio.dumps({**facts, "outputs": list(outputs), "difference": difference})
            torch.export.save(program, str(temporary), extra_files={FACTS: stated})
    return Exported(Path(path), shapes(inputs), shapes(outputs), difference, tolerance)


def _difference(flat: Flat, loaded: torch.nn.Module, image: torch.Tensor) -> float:
    pairs = zip(loaded(image), flat(image), strict=True)
    return max(float((a - e).abs().max() / e.abs().max().clamp(min=1)) for a, e in pairs)
