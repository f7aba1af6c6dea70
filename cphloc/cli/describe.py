"""``cphloc describe``: levels, strides, receptive fields, parameters, work and memory of a recipe's model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from cphloc.cli.result import Answer, overrides, recipe_arguments, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)


def run(options: argparse.Namespace) -> Answer:
    """Describe the model without allocating its weights; of a pipeline, that of each stage."""
    from cphloc.modeling.describe import describe
    from cphloc.zoo.starting import load_recipe

    recipe = load_recipe(options.recipe, overrides(options))
    if not recipe.stages:
        facts = describe(recipe).to_plain()
        return Answer(_text(facts), facts)
    described = {
        name: {"entry": stage.frozen.entry, "sees": stage.sees, **describe(recipe.stage_recipes[name]).to_plain()}
        for name, stage in recipe.stages.items()
    }
    total = sum(found["parameters"]["total"] for found in described.values())
    texts = [f"stage {name}: {of['entry']}, on {of['sees']}\n\n{_text(of)}" for name, of in described.items()]
    texts.append(f"all stages: {total / 1e6:.3f} M parameters; each computes its own patches")
    return Answer("\n\n\n".join(texts), {"stages": described, "parameters": {"total": total}})


def _text(facts: Mapping[str, Any]) -> str:
    """Tables of levels, sizes and work of one model."""
    head = ("stage", "channels", "stride", "receptive field", "cells of the patch")
    levels = [
        (
            level["stage"],
            level["channels"],
            _axes(level["stride"]),
            _axes(level["receptive_field"]),
            _axes(level["cells"]),
        )
        for level in facts["levels"]
    ]
    sizes = [(name, f"{count / 1e6:.3f} M parameters") for name, count in facts["parameters"].items()]
    work = [
        ("patch", _axes(facts["patch"])),
        ("multiply-adds", f"{facts['multiply_adds'] / 1e9:.3f} G a patch"),
        ("activations", f"{facts['activation_mb']:.1f} MB a patch (float32)"),
    ]
    return "\n\n".join(map(table, ([head, *levels], sizes, work)))


def _axes(values: Sequence[Any]) -> str:
    return " x ".join("all" if value is None else str(value) for value in values)
