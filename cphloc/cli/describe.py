"""``cphloc describe``: levels, strides, receptive fields, parameters, work and memory of a recipe's model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from cphloc.cli.result import Answer, overrides, recipe_arguments, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe_arguments(parser)


def run(options: argparse.Namespace) -> Answer:
    """Describe the model without allocating its weights."""
    from cphloc.modeling.describe import describe
    from cphloc.zoo.starting import load_recipe

    facts = describe(load_recipe(options.recipe, overrides(options))).to_plain()
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
    return Answer("\n\n".join(map(table, ([head, *levels], sizes, work))), facts)


def _axes(values: Sequence[Any]) -> str:
    return " x ".join("all" if value is None else str(value) for value in values)
