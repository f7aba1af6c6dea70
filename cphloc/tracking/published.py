"""What MLflow is given of a published version of an entry, and how it is written to a run and a LoggedModel."""

from __future__ import annotations

import itertools
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cphloc.tracking import record
from cphloc.tracking.provenance import provenance_tags
from cphloc.tracking.server import DIGEST_LENGTH, METRICS_AT_ONCE, PARAMS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import DatasetInput, LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

ENTRY_TAG = "cphloc.entry"
"""Tag of runs, LoggedModels and model versions: ``name@1.2.0``."""
NOTE_TAG = "mlflow.note.content"
"""Tag whose Markdown the user interface shows as description."""
MOST_NOTE = 8000
"""Longest description of a run, in characters."""

_MODEL = "model"


@dataclass(frozen=True)
class UsedData:
    """A data set that was used for a published version.

    Args:
        name: its name.
        digest: hash of its cases.
        context: ``training``, or the split that was evaluated.
        url: its home page; empty where there is none.
        facts: numbers of cases, licence and so on.
    """

    name: str
    digest: str
    context: str
    url: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedVersion:
    """A published version of a zoo entry, as it is registered in MLflow.

    Args:
        name: name of the entry.
        version: version number, such as ``1.2.0``.
        summary: description in one line.
        card: its card in Markdown.
        params: MLflow parameters by name.
        metrics: values of metrics by name; ``headline`` is the value of the parameter ``headline_metric``.
        tags: tags by name.
        folder: folder of the version, whose files become part of the LoggedModel.
        time_ms: time of publication, in milliseconds since 1970.
        supersedes: versions of other names that this one should be used instead of, as ``name@1.2.0``.
        artifacts: files of the folder that are logged to the run as well.
        evaluated: data set of the metrics.
        trained: data set of the training.
        columns: columns of a request to the served model, with whether each is needed.
        parameters: parameters of a request to the served model, with type and default.
        example: a request.
    """

    name: str
    version: str
    summary: str
    card: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    folder: Path
    time_ms: int
    supersedes: Sequence[str] = ()
    artifacts: Sequence[str] = ()
    evaluated: UsedData | None = None
    trained: UsedData | None = None
    columns: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    parameters: Mapping[str, tuple[type, bool | float | str | None]] = field(default_factory=dict)
    example: Sequence[Mapping[str, Any]] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def provenance(self) -> dict[str, str]:
        """Tags that state user, command and commit."""
        command = f"cphloc publish {self.params.get('run', '')} --name {self.name} --version {self.version}"
        return provenance_tags(self.params.get("git_commit"), command)


def log_run(client: MlflowClient, run_id: str, version: PublishedVersion, tags: Mapping[str, str]) -> None:
    """Log parameters, metrics, data sets, card and pictures of a version to its summary run, and the tags at last.

    Args:
        client: see `cphloc.tracking.server.client_of`.
        run_id: id of the summary run.
        version: the version.
        tags: further tags.
    """
    from mlflow.entities import Param, RunTag

    params = [Param(record.key_of(key), record.shortened(str(value))) for key, value in version.params.items()]
    for start in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])
    log_metrics(client, run_id, version)
    client.log_inputs(run_id, [_dataset(data) for data in (version.trained, version.evaluated) if data is not None])
    for name in version.artifacts:
        client.log_artifact(run_id, str(version.folder / name), str(Path(name).parent.as_posix()).strip(".") or None)
    note = {NOTE_TAG: shortened_card(version.card, MOST_NOTE, run_id)}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in {**version.tags, **note, **tags}.items()])


def log_metrics(client: MlflowClient, run_id: str, version: PublishedVersion, model_id: str | None = None) -> None:
    """Log the metrics of a version, with the data set that they are measured on.

    Args:
        client: see `cphloc.tracking.server.client_of`.
        run_id: id of the summary run.
        version: the version.
        model_id: id of its LoggedModel, which gets the metrics as well.
    """
    from mlflow.entities import Metric

    data = version.evaluated
    on = (None, None) if data is None else (data.name, data.digest[:DIGEST_LENGTH])
    metrics = [Metric(record.key_of(k), v, version.time_ms, 0, model_id, *on) for k, v in version.metrics.items()]
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])


def log_model(
    client: MlflowClient, experiment: str, run_id: str, version: PublishedVersion, begun: LoggedModel | None
) -> LoggedModel:
    """Create the LoggedModel of a version, with signature, example of a request and the files of the entry.

    Args:
        client: see `cphloc.tracking.server.client_of`.
        experiment: id of its experiment.
        run_id: id of the summary run.
        version: the version.
        begun: the LoggedModel, where it was created before.
    """
    from mlflow.entities import LoggedModelOutput

    tags = {
        **version.tags,
        **version.provenance,
        ENTRY_TAG: str(version),
        NOTE_TAG: shortened_card(version.card, MOST_NOTE, run_id),
    }
    params = {record.key_of(key): record.shortened(str(value)) for key, value in version.params.items()}
    kind = str(version.params.get("task", ""))
    name = re.sub(r"""[/:.%"']""", "-", str(version))  # MLflow refuses these
    model = begun or client.create_logged_model(experiment, name, run_id, tags, params, kind)
    if begun is None:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    if begun is None or str(begun.status) != "READY":
        with _saved_model(version, run_id, model) as folder:
            client.log_model_artifacts(model.model_id, str(folder))
        model = client.finalize_logged_model(model.model_id, "READY")
    return model


@contextmanager
def _saved_model(version: PublishedVersion, run_id: str, model: LoggedModel) -> Iterator[Path]:
    """Write a model that MLflow can serve to a temporary folder."""
    import mlflow.pyfunc
    from mlflow.models import Model

    served: dict[str, Any] = {"loader_module": "cphloc.zoo.served", "pip_requirements": ["cphloc"]}
    if version.example:
        import pandas

        served["input_example"] = pandas.DataFrame(list(version.example))
    if (signature := _signature(version)) is not None:
        served["signature"] = signature
    saved = Model(_MODEL, run_id, model_id=model.model_id)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the types of the columns, which the signature states
        logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # environments that uv makes have no pip
        folder = Path(place) / _MODEL
        mlflow.pyfunc.save_model(folder, data_path=str(version.folder), mlflow_model=saved, **served)
        yield folder


def _signature(version: PublishedVersion) -> ModelSignature | None:
    """Signature of a served model: the columns of a row, and the parameters of a request."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    types = {bool: DataType.boolean, float: DataType.double, str: DataType.string}
    kinds = {"text": DataType.string, "numbers": Array(DataType.double)}
    params = [ParamSpec(name, types[kind], default) for name, (kind, default) in version.parameters.items()]
    stated = version.columns.items()
    columns: list[Any] = [ColSpec(kinds[kind], name, required=needed) for name, (kind, needed) in stated]
    if not columns:
        return None
    result: list[Any] = [ColSpec(AnyType())]
    return ModelSignature(Schema(columns), Schema(result), **({"params": ParamSchema(params)} if params else {}))


def _dataset(data: UsedData) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = ("http", {"url": data.url}) if data.url else ("local", {"uri": data.name})
    facts = json.dumps({**data.facts, "digest": data.digest})
    dataset = Dataset(data.name, data.digest[:DIGEST_LENGTH], source[0], json.dumps(source[1]), profile=facts)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.context)])


def shortened_card(card: str, most: int, run_id: str) -> str:
    """Shorten a card to whole paragraphs and tables, and let its pictures be those of the run.

    Args:
        card: Markdown.
        most: number of characters.
        run_id: id of the MLflow run whose artifacts contain the pictures.

    >>> shortened_card("# a 1\\n\\n## Use\\n\\nx\\n\\n## Long\\n\\n" + 90 * "y", 100, "r")
    '# a 1\\n\\n## Use\\n\\nx\\n\\nLeft out here, see card.md under Artifacts: Long'
    """
    card = card.replace("](pictures/", f"](get-artifact?run_uuid={run_id}&path=pictures/").strip()
    if len(card) <= most:
        return card
    first, *sections = [part.strip() for part in f"\n{card}".split("\n## ")]
    titles = [section.split("\n")[0] for section in sections]
    kept, left_out, room = [first], [], most - len(first) - 60 - len(", ".join(titles))
    for title, section in zip(titles, sections, strict=True):
        blocks = f"## {section}".split("\n\n")
        ends = itertools.accumulate(len(block) + 2 for block in blocks)
        fitting = [block for block, end in zip(blocks, ends, strict=True) if end <= room]
        if len(fitting) < len(blocks):
            left_out.append(title)
        if len(fitting) > 1:  # more than the title
            kept += fitting
            room -= sum(len(block) + 2 for block in fitting)
    kept.append(f"Left out here, see card.md under Artifacts: {', '.join(left_out)}")
    return "\n\n".join(kept)
