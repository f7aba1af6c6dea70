"""Load an entry as a model that predicts. Recipe and weights are hashed at every load; nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import torch
from pydantic import ValidationError
from torch import Tensor

from cphloc.errors import DataError, InputError, NotFoundError
from cphloc.inference.backend import BackendName
from cphloc.inference.localizer import Localizer
from cphloc.inference.pipeline import localizer_of_recipe
from cphloc.modeling.ensemble import member_weights
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe
from cphloc.recipe.recipe import load as load_recipe
from cphloc.structures.fingerprint import Fingerprint
from cphloc.tracking.chosen import read_options
from cphloc.tracking.run import Run
from cphloc.zoo.agreement import disagreement, recipe_disagreements
from cphloc.zoo.entries import Listing
from cphloc.zoo.resolve import resolve_entry_or_run
from cphloc.zoo.stored import content_of, stored_recipe
from cphloc.zoo.weights import build_with_weights, published_precision, read_weights

if TYPE_CHECKING:
    from cphloc.inference.ensemble import Ensemble

MOST_WINDOW_VALUES = 1 << 28
"""Largest number of values in a window of a published model; as float32 they take 1 GB."""


@overload
def load(
    spec: str | Path | Run, device: str | torch.device | None = None, verify: bool = True, backend: BackendName = "auto"
) -> Localizer: ...


@overload
def load(
    spec: Sequence[str | Path | Run],
    device: str | torch.device | None = None,
    verify: bool = True,
    backend: BackendName = "auto",
) -> Ensemble: ...


def load(
    spec: str | Path | Run | Sequence[str | Path | Run],
    device: str | torch.device | None = None,
    verify: bool = True,
    backend: BackendName = "auto",
) -> Localizer | Ensemble:
    """Load a published or a trained model, ready to predict, or several as an ensemble that predicts their average.

    Args:
        spec: ``name``, ``name@1.2.0``, ``name@^1`` and so on, an entry's folder, the URL of one inside a zoo,
            ``models:/name/3`` (MLflow), or ``hf://owner/name@1.2.0`` (Hugging Face Hub). The working folder's
            ``cphloc.lock`` decides between versions where it names the entry. Or a finished run: its folder, its id,
            ``latest``, or the object that `cphloc.train` returns.
        device: device of the model; by default the GPU where there is one.
        verify: check the sha256 of recipe and weights. Switch it off only for a folder that you changed yourself.
        backend: what runs the network: ``torch``, ``compile``, ``onnxruntime``, ``openvino``, ``half`` for half
            precision where it keeps the masks, or ``auto`` for the fastest of those installed, in single precision on a
            CPU, where a prediction takes long enough; see `cphloc.inference.backend`.

    Raises:
        NotFoundError: no such entry, version or run, or the run has not finished.
        InputError: the version needs another cphloc, the lock file pins another one, or the models of an ensemble
            differ in task, channels or classes.
        InputError: a plug-in that the entry uses is not installed; the message names the package.
        DataError: a file is not the one that was published.
        DownloadError: a file is not in the cache and cannot be downloaded.
    """
    if isinstance(spec, str | Path | Run):
        found = resolve_entry_or_run(spec)
        if isinstance(found, Run):
            _check_finished(found)
            return localizer_of(found, device, backend)
        return open_listing(found, device, verify, backend)
    from cphloc.inference.ensemble import Ensemble

    return Ensemble([load(one, device, verify, backend) for one in spec])


def _check_finished(run: Run) -> None:
    if not run.metrics:
        msg = f"{run.folder}: this run has not finished; wait, or continue it with: cphloc train --resume {run.folder}"
        raise NotFoundError(msg)


def localizer_of(run: Run, device: str | torch.device | None = None, backend: BackendName = "torch") -> Localizer:
    """Load the best weights of a run, or of a cross-validation the ensemble of its networks.

    They are rounded to the precision in which an entry stores them.

    The model is therefore bit for bit the one that would be published.

    Args:
        run: the run.
        device: device of the model; by default the CPU.
        backend: see `load`.

    Raises:
        NotFoundError: the run has not saved any weights yet.
        InputError: its recipe was edited after the training.
    """
    recipe, weights = trained_weights(run)
    source = str(run.folder if run.is_cross_validation else run.folder / "best.safetensors")
    network = build_with_weights(recipe, published_precision(recipe, weights), source)
    model = localizer_of_recipe(network, recipe, backend=backend)
    if (chosen := read_options(run)) is not None:
        model.options, model.sizes = chosen.options, chosen.sizes
    model.weights_sha256 = run.weights_sha256
    model.inputs = replace(model.inputs, fingerprint=_fingerprint_of(run))
    return model if device is None else model.to(device).eval()


def _fingerprint_of(run: Run) -> Fingerprint | None:
    """Fingerprint of the training images of a run; ``None`` for a run that has none.

    Raises:
        DataError: it is damaged.
    """
    if (known := run.facts.get("training_images")) is None:
        return None
    try:
        return Fingerprint.model_validate(known)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        msg = f"{run.folder / 'facts.json'}: training_images.{key} is damaged; restore the file, or train again"
        raise DataError(msg) from None


def trained_weights(run: Run, members: int | None = None) -> tuple[Recipe, dict[str, Tensor]]:
    """Read the recipe and the best weights of a run, or of a cross-validation those of the ensemble of its networks.

    Args:
        run: the run.
        members: number of networks of the ensemble, those of the first folds; by default of all folds.

    Raises:
        NotFoundError: the run has not saved any weights yet.
        InputError: its recipe was edited after the training, or there are fewer networks than ``members``.
    """
    if not run.is_cross_validation:
        weights = _best_weights(run.folder)
        run.check_recipe()
        return run.recipe, weights
    run.check_recipe()
    folders = run.fold_folders[:members]
    if members is not None and not 1 <= members <= len(run.fold_folders):
        msg = f"{run.folder} has {len(run.fold_folders)} networks, one per fold; {members} cannot be taken"
        raise InputError(msg)
    model = run.recipe.model.model_copy(update={"members": len(folders)})
    recipe = load_recipe(run.recipe.with_model(model).to_plain())
    return recipe, member_weights([_best_weights(folder) for folder in folders])


def _best_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / "best.safetensors"
    if not path.is_file():
        msg = f"{folder}: has no best.safetensors yet; let the training reach its first validation"
        raise NotFoundError(msg)
    return read_weights(path.read_bytes(), str(path))


def open_listing(
    listing: Listing,
    device: str | torch.device | None = None,
    verify: bool = True,
    backend: BackendName = "torch",
) -> Localizer:
    """Load the model of a listed version; arguments and errors as for `load`."""
    entry = listing.entry
    entry.require_plugins()
    recipe = stored_recipe(listing, verify)
    weights = content_of(listing.weights_path(), entry.weights, f"{listing}: weights", verify)
    model = build_with_weights(recipe, read_weights(weights, f"{listing}: weights"), str(listing))
    if verify:
        _check_agreement(listing, recipe, model)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    localizer = localizer_of_recipe(model, recipe, entry, backend).to(device).eval()
    localizer.listing = listing
    return localizer


def _check_agreement(listing: Listing, recipe: Recipe, model: Model) -> None:
    """Refuse an entry that states another task, input, classes or size than its recipe and weights have."""
    entry, parameters = listing.entry, sum(p.numel() for p in model.parameters())
    wrong = list(recipe_disagreements(entry, recipe))
    if entry.classes != dict(model.classes):
        wrong.append(disagreement("classes", entry.classes, dict(model.classes), "its model has"))
    if entry.size.parameters != parameters:
        wrong.append(disagreement("size.parameters", entry.size.parameters, parameters, "recipe and weights have"))
    values = max(math.prod(part.data.patch or ()) * len(part.channels) for part in recipe.parts)
    if values > MOST_WINDOW_VALUES:
        wrong.append(f"its recipe predicts windows of {values:,} values, {MOST_WINDOW_VALUES:,} are the most")
    if wrong:
        msg = f"{listing}: {wrong[0]}; download or publish the entry again"
        raise DataError(msg)
