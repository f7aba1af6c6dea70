"""Match the classes of a recipe's heads with those of its data set, by number and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cphloc.errors import InputError, Problem, RecipeError, did_you_mean
from cphloc.modeling.problems import problem_at
from cphloc.recipe.dataset import make_dataset
from cphloc.recipe.recipe import Block, Recipe


def matched(stated: Mapping[int, str] | Sequence[str], known: Mapping[int, str]) -> dict[int, str]:
    """Return the classes of a head with the numbers of the data set.

    Args:
        stated: classes of the head, number -> name as in the data set, or names in any order.
        known: classes of the data set, number 1..K -> name.

    Raises:
        InputError: a name or number is not in the data set, a number has another name there, or a class is missing.

    >>> matched(["posterior", "anterior"], {1: "anterior", 2: "posterior"})
    {1: 'anterior', 2: 'posterior'}
    """
    numbers = {name: number for number, name in known.items()}
    pairs = stated.items() if isinstance(stated, Mapping) else [(numbers.get(name), name) for name in stated]
    for number, name in pairs:
        if name not in numbers:
            fix = did_you_mean(name, numbers) or f"its classes are {_written(known)}"
            msg = f"the data set has no class '{name}'; {fix}"
            raise InputError(msg)
        if numbers[name] != number:
            msg = (
                f"class {number} is '{name}' here and {_named(known, number)} in the data set; write {_written(known)}"
            )
            raise InputError(msg)
    left_out = set(known) - {number for number, _ in pairs}
    if left_out:
        msg = f"the data set's class '{known[min(left_out)]}' is missing; write {_written(known)}"
        raise InputError(msg)
    return dict(known)


def class_problems(recipe: Recipe, known: Mapping[int, str]) -> list[Problem]:
    """Return a problem for every head whose classes are not those of the data set, number 1..K -> name."""
    return [problem for problem in (_problem(recipe, name, known) for name in recipe.model.heads) if problem]


def with_matched_classes(recipe: Recipe, known: Mapping[int, str]) -> Recipe:
    """Return the recipe with every head's classes numbered as in the data set.

    Args:
        recipe: a valid recipe.
        known: classes of the data set, number 1..K -> name.

    Raises:
        RecipeError: the classes of a head do not match those of the data set.
    """
    problems = class_problems(recipe, known)
    if problems:
        raise RecipeError(problems)
    heads = {name: _renumbered(block, known) for name, block in recipe.model.heads.items()}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"heads": heads})})


def known_classes(recipe: Recipe) -> dict[int, str] | None:
    """Return the classes of the recipe's data set, number 1..K -> name.

    If the data set cannot be opened, they are taken from the recipe or the registry card; ``None`` if neither has them.
    """
    try:
        return dict(make_dataset(recipe.data, recipe.dims).classes)
    except InputError:
        stated = recipe.data.args.get("classes") or recipe.dataset.classes
        return dict(enumerate(stated, start=1)) if isinstance(stated, list) else stated


def _problem(recipe: Recipe, name: str, known: Mapping[int, str]) -> Problem | None:
    stated = recipe.model.heads[name].args.get("classes")
    if stated is None:
        return None
    try:
        matched(stated, known)
    except InputError as error:
        what, fix = str(error).rsplit("; ", 1)
        return problem_at(recipe, ("model", "heads", name, "classes"), what, fix)
    return None


def _renumbered(block: Block, known: Mapping[int, str]) -> Block:
    return Block(type=block.type, **block.args | {"classes": dict(known)}) if block.args.get("classes") else block


def _named(known: Mapping[int, str], number: int | None) -> str:
    return f"'{known[number]}'" if number is not None and number in known else "none"


def _written(known: Mapping[int, str]) -> str:
    return f"{{{', '.join(f'{number}: {name}' for number, name in known.items())}}}"
