"""Make a run of a pipeline, whose stages were trained before, so that it is evaluated and published like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from cphloc.config import jsonio
from cphloc.data.fingerprint import fingerprint
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.seen import OF_STAGES, SeenData
from cphloc.errors import DataError, Problem, RecipeError
from cphloc.evaluation.unseen import published_data
from cphloc.modeling.build import blueprint
from cphloc.modeling.problems import problem_at
from cphloc.recipe.recipe import Recipe, load
from cphloc.tracking.provenance import run_tags
from cphloc.tracking.run import Place, Run
from cphloc.tracking.tracker import Tracker
from cphloc.training.checkpoint import BEST
from cphloc.training.facts import recipe_facts
from cphloc.zoo.entries import Listing
from cphloc.zoo.resolve import resolve_entry
from cphloc.zoo.stored import content_of
from cphloc.zoo.weights import read_weights, write_weights


def pipeline_run(recipe: Recipe, place: Place) -> Run:
    """Make the run of a pipeline: its recipe with those of its stages, and the weights of all stages in one file.

    Nothing is trained. The run keeps the cases that the stages were trained on, none of which may be evaluated.

    Args:
        recipe: a pipeline, with what the entries of its stages state.
        place: where the run is made.

    Raises:
        RecipeError: the classes of the last stage are not those of the data set.
        DataError: an entry is not the one that the recipe holds, or a file of it is damaged.
        NotFoundError: an entry or the data set is not there.
    """
    entries = {name: _entry_of(recipe, name) for name in recipe.stages}
    dataset = open_dataset(recipe.data, recipe.dims)
    if problems := class_problems(recipe, dataset.classes):
        raise RecipeError(problems)
    own = SeenData.of_dataset(dataset, ("train", "val"))
    seen, exact = _with_stages(own, entries), _exact(recipe)
    contents = ((f"{split}/{id}", case.content) for split, cases in own.cases.items() for id, case in cases.items())
    facts = {"data_fingerprint": fingerprint(contents), "training_images": None, **recipe_facts(exact)}
    weights = {f"{name}.{key}": value for name, entry in entries.items() for key, value in _weights(entry).items()}
    experiment = place.experiment or f"cphloc/{recipe.name}"

    def fill(run: Run) -> None:
        """Write the files of the run."""
        write_weights(run.folder / BEST, weights)
        seen.write(run.folder)
        facts["recipe_file_sha256"] = run.recipe_digest
        (run.folder / "facts.json").write_text(jsonio.dumps(facts, indent=2) + "\n", encoding="utf-8")
        tracker = Tracker(run.folder, experiment, place.name or run.title)
        tracker.params({"task": exact.task, "dims": exact.dims, "stages": _names(exact), **facts})
        tracker.tags(run_tags(run, facts["git_commit"], place.parent))
        tracker.artifact(run.folder / "recipe.yaml")
        millions = sum(value.numel() for value in weights.values()) / 1e6
        run.with_results({"size/params_m": millions}, [])

    run = Run.create(exact, place, fill)
    Tracker(run.folder, experiment, place.name or run.title, place.runs).end()
    return Run.open(run.folder)


def class_problems(recipe: Recipe, known: Mapping[int, str]) -> list[Problem]:
    """List where the classes of the last stage of a pipeline are not those of the data set, by number and name.

    Args:
        recipe: the pipeline.
        known: classes of the data set, number 1..K -> name.
    """
    *_, last = recipe.stages
    wrong = [f"{number} {name}" for number, name in blueprint(recipe).classes.items() if known.get(number) != name]
    if not wrong:
        return []
    what = f"the last stage predicts {', '.join(wrong)}, which are no classes of the data"
    fix = f"classes of the data: {', '.join(f'{number} {name}' for number, name in known.items())}"
    return [problem_at(recipe, ("stages", last, "entry"), what, fix)]


def _entry_of(recipe: Recipe, name: str) -> Listing:
    """Find the entry of a stage, and check that it is the one that the recipe holds."""
    stage = recipe.stages[name]
    found = resolve_entry(stage.entry)
    if found.sha256 != stage.frozen.sha256:
        msg = (
            f"stages.{name}: {found} is not the {stage.frozen.entry} that the recipe holds, which had the sha256 "
            f"{stage.frozen.sha256[:12]}...; remove 'stored' of the stage to take the entry as it is now"
        )
        raise DataError(msg)
    return found


def _weights(entry: Listing) -> dict[str, Tensor]:
    return read_weights(content_of(entry.weights_path(), entry.entry.weights, f"{entry}: weights"), f"{entry}: weights")


def _exact(recipe: Recipe) -> Recipe:
    """Return the recipe with the exact version of every entry, instead of a range or a folder."""
    plain = recipe.to_plain()
    for stage in plain["stages"].values():
        stage["entry"] = stage["stored"]["entry"]
    return load(plain)


def _names(recipe: Recipe) -> str:
    return ", ".join(f"{name} {stage.frozen.entry}" for name, stage in recipe.stages.items())


def _with_stages(own: SeenData, entries: Mapping[str, Listing]) -> SeenData:
    """Add the training and validation cases of the stages, which entries of earlier versions do not list."""
    cases = {split: dict(of) for split, of in own.cases.items()}
    for name, entry in entries.items():
        known = published_data(entry)
        for split, key in OF_STAGES.items():
            cases.setdefault(key, {}).update(
                {f"{name}/{id}": c for id, c in (known.cases if known else {}).get(split, {}).items()}
            )
    return replace(own, cases=cases, unused={key: own.unused.get(key, []) for key in cases})
