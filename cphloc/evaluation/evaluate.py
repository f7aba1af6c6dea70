"""Evaluate a run or a zoo entry on one split of its data set, on the grid of every image, and compare to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cphloc.data.case import Case
from cphloc.data.dataset import Dataset
from cphloc.data.fingerprint import content_hash
from cphloc.data.pipeline.pipeline import Pipeline as DataPipeline
from cphloc.data.pipeline.pipeline import open_dataset
from cphloc.data.pipeline.seen import SeenData, contents_of
from cphloc.errors import InputError, NotFoundError
from cphloc.evaluation.choose import choose_options, stored_or_chosen
from cphloc.evaluation.comparison import find_baseline, own_dataset, tracked
from cphloc.evaluation.doubtful import with_doubtful
from cphloc.evaluation.evaluate_folds import evaluate_folds
from cphloc.evaluation.evaluation_display import evaluation_display
from cphloc.evaluation.explanation import explain
from cphloc.evaluation.external import open_external
from cphloc.evaluation.files import draw_evaluation, write_evaluation
from cphloc.evaluation.groups import by_group, groups_of
from cphloc.evaluation.measure import Measured, measure, score_cases
from cphloc.evaluation.report import drawer, write_report
from cphloc.evaluation.stages import StageErrors
from cphloc.evaluation.unseen import check_unseen, data_of
from cphloc.inference.localizer import Localizer
from cphloc.inference.pipeline import Pipeline
from cphloc.metrics.bootstrap import Interval
from cphloc.metrics.summary import tracking_metrics
from cphloc.structures.display import Display, Displayed
from cphloc.structures.options import ChosenOptions, OptionName
from cphloc.structures.split import OUT_OF_FOLD, Split
from cphloc.tracking.chosen import read_options
from cphloc.tracking.run import Run, evaluation_files
from cphloc.zoo.entries import Listing
from cphloc.zoo.load import localizer_of, open_listing
from cphloc.zoo.names import BASELINE_FILE
from cphloc.zoo.resolve import resolve_run_or_entry


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """Result of `evaluate`.

    Args:
        source: folder of the run, or name of the entry.
        split: the split that was evaluated.
        facts: content of ``evaluation-<split>.json``: ``metrics``, ``per_class``, ``baseline``, ``paired`` (model minus
            baseline), ``calibration``, ``speed`` and ``cases``. ``baseline`` and ``paired`` are ``None`` where there is
            no baseline.
        rows: content of ``evaluation-<split>.csv``: the scores of one case per row, beside those of the baseline.
        folder: folder that both files were written to; ``None`` if none were written.
    """

    source: str
    split: str
    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path | None

    @property
    def table(self) -> Path | None:
        """Path of the table with one row per case; ``None`` if none was written."""
        if self.folder is None:
            return None
        return self.folder / evaluation_files(self.split)[1]

    def _display(self) -> Display:
        return evaluation_display(self.source, self.split, self.facts, self.folder)


def evaluate(
    source: str | Path | Run | Localizer,
    split: Split | None = None,
    root: str | None = None,
    out: str | Path | None = None,
    choose: bool | Sequence[OptionName] = False,
    by: Sequence[str] = (),
    report: str | Path | None = None,
    explanations: bool = False,
) -> Evaluation:
    """Predict every case of a split and score the predictions against the annotations.

    For a run on its own data set, or when ``out`` is given, this also writes ``evaluation-<split>.json``,
    ``evaluation-<split>.csv`` and ``pictures/<split>-*``: the curves with their points, and pictures of the worst,
    median and best case. Those of a run are logged to MLflow as well, metrics as ``<split>/<metric>``.

    Args:
        source: a run (object, folder or id), an entry (``name``, ``name@1.2.0`` or folder), or a loaded model.
        split: ``train``, ``val`` or ``test``; by default ``test``, and of a cross-validation the out-of-fold
            predictions that it has stored.
        root: folder of the data set; by default that of the recipe. See `cphloc.evaluation.external.open_external`.
        out: folder to write the files to; a run writes the evaluation of its own data set to its own folder.
        choose: whether to choose the options of a run's predictions again, on its validation cases, or of a
            cross-validation out of fold; the first evaluation of its weights always does. Names of options try these,
            instead of those that the recipe lists.
        by: columns of the data set's table, such as ``site``, or ``size``: metrics of each of their groups as well.
        report: HTML page to write, with the worst cases first.
        explanations: measure the attention of the model as an explanation, beside other maps of the same network, see
            `cphloc.evaluation.explanation.explain`.

    Returns:
        metrics with 95 % confidence intervals, resampled by patient. Annotations that the data set lists as doubtful
        count as unknown; ``facts["doubtful"]`` holds the metrics with them, where there are any.

    Raises:
        NotFoundError: no such run, entry, data set or split.
        DataError: a case cannot be read, or the weights of the run depend on cases of the split.
        InputError: ``explanations`` of a model without attention, on other data or of a cross-validation; ``out`` is
            given for a run on its own data, or ``root`` for the predictions of a cross-validation;
            the recipe of the run was edited after the training; ``choose`` of anything but a run with its validation
            cases; or there is no such column or option.
    """
    if split is None and (folds := _cross_validation(source)) is not None:
        _refuse_explanations(explanations, "of a cross-validation without --split test")
        _refuse_elsewhere(folds, root, out)
        facts, rows = evaluate_folds(folds, choose, by, None if report is None else Path(report))
        return Evaluation(str(folds.folder), OUT_OF_FOLD, facts, rows, folds.folder)
    split = split or "test"
    _refuse_explanations(explanations and root is not None, "on another folder; omit --root")
    localizer, run = open_localizer(source)
    dataset, cases = _cases(localizer, run, split, root)
    own = root is None or (run is not None and _is_data_of(run, dataset))
    if run is not None and own:
        _refuse_elsewhere(run, None, out)
    for column in by:
        groups_of(column, dataset, cases)
    check_unseen(run or localizer.listing, dataset, split, own)
    chosen = _options(localizer, run, own_dataset(localizer.recipe, dataset, root), choose)
    errors = StageErrors(localizer) if isinstance(localizer, Pipeline) else None
    measured = measure(localizer, cases, find_baseline(localizer, run, dataset, root), errors)
    facts = measured.facts(split) | {"options": None if chosen is None else chosen.model_dump()}
    scores = measured.scores
    facts |= {} if errors is None else errors.facts()
    facts["by"] = {column: by_group(scores, groups_of(column, dataset, cases, scores)) for column in by}
    if doubtful := with_doubtful(dataset, split, scores, lambda these: score_cases(localizer, these)[0]):
        facts["doubtful"] = doubtful
    if explanations:
        facts["explanation"] = _explained(localizer, dataset, split)
    folder = run.folder if run is not None and own else None if out is None else Path(out)
    if run is not None:
        facts |= {"weights_sha256": run.weights_sha256, "contents": {case.id: content_hash(case) for case in cases}}
    if folder is not None:
        _write(folder, run if own else None, measured, facts)
    if report is not None:
        made_by, headline = localizer.made_by[0], localizer.recipe.headline
        write_report(Path(report), made_by, headline, scores, facts, drawer(localizer, cases))
    return Evaluation(str(source if run is None else run.folder), split, facts, measured.rows, folder)


def _refuse_explanations(asked: bool, where: str) -> None:
    """Refuse to measure explanations where there are no preprocessed cases of one network."""
    if asked:
        msg = f"explanations are not measured {where}"
        raise InputError(msg)


def _explained(localizer: Localizer, dataset: Dataset, split: Split) -> dict[str, Any] | None:
    """Measure the attention of a model as an explanation, on the preprocessed cases of a split."""
    if isinstance(localizer, Pipeline):
        _refuse_explanations(True, "of a pipeline; evaluate its stages")
    patients = {case.id: case.patient for case in dataset.cases(split)}
    cases = DataPipeline.from_recipe(localizer.recipe).cases(split)
    return explain(localizer.model, cases, patients, len(dataset.classes))


def _is_data_of(run: Run, dataset: Dataset) -> bool:
    """Return whether a data set holds the cases of a training; of a run that does not state them, True."""
    seen = SeenData.read(run.folder)
    return seen is None or not seen.changes(contents_of(dataset, ("train", "val")))


def _refuse_elsewhere(run: Run, root: str | None, out: str | Path | None) -> None:
    """Refuse another folder for the files of a run, and another data set for predictions that are stored."""
    if out is not None:
        msg = f"a run keeps its evaluation in its own folder, {run.folder}; omit --out"
        raise InputError(msg)
    if root is not None:
        msg = f"{run.folder}: the cases of a cross-validation are predicted already; add --split test, or omit --root"
        raise InputError(msg)


def _cases(localizer: Localizer, run: Run | None, split: Split, root: str | None) -> tuple[Dataset, list[Case]]:
    """Open the data set of a model, or the folder ``root`` for it; returns it with its cases of a split.

    Raises:
        NotFoundError: there are none.
    """
    data = localizer.recipe.data
    if root is None:
        dataset = open_dataset(data, localizer.recipe.dims)
    else:
        dataset = open_external(localizer, root, data_of(run or localizer.listing))
    if not (cases := dataset.cases(split)):
        msg = f"data set '{data.type}' has no cases in its {split} split; choose another split"
        raise NotFoundError(msg)
    return dataset, cases


def _write(folder: Path, run: Run | None, measured: Measured, facts: dict[str, Any]) -> None:
    """Write the files of an evaluation; those of a run are logged to its MLflow run as well."""
    if run is not None and measured.baseline is not None:
        measured.baseline.save(run.folder / BASELINE_FILE)
    split = facts["split"]
    files = write_evaluation(folder, facts, measured.rows)
    files += draw_evaluation(folder / "pictures", measured.localizer, measured.cases, measured.scores, split)
    if run is not None:
        _track(run, files, measured.intervals, facts)


def _cross_validation(source: str | Path | Run | Localizer) -> Run | None:
    """Return the run that ``source`` names if it is a cross-validation."""
    found = None if isinstance(source, Localizer) else resolve_run_or_entry(source)
    return found if isinstance(found, Run) and found.is_cross_validation else None


def open_localizer(source: str | Path | Run | Localizer) -> tuple[Localizer, Run | None]:
    """Load the best weights of a run, or else a zoo entry.

    Args:
        source: a run (object, folder or id), an entry (``name``, ``name@1.2.0`` or folder), or a loaded model.

    Returns:
        the model, and its run (``None`` for an entry or a loaded model).

    Raises:
        NotFoundError: there is neither a run nor an entry of that name.
    """
    if isinstance(source, Localizer):
        return source, None
    if isinstance(source, Run):
        return localizer_of(source), source
    run = resolve_run_or_entry(source)
    if isinstance(run, Listing):
        return open_listing(run), None
    return localizer_of(run), run


def _options(
    localizer: Localizer, run: Run | None, dataset: Dataset | None, choose: bool | Sequence[OptionName]
) -> ChosenOptions | None:
    """Return the options of a model; those of a run are chosen on its validation cases and stored, if they are not yet.

    Args:
        localizer: the model, which is given the options.
        run: its run, if it is of one; the options of a cross-validation were chosen out of fold.
        dataset: its own data set; ``None`` where that is not at hand.
        choose: see `evaluate`.

    Raises:
        InputError: ``choose`` where there is nothing to choose on.
    """
    _refuse_choosing(choose and run is None, "an entry keeps the options that it was published with")
    if run is None:
        return None if localizer.entry is None else localizer.entry.options
    of_folds, of_stages = run.is_cross_validation, isinstance(localizer, Pipeline)
    _refuse_choosing(choose and of_folds, "those of a cross-validation are chosen out of fold; omit --split")
    if of_folds:
        return read_options(run)
    _refuse_choosing(choose and of_stages, "the stages of a pipeline keep theirs")
    if of_stages:
        return ChosenOptions(options=localizer.options)  # chosen when its stages were evaluated
    cases = [] if dataset is None else dataset.cases("val")
    _refuse_choosing(choose and not cases, "the validation cases are not at hand")
    contents = {case.id: content_hash(case) for case in cases}
    pairs = [(localizer, case) for case in cases]
    chosen = stored_or_chosen(run, contents, lambda names: choose_options(pairs, names=names), choose)
    localizer.options, localizer.sizes = chosen.options, chosen.sizes
    return chosen


def _refuse_choosing(asked: object, why: str) -> None:
    if asked:
        msg = f"options of predictions cannot be chosen again (--choose, --try) here: {why}"
        raise InputError(msg)


def _track(run: Run, files: Sequence[Path], intervals: Mapping[str, Interval], facts: Mapping[str, Any]) -> None:
    """Log the metrics and files of an evaluation to the MLflow run of the training."""
    from cphloc.tracking.tracker import Tracker

    tracker = Tracker(run.folder, f"cphloc/{run.recipe.name}", run.title)
    speed = {"speed/ms_per_case": facts["speed"]["ms_per_case"], "size/peak_ram_mb": facts["speed"]["peak_ram_mb"]}
    measured = {name: value for name, value in speed.items() if value is not None}
    compared = tracked(facts)
    tracker.metrics(tracking_metrics(intervals, facts["split"]) | compared | measured, 0)
    for file in files:
        tracker.artifact(file, "pictures" if file.parent != run.folder else "")
    if run.finished:
        tracker.end()
    else:
        tracker.push()
