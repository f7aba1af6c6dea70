"""Match the classes of a recipe's heads with those of its data set, by number and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cphloc.errors import InputError, Problem, RecipeError, did_you_mean
from cphloc.modeling.problems import problem_at
from cphloc.recipe.dataset import make_dataset
from cphloc.recipe.fields import Block
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue
from cphloc.structures.annotation import class_names
from cphloc.structures.merging import MergedClasses, Merging, Part, of_part

_PARTS: tuple[Part, ...] = ("mask", "boxes", "labels")


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


def merging(
    stated: Mapping[int, str] | Sequence[str],
    merged: Mapping[str, Mapping[int, str] | Sequence[str]],
    known: Mapping[int, str],
) -> Merging:
    """Return the classes of a head that merges classes of the data set.

    Args:
        stated: classes of the head, number -> name or names.
        merged: by class of the head, the classes of the data set it stands for; a class without any stands for the one
            of its own name.
        known: classes of the data set, number 1..K -> name.

    Raises:
        InputError: a class is not in the data set, is named twice, or is missing.

    >>> merging(["tumour"], {"tumour": ["glioma", "meningioma"]}, {1: "meningioma", 2: "glioma"}).members
    {1: {2: 'glioma', 1: 'meningioma'}}
    """
    numbers = {name: number for number, name in known.items()}
    members: dict[int, dict[int, str]] = {}
    used: dict[str, str] = {}
    for number, name in class_names(stated).items():
        of = merged.get(name, [name])
        members[number] = {}
        for one in of.values() if isinstance(of, Mapping) else of:
            if one not in numbers:
                msg = f"the data set has no class '{one}'; {did_you_mean(one, numbers) or f'use {_written(known)}'}"
                raise InputError(msg)
            if one in used:
                msg = f"the data set's class '{one}' is part of '{used[one]}' and of '{name}'; name it once"
                raise InputError(msg)
            used[one] = name
            members[number][numbers[one]] = one
    if missing := [name for name in numbers if name not in used]:
        msg = f"the data set's class '{missing[0]}' is missing; add it, or list it in `of` of a class"
        raise InputError(msg)
    if unknown := set(merged) - set(class_names(stated).values()):
        msg = f"merged_classes names '{min(unknown)}', which is no class of the head; name one of its classes"
        raise InputError(msg)
    return Merging(class_names(stated), members)


def mergings(recipe: Recipe, known: Mapping[int, str] | None = None) -> dict[str, Merging]:
    """Return the merging of every head that merges classes of the data set, by the name of the head.

    Args:
        recipe: a valid recipe.
        known: classes of the data set, number 1..K -> name; default those in the recipe, else `known_classes`.

    Raises:
        InputError: the classes do not match those of the data set.
    """
    merged = recipe.model.merged_classes
    if not merged:
        return {}
    known = known or _stored_classes(recipe) or known_classes(recipe) or dict(enumerate(_members(recipe), start=1))
    heads = recipe.model.heads
    return {name: merging(heads[name].args["classes"], merged[name], known) for name in heads if name in merged}


def model_classes(recipe: Recipe, known: Mapping[int, str]) -> Mapping[int, str]:
    """Return the classes of the data set together with those that the heads of a recipe merge."""
    heads = recipe.model.heads
    by_part: dict[Part, Merging] = {
        part: merged
        for name, merged in mergings(recipe, known).items()
        for part in _PARTS
        if part in catalogue.card("head", heads[name].type).gives
    }
    return MergedClasses(known, by_part) if by_part else known


def _stored_classes(recipe: Recipe) -> dict[int, str] | None:
    """Classes of the data set as a complete recipe states them in ``model.merged_classes``, with their numbers."""
    for by_class in recipe.model.merged_classes.values():
        numbered = [of for of in by_class.values() if isinstance(of, dict)]
        if len(numbered) == len(by_class):
            return dict(sorted((number, name) for of in numbered for number, name in of.items()))
    return None


def _members(recipe: Recipe) -> list[str]:
    """Names of the data set's classes in the order in which the first head that merges some states them."""
    name = next(iter(recipe.model.merged_classes))
    merged = recipe.model.merged_classes[name]
    stated = class_names(recipe.model.heads[name].args["classes"]).values()
    groups = [merged.get(one, [one]) for one in stated]
    return [member for of in groups for member in (of.values() if isinstance(of, dict) else of)]


def class_problems(recipe: Recipe, known: Mapping[int, str]) -> list[Problem]:
    """Return a problem for every head, and tolerance, whose classes are not those of the data set, number -> name."""
    found = [problem for problem in (_problem(recipe, name, known) for name in recipe.model.heads) if problem]
    return found or _tolerance_problems(recipe, known)


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
    merged = mergings(recipe, known)
    heads = {name: block if name in merged else _renumbered(block, known) for name, block in recipe.model.heads.items()}
    stored = {head: {of.classes[n]: dict(m) for n, m in of.members.items()} for head, of in merged.items()}
    blocks = recipe.model.model_copy(update={"heads": heads, "merged_classes": stored})
    return recipe.with_model(blocks)


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
    merged = recipe.model.merged_classes.get(name)
    try:
        matched(stated, known) if merged is None else merging(stated, merged, known)
    except InputError as error:
        what, fix = str(error).rsplit("; ", 1)
        return problem_at(recipe, ("model", "heads", name, "classes"), what, fix)
    return None


def _tolerance_problems(recipe: Recipe, known: Mapping[int, str]) -> list[Problem]:
    names = list(of_part(model_classes(recipe, known), "mask").values())
    what = "no class of the masks has this name"
    return [
        problem_at(recipe, ("nsd_tolerance_mm", name), what, did_you_mean(name, names) or f"use {', '.join(names)}")
        for name in recipe.nsd_tolerance_mm
        if name not in names
    ]


def _renumbered(block: Block, known: Mapping[int, str]) -> Block:
    return Block(type=block.type, **block.args | {"classes": dict(known)}) if block.args.get("classes") else block


def _named(known: Mapping[int, str], number: int | None) -> str:
    return f"'{known[number]}'" if number is not None and number in known else "none"


def _written(known: Mapping[int, str]) -> str:
    return f"{{{', '.join(f'{number}: {name}' for number, name in known.items())}}}"
