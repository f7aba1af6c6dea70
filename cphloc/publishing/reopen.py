"""Turn a published version back into a run, to measure the same weights again and publish them anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from cphloc.config import jsonio
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash, fingerprint
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.seen import SeenData
from cphloc.errors import DataError, InputError
from cphloc.structures.options import ChosenOptions
from cphloc.structures.split import OUT_OF_FOLD, SPLITS
from cphloc.tracking.chosen import write_options
from cphloc.tracking.run import Place, Run
from cphloc.tracking.tracker import Tracker
from cphloc.zoo.entries import Listing
from cphloc.zoo.stored import content_of, stored_recipe

CURVES = "pictures/curves.png"
"""Picture of the training, which cannot be drawn again from the weights."""


def reopen(listing: Listing) -> Run:
    """Make a run of a published version: its recipe, weights, options and origin, but none of its measurements.

    The data set must be the one that the version was published with; the run states its cases, so that neither
    evaluating nor publishing it can use a case that the weights depend on.

    Args:
        listing: the version.

    Returns:
        the run ``runs/<recipe>/<name>-<version>``; the one there is, if the version was reopened before.

    Raises:
        InputError: the version is an ensemble of a cross-validation.
        DataError: a file of the entry is not the one that was published, or the data set is another one.
    """
    entry = listing.entry
    if entry.evaluation.split == OUT_OF_FOLD:
        msg = (
            f"{listing}: is an ensemble of a cross-validation, whose single networks it does not hold; publish its run"
        )
        raise InputError(msg)
    recipe = stored_recipe(listing)
    folder = Path("runs") / recipe.name / f"{listing.name}-{listing.version}"
    if (folder / "recipe.yaml").is_file():
        return Run.open(folder)
    dataset = open_dataset(recipe.data, recipe.dims)
    _check_data(listing, dataset)

    def fill(run: Run) -> None:
        """Write the files of the run."""
        content_of(listing.weights_path(), entry.weights, f"{listing}: weights")
        shutil.copyfile(listing.weights_path(), run.folder / "best.safetensors")
        for picture in (file for file in entry.files if file == CURVES):
            shutil.copyfile(listing.path(picture), run.folder / picture)
        seen = SeenData.of_dataset(dataset, ("train", "val"))
        seen.write(run.folder)
        facts = jsonio.dumps(_facts(listing, seen), indent=2)
        (run.folder / "facts.json").write_text(facts + "\n", encoding="utf-8")
        contents = {case.id: content_hash(case) for case in dataset.cases("val")}
        write_options(run, entry.options or ChosenOptions(options=entry.options_applied), contents)
        run.with_results({f"published/{name}": m.value for name, m in entry.evaluation.metrics.items() if m.value}, [])

    run = Run.create(recipe, Place(folder=folder), fill)
    Tracker(folder, f"cphloc/{recipe.name}", run.id).end()
    return Run.open(folder)


def _check_data(listing: Listing, dataset: Dataset) -> None:
    """Refuse data with other numbers of cases, or other test cases, than those of the version."""
    entry = listing.entry
    held = {split: len(dataset.cases(split)) for split in SPLITS}
    tested = {case.id for case in dataset.cases("test")}
    if held != entry.data.splits or not tested.issuperset(entry.evaluation.cases):
        msg = (
            f"the data set '{entry.data.name}' at hand has {held} cases and {listing} was published with "
            f"{entry.data.splits}, or its test cases are others; restore the data set: see CPHLOC_DATA"
        )
        raise DataError(msg)


def _facts(listing: Listing, seen: SeenData) -> dict[str, Any]:
    """Return ``facts.json`` of the training, from what the entry states of its origin."""
    entry, origin = listing.entry, listing.entry.origin.model_dump(mode="json")
    contents = ((f"{split}/{id}", case.content) for split, cases in seen.cases.items() for id, case in cases.items())
    return {
        **{key: origin[key] for key in ("run", "mlflow_run", "git_commit", "seed", "packages")},
        "data_fingerprint": fingerprint(contents),
        "training_images": None if entry.fingerprint is None else entry.fingerprint.model_dump(),
        "training": None if entry.training is None else entry.training.model_dump(),
        "device": entry.speed.device,
        "speed": {"ms_per_case": entry.speed.ms_per_case, "peak_ram_mb": entry.size.peak_ram_mb},
        "reopened": f"{listing}",
    }
