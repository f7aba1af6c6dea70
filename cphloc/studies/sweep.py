"""Search for the best values of a recipe by Optuna: trials are runs, pruned early by validation, and resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cphloc.errors import InputError, needs
from cphloc.recipe.recipe import Recipe
from cphloc.studies.search import Pruner, Search, Sweep
from cphloc.studies.search_space import check_space, read_space
from cphloc.zoo.starting import load_recipe

__all__ = ["SWEEPS", "Pruner", "Search", "Sweep", "sweep"]

SWEEPS = Path("sweeps")
"""Default folder for sweeps, in the working folder."""


def sweep(
    source: str | Path | Mapping[str, Any] | Recipe,
    space: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    trials: int = 20,
    minutes: float | None = None,
    seed: int = 0,
    pruner: Pruner = "median",
    out: str | Path | None = None,
) -> Sweep:
    """Search for the values of a recipe with the best validation metric, ``train.best`` or that of the task.

    A sweep that was interrupted, or that had fewer trials, is continued where its folder is found, and chooses the
    values that it would have chosen without the interruption; they depend on the seed and the earlier trials alone.

    Args:
        source: the recipe; its block ``sweep`` is the search space: dotted key -> ``{low, high, log, step}`` or a list
            of choices.
        space: instead, a mapping or a YAML file with the search space.
        overrides: values by dotted key, the same in all trials.
        trials: number of trials in all, those of earlier calls included.
        minutes: no trial is begun after this time; ``None`` for no limit.
        seed: of the search; the trainings keep the seed of the recipe.
        pruner: which trials are stopped early.
        out: folder; default ``sweeps/<recipe>``.

    Raises:
        MissingExtraError: Optuna is not installed.
        RecipeError: the recipe, the space, or a value of the space is invalid.
        InputError: the folder holds another sweep, or another process works in it.
        CphlocError: no trial was completed.
    """
    with needs("cphloc sweep"):
        import optuna
    recipe, found = load_recipe(_without_space(source), overrides), read_space(source, space)
    check_space(recipe, found)
    if trials < 1:
        msg = f"--trials must be at least 1, got {trials}"
        raise InputError(msg)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(out) if out is not None else SWEEPS / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        search = Search(recipe, found, seed, pruner, folder)
        search.run(trials, minutes)
        return search.result()


def _without_space(source: Any) -> Any:
    return {k: v for k, v in source.items() if k != "sweep"} if isinstance(source, Mapping) else source


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work on the sweep in a folder.

    Raises:
        InputError: another one does.
    """
    import filelock

    try:
        with filelock.FileLock(folder / ".sweep.lock", timeout=1.0):
            yield
    except filelock.Timeout:
        msg = f"{folder}: another process works on this sweep; wait until it has ended, or choose another --out"
        raise InputError(msg) from None
