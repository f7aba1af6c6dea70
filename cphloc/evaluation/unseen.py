"""Check that a model does not depend on the cases that it is evaluated on, and that its data have not changed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cphloc.data.dataset import Dataset
from cphloc.data.pipeline.seen import FILE, SeenData, contents_of
from cphloc.errors import DataError
from cphloc.recipe.fields import OWN_AVERAGE
from cphloc.recipe.recipe import Recipe
from cphloc.structures.split import Split
from cphloc.tracking.run import Run
from cphloc.zoo.entries import Listing
from cphloc.zoo.resolve import resolve_run_or_entry
from cphloc.zoo.stored import checked_path

_log = logging.getLogger(__name__)


def check_unseen(source: Run | Listing | None, dataset: Dataset, split: Split, own: bool) -> None:
    """Check that the weights do not depend on the cases to evaluate, and warn where the data have changed.

    Args:
        source: the run, or the entry; ``None`` for a model of neither.
        dataset: its cases as they are now.
        split: the split to evaluate.
        own: whether it is the data set of the recipe, and not another one.

    Raises:
        DataError: cases of the split were trained on, or selected the weights.
    """
    run = isinstance(source, Run)
    seen = data_of(source)
    if seen is None:
        return
    if leaks := seen.leaks(dataset.cases(split), split, own and run):
        msg = f"{'; '.join(leaks)}; evaluate with the splits of the training, or train again"
        raise DataError(msg)
    if not own:
        return
    if run:
        _warn("training", seen.changes(contents_of(dataset, ("train", "val"))))
    else:
        _warn("publication", seen.changed_contents(contents_of(dataset, (split,))))


def data_of(source: Run | Listing | None) -> SeenData | None:
    """Read what a run or an entry was trained on; ``None`` where it does not state that."""
    if source is None:
        return None
    return SeenData.read(source.folder) if isinstance(source, Run) else published_data(source)


def earlier_data(recipe: Recipe) -> list[SeenData]:
    """Read what the models were trained on that a recipe takes weights or probabilities from.

    Those are its ``from`` and its ``train.teacher``; one that does not state its cases is left out.
    """
    models = {recipe.from_, recipe.train.teacher} - {None, OWN_AVERAGE}
    found = (data_of(resolve_run_or_entry(model)) for model in sorted(filter(None, models)))
    return [seen for seen in found if seen is not None]


def published_data(listing: Listing) -> SeenData | None:
    """Read the hashes of the cases that an entry was trained and evaluated on; earlier entries have none.

    Raises:
        DataError: the file is damaged or not the one that was published.
    """
    if FILE not in listing.entry.files:
        return None
    return SeenData.parse(checked_path(listing, FILE))


def _warn(since: str, changes: Sequence[str]) -> None:
    if changes:
        _log.warning("the data set has changed since the %s: %s", since, "; ".join(changes))
