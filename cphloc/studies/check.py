"""Check that every arm of a study can be trained, before the first of them is."""

from __future__ import annotations

from dataclasses import replace

from cphloc.errors import Problem
from cphloc.studies.study import Study
from cphloc.training.check import check as check_recipe


def check(study: Study) -> list[Problem]:
    """Check data, model and training of every arm as `cphloc.training.check.check` does; nothing is trained.

    Args:
        study: the study; without models there is nothing to check.

    Returns:
        the problems, each with the arms that have it unless all have; empty where every arm can be trained.
    """
    arms: dict[Problem, dict[str, None]] = {}
    for cell in study.cells:
        recipes = cell.recipes(study.name, study.seeds[0], study.text.vary)
        for problem in (problem for recipe in recipes for problem in check_recipe(recipe).problems):
            arms.setdefault(problem, {})[cell.arm] = None
    everywhere = {cell.arm: None for cell in study.cells}
    return [p if of == everywhere else replace(p, what=f"{', '.join(of)}: {p.what}") for p, of in arms.items()]
