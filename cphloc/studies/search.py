"""The trials of a sweep in its folder: values from Optuna, each a run, and what they found."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cphloc.config import jsonio
from cphloc.config.tables import write_table
from cphloc.errors import CphlocError, InputError, RecipeError
from cphloc.files import atomic
from cphloc.progress import note
from cphloc.recipe.recipe import Recipe, load
from cphloc.registry.metrics import quality
from cphloc.studies.search_space import Space, chosen, distributions
from cphloc.tracking.provenance import provenance_tags
from cphloc.tracking.run import Place, Run
from cphloc.tracking.tracker import Tracker, run_id
from cphloc.training import checkpoint
from cphloc.training.divergence import DivergedError

if TYPE_CHECKING:
    import optuna

Pruner = Literal["median", "hyperband", "none"]
"""Which trials are stopped early: those below the median of the others at the same step, by Hyperband, or none."""
STARTUP_TRIALS = 4
"""Trials that are not pruned, and whose values are chosen at random."""


@dataclass(frozen=True)
class Sweep:
    """Result of a sweep.

    Args:
        folder: contains ``best.yaml``, ``trials.csv``, the trials' runs and Optuna's storage ``trials.db``.
        metric: validation metric that is searched for.
        trials: by trial ``trial``, ``state``, ``value``, ``steps``, ``seconds``, ``run``, and the values by dotted key.
        best: row of the best complete trial.
        recipe: the recipe with the values of the best trial.
    """

    folder: Path
    metric: str
    trials: list[dict[str, Any]]
    best: dict[str, Any]
    recipe: Recipe


class Search:
    """A sweep in its folder.

    Args:
        recipe: the recipe.
        space: the search space.
        seed: of the search.
        pruner: which trials are stopped early.
        folder: where it is stored; one that holds the same sweep is continued.

    Raises:
        InputError: the folder holds another sweep.
    """

    def __init__(self, recipe: Recipe, space: Space, seed: int, pruner: Pruner, folder: Path) -> None:
        import optuna

        self.recipe, self.space, self.seed, self.folder = recipe, space, seed, folder
        self.metric = recipe.headline
        self._same_as_before(pruner)
        self.tracker = Tracker(folder, f"cphloc/sweep/{recipe.name}", f"sweep {recipe.name}")
        if not run_id(folder):
            plain = {key: value if isinstance(value, list) else value.model_dump() for key, value in space.items()}
            self.tracker.params({"metric": self.metric, "seed": seed, "pruner": pruner, "space": plain})
            self.tracker.tags(provenance_tags(None))
            self.tracker.push()
        self.study = optuna.create_study(
            storage=f"sqlite:///{folder / 'trials.db'}",
            study_name="sweep",
            direction="maximize" if quality(self.metric, 1) > quality(self.metric, 0) else "minimize",
            pruner=_pruner(pruner, recipe),
            load_if_exists=True,
        )

    def _same_as_before(self, pruner: Pruner) -> None:
        """Write what decides the trials, or compare it with what the folder holds."""
        plain = {key: value if isinstance(value, list) else value.model_dump() for key, value in self.space.items()}
        decisive = {"recipe_sha256": self.recipe.sha256, "space": plain, "seed": self.seed, "pruner": pruner}
        path = self.folder / "sweep.json"
        if not path.is_file():
            with atomic(path) as draft:
                draft.write_text(jsonio.dumps(decisive, indent=2) + "\n", encoding="utf-8")
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in decisive if before.get(key) != json.loads(jsonio.dumps(decisive[key]))]
        if changed:
            msg = f"{self.folder}: holds a sweep with another {', '.join(changed)}; choose another folder with --out"
            raise InputError(msg)

    def run(self, trials: int, minutes: float | None) -> None:
        """Finish the trial that was interrupted, and run new ones until there are ``trials`` or the time is up."""
        started = time.monotonic()
        try:
            for trial in self._interrupted():
                self._run(trial, trials)
            while len(self.study.trials) < trials:
                if minutes is not None and time.monotonic() - started >= 60 * minutes:
                    break
                self._run(self._ask(), trials)
        except BaseException:
            self.tracker.end("KILLED")
            raise

    def _ask(self) -> optuna.Trial:
        """Choose the values of the next trial; from the earlier ones, the seed and its number alone."""
        import optuna

        text = f"{self.seed}/{len(self.study.trials)}".encode()
        seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        return self.study.ask(distributions(self.space))

    def _interrupted(self) -> Iterator[optuna.Trial]:
        import optuna

        for trial in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            yield optuna.Trial(self.study, trial._trial_id)

    def _place(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04}"

    def _run(self, trial: optuna.Trial, trials: int) -> None:
        """Train a trial, or continue it, and store its end."""
        from optuna.trial import TrialState

        values = chosen(self.space, trial.params)
        try:
            trained = self._train(trial, values)
        except (DivergedError, RecipeError) as error:
            trial.set_user_attr("error", str(error))
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            value = trained.metrics.get(f"val/{self.metric}", float("nan"))
            outcome = checkpoint.read_facts(trained.folder / checkpoint.LAST)["outcome"]
            trial.set_user_attr("steps", outcome["step"])
            trial.set_user_attr("seconds", round(outcome["seconds"], 1))
            trial.set_user_attr("value", None if value != value else value)
            pruned, failed = outcome["stopped"] == "pruned", value != value
            state = TrialState.PRUNED if pruned else TrialState.FAIL if failed else TrialState.COMPLETE
            self.study.tell(trial, value if state == TrialState.COMPLETE else None, state)
        self._report(trial.number, trials)

    def _train(self, trial: optuna.Trial, values: Mapping[str, Any]) -> Run:
        """Return the finished run of a trial: its own of before, a resumed or a new one."""
        from cphloc.training.signals import own_signals
        from cphloc.training.train import Interrupted, train

        folder = self._place(trial.number)

        def hopeless(step: int, metrics: Mapping[str, float]) -> bool:
            """Report a validation to Optuna, and return whether it prunes the trial."""
            if step not in self.study.trials[trial.number].intermediate_values:  # reported before a kill
                trial.report(metrics.get(self.metric, float("nan")), step)
            return trial.should_prune()

        name = f"trial {trial.number}"
        place = Place(self.folder, self.tracker_experiment, name, run_id(self.folder), False, folder)
        try:
            with own_signals():
                if (folder / "recipe.yaml").is_file():
                    return train(resume=folder, place=place, stop_early=hopeless)
                shutil.rmtree(folder, ignore_errors=True)
                return train(load(self.recipe, values), place=place, stop_early=hopeless)
        except Interrupted as error:
            msg = f"trial {trial.number}: {str(error).partition(';')[0]}; the same command goes on with it"
            raise Interrupted(msg) from None

    @property
    def tracker_experiment(self) -> str:
        """MLflow experiment of the sweep and its trials."""
        return f"cphloc/sweep/{self.recipe.name}"

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each trial, in order."""
        rows = []
        for trial in self.study.trials:
            facts = trial.user_attrs
            row = {"trial": trial.number, "state": trial.state.name.lower(), "value": facts.get("value")}
            row |= {"steps": facts.get("steps"), "seconds": facts.get("seconds")}
            row |= {"run": f"trials/{trial.number:04}", **chosen(self.space, trial.params)}
            rows.append(row | ({"error": facts["error"]} if "error" in facts else {}))
        return rows

    def best(self) -> dict[str, Any] | None:
        """Return the row of the best complete trial; ``None`` while there is none."""
        complete = [row for row in self.rows() if row["state"] == "complete"]
        return max(complete, key=lambda row: quality(self.metric, row["value"]), default=None)

    def result(self) -> Sweep:
        """Write ``trials.csv`` and ``best.yaml``, and log them to MLflow.

        Raises:
            CphlocError: no trial is complete.
        """
        rows, best = self.rows(), self.best()
        with atomic(self.folder / "trials.csv") as draft:
            write_table(draft, list(dict.fromkeys(key for row in rows for key in row)), rows)
        self.tracker.artifact(self.folder / "trials.csv")
        if best is None:
            self.tracker.end("FAILED")
            reasons = "; ".join(dict.fromkeys(row["error"] for row in rows if "error" in row))
            msg = f"{self.folder}: none of {len(rows)} trials was completed{': ' + reasons if reasons else ''}"
            raise CphlocError(f"{msg}; change the search space")
        recipe = load(self.recipe, {key: best[key] for key in self.space})
        with atomic(self.folder / "best.yaml") as draft:
            draft.write_text(recipe.to_yaml(), encoding="utf-8")
        self.tracker.artifact(self.folder / "best.yaml")
        self.tracker.metrics({f"val/{self.metric}": best["value"], "trials": len(rows)}, 0)
        self.tracker.tags({"cphloc.best_trial": str(best["trial"])})
        self.tracker.end()
        return Sweep(self.folder, self.metric, rows, best, recipe)

    def _report(self, number: int, trials: int) -> None:
        """Print the end of a trial, and the best value so far."""
        row, best = self.rows()[number], self.best()
        value = "" if row["value"] is None else f" {self.metric} {row['value']:.4g}"
        so_far = "" if best is None else f"; best: trial {best['trial']}, {best['value']:.4g}"
        note(f"trial {number} ({number + 1}/{trials}) {row['state']}{value}{so_far}")


def _pruner(name: Pruner, recipe: Recipe) -> optuna.pruners.BasePruner:
    import optuna

    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=0)
    if name == "hyperband":
        every = recipe.train.validate_every or -(-recipe.train.steps // 10)
        return optuna.pruners.HyperbandPruner(min_resource=every, max_resource=recipe.train.steps)
    return optuna.pruners.NopPruner()
