"""The MLflow experiment of published entries, and the table in which the user interface opens it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cphloc.tracking.server import experiment_id, restore_experiment

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ZOO_EXPERIMENT = "cphloc-zoo"
"""Name of the experiment; people may rename it."""
VIEW = "entries"
"""Key of the shared view of the runs, ``viewStateShareKey`` in the address."""

NEWEST_TAG = "cphloc.newest"
"""Tag of a summary run: ``true`` for the newest version of an entry that no other supersedes, else ``false``."""
SUPERSEDES_TAG = "cphloc.supersedes"
"""Tag of a summary run: the versions of other names that it supersedes, ``name@1.2.0`` separated by commas."""

_MARK = "cphloc.zoo"
_COLUMNS = {
    "attributes.`Run Name`": 285,
    "runDateAndNestInfo": 125,
    "params.`headline_metric`": 150,
    "metrics.`headline`": 90,
    "metrics.`headline_baseline`": 135,
    "metrics.`headline_paired`": 125,
    "params.`task`": 110,
    "params.`dims`": 55,
    "params.`organ`": 95,
    **{f"metrics.`test/{name}`": 100 for name in ("dice", "ap50", "attention_mass", "auc")},
}
"""Column of the table of runs -> its width in pixels, in order."""
_FIXED = 2
"""Number of columns that are always shown."""


def zoo_experiment(client: MlflowClient, uri: str) -> str:
    """Return the id of the experiment: found by its tag, so that it may have another name; restored, or created."""
    found = client.search_experiments(view_type=3, filter_string=f"tags.`{_MARK}` = 'true'", max_results=1)
    known = found[0].experiment_id if found else experiment_id(client, uri, ZOO_EXPERIMENT)
    restore_experiment(client, known)
    stated = client.get_experiment(known).tags
    for key, value in {_MARK: "true", f"mlflow.sharedViewState.{VIEW}": _view()}.items():
        if stated.get(key) != value:
            client.set_experiment_tag(known, key, value)
    return known


def _view() -> str:
    """State of the table of runs, as the button "Share" of MLflow stores it."""
    state = {
        **{
            "searchFilter": f"tags.`{NEWEST_TAG}` = 'true'",
            "orderByKey": "params.`headline_metric`",
            "orderByAsc": True,
            "startTime": "ALL",
        },
        **{"lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs"},
        **{"selectedColumns": list(_COLUMNS)[_FIXED:], "columnOrder": list(_COLUMNS), "columnWidths": _COLUMNS},
    }
    return json.dumps(state)
